/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "wire/render.h"
#include "wire/seqpacket.h"

#include <sys/mman.h>
#include <unistd.h>

/*
 * A renderer that stays connected and says no more. SILENT tells from when on: 0: from the
 * beginning; 1: once it has told the capability sets; 2: once it is ready.
 */

int main(void)
{
    const int sock = 3; /* as gpup-vgpu passes it */
    struct gpup_render_ready ready = {.header = {GPUP_RENDER_STARTED, GPUP_RENDER_VERSION},
                                      .n_capsets = 1,
                                      .capsets = {{.id = 2, .max_version = 2, .size = 1400}},
                                      .renderer = "one that is silent"};
    int capsets = memfd_create("capsets", MFD_CLOEXEC);

    if (capsets < 0 || ftruncate(capsets, 1400) < 0)
        return 1;
    if (SILENT > 0 && gpup_seqpacket_send(sock, &ready, sizeof(ready), NULL, 0, 0) < 0)
        return 1;
    ready.header.type = GPUP_RENDER_READY;
    if (SILENT > 1 && gpup_seqpacket_send(sock, &ready, sizeof(ready), &capsets, 1, 0) < 0)
        return 1;
    for (;;)
        pause();
}
