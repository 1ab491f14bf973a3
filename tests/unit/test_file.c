/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/file.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <unistd.h>

static void writes(void)
{
    g_autofree char *folder = g_dir_make_tmp("gpup-file-XXXXXX", NULL);
    g_autofree char *path = g_build_filename(folder, "value", NULL);
    g_autofree char *text = NULL;
    GPUP_AUTO_FD dir = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    g_assert_cmpint(gpup_file_write(dir, "value", "7"), ==, -ENOENT); /* makes none */
    g_assert_true(g_file_set_contents(path, "", 0, NULL));
    g_assert_cmpint(gpup_file_write(dir, "value", "7"), ==, 0);
    g_assert_cmpint(gpup_file_write(AT_FDCWD, path, "8"), ==, 0);
    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    g_assert_cmpstr(text, ==, "8");
    g_assert_cmpint(gpup_file_write(AT_FDCWD, "/dev/full", "7"), ==, -ENOSPC);
    g_remove(path);
    g_rmdir(folder);
}

static void closes(void)
{
    int kept;

    {
        GPUP_AUTO_FD fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

        kept = fd;
        g_assert_cmpint(fcntl(kept, F_GETFD), >=, 0);
        errno = ENOTTY; /* a caller may not have read it yet */
    }
    g_assert_cmpint(errno, ==, ENOTTY);
    g_assert_cmpint(fcntl(kept, F_GETFD), ==, -1);
    kept = -1;
    gpup_fd_close(&kept);
    g_assert_cmpint(kept, ==, -1);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/file/write", writes);
    g_test_add_func("/file/close", closes);
    return g_test_run();
}
