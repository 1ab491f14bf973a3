/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "fixture.h"
#include "gpu/vgpu_type.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>

/* NVIDIA vGPU: the driver's own VFIO and mediated devices. */

#define GPU "0000:41:00.0"
#define DIR "sys/bus/pci/devices/" GPU

static void add(struct fake *f, const char *more)
{
    fake_order(f,
               "add " GPU " vendor=0x10de device=0x25b6 class=0x030200 subvendor=0x10de "
               "subdevice=0x157e totalvfs=16 offset=4 driver=nvidia uuid=0a1b profile=A2 %s",
               more);
}

static void start(struct fake *f, const char *more)
{
    add(f, more);
    fake_start(f);
}

static void says(const char *message, const char *part)
{
    if (!message || !strstr(message, part))
        g_error("'%s' is not in '%s'", part, message ? message : "(nothing)");
}

static unsigned type_of(struct fake *f, unsigned slot)
{
    g_autofree char *text = fake_read(f, "sys/bus/pci/devices/%s/nvidia/current_vgpu_type",
                                      fake_gpu(f, GPU)->slots[slot].function.address);

    return (unsigned)g_ascii_strtoull(text, NULL, 10);
}

/* As somebody else would. */
static void write_to(struct fake *f, const char *file, const char *text)
{
    g_autofree char *path = g_build_filename(f->sysfs, "bus/pci/devices", file, NULL);
    int fd = open(path, O_WRONLY | O_CLOEXEC);

    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(write(fd, text, strlen(text)), ==, (ssize_t)strlen(text));
    close(fd);
}

static unsigned vfs(struct fake *f)
{
    g_autofree char *text = fake_read(f, DIR "/sriov_numvfs");

    return (unsigned)g_ascii_strtoull(text, NULL, 10);
}

static void discovery(struct fake *f, gconstpointer data)
{
    struct gpup_gpu *gpu;

    start(f, "");
    gpu = fake_gpu(f, GPU);
    g_assert_cmpstr(gpu->name, ==, "A2");
    g_assert_cmpstr(gpu->key, ==, "GPU-0a1b");
    g_assert_cmpint(gpu->form, ==, GPUP_FORM_VENDOR);
    g_assert_cmpint(gpu->mode, ==, GPUP_MODE_UNUSED);
    g_assert_cmpuint(gpu->resource[GPUP_VRAM].total, ==, 16 * GIB);
    g_assert_cmpuint(gpu->n_valid_counts, ==, 16);
    g_assert_cmpuint(gpup_gpu_equal_part(gpu, GPUP_VRAM, 3), ==, 4 * GIB);
    g_assert_cmpuint(gpup_gpu_equal_part(gpu, GPUP_VRAM, 16), ==, 1 * GIB);
}

static void partition(struct fake *f, gconstpointer data)
{
    start(f, "");
    g_assert_cmpint(fake_partition(f, GPU, 4, NULL), ==, 0);
    g_assert_cmpuint(vfs(f), ==, 16);
    g_assert_cmpuint(fake_gpu(f, GPU)->n_slots, ==, 4);
    g_assert_cmpuint(fake_gpu(f, GPU)->fixed_vram, ==, 4 * GIB);
    g_assert_cmpstr(fake_gpu(f, GPU)->slots[0].function.address, ==, "0000:41:00.4");
    for (unsigned i = 0; i < 4; i++)
        g_assert_cmpuint(type_of(f, i), ==, 746); /* A2-4Q */
    g_assert_cmpint(fake_partition(f, GPU, 2, NULL), ==, 0);
    g_assert_cmpuint(type_of(f, 1), ==, 747); /* A2-8Q */
    fake_start(f);                            /* gpupd again: it finds them */
    g_assert_cmpuint(fake_gpu(f, GPU)->n_slots, ==, 2);
    g_assert_cmpuint(fake_gpu(f, GPU)->fixed_vram, ==, 8 * GIB);
    g_assert_cmpint(fake_partition(f, GPU, 0, NULL), ==, 0);
    g_assert_cmpuint(vfs(f), ==, 0);
}

