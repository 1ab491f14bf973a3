/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "fixture.h"
#include "gpu/change.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Any GPU with SR-IOV, against the kernel's rules and errors. */

#define GPU "0000:03:00.0"
#define DIR "sys/bus/pci/devices/" GPU
/* What has not answered by then hangs; a helper is far enough before, on a busy machine too. */
#define HANGS_MS 5000

static void start(struct fake *f)
{
    fake_order(f, "add " GPU " vendor=0x8086 device=0x56c0 class=0x038000 totalvfs=7 driver=gpu "
                  "serial=00112233445566aa");
    fake_set_memory(f, GPU, 16 * GIB);
    fake_start(f);
}

static void says(const char *message, const char *part)
{
    if (!strstr(message, part))
        g_error("'%s' is not in '%s'", part, message);
}

static void file_is(struct fake *f, const char *path, const char *value)
{
    g_autofree char *text = fake_read(f, "%s", path);

    g_assert_cmpstr(text, ==, value);
}

static void discovery(struct fake *f, gconstpointer data)
{
    struct gpup_gpu *gpu;

    fake_order(f, "add 0000:04:00.0 vendor=0x1234 device=0x1111 class=0x030000");
    fake_order(f,
               "add 0000:05:00.0 vendor=0x8086 device=0x10c9 class=0x020000 totalvfs=7 driver=x");
    fake_order(f,
               "add 0000:06:00.0 vendor=0x1af4 device=0xaaaa class=0x120000 totalvfs=2 driver=y");
    f->pci_ids[0] = "1af4:aaaa";
    start(f);
    gpu = fake_gpu(f, GPU);
    g_assert_nonnull(gpu);
    g_assert_cmpint(gpu->kind, ==, GPUP_KIND_SRIOV);
    g_assert_cmpint(gpu->form, ==, GPUP_FORM_VFIO);
    g_assert_cmpint(gpu->mode, ==, GPUP_MODE_UNUSED);
    g_assert_cmpstr(gpu->driver, ==, "gpu");
    g_assert_cmpstr(gpu->key, ==, "8086-56c0-00112233445566aa");
    g_assert_cmpuint(gpu->n_valid_counts, ==, 7);
    g_assert_cmpuint(gpup_gpu_equal_part(gpu, GPUP_VRAM, 4), ==, 4 * GIB);
    g_assert_cmpint(gpu->resource[GPUP_ENCODE].enforcement, ==, GPUP_ENFORCE_NONE);
    g_assert_null(fake_gpu(f, "0000:04:00.0"));    /* no SR-IOV */
    g_assert_null(fake_gpu(f, "0000:05:00.0"));    /* no display */
    g_assert_nonnull(fake_gpu(f, "0000:06:00.0")); /* allowed by its id */
}

static void counts(struct fake *f, gconstpointer data)
{
    g_autofree char *message = NULL;

    start(f);
    g_assert_cmpint(fake_partition(f, GPU, 8, &message), ==, -EINVAL);
    says(message, "valid counts are 1 to 7");
    g_assert_cmpint(fake_partition(f, GPU, 4, NULL), ==, 0);
    file_is(f, DIR "/sriov_numvfs", "4");
    file_is(f, DIR "/sriov_drivers_autoprobe", "0");
    g_assert_cmpstr(fake_gpu(f, GPU)->slots[3].function.address, ==, "0000:03:00.4");
    g_assert_cmpstr(fake_gpu(f, GPU)->slots[3].function.driver, ==, "");
    g_assert_cmpuint(fake_gpu(f, GPU)->fixed_vram, ==, 4 * GIB);
    g_assert_false(fake_gpu(f, GPU)->foreign);
    g_assert_cmpint(fake_partition(f, GPU, 2, NULL), ==, 0); /* through 0 */
    file_is(f, DIR "/sriov_numvfs", "2");
    g_assert_cmpint(fake_partition(f, GPU, 0, NULL), ==, 0);
    file_is(f, DIR "/sriov_numvfs", "0");
    file_is(f, DIR "/sriov_drivers_autoprobe", "1");
    g_assert_cmpint(fake_gpu(f, GPU)->mode, ==, GPUP_MODE_UNUSED);
}

