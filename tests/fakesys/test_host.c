/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/error.h"
#include "daemon/host.h"
#include "fixture.h"
#include "gpu/inventory.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* What gpupd stores of GPUs, and does again after a reboot: with hardware that changed meanwhile.
 */

#define GPU "0000:03:00.0"
#define DIR "sys/bus/pci/devices/" GPU

struct fixture {
    struct fake fake;
    char *dir, *state, *run, *conf;
    struct gpup_folders folders;
    struct gpup_config config;
    struct gpup_host *host;
};

static void boot(struct fixture *f)
{
    gpup_host_free(f->host);
    f->host = gpup_host_new(&f->config, &f->folders, NULL, NULL, NULL);
    g_assert_nonnull(f->host);
}

static void add(struct fixture *f, const char *address, const char *serial)
{
    fake_order(&f->fake,
               "add %s vendor=0x8086 device=0x56c0 class=0x038000 totalvfs=7 driver=gpu serial=%s",
               address, serial);
}

static void set_up(struct fixture *f, gconstpointer data)
{
    const char *text = "[gpup]\npci-ids = 1af4:aaaa, 1234:5678\n[software]\nmemory=1G\n"
                       "[gpu " GPU "]\nmemory=16G\nvgpu-class=C\n";

    fake_set_up(&f->fake, NULL);
    f->dir = g_dir_make_tmp("gpup-host-XXXXXX", NULL);
    f->state = g_build_filename(f->dir, "state", NULL);
    f->run = g_build_filename(f->dir, "run", NULL);
    f->conf = g_build_filename(f->dir, "gpup.conf", NULL);
    g_assert_true(g_file_set_contents(f->conf, text, -1, NULL));
    g_assert_cmpint(gpup_config_read(f->conf, &f->config, NULL), ==, 0);
    f->folders = (struct gpup_folders){.state = f->state,
                                       .run = f->run,
                                       .libvirt_run = f->dir,
                                       .sysfs = f->fake.sysfs,
                                       .dev = f->fake.dev,
                                       .proc = f->fake.proc,
                                       .gpu_helper = f->fake.system.helper};
    add(f, GPU, "00112233445566aa");
    g_log_set_always_fatal(G_LOG_FATAL_MASK | G_LOG_LEVEL_ERROR);
    boot(f);
}

static void tear_down(struct fixture *f, gconstpointer data)
{
    const char *argv[] = {"rm", "-rf", f->dir, NULL};

    while (gpup_host_is_busy(f->host)) /* threads use its folders and configuration */
        g_main_context_iteration(NULL, TRUE);
    gpup_host_free(f->host);
    gpup_config_clear(&f->config);
    g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL, NULL, NULL,
                 NULL);
    g_free(f->dir);
    g_free(f->state);
    g_free(f->run);
    g_free(f->conf);
    fake_tear_down(&f->fake, NULL);
}

static struct gpup_gpu *gpu(struct fixture *f, const char *id)
{
    size_t n;
    struct gpup_gpu *const *gpus = gpup_host_gpus(f->host, &n);

    for (size_t i = 0; i < n; i++) {
        if (strcmp(gpus[i]->id, id) == 0)
            return gpus[i];
    }
    return NULL;
}

static void partition(struct fixture *f, const char *id, unsigned n)
{
    g_autoptr(GPtrArray) lines = g_ptr_array_new_with_free_func(g_free);

    g_assert_cmpint(gpup_host_partition(f->host, gpu(f, id), n, false, lines, NULL), ==, 0);
    g_assert_nonnull(strstr(lines->pdata[0], "after reboot"));
}

static bool has_problem(struct fixture *f, const char *part)
{
    GPtrArray *problems = gpup_host_problems(f->host);

    for (guint i = 0; i < problems->len; i++) {
        if (strstr(problems->pdata[i], part))
            return true;
    }
    return false;
}

/* The VFs go with the power. */
static void reboot_machine(struct fixture *f)
{
    fake_order(&f->fake, "vfs " GPU " 0");
    boot(f);
}

