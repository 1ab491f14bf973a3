/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "frontend.h"

#include <fcntl.h>
#include <glib.h>
#include <string.h>
#include <unistd.h>

/* A VM runs on while gpup is upgraded: its device process meets renderers of later releases. */

#define OK VIRTIO_GPU_RESP_OK_NODATA

static const char *const options[] = {"--vram=64M", "--hang-ms=60000", NULL};

/* The next release's renderer speaks what this one's device process does. */
static void next_release(void)
{
    struct frontend f = {0};

    g_setenv("GPUP_TEST_RENDER", g_getenv("GPUP_TEST_RENDER_NEXT"), TRUE);
    frontend_start(&f, options);
    frontend_start_drawing(&f, 1, 10);
    frontend_assert_draws(&f, 1, 10);
    /* also memory that is added while it runs */
    frontend_reset(&f);
    frontend_start_drawing(&f, 2, 10);
    frontend_assert_draws(&f, 2, 10);
    frontend_stop(&f);
}

/* One that does not: what needs none goes on, and the log says what has to be done. */
static void later_release(void)
{
    g_autofree char *log = NULL;
    struct frontend f = {0};
    int fd, kept;

    fd = g_file_open_tmp("gpup-log-XXXXXX", &log, NULL);
    g_assert_cmpint(fd, >=, 0);
    kept = dup(STDERR_FILENO);
    g_assert_cmpint(dup2(fd, STDERR_FILENO), ==, STDERR_FILENO);
    g_setenv("GPUP_TEST_RENDER", g_getenv("GPUP_TEST_RENDER_LATER"), TRUE);
    frontend_start(&f, options);
    g_assert_cmphex(frontend_create_2d(&f, 5, 64, 64), ==, OK);
    while (frontend_context(&f, VIRTIO_GPU_CMD_CTX_CREATE, 1) != VIRTIO_GPU_RESP_ERR_UNSPEC)
        continue; /* until so many have ended that the next one waits */
    g_assert_cmphex(frontend_unref(&f, 5), ==, OK);
    frontend_stop(&f);
    g_assert_cmpint(dup2(kept, STDERR_FILENO), ==, STDERR_FILENO);
    close(kept);
    close(fd);
    {
        g_autofree char *text = NULL;

        g_assert_true(g_file_get_contents(log, &text, NULL, NULL));
        g_assert_nonnull(strstr(text,
                                "the VM's device process is of an older gpup than gpup-render "
                                "(protocol 2, not 3 to 4): shut the VM down and start it "
                                "again"));
        unlink(log);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/versions/next", next_release);
    g_test_add_func("/versions/later", later_release);
    return g_test_run();
}