/* Each error of the kernel has its own explanation, and nothing is left of what was begun. */
static void errors(struct fake *f, gconstpointer data)
{
    static const struct {
        int code;
        const char *part;
    } cases[] = {
        {ENOMEM, "Above 4G Decoding"},
        {EIO, "dmesg"},
        {EPERM, "lockdown"},
        {EACCES, "lockdown"},
        {ENODEV, "firmware"},
        {ENOSYS, "firmware"},
        {EOPNOTSUPP, "firmware"},
        {ENOSPC, "4 VFs"},
        {EINVAL, "4 VFs"},
        {ERANGE, "fewer than 4 VFs"},
        {EBUSY, "gpup rescan"},
        {ENOENT, "cannot make VFs: a newer one"},
    };

    start(f);
    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *message = NULL;

        fake_order(f, "fail " GPU " enable %d", cases[i].code);
        g_assert_cmpint(fake_partition(f, GPU, 4, &message), ==, -cases[i].code);
        says(message, "03:00.0");
        says(message, cases[i].part);
        file_is(f, DIR "/sriov_numvfs", "0");
        file_is(f, DIR "/sriov_drivers_autoprobe", "1");
        g_assert_cmpint(fake_gpu(f, GPU)->mode, ==, GPUP_MODE_UNUSED);
    }
    fake_order(f, "fail " GPU " enable 0");
    g_assert_cmpint(fake_partition(f, GPU, 4, NULL), ==, 0);
}

static void fewer_than_asked(struct fake *f, gconstpointer data)
{
    g_autofree char *message = NULL;

    start(f);
    fake_order(f, "short " GPU " 3");
    g_assert_cmpint(fake_partition(f, GPU, 4, &message), ==, -EIO);
    says(message, "made only 3 of 4 VFs");
    file_is(f, DIR "/sriov_numvfs", "0");
}

/* A change that fails half-way leaves what was there. */
static void back_to_before(struct fake *f, gconstpointer data)
{
    g_autofree char *message = NULL;

    start(f);
    g_assert_cmpint(fake_partition(f, GPU, 2, NULL), ==, 0);
    fake_order(f, "short " GPU " 3");
    g_assert_cmpint(fake_partition(f, GPU, 4, &message), ==, -EIO);
    says(message, "the 2 partitions there were are back");
    file_is(f, DIR "/sriov_numvfs", "2");
    g_assert_cmpuint(fake_gpu(f, GPU)->n_slots, ==, 2);
    g_assert_cmpint(fake_gpu(f, GPU)->mode, ==, GPUP_MODE_PARTITIONED);
    fake_order(f, "short " GPU " 1");
    g_assert_cmpint(fake_partition(f, GPU, 4, &message), ==, -EIO);
    says(message, "could not be made again");
    g_assert_cmpuint(fake_gpu(f, GPU)->n_slots, ==, 0);
    file_is(f, DIR "/sriov_numvfs", "0");
}

static void no_driver(struct fake *f, gconstpointer data)
{
    fake_order(f, "add 0000:07:00.0 vendor=0x8086 device=0x56c0 class=0x038000 totalvfs=7");
    fake_order(f, "add 0000:08:00.0 vendor=0x8086 device=0x56c0 class=0x038000 totalvfs=7 "
                  "driver=old no-sriov=1");
    start(f);
    g_assert_cmpint(fake_gpu(f, "0000:07:00.0")->mode, ==, GPUP_MODE_UNUSABLE);
    says(fake_gpu(f, "0000:07:00.0")->reason, "no driver");
    {
        g_autofree char *message = NULL;

        g_assert_cmpint(fake_partition(f, "0000:08:00.0", 2, &message), ==, -ENOENT);
        says(message, "driver old cannot make VFs");
    }
}

static void slots(struct fake *f, gconstpointer data)
{
    g_autofree char *message = NULL;

    start(f);
    fake_partition(f, GPU, 2, NULL);
    g_assert_cmpint(fake_prepare(f, GPU, 0, 8 * GIB, 0, NULL), ==, 0);
    g_assert_cmpstr(fake_gpu(f, GPU)->slots[0].function.driver, ==, "vfio-pci");
    g_assert_true(fake_exists(f, "sys/bus/pci/devices/0000:03:00.1/driver/bind"));
    file_is(f, "sys/bus/pci/devices/0000:03:00.1/driver_override", "vfio-pci");
    g_assert_cmpint(fake_prepare(f, GPU, 0, 8 * GIB, 0, &message), ==, -EBUSY);
    g_assert_cmpint(fake_partition(f, GPU, 4, &message), ==, -EBUSY);
    says(message, "desk1");
    g_assert_true(fake_give_back(f, GPU, 0));
    g_assert_false(fake_exists(f, "sys/bus/pci/devices/0000:03:00.1/driver"));
    file_is(f, "sys/bus/pci/devices/0000:03:00.1/driver_override", "(null)");
    file_is(f, "sys/bus/pci/devices/0000:03:00.1/fakesys_resets", "1");
    g_assert_cmpint(fake_prepare(f, GPU, 0, 8 * GIB, 0, NULL), ==, 0);
}