static void other_class(struct fake *f, gconstpointer data)
{
    fake_set(f, GPU, "vgpu-class", "C");
    start(f, "");
    g_assert_cmpint(fake_partition(f, GPU, 4, NULL), ==, 0);
    g_assert_cmpuint(type_of(f, 0), ==, 756); /* A2-4C */
}

static void vms(struct fake *f, gconstpointer data)
{
    start(f, "");
    g_assert_cmpint(fake_partition(f, GPU, 4, NULL), ==, 0);
    g_assert_cmpint(fake_prepare(f, GPU, 1, 4 * GIB, 0, NULL), ==, 0);
    g_assert_cmpstr(fake_gpu(f, GPU)->slots[1].function.driver, ==, "nvidia");
    g_assert_cmpuint(type_of(f, 1), ==, 746);
    g_assert_true(fake_give_back(f, GPU, 1));
    g_assert_cmpuint(type_of(f, 1), ==, 746); /* a new one */
    /* the driver was loaded anew meanwhile: what it lost is made again */
    fake_order(f, "vfs " GPU " 16");
    g_assert_cmpint(fake_prepare(f, GPU, 2, 4 * GIB, 0, NULL), ==, 0);
    g_assert_cmpuint(type_of(f, 2), ==, 746);
}

/* The third VF of four does not take its type: none is left with one, and VFs go again. */
static void fails_half_way(struct fake *f, gconstpointer data)
{
    g_autofree char *message = NULL;

    start(f, "");
    fake_order(f, "fail " GPU " type-2 5");
    g_assert_cmpint(fake_partition(f, GPU, 4, &message), ==, -EIO);
    says(message, "A2-4Q");
    g_assert_cmpuint(vfs(f), ==, 0);
    g_assert_cmpint(fake_gpu(f, GPU)->mode, ==, GPUP_MODE_UNUSED);
}

/* Each error of the driver has its own explanation, and nothing is left of what was begun. */
static void refused_types(struct fake *f, gconstpointer kind)
{
    static const struct {
        int code;
        const char *part;
    } cases[] = {
        {EPERM, "has a vGPU already, which somebody else made"},
        {EINVAL, "takes one size only"},
        {ENOSPC, "no room for NVIDIA A2-8Q"},
        {EBUSY, "is in use: stop its VM first"},
        {EIO, "divided (MIG)"},
        {ENODEV, "does not take NVIDIA A2-8Q: No such device; see dmesg"},
    };
    bool late = strcmp(kind, "nvidia=mdev") == 0;

    start(f, kind);
    f->wanted = 2;
    if (late)
        g_assert_cmpint(fake_partition(f, GPU, 2, NULL), ==, 0);
    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *message = NULL;

        fake_order(f, "fail " GPU " type %d", cases[i].code);
        g_assert_cmpint(late ? fake_prepare(f, GPU, 0, 8 * GIB, 0, &message)
                             : fake_partition(f, GPU, 2, &message),
                        ==, -cases[i].code);
        says(message, "41:00.0: ");
        says(message, "VF 41:00.4");
        says(message, cases[i].part);
        fake_order(f, "fail " GPU " type 0");
        if (late)
            g_assert_true(fake_give_back(f, GPU, 0));
        else
            g_assert_cmpuint(vfs(f), ==, 0);
    }
    if (late)
        g_assert_cmpint(fake_prepare(f, GPU, 0, 8 * GIB, 0, NULL), ==, 0);
    else
        g_assert_cmpint(fake_partition(f, GPU, 2, NULL), ==, 0);
}