static void outlives_a_reboot(struct fixture *f, gconstpointer data)
{
    g_autofree char *count = NULL;

    partition(f, GPU, 4);
    reboot_machine(f);
    count = fake_read(&f->fake, DIR "/sriov_numvfs");
    g_assert_cmpstr(count, ==, "4");
    g_assert_cmpuint(gpu(f, GPU)->n_slots, ==, 4);
    g_assert_cmpuint(gpu(f, GPU)->fixed_vram, ==, 4 * GIB);
    g_assert_false(gpu(f, GPU)->foreign);
    boot(f); /* gpupd alone: it finds its own */
    g_assert_cmpuint(gpu(f, GPU)->n_slots, ==, 4);
    g_assert_false(gpu(f, GPU)->foreign);
    partition(f, GPU, 0);
    reboot_machine(f);
    g_assert_cmpuint(gpu(f, GPU)->n_slots, ==, 0);
}

/* What VFs can have together is told only when they are made: it is not forgotten. */
static void measured_memory(struct fixture *f, gconstpointer data)
{
    const char *b50 = "0000:05:00.0";

    fake_order(&f->fake, "add 0000:05:00.0 vendor=0x8086 device=0xe212 class=0x030000 totalvfs=24 "
                         "driver=xe vram=0x380000000 capacity=17179869184");
    boot(f);
    g_assert_cmpuint(gpu(f, b50)->resource[GPUP_VRAM].total, ==, 16 * GIB);
    partition(f, b50, 4);
    g_assert_cmpuint(gpu(f, b50)->resource[GPUP_VRAM].total, ==, 14 * GIB);
    boot(f);
    g_assert_cmpuint(gpu(f, b50)->n_slots, ==, 4);
    g_assert_cmpuint(gpu(f, b50)->resource[GPUP_VRAM].total, ==, 14 * GIB);
    g_assert_cmpuint(gpup_gpu_equal_part(gpu(f, b50), GPUP_VRAM, 4), ==, 14 * GIB / 4);
}

static void made_by_others(struct fixture *f, gconstpointer data)
{
    g_autofree char *count = NULL;

    partition(f, GPU, 4);
    fake_order(&f->fake, "vfs " GPU " 3");
    boot(f);
    count = fake_read(&f->fake, DIR "/sriov_numvfs");
    g_assert_cmpstr(count, ==, "3");
    g_assert_true(gpu(f, GPU)->foreign);
    g_assert_true(has_problem(f, "3 VFs that something else made, and 4 partitions were wanted"));
    partition(f, GPU, 4);
    g_assert_false(gpu(f, GPU)->foreign);
    boot(f);
    g_assert_false(has_problem(f, "something else"));
}

static void moved(struct fixture *f, gconstpointer data)
{
    partition(f, GPU, 4);
    fake_order(&f->fake, "remove " GPU);
    add(f, "0000:83:00.0", "00112233445566aa");
    boot(f);
    g_assert_cmpuint(gpu(f, "0000:83:00.0")->n_slots, ==, 4);
    g_assert_false(has_problem(f, "not here any more"));
}

/* Another one in its place is left alone. */
static void replaced(struct fixture *f, gconstpointer data)
{
    partition(f, GPU, 4);
    fake_order(&f->fake, "remove " GPU);
    fake_order(&f->fake, "add " GPU " vendor=0x8086 device=0x56c1 class=0x038000 totalvfs=7 "
                         "driver=gpu serial=00112233445566bb");
    boot(f);
    g_assert_cmpuint(gpu(f, GPU)->n_slots, ==, 0);
    g_assert_true(has_problem(f, "in the place of"));
}

/* What a rescan would find, as lines. */
static char *preview(struct fixture *f)
{
    g_autoptr(GPtrArray) lines = g_ptr_array_new_with_free_func(g_free);
    struct gpup_change *change = gpup_host_begin_rescan(f->host);

    gpup_change_run(change);
    gpup_host_preview_rescan(f->host, change, lines);
    g_ptr_array_add(lines, NULL);
    return g_strjoinv("\n", (char **)lines->pdata);
}

