/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "fixture.h"

#include <errno.h>
#include <string.h>

/* Intel's drivers, wherever they have their knobs. */

#define GPU     "0000:03:00.0"
#define DIR     "sys/bus/pci/devices/" GPU
#define PROFILE DIR "/sriov_admin/vf%u/profile/"

static void start(struct fake *f, const char *kind)
{
    fake_order(f,
               "add " GPU " vendor=0x8086 device=0xe212 class=0x030000 totalvfs=24 driver=xe "
               "vram=0x380000000 capacity=17179869184 xe=%s",
               kind); /* 16 GiB, of which VFs can have 14 */
    fake_start(f);
}

static void says(const char *message, const char *part)
{
    if (!message || !strstr(message, part))
        g_error("'%s' is not in '%s'", part, message);
}

static uint64_t number(struct fake *f, const char *fmt, unsigned vf, const char *name)
{
    g_autofree char *dir = g_strdup_printf("%s", fmt);
    g_auto(GStrv) parts = g_strsplit(dir, "%u", 2);
    g_autofree char *text = parts[1] ? fake_read(f, "%s%u%s%s", parts[0], vf, parts[1], name)
                                     : fake_read(f, "%s%s", parts[0], name);

    g_assert_nonnull(text);
    return g_ascii_strtoull(text, NULL, 10);
}

static void sizes_from_grants(struct fake *f, gconstpointer data)
{
    struct gpup_gpu *gpu;

    start(f, "admin");
    gpu = fake_gpu(f, GPU);
    g_assert_cmpint(gpu->kind, ==, GPUP_KIND_SRIOV);
    g_assert_true(gpu->elastic);
    g_assert_cmpstr(gpu->name, ==, "Arc Pro B50");
    g_assert_cmpint(gpu->resource[GPUP_COMPUTE].enforcement, ==, GPUP_ENFORCE_SHARE);
    g_assert_cmpint(gpu->resource[GPUP_ENCODE].enforcement, ==, GPUP_ENFORCE_NONE);
    g_assert_cmpuint(gpu->resource[GPUP_VRAM].total, ==, 16 * GIB);
    g_assert_cmpint(fake_partition(f, GPU, 4, NULL), ==, 0);
    /* what VFs can really have, not the datasheet's */
    g_assert_cmpuint(fake_gpu(f, GPU)->resource[GPUP_VRAM].total, ==, 14 * GIB);
    g_assert_cmpuint(number(f, PROFILE, 2, "vram_quota"), ==, 0);
    g_assert_cmpint(fake_prepare(f, GPU, 1, 6 * GIB, 500000, NULL), ==, 0);
    g_assert_cmpuint(number(f, PROFILE, 2, "vram_quota"), ==, 6 * GIB);
    g_assert_cmpuint(number(f, PROFILE, 2, "exec_quantum_ms"), ==, 16);
    g_assert_cmpuint(number(f, PROFILE, 2, "preempt_timeout_us"), ==, 650000);
    g_assert_cmpuint(fake_gpu(f, GPU)->slots[1].function.vram, ==, 6 * GIB);
    g_assert_cmpint(fake_prepare(f, GPU, 0, 8 * GIB, 250000, NULL), ==, 0);
    g_assert_cmpuint(number(f, PROFILE, 1, "vram_quota"), ==, 8 * GIB);
    g_assert_cmpuint(number(f, PROFILE, 1, "exec_quantum_ms"), ==, 8);
    g_assert_true(fake_give_back(f, GPU, 1));
    g_assert_cmpuint(number(f, PROFILE, 2, "vram_quota"), ==, 0);
    g_assert_cmpuint(number(f, PROFILE, 2, "exec_quantum_ms"), ==, 0);
    g_assert_cmpuint(number(f, PROFILE, 2, "preempt_timeout_us"), ==, 0);
    g_assert_cmpuint(number(f, PROFILE, 1, "vram_quota"), ==, 8 * GIB);
}