/* The numbers of types are looked up before each vGPU. */
static void renumbered(struct fake *f, gconstpointer data)
{
    start(f, "renumbers=1");
    g_assert_cmpint(fake_partition(f, GPU, 4, NULL), ==, 0);
    for (unsigned i = 0; i < 4; i++)
        g_assert_cmpuint(type_of(f, i), ==, 746 + 1000 * i);
    g_assert_cmpint(fake_prepare(f, GPU, 1, 4 * GIB, 0, NULL), ==, 0);
    g_assert_true(fake_give_back(f, GPU, 1));
    g_assert_cmpuint(type_of(f, 1), ==, 4746);
}

/* Where all have one size, what somebody else made decides which. */
static void another_size(struct fake *f, gconstpointer data)
{
    g_autofree char *message = NULL;

    start(f, "");
    g_assert_cmpint(fake_partition(f, GPU, 4, NULL), ==, 0);
    fake_order(f, "nvidia " GPU " reload");
    fake_order(f, "nvidia " GPU " enable");
    write_to(f, "0000:41:01.1/nvidia/current_vgpu_type", "747");
    g_assert_cmpint(fake_prepare(f, GPU, 0, 4 * GIB, 0, &message), ==, -ENOSPC);
    says(message, "another size may be in use on it, or vGPUs that somebody else made");
    g_assert_cmpuint(type_of(f, 0), ==, 0);
}

static void no_mixed_sizes(struct fake *f, gconstpointer data)
{
    g_autofree char *message = NULL;

    fake_set(f, GPU, "vgpu-mode", "heterogeneous");
    start(f, "no-shm=1");
    g_assert_cmpint(fake_partition(f, GPU, 2, &message), ==, -EIO);
    says(message, "nvidia-smi cannot set the mode for vGPUs of different sizes: Unable to set");
    g_assert_cmpuint(vfs(f), ==, 0);
}

static void vfs_at_boot(struct fake *f, gconstpointer data)
{
    start(f, "");
    fake_order(f, "nvidia " GPU " enable"); /* a unit of the administrator's */
    fake_start(f);
    g_assert_cmpint(fake_gpu(f, GPU)->mode, ==, GPUP_MODE_UNUSED);
    g_assert_cmpint(fake_partition(f, GPU, 2, NULL), ==, 0);
    g_assert_cmpuint(type_of(f, 0), ==, 747);
}

static void lock_is_busy(struct fake *f, gconstpointer data)
{
    g_autofree char *message = NULL;

    start(f, "locked=1");
    g_assert_cmpint(fake_partition(f, GPU, 2, NULL), ==, 0);
    g_assert_cmpint(fake_partition(f, GPU, 0, NULL), ==, 0);
    fake_order(f, "nvidia " GPU " set locked 100");
    g_assert_cmpint(fake_partition(f, GPU, 2, &message), ==, -EBUSY);
    says(message, "another program uses the GPU");
}

static void no_tool(struct fake *f, gconstpointer data)
{
    g_autofree char *message = NULL;

    start(f, "no-tools=1");
    g_assert_cmpint(fake_partition(f, GPU, 2, &message), ==, -ENOENT);
    says(message, "install NVIDIA's vGPU host driver");
}

static void other_drivers(struct fake *f, gconstpointer data)
{
    start(f, "ordinary=1");
    g_assert_cmpint(fake_gpu(f, GPU)->mode, ==, GPUP_MODE_UNUSABLE);
    says(fake_gpu(f, GPU)->reason, "the ordinary NVIDIA driver is loaded");
    fake_order(f, "add 0000:42:00.0 vendor=0x10de device=0x27b8 class=0x030000 driver=nouveau "
                  "totalvfs=32");
    fake_start(f);
    says(fake_gpu(f, "0000:42:00.0")->reason, "the driver nouveau has it");
}