/* What the last VM left could be in it: it is not given to the next. */
static void failed_reset(struct fake *f, gconstpointer data)
{
    start(f);
    fake_partition(f, GPU, 2, NULL);
    g_assert_cmpint(fake_prepare(f, GPU, 0, 8 * GIB, 0, NULL), ==, 0);
    fake_order(f, "fail " GPU " reset %d", ENOTTY);
    g_assert_false(fake_give_back(f, GPU, 0));
    says(fake_gpu(f, GPU)->slots[0].vm, "cannot be reset");
    g_assert_cmpuint(gpup_gpu_free_slots(fake_gpu(f, GPU)), ==, 1);
}

static void no_iommu(struct fake *f, gconstpointer data)
{
    g_autofree char *message = NULL;

    fake_order(f, "iommu off");
    start(f);
    g_assert_cmpint(fake_partition(f, GPU, 2, NULL), ==, 0);
    g_assert_cmpint(fake_prepare(f, GPU, 0, 8 * GIB, 0, &message), ==, -ENXIO);
    says(message, "intel_iommu=on");
    g_assert_false(fake_exists(f, "sys/bus/pci/devices/0000:03:00.1/driver"));
}

static void shared_group(struct fake *f, gconstpointer data)
{
    g_autofree char *message = NULL;

    fake_order(f, "add " GPU " vendor=0x8086 device=0x56c0 class=0x038000 totalvfs=7 driver=gpu "
                  "shared-group=1");
    fake_start(f);
    g_assert_cmpint(fake_partition(f, GPU, 2, NULL), ==, 0);
    g_assert_cmpint(fake_prepare(f, GPU, 1, 0, 0, &message), ==, -EBUSY);
    says(message, "03:00.0 (driver gpu)");
    says(message, "ACS");
}

static void bind_fails(struct fake *f, gconstpointer data)
{
    g_autofree char *message = NULL;

    start(f);
    fake_partition(f, GPU, 2, NULL);
    fake_order(f, "fail " GPU " bind %d", EIO);
    g_assert_cmpint(fake_prepare(f, GPU, 0, 8 * GIB, 0, &message), ==, -EIO);
    says(message, "vfio-pci did not take 03:00.1");
    file_is(f, "sys/bus/pci/devices/0000:03:00.1/driver_override", "(null)");
}

static void open_elsewhere(struct fake *f, gconstpointer data)
{
    g_autofree char *message = NULL;

    start(f);
    fake_partition(f, GPU, 2, NULL);
    fake_order(f, "hold 0000:03:00.2 qemu-by-hand");
    g_assert_cmpint(fake_prepare(f, GPU, 1, 8 * GIB, 0, &message), ==, -EBUSY);
    says(message, "open in qemu-by-hand (process 4242)");
    g_assert_cmpint(fake_partition(f, GPU, 0, &message), ==, -EBUSY);
    g_assert_true(fake_give_back(f, GPU, 1) || true);
    fake_order(f, "close 0000:03:00.2");
}

static void foreign(struct fake *f, gconstpointer data)
{
    start(f);
    fake_order(f, "vfs " GPU " 3");
    fake_start(f);
    g_assert_true(fake_gpu(f, GPU)->foreign);
    g_assert_cmpuint(fake_gpu(f, GPU)->n_slots, ==, 3);
    file_is(f, DIR "/sriov_numvfs", "3");
    g_assert_cmpint(fake_partition(f, GPU, 3, NULL), ==, 0); /* taken over as they are */
    g_assert_false(fake_gpu(f, GPU)->foreign);
    file_is(f, DIR "/sriov_drivers_autoprobe", "1");
    g_assert_cmpint(gpup_inventory_rescan(f->inventory, NULL), ==, 0);
    g_assert_false(fake_gpu(f, GPU)->foreign);
}

static bool is_back(struct fake *f)
{
    return fake_gpu(f, GPU)->mode != GPUP_MODE_WEDGED;
}