/* gpup rescan --dry-run: tells, and changes nothing. */
static void previewed(struct fixture *f, gconstpointer data)
{
    g_autofree char *same = preview(f);
    g_autofree char *more = NULL;
    g_autofree char *fewer = NULL;
    g_autofree char *lost = NULL;
    size_t n;

    g_assert_cmpstr(same, ==, "the GPUs are those that gpup shows");
    partition(f, GPU, 4);
    add(f, "0000:04:00.0", "00112233445566cc");
    more = preview(f);
    g_assert_true(g_str_has_prefix(more, "04:00.0 "));
    g_assert_true(g_str_has_suffix(more, ": would be found"));
    gpup_host_gpus(f->host, &n);
    g_assert_cmpuint(n, ==, 2); /* it and the software GPU */
    fake_order(&f->fake, "remove 0000:04:00.0");
    fake_order(&f->fake, "vfs " GPU " 0");
    lost = preview(f);
    g_assert_cmpstr(lost, ==, "03:00.0: would get the 4 partitions that are stored for it");
    fake_order(&f->fake, "remove " GPU);
    fewer = preview(f);
    g_assert_nonnull(strstr(fewer, "03:00.0 "));
    g_assert_nonnull(strstr(fewer, "is not here any more, and would go"));
    g_assert_cmpuint(gpu(f, GPU)->n_slots, ==, 4);
}

static void driver_fails_at_boot(struct fixture *f, gconstpointer data)
{
    partition(f, GPU, 4);
    add(f, "0000:04:00.0", "00112233445566cc");
    boot(f);
    partition(f, "0000:04:00.0", 2);
    fake_order(&f->fake, "vfs 0000:04:00.0 0");
    fake_order(&f->fake, "fail " GPU " enable %d", ENOMEM);
    reboot_machine(f);
    g_assert_cmpuint(gpu(f, GPU)->n_slots, ==, 0);
    g_assert_true(has_problem(f, "no address space"));
    g_assert_cmpuint(gpu(f, "0000:04:00.0")->n_slots, ==, 2);
    /* and it is tried again at the next */
    fake_order(&f->fake, "fail " GPU " enable 0");
    boot(f);
    g_assert_cmpuint(gpu(f, GPU)->n_slots, ==, 4);
}

/* Its driver does not answer when gpupd starts; when it does, the partitions are made after all. */
static void driver_late_at_boot(struct fixture *f, gconstpointer data)
{
    const char *helper = f->folders.gpu_helper;
    g_autofree char *link = g_build_filename(f->dir, "helper", NULL);
    g_autofree char *slow = g_build_filename(f->dir, "slow", NULL);
    gint64 until;

    partition(f, GPU, 4);
    g_assert_true(g_file_set_contents(slow, "#!/bin/sh\nexec sleep 100\n", -1, NULL));
    g_assert_cmpint(chmod(slow, 0755), ==, 0);
    g_assert_cmpint(symlink(slow, link), ==, 0);
    f->folders.gpu_helper = link;
    reboot_machine(f);
    g_assert_cmpint(gpu(f, GPU)->mode, ==, GPUP_MODE_WEDGED);
    g_assert_cmpint(unlink(link), ==, 0);
    g_assert_cmpint(symlink(helper, link), ==, 0);
    gpup_host_try_again(f->host);
    until = g_get_monotonic_time() + 30 * G_USEC_PER_SEC;
    while (gpu(f, GPU)->n_slots != 4 || gpu(f, GPU)->changing) {
        g_assert_cmpint(g_get_monotonic_time(), <, until);
        g_main_context_iteration(NULL, TRUE);
    }
    g_assert_cmpint(gpu(f, GPU)->mode, ==, GPUP_MODE_PARTITIONED);
    g_assert_false(gpu(f, GPU)->foreign);
}