static void mixed_sizes(struct fake *f, gconstpointer data)
{
    fake_set(f, GPU, "vgpu-mode", "heterogeneous");
    start(f, "");
    g_assert_true(fake_gpu(f, GPU)->elastic);
    f->wanted = 3;
    g_assert_cmpint(fake_partition(f, GPU, 3, NULL), ==, 0);
    g_assert_cmpuint(fake_gpu(f, GPU)->n_slots, ==, 3);
    g_assert_cmpuint(type_of(f, 0), ==, 0);
    g_assert_cmpint(fake_prepare(f, GPU, 0, 8 * GIB, 0, NULL), ==, 0);
    g_assert_cmpint(fake_prepare(f, GPU, 1, 3 * GIB, 0, NULL), ==, 0);
    g_assert_cmpuint(type_of(f, 0), ==, 747);
    g_assert_cmpuint(type_of(f, 1), ==, 746); /* the next larger there is */
    g_assert_cmpuint(fake_gpu(f, GPU)->slots[1].function.vram, ==, 4 * GIB);
    g_assert_true(fake_give_back(f, GPU, 0));
    fake_start(f);
    g_assert_cmpuint(fake_gpu(f, GPU)->n_slots, ==, 3);
}

static void mediated(struct fake *f, gconstpointer data)
{
    const struct gpup_grant grant = {{{8 * GIB, 8 * GIB, 8 * GIB}}};
    struct gpup_gpu *gpu;

    start(f, "nvidia=mdev");
    g_assert_cmpint(fake_gpu(f, GPU)->form, ==, GPUP_FORM_MDEV);
    f->wanted = 2;
    g_assert_cmpint(fake_partition(f, GPU, 2, NULL), ==, 0);
    gpu = fake_gpu(f, GPU);
    g_assert_cmpuint(gpu->n_slots, ==, 2);
    g_assert_cmpuint(gpu->fixed_vram, ==, 8 * GIB);
    g_assert_cmpint(fake_prepare(f, GPU, 1, 8 * GIB, 0, NULL), ==, 0);
    g_assert_true(g_uuid_string_is_valid(gpu->slots[1].function.mdev));
    g_assert_true(fake_exists(f, "sys/bus/mdev/devices/%s/remove", gpu->slots[1].function.mdev));
    g_assert_cmpint(gpup_inventory_rescan(f->inventory, NULL), ==, 0);
    gpu = fake_gpu(f, GPU);
    g_assert_true(g_uuid_string_is_valid(gpu->slots[1].function.mdev));
    /* gpupd again, while the VM runs */
    fake_start(f);
    gpu = fake_gpu(f, GPU);
    g_assert_cmpuint(gpu->n_slots, ==, 2);
    g_assert_cmpint(gpup_inventory_take(f->inventory, gpu, 1,
                                        "11111111-2222-4333-8444-555555555551", "desk1", &grant,
                                        NULL),
                    ==, 0);
    g_assert_true(fake_give_back(f, GPU, 1));
    g_assert_false(fake_exists(f, "sys/bus/mdev/devices/11111111-2222-4333-8444-555555555551"));
}

#define MDEV(n) "sys/bus/mdev/devices/11111111-2222-4333-8444-55555555555" n

static bool is_partitioned(struct fake *f)
{
    return fake_gpu(f, GPU)->mode == GPUP_MODE_PARTITIONED;
}

static bool first_is_free(struct fake *f)
{
    return gpup_slot_is_free(&fake_gpu(f, GPU)->slots[0]);
}

/* While a mediated device is being removed nobody else gets its place, and it is not forgotten:
 * not when it could not be removed, nor when gpupd was started again. */
