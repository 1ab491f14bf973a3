/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/error.h"
#include "fixture.h"
#include "gpu/pci.h"

#include <errno.h>
#include <string.h>

/* GPUs given whole to a VM, and partitions: never both. */

#define GPU "0000:03:00.0"
#define DIR "sys/bus/pci/devices/" GPU

static void start(struct fake *f)
{
    fake_order(f, "add " GPU " vendor=0x8086 device=0x56c0 class=0x038000 totalvfs=7 driver=gpu "
                  "uuid=1");
    fake_order(f, "add 0000:03:00.1 vendor=0x8086 device=0x56c1 class=0x040300 driver=sound "
                  "with=" GPU);
    fake_order(f, "add 0000:03:00.2 vendor=0x8086 device=0x56c2 class=0x060400 with=" GPU);
    fake_order(f, "add 0000:04:00.0 vendor=0x8086 device=0x56c1 class=0x040300 driver=sound");
    fake_set_memory(f, GPU, 16 * GIB);
    fake_start(f);
}

static int pass_through(struct fake *f, bool on, char **message)
{
    struct gpup_error *err = NULL;
    struct gpup_change *c =
        gpup_inventory_begin_passthrough(f->inventory, fake_gpu(f, GPU), on, &err);
    int ret = err ? -err->code : 0;

    if (c) {
        gpup_change_run(c);
        ret = gpup_change_end(c, &err);
    }
    if (message) {
        g_free(*message);
        *message = g_strdup(err ? err->message : "");
    } else if (err) {
        g_test_message("%s", err->message);
    }
    gpup_error_free(err);
    return ret;
}

static void says(const char *message, const char *part)
{
    if (!message || !strstr(message, part))
        g_error("'%s' is not in '%s'", part, message);
}

static void file_is(struct fake *f, const char *path, const char *value)
{
    g_autofree char *text = fake_read(f, "%s", path);

    g_assert_cmpstr(text, ==, value);
}

/* The sound function, and no more, stands in a VM's definition beside the GPU. */
static void goes_along(struct fake *f, const char *address)
{
    g_autoptr(GPtrArray) found = gpup_pci_companions(f->sysfs, GPU);

    g_assert_cmpuint(found->len, ==, 1);
    g_assert_cmpstr(found->pdata[0], ==, address);
}

static void on_and_off(struct fake *f, gconstpointer data)
{
    g_autofree char *message = NULL;
    g_autofree char *key = NULL;
    struct gpup_gpu *gpu;

    start(f);
    key = g_strdup(fake_gpu(f, GPU)->key);
    g_assert_cmpint(pass_through(f, true, NULL), ==, 0);
    gpu = fake_gpu(f, GPU);
    g_assert_cmpint(gpu->mode, ==, GPUP_MODE_PASSTHROUGH);
    g_assert_cmpint(gpu->kind, ==, GPUP_KIND_PASSTHROUGH);
    g_assert_cmpstr(gpu->key, ==, key);
    g_assert_false(gpu->foreign);
    g_assert_cmpuint(gpu->n_slots, ==, 1);
    g_assert_cmpstr(gpu->slots[0].function.address, ==, GPU);
    g_assert_cmpuint(gpu->fixed_vram, ==, 16 * GIB);
    file_is(f, DIR "/driver_override", "vfio-pci");
    file_is(f, "sys/bus/pci/devices/0000:03:00.1/driver_override", "vfio-pci");
    goes_along(f, "0000:03:00.1");
    g_assert_cmpint(fake_partition(f, GPU, 2, &message), ==, -EINVAL);
    says(message, "gpup gpu passthrough 03:00.0 off");
    g_assert_cmpint(gpup_inventory_rescan(f->inventory, NULL), ==, 0);
    g_assert_false(fake_gpu(f, GPU)->foreign);
    g_assert_cmpint(fake_prepare(f, GPU, 0, 16 * GIB, 0, NULL), ==, 0);
    g_assert_cmpint(pass_through(f, false, &message), ==, -EBUSY);
    says(message, "desk1");
    g_assert_true(fake_give_back(f, GPU, 0));
    file_is(f, DIR "/fakesys_resets", "1");
    g_assert_cmpint(pass_through(f, false, NULL), ==, 0);
    g_assert_cmpint(fake_gpu(f, GPU)->mode, ==, GPUP_MODE_UNUSED);
    g_assert_cmpint(fake_gpu(f, GPU)->kind, ==, GPUP_KIND_SRIOV);
    g_assert_cmpstr(fake_gpu(f, GPU)->driver, ==, "gpu");
    file_is(f, "sys/bus/pci/devices/0000:03:00.1/driver_override", "(null)");
    g_assert_cmpint(fake_partition(f, GPU, 2, NULL), ==, 0);
}