/* Nor is anything held up by undoing it. */
static void cannot_be_stored(struct fixture *f, gconstpointer data)
{
    g_autoptr(GPtrArray) lines = g_ptr_array_new_with_free_func(g_free);
    g_autofree char *key = g_strdup(gpu(f, GPU)->key);
    g_autofree char *file = g_strdup_printf("%s/gpus/%s.conf", f->state, key);
    g_autofree char *saved = g_strconcat(file, ".saved", NULL);
    g_autofree char *in_the_way = g_build_filename(file, "something", NULL);
    GPUP_AUTO_ERROR err = NULL;
    struct gpup_change *change;
    gint64 began, until;
    int ret;

    partition(f, GPU, 4);
    change = gpup_host_begin_partition(f->host, gpu(f, GPU), 2, NULL);
    g_assert_nonnull(change);
    gpup_change_run(change);
    fake_order(&f->fake, "hang " GPU " on");
    g_assert_cmpint(rename(file, saved), ==, 0);
    g_assert_cmpint(g_mkdir_with_parents(in_the_way, 0700), ==, 0);
    began = g_get_monotonic_time();
    ret = gpup_host_end_partition(f->host, change, key, 2, lines, &err);
    g_assert_cmpint(ret, <, 0);
    g_assert_true(g_str_has_prefix(gpup_error_message(err), "03:00.0 stays as it was, since "));
    g_assert_cmpint(g_get_monotonic_time() - began, <, 30 * G_USEC_PER_SEC);
    g_assert_cmpint(rmdir(in_the_way), ==, 0);
    g_assert_cmpint(rmdir(file), ==, 0);
    g_assert_cmpint(rename(saved, file), ==, 0);
    fake_order(&f->fake, "hang " GPU " off");
    until = g_get_monotonic_time() + 60 * G_USEC_PER_SEC;
    while (gpu(f, GPU)->n_slots != 4 || gpu(f, GPU)->changing) {
        g_assert_cmpint(g_get_monotonic_time(), <, until);
        gpup_host_try_again(f->host);
        g_usleep(1000);
        g_main_context_iteration(NULL, FALSE);
    }
}

#define CARD "0000:41:00.0"

/* At boot, drivers may come after gpupd: some GPUs are told by them only, and keys may be theirs.
 */
static void driver_comes_late(struct fixture *f, gconstpointer data)
{
    static const char *const gpus[] = {CARD, "0000:04:00.0"};
    const char *const bare[] = {"vendor=0x10de device=0x25b6 class=0x030200 totalvfs=16 offset=4",
                                "vendor=0x8086 device=0x56c0 class=0x038000"};
    const char *const driven[] = {"driver=nvidia uuid=0a1b profile=A2",
                                  "totalvfs=7 driver=gpu serial=00112233445566cc"};
    gint64 until;

    for (int i = 0; i < 2; i++)
        fake_order(&f->fake, "add %s %s %s", gpus[i], bare[i], driven[i]);
    boot(f);
    for (int i = 0; i < 2; i++)
        partition(f, gpus[i], 4);
    for (int i = 0; i < 2; i++) {
        fake_order(&f->fake, "remove %s", gpus[i]);
        fake_order(&f->fake, "add %s %s", gpus[i], bare[i]);
    }
    fake_order(&f->fake, "drop /proc/driver/nvidia/gpus/" CARD);
    boot(f);
    g_assert_true(has_problem(f, "not here any more"));
    for (int i = 0; i < 2; i++) {
        fake_order(&f->fake, "remove %s", gpus[i]);
        fake_order(&f->fake, "add %s %s %s", gpus[i], bare[i], driven[i]);
        gpup_host_driver_bound(f->host, gpus[i]);
    }
    until = g_get_monotonic_time() + 60 * G_USEC_PER_SEC;
    for (int i = 0; i < 2; i++) {
        while (!gpu(f, gpus[i]) || gpu(f, gpus[i])->n_slots != 4 || gpu(f, gpus[i])->changing) {
            g_assert_cmpint(g_get_monotonic_time(), <, until);
            g_main_context_iteration(NULL, TRUE);
        }
    }
    g_assert_cmpuint(gpup_host_problems(f->host)->len, ==, 0);
}

static bool has_type(struct fixture *f, const char *vf, const char *type)
{
    g_autofree char *text =
        fake_read(&f->fake, "sys/bus/pci/devices/%s/nvidia/current_vgpu_type", vf);

    return g_strcmp0(text, type) == 0;
}