static void mediated_cleared(struct fake *f, gconstpointer data)
{
    const struct gpup_grant grant = {{{8 * GIB, 8 * GIB, 8 * GIB}}};
    const char *next = "22222222-2222-4333-8444-555555555555";
    struct gpup_slot *slot;

    start(f, "nvidia=mdev");
    f->wanted = 2;
    g_assert_cmpint(fake_partition(f, GPU, 2, NULL), ==, 0);
    g_assert_cmpint(fake_prepare(f, GPU, 0, 8 * GIB, 0, NULL), ==, 0);
    fake_start(f);
    g_assert_cmpint(gpup_inventory_take(f->inventory, fake_gpu(f, GPU), 0,
                                        "11111111-2222-4333-8444-555555555550", "desk1", &grant,
                                        NULL),
                    ==, 0);
    fake_order(f, "hold 0000:41:00.4 qemu");
    g_assert_false(fake_give_back(f, GPU, 0));
    slot = &fake_gpu(f, GPU)->slots[0];
    says(slot->vm, "is open in qemu (process 4242)");
    g_assert_cmpstr(slot->function.mdev, ==, "11111111-2222-4333-8444-555555555550");
    fake_order(f, "close 0000:41:00.4");
    fake_order(f, "hang " GPU " on");
    gpup_inventory_clear_again(f->inventory);
    g_assert_cmpstr(slot->vm, ==, "(being cleared)");
    g_assert_cmpint(
        gpup_inventory_take(f->inventory, fake_gpu(f, GPU), 0, next, "desk2", &grant, NULL), ==,
        -EBUSY);
    g_assert_cmpstr(slot->function.mdev, ==, "11111111-2222-4333-8444-555555555550");
    g_assert_true(fake_exists(f, MDEV("0")));
    fake_order(f, "hang " GPU " off");
    fake_wait(f, first_is_free);
    g_assert_false(fake_exists(f, MDEV("0")));
    g_assert_cmpstr(slot->function.mdev, ==, "");
    g_assert_cmpint(fake_prepare(f, GPU, 0, 8 * GIB, 0, NULL), ==, 0);
    g_assert_true(fake_exists(f, MDEV("0")));
}

/* The driver is asked again what there is while a VM runs: its device is still its device. */
static void mediated_asked_again(struct fake *f, gconstpointer data)
{
    start(f, "nvidia=mdev");
    f->wanted = 2;
    g_assert_cmpint(fake_partition(f, GPU, 2, NULL), ==, 0);
    g_assert_cmpint(fake_prepare(f, GPU, 0, 8 * GIB, 0, NULL), ==, 0);
    fake_gpu(f, GPU)->mode = GPUP_MODE_WEDGED;
    gpup_inventory_ask_wedged(f->inventory);
    fake_wait(f, is_partitioned);
    g_assert_cmpstr(fake_gpu(f, GPU)->slots[0].function.mdev, ==,
                    "11111111-2222-4333-8444-555555555550");
    g_assert_true(fake_give_back(f, GPU, 0));
    g_assert_false(fake_exists(f, MDEV("0")));
}

/* A device of the adapter's UUID that is left of another time is on another VF, perhaps, and has
 * in it what was done with it. */
static void mediated_left(struct fake *f, gconstpointer data)
{
    start(f, "nvidia=mdev");
    f->wanted = 2;
    g_assert_cmpint(fake_partition(f, GPU, 2, NULL), ==, 0);
    write_to(f, "0000:41:00.5/mdev_supported_types/nvidia-747/create",
             "11111111-2222-4333-8444-555555555550");
    g_assert_cmpint(fake_prepare(f, GPU, 0, 8 * GIB, 0, NULL), ==, 0);
    g_assert_true(fake_exists(f, "sys/bus/pci/devices/0000:41:00.4/"
                                 "11111111-2222-4333-8444-555555555550"));
    g_assert_false(fake_exists(f, "sys/bus/pci/devices/0000:41:00.5/"
                                  "11111111-2222-4333-8444-555555555550"));
}