static void knobs_of_older_kernels(struct fake *f, gconstpointer kind)
{
    static const struct {
        const char *kind, *vram, *quantum;
    } places[] = {
        {"debugfs", "sys/kernel/debug/dri/" GPU "/sriov/vf%u/tile0/vram_quota",
         "sys/kernel/debug/dri/" GPU "/sriov/vf%u/tile0/gt0/exec_quantum_ms"},
        {"debugfs-old", "sys/kernel/debug/dri/" GPU "/gt0/vf%u/lmem_quota",
         "sys/kernel/debug/dri/" GPU "/gt0/vf%u/exec_quantum_ms"},
        {"iov", DIR "/iov/vf%u/gt0/lmem_quota", DIR "/iov/vf%u/gt0/exec_quantum_ms"},
    };

    for (gsize i = 0; i < G_N_ELEMENTS(places); i++) {
        if (i > 0) {
            fake_order(f, "remove " GPU);
            gpup_inventory_free(g_steal_pointer(&f->inventory));
        }
        start(f, places[i].kind);
        g_assert_true(fake_gpu(f, GPU)->elastic);
        g_assert_cmpint(fake_partition(f, GPU, 4, NULL), ==, 0);
        g_assert_cmpint(fake_prepare(f, GPU, 3, 2 * GIB, 250000, NULL), ==, 0);
        g_assert_cmpuint(number(f, places[i].vram, 4, ""), ==, 2 * GIB);
        g_assert_cmpuint(number(f, places[i].quantum, 4, ""), ==, 8);
        g_assert_true(fake_give_back(f, GPU, 3));
        g_assert_cmpuint(number(f, places[i].vram, 4, ""), ==, 0);
    }
}

/* The driver's own equal division, as it really is, where sizes cannot be set. */
static void equal_sizes(struct fake *f, gconstpointer data)
{
    struct gpup_gpu *gpu;

    start(f, "debugfs");
    fake_order(f, "fail " GPU " quota %d", EPERM);
    g_assert_cmpint(gpup_inventory_rescan(f->inventory, NULL), ==, 0);
    g_assert_false(fake_gpu(f, GPU)->elastic);
    says(fake_gpu(f, GPU)->notes[0], "debugfs is locked");
    g_assert_cmpint(fake_partition(f, GPU, 3, NULL), ==, 0);
    gpu = fake_gpu(f, GPU);
    g_assert_cmpuint(gpu->fixed_vram, ==, 14 * GIB / 3 / (2 * MIB) * (2 * MIB));
    g_assert_cmpint(gpu->resource[GPUP_COMPUTE].enforcement, ==, GPUP_ENFORCE_NONE);
    g_assert_cmpint(fake_prepare(f, GPU, 0, 2 * GIB, 250000, NULL), ==, 0);
    g_assert_true(fake_give_back(f, GPU, 0));
}

/* What the driver and its firmware refuse when a VM starts is said, and it does not start without
 * its quota. */
static void refused(struct fake *f, gconstpointer data)
{
    static const struct {
        int code;
        const char *part;
    } cases[] = {
        {EIO, "its firmware refused"},
        {EUCLEAN, "its GTs are set differently"},
        {ENOMEM, "bytes left"},
        {EOPNOTSUPP, "vram_quota: Operation not supported"},
        {EINVAL, "vram_quota: Invalid argument"},
    };

    start(f, "admin");
    g_assert_cmpint(fake_partition(f, GPU, 2, NULL), ==, 0);
    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *message = NULL;

        fake_order(f, "fail " GPU " quota %d", cases[i].code);
        g_assert_cmpint(fake_prepare(f, GPU, 0, 4 * GIB, 500000, &message), ==, -cases[i].code);
        says(message, cases[i].part);
        fake_order(f, "fail " GPU " quota 0");
        g_assert_true(fake_give_back(f, GPU, 0));
        g_assert_cmpuint(number(f, PROFILE, 1, "vram_quota"), ==, 0);
    }
    g_assert_cmpint(fake_prepare(f, GPU, 0, 4 * GIB, 500000, NULL), ==, 0);
}

static void no_sizes(struct fake *f, gconstpointer data)
{
    start(f, "admin-novram");
    g_assert_false(fake_gpu(f, GPU)->elastic);
    says(fake_gpu(f, GPU)->notes[0], "7.0");
    g_assert_cmpint(fake_gpu(f, GPU)->resource[GPUP_COMPUTE].enforcement, ==, GPUP_ENFORCE_SHARE);
    g_assert_cmpint(fake_partition(f, GPU, 4, NULL), ==, 0);
    g_assert_cmpuint(fake_gpu(f, GPU)->fixed_vram, ==, 4 * GIB);
    g_assert_cmpint(fake_prepare(f, GPU, 0, 0, 1000000, NULL), ==, 0);
    g_assert_cmpuint(number(f, PROFILE, 1, "exec_quantum_ms"), ==, 32);
}

/* A kernel that tells the memory only of VFs. */
static void memory_told_late(struct fake *f, gconstpointer data)
{
    fake_order(f, "add " GPU " vendor=0x8086 device=0xe212 class=0x030000 totalvfs=24 driver=xe "
                  "vram=0x380000000 no-dmem=1 xe=debugfs");
    fake_start(f);
    g_assert_cmpuint(fake_gpu(f, GPU)->resource[GPUP_VRAM].total, ==, 0);
    says(fake_gpu(f, GPU)->notes[0], "set memory=");
    g_assert_cmpint(fake_partition(f, GPU, 4, NULL), ==, 0);
    g_assert_cmpuint(fake_gpu(f, GPU)->resource[GPUP_VRAM].total, ==, 14 * GIB);
    g_assert_cmpuint(gpup_gpu_equal_part(fake_gpu(f, GPU), GPUP_VRAM, 4), ==, 14 * GIB / 4);
}