static void partitions_first(struct fake *f, gconstpointer data)
{
    g_autofree char *message = NULL;

    start(f);
    g_assert_cmpint(fake_partition(f, GPU, 2, NULL), ==, 0);
    g_assert_cmpint(pass_through(f, true, &message), ==, -EBUSY);
    says(message, "gpup gpu partition 03:00.0 0");
    g_assert_cmpstr(fake_gpu(f, GPU)->driver, ==, "gpu");
}

/* A desktop on it would die with it. */
static void in_use(struct fake *f, gconstpointer data)
{
    g_autofree char *message = NULL;

    start(f);
    fake_order(f, "draw " GPU " Xorg");
    g_assert_cmpint(pass_through(f, true, &message), ==, -EBUSY);
    says(message, "Xorg (process 4242)");
    g_assert_cmpstr(fake_gpu(f, GPU)->driver, ==, "gpu");
}

static void fails_half_way(struct fake *f, gconstpointer data)
{
    g_autofree char *message = NULL;

    start(f);
    fake_order(f, "fail 0000:03:00.1 bind %d", EIO);
    g_assert_cmpint(pass_through(f, true, &message), ==, -EIO);
    says(message, "03:00.1");
    g_assert_cmpint(fake_gpu(f, GPU)->mode, ==, GPUP_MODE_UNUSED);
    g_assert_cmpstr(fake_gpu(f, GPU)->driver, ==, "gpu");
}

static void no_iommu(struct fake *f, gconstpointer data)
{
    fake_order(f, "iommu off");
    start(f);
    g_assert_cmpint(pass_through(f, true, NULL), <, 0);
    g_assert_cmpstr(fake_gpu(f, GPU)->driver, ==, "gpu");
}

static void by_somebody_else(struct fake *f, gconstpointer data)
{
    start(f);
    fake_order(f, "rebind " GPU " vfio-pci");
    fake_start(f);
    g_assert_cmpint(fake_gpu(f, GPU)->mode, ==, GPUP_MODE_PASSTHROUGH);
    g_assert_true(fake_gpu(f, GPU)->foreign);
    g_assert_cmpint(pass_through(f, true, NULL), ==, 0);
    g_assert_false(fake_gpu(f, GPU)->foreign);
}

/* Partitioning while a VM has the GPU by hand: libvirt has bound it since it was looked at. */
static void taken_meanwhile(struct fake *f, gconstpointer data)
{
    g_autofree char *message = NULL;

    start(f);
    fake_order(f, "rebind " GPU " vfio-pci");
    g_assert_cmpint(fake_partition(f, GPU, 2, &message), ==, -EBUSY);
    says(message, "given whole to a VM");
}

int main(int argc, char **argv)
{
    static const struct {
        const char *path;
        void (*func)(struct fake *, gconstpointer);
    } tests[] = {
        {"/whole/on-and-off", on_and_off},
        {"/whole/partitions-first", partitions_first},
        {"/whole/in-use", in_use},
        {"/whole/fails-half-way", fails_half_way},
        {"/whole/no-iommu", no_iommu},
        {"/whole/by-somebody-else", by_somebody_else},
        {"/whole/taken-meanwhile", taken_meanwhile},
    };

    g_test_init(&argc, &argv, NULL);
    for (gsize i = 0; i < G_N_ELEMENTS(tests); i++)
        g_test_add(tests[i].path, struct fake, NULL, fake_set_up, tests[i].func, fake_tear_down);
    return g_test_run();
}