/* Four GPUs on one card, told apart by where they sit. */
static void four_on_a_card(struct fake *f, gconstpointer data)
{
    for (unsigned i = 0; i < 4; i++)
        fake_order(f,
                   "add 0000:4%u:00.0 vendor=0x10de device=0x25b6 class=0x030200 subvendor=0x10de "
                   "subdevice=0x14a9 totalvfs=16 offset=4 driver=nvidia uuid=%u profile=A16 "
                   "parent=0000:40:00.0/0000:3f:0%u.0",
                   3 + i, i, i);
    fake_start(f);
    g_assert_cmpstr(fake_gpu(f, "0000:43:00.0")->name, ==, "A16 1 of 4");
    g_assert_cmpstr(fake_gpu(f, "0000:46:00.0")->name, ==, "A16 4 of 4");
}

/* ---- with NVIDIA's library ---- */

/* The file that it writes settings to. */
static char *add_library(void)
{
    char *log = g_build_filename(g_get_tmp_dir(), "gpup-nvml-log-XXXXXX", NULL);

    g_close(g_mkstemp(log), NULL);
    g_setenv("GPUP_NVML_LOG", log, TRUE);
    g_setenv("LD_LIBRARY_PATH", g_getenv("GPUP_NVML_DIR"), TRUE);
    return log;
}

static void remove_library(char *log)
{
    unlink(log);
    g_free(log);
    g_unsetenv("LD_LIBRARY_PATH");
}

static void log_is(const char *log, const char *wanted)
{
    g_autofree char *text = NULL;

    g_assert_true(g_file_get_contents(log, &text, NULL, NULL));
    g_assert_cmpstr(text, ==, wanted);
}

/* Types that no table knows, and the scheduler. */
static void with_library(struct fake *f, gconstpointer data)
{
    char *log = add_library();

    fake_set(f, "0000:51:00.0", "vgpu-scheduler", "fixed-share");
    fake_set(f, "0000:51:00.0", "vgpu-slice-ms", "2");
    fake_order(f, "add 0000:51:00.0 vendor=0x10de device=0x9999 class=0x030200 totalvfs=32 "
                  "driver=nvidia uuid=77 profile=L4 sizes=1,2,3,4,6,8,12,24 memory=24576");
    fake_set_memory(f, "0000:51:00.0", 24 * GIB);
    fake_start(f);
    g_assert_cmpuint(fake_gpu(f, "0000:51:00.0")->n_valid_counts, ==, 24);
    g_assert_cmpint(fake_gpu(f, "0000:51:00.0")->resource[GPUP_COMPUTE].enforcement, ==,
                    GPUP_ENFORCE_SHARE);
    g_assert_cmpint(fake_partition(f, "0000:51:00.0", 4, NULL), ==, 0);
    g_assert_cmpuint(fake_gpu(f, "0000:51:00.0")->fixed_vram, ==, 6 * GIB);
    log_is(log, "scheduler 3 0 2000000\n");
    remove_library(log);
}

/* The module was loaded anew, and a unit of the administrator's made the VFs: the scheduler and the
 * mode are as they are by default, which nothing but the first VM's start tells. */
static void reloaded(struct fake *f, gconstpointer data)
{
    const char *once = "scheduler 2 0 0\n", *twice = "scheduler 2 0 0\nscheduler 2 0 0\n";
    char *log = add_library();

    fake_set(f, GPU, "vgpu-mode", "heterogeneous");
    fake_set(f, GPU, "vgpu-scheduler", "equal-share");
    start(f, "profile=L4 device=0x27b8 sizes=1,2,3,4,6,8,12,24 memory=24576");
    f->wanted = 2;
    g_assert_cmpint(fake_partition(f, GPU, 2, NULL), ==, 0);
    log_is(log, once);
    fake_order(f, "nvidia " GPU " reload");
    fake_order(f, "nvidia " GPU " enable");
    g_assert_cmpint(gpup_inventory_rescan(f->inventory, NULL), ==, 0);
    g_assert_cmpint(fake_prepare(f, GPU, 0, 8 * GIB, 0, NULL), ==, 0);
    log_is(log, twice);
    g_assert_cmpint(fake_prepare(f, GPU, 1, 4 * GIB, 0, NULL), ==, 0); /* of another size */
    log_is(log, twice); /* cannot be set while there is a vGPU */
    remove_library(log);
}

