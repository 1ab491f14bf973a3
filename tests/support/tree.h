/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_TEST_TREE_H
#define GPUP_TEST_TREE_H

#include <glib/gstdio.h>

/* Removes a folder with all that is below it; a link, never what it leads to. */
static inline void remove_tree(const char *path)
{
    if (!g_file_test(path, G_FILE_TEST_IS_SYMLINK) && g_file_test(path, G_FILE_TEST_IS_DIR)) {
        g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
        const char *name;

        while (dir && (name = g_dir_read_name(dir))) {
            g_autofree char *child = g_build_filename(path, name, NULL);

            remove_tree(child);
        }
    }
    g_remove(path);
}

#endif