/* A driver that hangs costs the time of the timeout, the daemon goes on, and the GPU comes back
 * when the driver does. */
static void hang(struct fake *f, gconstpointer data)
{
    g_autofree char *message = NULL;
    unsigned patience;
    gint64 since;

    fake_order(f, "add 0000:04:00.0 vendor=0x8086 device=0x56c1 class=0x038000 totalvfs=7 "
                  "driver=gpu");
    start(f);
    patience = f->inventory->system.timeout_ms;
    f->inventory->system.timeout_ms = HANGS_MS;
    fake_order(f, "hang " GPU " on");
    since = g_get_monotonic_time();
    g_assert_cmpint(fake_partition(f, GPU, 2, &message), ==, -ETIMEDOUT);
    g_assert_cmpint(g_get_monotonic_time() - since, <, 30 * G_USEC_PER_SEC);
    says(message, "has not answered");
    g_assert_cmpint(fake_gpu(f, GPU)->mode, ==, GPUP_MODE_WEDGED);
    f->inventory->system.timeout_ms = patience; /* the others may take their time */
    g_assert_cmpint(fake_partition(f, GPU, 2, &message), ==, -EINVAL);
    /* looking again asks the others only, and does not wait for this one */
    g_assert_cmpint(gpup_inventory_rescan(f->inventory, NULL), ==, 0);
    g_assert_cmpint(fake_gpu(f, GPU)->mode, ==, GPUP_MODE_WEDGED);
    g_assert_cmpint(fake_partition(f, "0000:04:00.0", 2, NULL), ==, 0);
    fake_order(f, "hang " GPU " off");
    fake_wait(f, is_back);
    g_assert_cmpint(fake_partition(f, GPU, 3, NULL), ==, 0);
}

/* gpupd that is started while a driver hangs starts all the same. */
static void hang_at_start(struct fake *f, gconstpointer data)
{
    g_autofree char *message = NULL;

    start(f);
    f->inventory->system.timeout_ms = HANGS_MS;
    fake_order(f, "hang " GPU " on");
    g_assert_cmpint(fake_partition(f, GPU, 2, &message), ==, -ETIMEDOUT);
    f->system.timeout_ms = HANGS_MS;
    fake_start(f);
    g_assert_cmpint(fake_gpu(f, GPU)->mode, ==, GPUP_MODE_WEDGED);
    fake_order(f, "hang " GPU " off");
    f->inventory->system.timeout_ms = 0;
    gpup_inventory_ask_wedged(f->inventory); /* it waits for the helper that hung */
    fake_wait(f, is_back);
}

/* A helper that could be ended tells nothing more: the GPU is asked again. */
static void asked_again(struct fake *f, gconstpointer data)
{
    const char *helper = f->system.helper;
    g_autofree char *dir = g_dir_make_tmp("gpup-helper-XXXXXX", NULL);
    g_autofree char *link = g_build_filename(dir, "helper", NULL);
    g_autofree char *slow = g_build_filename(dir, "slow", NULL);

    g_assert_true(g_file_set_contents(slow, "#!/bin/sh\nexec sleep 100\n", -1, NULL));
    g_assert_cmpint(chmod(slow, 0755), ==, 0);
    g_assert_cmpint(symlink(slow, link), ==, 0);
    f->system.helper = link;
    f->system.timeout_ms = HANGS_MS;
    start(f);
    g_assert_cmpint(fake_gpu(f, GPU)->mode, ==, GPUP_MODE_WEDGED);
    g_assert_cmpint(unlink(link), ==, 0);
    g_assert_cmpint(symlink(helper, link), ==, 0);
    f->inventory->system.timeout_ms = 0;
    gpup_inventory_ask_wedged(f->inventory);
    fake_wait(f, is_back);
    g_assert_cmpint(fake_partition(f, GPU, 3, NULL), ==, 0);
    unlink(link);
    unlink(slow);
    rmdir(dir);
}