static void no_library(struct fake *f, gconstpointer data)
{
    g_autofree char *message = NULL;

    fake_set(f, GPU, "vgpu-scheduler", "equal-share");
    start(f, "");
    g_assert_cmpint(fake_partition(f, GPU, 2, &message), ==, -EOPNOTSUPP);
    says(message, "libnvidia-ml.so.1");
    g_assert_cmpuint(vfs(f), ==, 0);
}

static void names(void)
{
    static const struct {
        const char *name;
        uint64_t mib; /* 0: not one of ours */
        char class;
    } cases[] = {
        {"NVIDIA A16-4Q", 4096, 'Q'},
        {"GRID A40-48Q", 49152, 'Q'},
        {"NVIDIA L4-1B", 1024, 'B'},
        {"NVIDIA RTX Pro 6000 Blackwell DC-96Q", 98304, 'Q'},
        {"NVIDIA H100-1-10C", 0, 0},
        {"NVIDIA A100D-7-80C", 0, 0},
        {"GRID M10-0B", 512, 'B'},
        {"NVIDIA A16", 0, 0},
        {"", 0, 0},
        {"-4Q", 0, 0},
        {"NVIDIA A16-4Q2", 0, 0},
        {"NVIDIA A16-99999999999999Q", 0, 0},
    };

    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        uint64_t bytes = 0;
        char class = 0;

        g_assert_cmpint(gpup_vgpu_parse(cases[i].name, &bytes, &class), ==, cases[i].mib > 0);
        g_assert_cmpuint(bytes, ==, cases[i].mib * MIB);
        g_assert_cmpint(class, ==, cases[i].class);
    }
}

int main(int argc, char **argv)
{
    static const struct {
        const char *path;
        void (*func)(struct fake *, gconstpointer);
    } tests[] = {
        {"/nvidia/discovery", discovery},
        {"/nvidia/partition", partition},
        {"/nvidia/class", other_class},
        {"/nvidia/vms", vms},
        {"/nvidia/fails-half-way", fails_half_way},
        {"/nvidia/vfs-at-boot", vfs_at_boot},
        {"/nvidia/lock", lock_is_busy},
        {"/nvidia/no-tool", no_tool},
        {"/nvidia/other-drivers", other_drivers},
        {"/nvidia/mixed-sizes", mixed_sizes},
        {"/nvidia/no-mixed-sizes", no_mixed_sizes},
        {"/nvidia/another-size", another_size},
        {"/nvidia/renumbered", renumbered},
        {"/nvidia/mediated", mediated},
        {"/nvidia/mediated-cleared", mediated_cleared},
        {"/nvidia/mediated-asked-again", mediated_asked_again},
        {"/nvidia/mediated-left", mediated_left},
        {"/nvidia/reloaded", reloaded},
        {"/nvidia/four-on-a-card", four_on_a_card},
        {"/nvidia/with-library", with_library},
        {"/nvidia/no-library", no_library},
    };

    g_test_init(&argc, &argv, NULL);
    g_log_set_always_fatal(G_LOG_FATAL_MASK); /* what cannot be cleared warns */
    g_unsetenv("LD_LIBRARY_PATH"); /* Meson's: most GPUs here are without NVIDIA's library */
    g_test_add_func("/nvidia/names", names);
    g_test_add("/nvidia/refused-types", struct fake, "", fake_set_up, refused_types,
               fake_tear_down);
    g_test_add("/nvidia/refused-mediated", struct fake, "nvidia=mdev", fake_set_up, refused_types,
               fake_tear_down);
    for (gsize i = 0; i < G_N_ELEMENTS(tests); i++)
        g_test_add(tests[i].path, struct fake, NULL, fake_set_up, tests[i].func, fake_tear_down);
    return g_test_run();
}
