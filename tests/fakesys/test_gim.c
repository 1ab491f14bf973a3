/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "fixture.h"

#include <errno.h>
#include <string.h>

/* AMD's GIM: it makes the VFs. */

#define GPU   "0000:0c:00.0"
#define KNOBS "sys/kernel/debug/gim/" GPU

static void start(struct fake *f, const char *more)
{
    fake_order(f,
               "add " GPU " vendor=0x1002 device=0x7461 class=0x038000 totalvfs=16 offset=16 "
               "vfdevice=0x7462 driver=gim %s",
               more);
    fake_start(f);
}

static void says(const char *message, const char *part)
{
    if (!message || !strstr(message, part))
        g_error("'%s' is not in '%s'", part, message ? message : "(nothing)");
}

static void file_is(struct fake *f, const char *path, const char *value)
{
    g_autofree char *text = fake_read(f, "%s", path);

    g_assert_cmpstr(text, ==, value);
}

static void notes(const struct gpup_gpu *gpu, const char *wanted)
{
    for (size_t i = 0; gpu->notes && gpu->notes[i]; i++) {
        if (strcmp(gpu->notes[i], wanted) == 0)
            return;
    }
    g_error("no '%s' among its notes", wanted);
}

static void as_the_module_gives(struct fake *f, gconstpointer data)
{
    g_autofree char *message = NULL;
    struct gpup_gpu *gpu;

    start(f, "vf_num=4 no-debugfs=1 profile=SPX nps=NPS1");
    gpu = fake_gpu(f, GPU);
    g_assert_true(gpu->foreign);
    g_assert_cmpuint(gpu->n_slots, ==, 4);
    g_assert_cmpuint(gpu->n_valid_counts, ==, 1);
    g_assert_cmpint(gpu->resource[GPUP_COMPUTE].enforcement, ==, GPUP_ENFORCE_NONE);
    says(gpu->notes[0], "vf_num");
    notes(gpu, "accelerator partition profile SPX, memory partition mode NPS1");
    g_assert_cmpint(fake_partition(f, GPU, 2, &message), ==, -EINVAL);
    says(message, "valid counts are 4");
    g_assert_cmpint(fake_partition(f, GPU, 4, NULL), ==, 0);
    g_assert_false(fake_gpu(f, GPU)->foreign);
    g_assert_cmpint(fake_partition(f, GPU, 0, &message), ==, -EOPNOTSUPP);
    says(message, "modprobe gim vf_num=N");
    g_assert_cmpuint(fake_gpu(f, GPU)->n_slots, ==, 4);
    g_assert_cmpint(fake_prepare(f, GPU, 1, 0, 250000, NULL), ==, 0);
    g_assert_cmpstr(fake_gpu(f, GPU)->slots[1].function.address, ==, "0000:0c:02.1");
    g_assert_cmpstr(fake_gpu(f, GPU)->slots[1].function.driver, ==, "vfio-pci");
    g_assert_true(fake_give_back(f, GPU, 1));
}

static void limits(struct fake *f, gconstpointer data)
{
    g_autofree char *message = NULL;

    fake_set_memory(f, GPU, 28 * GIB);
    start(f, "vf_num=4");
    g_assert_true(fake_gpu(f, GPU)->elastic);
    g_assert_cmpint(fake_gpu(f, GPU)->resource[GPUP_COMPUTE].enforcement, ==, GPUP_ENFORCE_SHARE);
    g_assert_cmpint(fake_partition(f, GPU, 4, NULL), ==, 0);
    g_assert_cmpint(fake_prepare(f, GPU, 2, 12 * GIB, 500000, NULL), ==, 0);
    file_is(f, KNOBS "/asymmetric_fb", "2,12288");
    file_is(f, KNOBS "/asymmetric_timeslice", "2,50000");
    g_assert_cmpuint(fake_gpu(f, GPU)->slots[2].function.vram, ==, 12 * GIB);
    fake_order(f, "fail " GPU " quota %d", EIO);
    g_assert_cmpint(fake_prepare(f, GPU, 3, 12 * GIB, 500000, &message), ==, -EIO);
    says(message, "3,12288");
}

static void no_vfs(struct fake *f, gconstpointer data)
{
    start(f, "vf_num=0");
    g_assert_cmpint(fake_gpu(f, GPU)->mode, ==, GPUP_MODE_UNUSABLE);
    says(fake_gpu(f, GPU)->reason, "modprobe gim vf_num=N");
}

int main(int argc, char **argv)
{
    static const struct {
        const char *path;
        void (*func)(struct fake *, gconstpointer);
    } tests[] = {
        {"/gim/as-the-module-gives", as_the_module_gives},
        {"/gim/limits", limits},
        {"/gim/no-vfs", no_vfs},
    };

    g_test_init(&argc, &argv, NULL);
    for (gsize i = 0; i < G_N_ELEMENTS(tests); i++)
        g_test_add(tests[i].path, struct fake, NULL, fake_set_up, tests[i].func, fake_tear_down);
    return g_test_run();
}