/* Its module was loaded anew: what it lost is set again, as soon as it has taken the GPU. */
static void driver_loaded_anew(struct fixture *f, gconstpointer data)
{
    gint64 until = g_get_monotonic_time() + 30 * G_USEC_PER_SEC;

    fake_order(&f->fake, "add " CARD " vendor=0x10de device=0x25b6 class=0x030200 totalvfs=16 "
                         "offset=4 driver=nvidia uuid=0a1b profile=A2");
    boot(f);
    partition(f, CARD, 4);
    g_assert_true(has_type(f, "0000:41:00.7", "746"));
    fake_order(&f->fake, "nvidia " CARD " reload");
    g_assert_false(has_type(f, "0000:41:00.7", "746"));
    gpup_host_driver_bound(f->host, "0000:ff:00.0"); /* none of ours */
    gpup_host_driver_bound(f->host, CARD);
    while (!has_type(f, "0000:41:00.7", "746") || gpu(f, CARD)->changing) {
        g_assert_cmpint(g_get_monotonic_time(), <, until);
        g_main_context_iteration(NULL, TRUE);
    }
    g_assert_cmpint(gpu(f, CARD)->mode, ==, GPUP_MODE_PARTITIONED);
    g_assert_cmpuint(gpu(f, CARD)->n_slots, ==, 4);
    g_assert_false(gpu(f, CARD)->foreign);
    g_assert_false(has_problem(f, "41:00.0"));
}

/* NVIDIA's nvidia-vgpud tells the types of vGPUs a while after the module has taken the GPU, and
 * nothing says when. */
static void service_is_late(struct fixture *f, gconstpointer data)
{
    gint64 until = g_get_monotonic_time() + 60 * G_USEC_PER_SEC;
    bool at_boot = data != NULL;

    fake_order(&f->fake, "add " CARD " vendor=0x10de device=0x25b6 class=0x030200 totalvfs=16 "
                         "offset=4 driver=nvidia uuid=0a1b profile=A2");
    boot(f);
    partition(f, CARD, 4);
    fake_order(&f->fake, "nvidia " CARD " reload");
    fake_order(&f->fake, "nvidia " CARD " set vgpud-late 1");
    if (at_boot)
        boot(f);
    else
        gpup_host_driver_bound(f->host, CARD);
    while (!has_problem(f, "41:00.0: its driver offers no types of vGPUs: nvidia-vgpud") ||
           gpu(f, CARD)->changing) {
        g_assert_cmpint(g_get_monotonic_time(), <, until);
        g_main_context_iteration(NULL, TRUE);
    }
    g_assert_true(has_problem(f, "; it is tried again by itself"));
    g_assert_cmpuint(gpup_host_problems(f->host)->len, ==, 1);
    g_assert_cmpuint(gpu(f, CARD)->n_slots, ==, 0);
    fake_order(&f->fake, "nvidia " CARD " unset vgpud-late");
    while (!has_type(f, "0000:41:00.7", "746") || gpu(f, CARD)->changing) {
        g_assert_cmpint(g_get_monotonic_time(), <, until);
        g_main_context_iteration(NULL, TRUE);
    }
    g_assert_cmpuint(gpu(f, CARD)->n_slots, ==, 4);
    g_assert_false(gpu(f, CARD)->foreign);
    g_assert_cmpuint(gpup_host_problems(f->host)->len, ==, 0);
}

/* Somebody else sees to it in the meantime. */
static void partitioned_meanwhile(struct fixture *f, gconstpointer data)
{
    gint64 from;

    partition(f, GPU, 4);
    fake_order(&f->fake, "fail " GPU " enable %d", ENOMEM);
    reboot_machine(f);
    g_assert_true(has_problem(f, "; it is tried again by itself"));
    fake_order(&f->fake, "fail " GPU " enable 0");
    partition(f, GPU, 2);
    g_assert_false(has_problem(f, "tried again"));
    from = g_get_monotonic_time();
    while (g_get_monotonic_time() < from + 2 * G_USEC_PER_SEC) {
        g_main_context_iteration(NULL, FALSE);
        g_usleep(10000);
    }
    g_assert_cmpuint(gpu(f, GPU)->n_slots, ==, 2);
}

static int pass_through(struct fixture *f, const char *id, bool on)
{
    g_autoptr(GPtrArray) lines = g_ptr_array_new_with_free_func(g_free);
    g_autofree char *key = g_strdup(gpu(f, id)->key);
    struct gpup_change *change = gpup_host_begin_passthrough(f->host, gpu(f, id), on, NULL);

    if (!change)
        return -EBUSY;
    gpup_change_run(change);
    return gpup_host_end_passthrough(f->host, change, key, on, lines, NULL);
}