static void no_room(struct fake *f, gconstpointer data)
{
    g_autofree char *message = NULL;

    start(f, "admin");
    g_assert_cmpint(fake_partition(f, GPU, 2, NULL), ==, 0);
    g_assert_cmpint(fake_prepare(f, GPU, 0, 12 * GIB, 500000, NULL), ==, 0);
    g_assert_cmpint(fake_prepare(f, GPU, 1, 4 * GIB, 500000, &message), ==, -ENOSPC);
    says(message, "bytes left");
    g_assert_true(fake_give_back(f, GPU, 1));
    g_assert_cmpuint(number(f, PROFILE, 1, "vram_quota"), ==, 12 * GIB);
}

/* A VF that cannot be bound leaves no quota behind. */
static void undone(struct fake *f, gconstpointer data)
{
    start(f, "admin");
    g_assert_cmpint(fake_partition(f, GPU, 2, NULL), ==, 0);
    fake_order(f, "fail " GPU " bind %d", EIO);
    g_assert_cmpint(fake_prepare(f, GPU, 0, 4 * GIB, 500000, NULL), ==, -EIO);
    g_assert_cmpuint(number(f, PROFILE, 1, "vram_quota"), ==, 0);
    g_assert_cmpuint(number(f, PROFILE, 1, "exec_quantum_ms"), ==, 0);
}

static void variant_driver(struct fake *f, gconstpointer data)
{
    start(f, "admin");
    fake_order(f, "module xe-vfio-pci");
    g_assert_cmpint(fake_partition(f, GPU, 2, NULL), ==, 0);
    g_assert_cmpint(fake_prepare(f, GPU, 0, 4 * GIB, 500000, NULL), ==, 0);
    g_assert_cmpstr(fake_gpu(f, GPU)->slots[0].function.driver, ==, "xe-vfio-pci");
}

static void priority(struct fake *f, gconstpointer data)
{
    g_autofree char *text = NULL;

    fake_set(f, GPU, "sched-priority", "normal");
    start(f, "admin");
    g_assert_cmpint(fake_partition(f, GPU, 2, NULL), ==, 0);
    text = fake_read(f, DIR "/sriov_admin/vf2/profile/sched_priority");
    g_assert_cmpstr(text, ==, "low [normal] high");
}

/* An integrated GPU has no memory of its own: only time is divided. */
static void integrated(struct fake *f, gconstpointer data)
{
    fake_order(f, "add 0000:00:02.0 vendor=0x8086 device=0x7d45 class=0x030000 totalvfs=7 "
                  "driver=xe");
    fake_order(f, "add 0000:00:03.0 vendor=0x8086 device=0x46a6 class=0x030000 totalvfs=7 "
                  "driver=i915");
    fake_start(f);
    g_assert_cmpuint(fake_gpu(f, "0000:00:02.0")->resource[GPUP_VRAM].total, ==, 0);
    g_assert_cmpint(fake_partition(f, "0000:00:02.0", 7, NULL), ==, 0);
    g_assert_cmpint(fake_prepare(f, "0000:00:02.0", 6, 0, 142857, NULL), ==, 0);
    g_assert_cmpstr(fake_gpu(f, "0000:00:02.0")->slots[6].function.address, ==, "0000:00:02.7");
    says(fake_gpu(f, "0000:00:03.0")->reason, "xe.force_probe=46a6");
}

int main(int argc, char **argv)
{
    static const struct {
        const char *path;
        void (*func)(struct fake *, gconstpointer);
    } tests[] = {
        {"/xe/sizes-from-grants", sizes_from_grants},
        {"/xe/older-kernels", knobs_of_older_kernels},
        {"/xe/equal-sizes", equal_sizes},
        {"/xe/refused", refused},
        {"/xe/no-sizes", no_sizes},
        {"/xe/memory-told-late", memory_told_late},
        {"/xe/no-room", no_room},
        {"/xe/undone", undone},
        {"/xe/variant-driver", variant_driver},
        {"/xe/priority", priority},
        {"/xe/integrated", integrated},
    };

    g_test_init(&argc, &argv, NULL);
    for (gsize i = 0; i < G_N_ELEMENTS(tests); i++)
        g_test_add(tests[i].path, struct fake, NULL, fake_set_up, tests[i].func, fake_tear_down);
    return g_test_run();
}
