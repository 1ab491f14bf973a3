/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/underway.h"

#include "core/error.h"
#include "daemon/keyfile.h"
#include "gpu/pci.h"

#include <gio/gio.h>

static char *path_of(const char *run_dir, const char *address)
{
    return gpup_pci_is_address(address) ? g_build_filename(run_dir, "underway", address, NULL)
                                        : NULL;
}

void gpup_underway_begin(const char *run_dir, const char *address, const char *text)
{
    g_autofree char *path = path_of(run_dir, address);
    g_autoptr(GError) error = NULL;

    if (path &&
        !g_file_set_contents_full(path, text, -1, G_FILE_SET_CONTENTS_CONSISTENT, 0600, &error))
        g_warning("%s", error->message);
}

void gpup_underway_end(const char *run_dir, const char *address)
{
    g_autofree char *path = path_of(run_dir, address);
    GPUP_AUTO_ERROR err = NULL;

    if (path && gpup_keyfile_remove(path, &err) < 0)
        g_warning("%s", gpup_error_message(err));
}

char *gpup_underway_peek(const char *run_dir, const char *address)
{
    g_autofree char *path = path_of(run_dir, address);
    g_autoptr(GError) error = NULL;
    char *text = NULL;

    if (!path || g_file_get_contents(path, &text, NULL, &error))
        return text;
    if (!g_error_matches(error, G_FILE_ERROR, G_FILE_ERROR_NOENT)) {
        GPUP_AUTO_ERROR why = NULL;

        gpup_keyfile_set_aside(path, error->message, &why);
        g_warning("%s", gpup_error_message(why));
    }
    return NULL;
}