/* A helper that has answered and does not end is ended. */
static void lingers(struct fake *f, gconstpointer data)
{
    g_autofree char *dir = g_dir_make_tmp("gpup-helper-XXXXXX", NULL);
    g_autofree char *helper = g_build_filename(dir, "helper", NULL);
    g_autofree char *script =
        g_strdup_printf("#!/bin/sh\n%s\nexec sleep 100 >/dev/null\n", f->system.helper);

    g_assert_true(g_file_set_contents(helper, script, -1, NULL));
    g_assert_cmpint(chmod(helper, 0755), ==, 0);
    f->system.helper = helper;
    start(f);
    g_assert_cmpint(fake_partition(f, GPU, 3, NULL), ==, 0);
    g_assert_cmpuint(fake_gpu(f, GPU)->n_slots, ==, 3);
    f->system.helper = g_getenv("GPUP_GPU_HELPER");
    unlink(helper);
    rmdir(dir);
}

static void moved(struct fake *f, gconstpointer data)
{
    g_autofree char *key = NULL;

    start(f);
    key = g_strdup(fake_gpu(f, GPU)->key);
    fake_order(f, "remove " GPU);
    fake_order(f, "add 0000:83:00.0 vendor=0x8086 device=0x56c0 class=0x038000 totalvfs=7 "
                  "driver=gpu serial=00112233445566aa");
    fake_start(f);
    g_assert_null(fake_gpu(f, GPU));
    g_assert_cmpstr(fake_gpu(f, "0000:83:00.0")->key, ==, key);
    /* another one in the old place is not the same GPU */
    fake_order(f, "add " GPU " vendor=0x8086 device=0x56c0 class=0x038000 totalvfs=7 driver=gpu "
                  "serial=00112233445566ab");
    fake_start(f);
    g_assert_cmpstr(fake_gpu(f, GPU)->key, !=, key);
}

/* One serial number for all cards is none. */
static void same_serial(struct fake *f, gconstpointer data)
{
    fake_order(f, "add 0000:04:00.0 vendor=0x8086 device=0x56c0 class=0x038000 totalvfs=7 "
                  "driver=gpu serial=00112233445566aa");
    start(f);
    g_assert_cmpstr(fake_gpu(f, GPU)->key, !=, fake_gpu(f, "0000:04:00.0")->key);
}

/* gpupd is started again while VMs run: slots keep their VFs. */
static void restart(struct fake *f, gconstpointer data)
{
    const struct gpup_grant grant = {{{8 * GIB, 8 * GIB, 8 * GIB}}};

    start(f);
    fake_partition(f, GPU, 2, NULL);
    g_assert_cmpint(fake_prepare(f, GPU, 1, 8 * GIB, 0, NULL), ==, 0);
    fake_start(f);
    g_assert_cmpuint(fake_gpu(f, GPU)->n_slots, ==, 2);
    g_assert_cmpint(
        gpup_inventory_take(f->inventory, fake_gpu(f, GPU), 1, FAKE_ADAPTER, "desk1", &grant, NULL),
        ==, 0);
    g_assert_cmpstr(fake_gpu(f, GPU)->slots[1].function.address, ==, "0000:03:00.2");
    g_assert_cmpstr(fake_gpu(f, GPU)->slots[1].function.driver, ==, "vfio-pci");
    g_assert_true(fake_give_back(f, GPU, 1));
}

int main(int argc, char **argv)
{
    static const struct {
        const char *path;
        void (*func)(struct fake *, gconstpointer);
    } tests[] = {
        {"/sriov/discovery", discovery},
        {"/sriov/counts", counts},
        {"/sriov/errors", errors},
        {"/sriov/fewer-than-asked", fewer_than_asked},
        {"/sriov/back-to-before", back_to_before},
        {"/sriov/no-driver", no_driver},
        {"/sriov/slots", slots},
        {"/sriov/failed-reset", failed_reset},
        {"/sriov/no-iommu", no_iommu},
        {"/sriov/shared-group", shared_group},
        {"/sriov/bind-fails", bind_fails},
        {"/sriov/open-elsewhere", open_elsewhere},
        {"/sriov/foreign", foreign},
        {"/sriov/hang", hang},
        {"/sriov/hang-at-start", hang_at_start},
        {"/sriov/asked-again", asked_again},
        {"/sriov/lingers", lingers},
        {"/sriov/moved", moved},
        {"/sriov/same-serial", same_serial},
        {"/sriov/restart", restart},
    };

    g_test_init(&argc, &argv, NULL);
    g_log_set_always_fatal(G_LOG_FATAL_MASK);
    for (gsize i = 0; i < G_N_ELEMENTS(tests); i++)
        g_test_add(tests[i].path, struct fake, NULL, fake_set_up, tests[i].func, fake_tear_down);
    return g_test_run();
}