/* Its driver knows its UUID, vfio-pci does not: it is the same GPU all the same. */
static void whole(struct fixture *f, gconstpointer data)
{
    const char *card = "0000:41:00.0";

    fake_order(&f->fake, "add 0000:41:00.0 vendor=0x10de device=0x25b6 class=0x030200 "
                         "totalvfs=16 offset=4 driver=nvidia uuid=0a1b profile=A2");
    boot(f);
    g_assert_cmpint(pass_through(f, card, true), ==, 0);
    g_assert_cmpint(gpu(f, card)->mode, ==, GPUP_MODE_PASSTHROUGH);
    fake_order(&f->fake, "drop /proc/driver/nvidia/gpus/0000:41:00.0");
    boot(f);
    g_assert_cmpstr(gpu(f, card)->key, ==, "GPU-0a1b");
    g_assert_false(gpu(f, card)->foreign);
    fake_order(&f->fake, "rebind 0000:41:00.0 nvidia"); /* a reboot */
    fake_order(&f->fake, "file /proc/driver/nvidia/gpus/0000:41:00.0/information GPU-0a1b");
    boot(f);
    g_assert_cmpint(gpu(f, card)->mode, ==, GPUP_MODE_PASSTHROUGH);
    g_assert_cmpstr(gpu(f, card)->driver, ==, "vfio-pci");
    g_assert_cmpint(pass_through(f, card, false), ==, 0);
    g_assert_cmpstr(gpu(f, card)->driver, ==, "nvidia");
    boot(f);
    g_assert_cmpint(gpu(f, card)->mode, ==, GPUP_MODE_UNUSED);
}

static void settings(struct fixture *f, gconstpointer data)
{
    static const char *const wrong[] = {
        "[gpup]\npci-ids=1234\n",      "[gpup]\npci-ids=1234:56789\n",
        "[gpu x]\nkind=passthrough\n", "[gpu x]\nvgpu-class=Z\n",
        "[gpu x]\nvgpu-mode=mixed\n",  "[gpu x]\nvgpu-scheduler=fair\n",
        "[gpu x]\nvgpu-slice-ms=-1\n", "[gpu x]\nsched-priority=high\n",
    };
    GHashTable *of_gpu = g_hash_table_lookup(f->config.settings_by_gpu, GPU);

    g_assert_cmpstr(g_hash_table_lookup(of_gpu, "vgpu-class"), ==, "C");
    g_assert_true(g_strv_contains((const char *const *)f->config.pci_ids, "1234:5678"));
    for (gsize i = 0; i < G_N_ELEMENTS(wrong); i++) {
        struct gpup_config config;
        GPUP_AUTO_ERROR err = NULL;

        g_assert_true(g_file_set_contents(f->conf, wrong[i], -1, NULL));
        g_assert_cmpint(gpup_config_read(f->conf, &config, &err), ==, -EINVAL);
        g_assert_nonnull(strstr(gpup_error_message(err), f->conf));
        gpup_config_clear(&config);
    }
}

int main(int argc, char **argv)
{
    static const struct {
        const char *path;
        void (*func)(struct fixture *, gconstpointer);
    } tests[] = {
        {"/host/reboot", outlives_a_reboot},
        {"/host/measured-memory", measured_memory},
        {"/host/made-by-others", made_by_others},
        {"/host/moved", moved},
        {"/host/replaced", replaced},
        {"/host/previewed", previewed},
        {"/host/driver-fails", driver_fails_at_boot},
        {"/host/driver-late", driver_late_at_boot},
        {"/host/cannot-be-stored", cannot_be_stored},
        {"/host/driver-loaded-anew", driver_loaded_anew},
        {"/host/driver-comes-late", driver_comes_late},
        {"/host/service-late", service_is_late},
        {"/host/partitioned-meanwhile", partitioned_meanwhile},
        {"/host/whole", whole},
        {"/host/settings", settings},
    };

    g_test_init(&argc, &argv, NULL);
    for (gsize i = 0; i < G_N_ELEMENTS(tests); i++)
        g_test_add(tests[i].path, struct fixture, NULL, set_up, tests[i].func, tear_down);
    g_test_add("/host/service-late-at-boot", struct fixture, "boot", set_up, service_is_late,
               tear_down);
    return g_test_run();
}
