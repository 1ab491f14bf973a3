/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gpu/bars.h"

#include <glib.h>

/* include/linux/ioport.h */
#define MEM_64   0x00100000u
#define PREFETCH 0x00002000u

#define N_BARS   6u /* what follows them in the file: the ROM, and the windows of all its VFs */

uint64_t gpup_pci_large_bars(const char *sysfs, const char *address)
{
    g_autofree char *path =
        g_build_filename(sysfs, "bus", "pci", "devices", address, "resource", NULL);
    g_autofree char *text = NULL;
    g_auto(GStrv) lines = NULL;
    uint64_t sum = 0;

    if (!g_file_get_contents(path, &text, NULL, NULL))
        return 0;
    lines = g_strsplit(text, "\n", -1);
    for (unsigned i = 0; i < N_BARS && lines[i]; i++) {
        char *rest = NULL;
        guint64 first = g_ascii_strtoull(lines[i], &rest, 16);
        guint64 last = g_ascii_strtoull(rest, &rest, 16);
        guint64 flags = g_ascii_strtoull(rest, NULL, 16);

        if ((flags & MEM_64) && (flags & PREFETCH) && last > first &&
            last - first < UINT64_MAX - sum)
            sum += last - first + 1;
    }
    return sum;
}
