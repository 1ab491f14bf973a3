/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/meter.h"
#include "tree.h"

#include <fcntl.h>
#include <glib.h>
#include <unistd.h>

/* What a renderer used, as the kernel tells it; here in files of our own. */

struct fixture {
    char *dir, *fdinfo;
};

static void set_up(struct fixture *f, gconstpointer data)
{
    f->dir = g_dir_make_tmp("gpup-meter-XXXXXX", NULL);
    f->fdinfo = g_build_filename(f->dir, "77", "fdinfo", NULL);
    g_assert_cmpint(g_mkdir_with_parents(f->fdinfo, 0700), ==, 0);
}

static void write_in(const char *dir, const char *name, const char *text)
{
    g_autofree char *path = g_build_filename(dir, name, NULL);

    g_assert_true(g_file_set_contents(path, text, -1, NULL));
}

static void tear_down(struct fixture *f, gconstpointer data)
{
    remove_tree(f->dir);
    g_free(f->dir);
    g_free(f->fdinfo);
}

static void drm(struct fixture *f, gconstpointer data)
{
    struct gpup_meter m;
    uint64_t ns;

    write_in(f->fdinfo, "0", "pos:\t0\nflags:\t0100002\n");
    write_in(f->fdinfo, "3",
             "pos:\t0\ndrm-driver:\tamdgpu\ndrm-pdev:\t0000:03:00.0\ndrm-client-id:\t5\n"
             "drm-engine-gfx:\t1000 ns\ndrm-engine-compute:\t200 ns\ndrm-engine-dec:\t9999 ns\n"
             "drm-engine-capacity-gfx:\t2\n");
    /* the same client by another descriptor, another client, another GPU */
    write_in(f->fdinfo, "4",
             "drm-pdev:\t0000:03:00.0\ndrm-client-id:\t5\ndrm-engine-gfx:\t1000 ns\n");
    write_in(
        f->fdinfo, "7",
        "drm-driver:\txe\ndrm-pdev:\t0000:03:00.0\ndrm-client-id:\t6\ndrm-engine-render:\t30 ns\n"
        "drm-engine-video-enhance:\t7777 ns\n");
    write_in(f->fdinfo, "8",
             "drm-pdev:\t0000:04:00.0\ndrm-client-id:\t1\ndrm-engine-gfx:\t500000 ns\n");
    gpup_meter_open_drm(&m, f->dir, 77, "0000:03:00.0");
    g_assert_cmpint(m.kind, ==, GPUP_METER_DRM);
    g_assert_true(gpup_meter_read(&m, &ns));
    g_assert_cmpuint(ns, ==, 1230);
    write_in(f->fdinfo, "7",
             "drm-pdev:\t0000:03:00.0\ndrm-client-id:\t6\ndrm-engine-render:\t1030 ns\n");
    g_assert_true(gpup_meter_read(&m, &ns));
    g_assert_cmpuint(ns, ==, 2230);
    gpup_meter_close(&m);
}

/* Before it has opened the GPU, and with drivers that tell nothing. */
static void drm_without_figures(struct fixture *f, gconstpointer data)
{
    struct gpup_meter m;
    uint64_t ns;

    gpup_meter_open_drm(&m, f->dir, 78, "0000:03:00.0");
    g_assert_false(gpup_meter_read(&m, &ns));
    gpup_meter_close(&m);
    gpup_meter_open_drm(&m, f->dir, 77, "0000:03:00.0");
    g_assert_false(gpup_meter_read(&m, &ns));
    write_in(f->fdinfo, "3", "drm-driver:\tnouveau\ndrm-pdev:\t0000:03:00.0\ndrm-client-id:\t1\n");
    g_assert_false(gpup_meter_read(&m, &ns));
    write_in(f->fdinfo, "3", "drm-pdev:\t0000:03:00.0\ndrm-client-id:\t1\ndrm-engine-gfx:\t0 ns\n");
    g_assert_true(gpup_meter_read(&m, &ns));
    g_assert_cmpuint(ns, ==, 0);
    gpup_meter_close(&m);
}

static void group(struct fixture *f, gconstpointer data)
{
    int dir = open(f->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct gpup_meter m;
    uint64_t ns;

    write_in(f->dir, "cpu.stat", "usage_usec 1500000\nuser_usec 1000000\nsystem_usec 500000\n");
    gpup_meter_open_cpu(&m, getpid(), dir);
    g_assert_cmpint(m.kind, ==, GPUP_METER_GROUP);
    g_assert_true(gpup_meter_read(&m, &ns));
    g_assert_cmpuint(ns, ==, 1500000000);
    gpup_meter_close(&m);
    close(dir);
}

static void process(struct fixture *f, gconstpointer data)
{
    struct gpup_meter m;
    uint64_t before, after;
    gint64 until = g_get_monotonic_time() + 50000;

    gpup_meter_open_cpu(&m, getpid(), -1);
    g_assert_cmpint(m.kind, ==, GPUP_METER_PROCESS);
    g_assert_true(gpup_meter_read(&m, &before));
    while (g_get_monotonic_time() < until)
        continue;
    g_assert_true(gpup_meter_read(&m, &after));
    g_assert_cmpuint(after, >, before);
    g_assert_cmpuint(after - before, <=, 1000000000);
    gpup_meter_close(&m);
    g_assert_false(gpup_meter_read(&m, &after));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add("/meter/drm", struct fixture, NULL, set_up, drm, tear_down);
    g_test_add("/meter/drm-without-figures", struct fixture, NULL, set_up, drm_without_figures,
               tear_down);
    g_test_add("/meter/group", struct fixture, NULL, set_up, group, tear_down);
    g_test_add("/meter/process", struct fixture, NULL, set_up, process, tear_down);
    return g_test_run();
}
