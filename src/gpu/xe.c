/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/error.h"
#include "core/units.h"
#include "gpu/sriov.h"
#include "gpu/sysfs.h"
#include "gpu/vfio.h"

#include <errno.h>
#include <string.h>

/*
 * Intel: the xe driver, and the i915 driver that is built outside the kernel. Memory and time of
 * each VF are set through one of these, whichever the kernel has (VFs count from 1 here):
 *
 *   PF/sriov_admin/vfN/profile/NAME              xe, Linux 6.19; vram_quota from 7.0
 *   debugfs dri/PF/sriov/vfN/tileT/[gtG/]NAME    xe before that; not under kernel lockdown
 *   debugfs dri/PF/gtG/vfN/NAME                  xe, older still
 *   PF/iov/vfN/gtG/NAME, PF/prelim_iov/...       i915
 *
 * (Documentation/ABI/testing/sysfs-driver-intel-xe-sriov and the drivers' sources.) Where there is
 * none, the driver divides everything equally when VFs are made.
 */

#define VENDOR_INTEL 0x8086u

/* The vendor's tool cuts time so: a turn of 32 ms for all, and 2 s until who holds the GPU without
 * giving way is stopped. */
#define TURN_MS     32u
#define PATIENCE_MS 2000u

enum knob {
    KNOB_VRAM,
    KNOB_QUANTUM,
    KNOB_TIMEOUT,
    KNOB_PRIORITY,
    KNOBS
};

static const char *const knob_names[KNOBS][2] = {
    [KNOB_VRAM] = {"vram_quota", "lmem_quota"},
    [KNOB_QUANTUM] = {"exec_quantum_ms", NULL},
    [KNOB_TIMEOUT] = {"preempt_timeout_us", NULL},
    [KNOB_PRIORITY] = {"sched_priority", NULL},
};

/* ---- where the knobs are ---- */

static void add_if_there(GPtrArray *files, const char *dir, enum knob knob)
{
    for (int i = 0; i < 2; i++) {
        g_autofree char *path =
            knob_names[knob][i] ? g_build_filename(dir, knob_names[knob][i], NULL) : NULL;

        if (path && g_file_test(path, G_FILE_TEST_EXISTS))
            g_ptr_array_add(files, g_steal_pointer(&path));
    }
}

/* The folder itself and those below it that begin so, and so on down to the GTs. */
static void search(GPtrArray *files, const char *dir, enum knob knob, int depth)
{
    g_autoptr(GPtrArray) names = gpup_sysfs_list(dir, "");

    add_if_there(files, dir, knob);
    for (guint i = 0; depth > 0 && i < names->len; i++) {
        const char *name = names->pdata[i];
        g_autofree char *below = g_build_filename(dir, name, NULL);

        if (g_str_has_prefix(name, "tile") || g_str_has_prefix(name, "gt") ||
            strcmp(name, "profile") == 0)
            search(files, below, knob, depth - 1);
    }
}

/* debugfs dri/PF/gt0/vf1/..., one for each GT */
static void search_old(GPtrArray *files, const char *dri, unsigned vf, enum knob knob)
{
    g_autoptr(GPtrArray) names = gpup_sysfs_list(dri, "");

    for (guint i = 0; i < names->len; i++) {
        g_autofree char *of_vf = g_strdup_printf("%s/%s/vf%u", dri, (char *)names->pdata[i], vf);

        if (g_str_has_prefix(names->pdata[i], "gt"))
            add_if_there(files, of_vf, knob);
    }
}

/* All files that set this for a VF (from 1): one, or one for each tile or GT. */
static GPtrArray *knob_files(const struct gpup_target *t, unsigned vf, enum knob knob)
{
    GPtrArray *files = g_ptr_array_new_with_free_func(g_free);
    g_autofree char *dri =
        g_build_filename(t->system->sysfs, "kernel", "debug", "dri", t->pci->address, NULL);
    static const char *const formats[] = {"sriov_admin", "iov", "prelim_iov"};

    for (gsize i = 0; files->len == 0 && i < G_N_ELEMENTS(formats); i++) {
        g_autofree char *dir = g_strdup_printf("%s/%s/vf%u", t->pci->dir, formats[i], vf);

        search(files, dir, knob, 2);
    }
    if (files->len == 0) {
        g_autofree char *dir = g_strdup_printf("%s/sriov/vf%u", dri, vf);

        search(files, dir, knob, 2);
    }
    if (files->len == 0)
        search_old(files, dri, vf, knob);
    return files;
}

static bool has_knob(const struct gpup_target *t, enum knob knob)
{
    g_autoptr(GPtrArray) files = knob_files(t, 1, knob);

    return files->len > 0;
}

/* ---- reading and setting ---- */

static uint64_t knob_sum(const struct gpup_target *t, unsigned vf, enum knob knob)
{
    g_autoptr(GPtrArray) files = knob_files(t, vf, knob);
    uint64_t sum = 0, value;

    for (guint i = 0; i < files->len; i++) {
        if (gpup_sysfs_read_number(files->pdata[i], "", &value))
            sum += value;
    }
    return sum;
}

static int explain(const struct gpup_target *t, const char *file, uint64_t value, int code,
                   struct gpup_error **err)
{
    switch (code) {
    case EPERM:
    case EACCES:
        return gpup_error_set(err, code,
                              "%s: the kernel does not let %s be set: debugfs is locked (Secure "
                              "Boot), or the knob is not for this GPU; kernel 7.0 needs no debugfs",
                              t->name, file);
    case EIO:
        return gpup_error_set(err, code,
                              "%s: its firmware refused %" G_GUINT64_FORMAT " for %s; "
                              "see dmesg",
                              t->name, (guint64)value, file);
    case EUCLEAN:
        return gpup_error_set(err, code,
                              "%s: its GTs are set differently (%s), by hand or by another tool: "
                              "gpup gpu partition %s 0, then partition it again",
                              t->name, file, t->name);
    case ENOSPC:
    case ENOMEM:
        return gpup_error_set(err, code,
                              "%s: its driver has no %" G_GUINT64_FORMAT " bytes left for %s",
                              t->name, (guint64)value, file);
    default:
        return gpup_error_set(err, code, "%s: %s: %s", t->name, file, g_strerror(code));
    }
}

/* Memory is divided among tiles, time is per GT. A knob that is not there is not set. */
static int set_knob(const struct gpup_target *t, unsigned vf, enum knob knob, uint64_t value,
                    struct gpup_error **err)
{
    g_autoptr(GPtrArray) files = knob_files(t, vf, knob);

    if (knob == KNOB_VRAM && files->len > 1)
        value /= files->len;
    for (guint i = 0; i < files->len; i++) {
        int ret = gpup_sysfs_write_number(files->pdata[i], "", value);

        if (ret < 0)
            return explain(t, files->pdata[i], value, -ret, err);
    }
    return 0;
}

/* Whether it may be set at all: lockdown lets debugfs be seen and not written. Writes what is
 * there. Any other error is of that moment, and said when it is set. */
static bool may_set(const struct gpup_target *t, enum knob knob)
{
    g_autoptr(GPtrArray) files = knob_files(t, 1, knob);
    uint64_t value;
    int ret;

    if (files->len == 0 || !gpup_sysfs_read_number(files->pdata[0], "", &value))
        return false;
    ret = gpup_sysfs_write_number(files->pdata[0], "", value);
    return ret != -EPERM && ret != -EACCES && ret != -EROFS;
}

/* ---- memory ---- */

/* dmem.capacity of the root cgroup (Linux 6.14): "drm/0000:03:00.0/vram0 8514437120". */
static uint64_t capacity(const struct gpup_target *t)
{
    g_autofree char *path =
        g_build_filename(t->system->sysfs, "fs", "cgroup", "dmem.capacity", NULL);
    g_autofree char *prefix = g_strdup_printf("drm/%s/vram", t->pci->address);
    g_autofree char *text = NULL;
    g_auto(GStrv) lines = NULL;
    uint64_t sum = 0;

    if (!g_file_get_contents(path, &text, NULL, NULL))
        return 0;
    lines = g_strsplit(text, "\n", 0);
    for (char **line = lines; *line; line++) {
        const char *value = strchr(*line, ' ');

        if (g_str_has_prefix(*line, prefix) && value)
            sum += g_ascii_strtoull(value + 1, NULL, 10);
    }
    return sum;
}

/* What the VFs have together. */
static uint64_t memory_of_vfs(const struct gpup_target *t, unsigned vfs)
{
    uint64_t sum = 0;

    for (unsigned vf = 1; vf <= vfs; vf++)
        sum += knob_sum(t, vf, KNOB_VRAM);
    return sum;
}

/* ---- the operations ---- */

static bool xe_claims(const struct gpup_system *system, const struct gpup_pci *pci)
{
    return pci->vendor == VENDOR_INTEL && pci->driver && pci->total_vfs > 0 &&
           (strcmp(pci->driver, "xe") == 0 || strcmp(pci->driver, "i915") == 0);
}

static bool is_i915_without_vfs(const struct gpup_target *t)
{
    return strcmp(t->pci->driver, "i915") == 0 && !gpup_sysfs_exists(t->pci->dir, "iov") &&
           !gpup_sysfs_exists(t->pci->dir, "prelim_iov");
}

static void describe_functions(const struct gpup_target *t, unsigned n, struct gpup_facts *facts)
{
    uint64_t each = n ? facts->resource[GPUP_VRAM].total / n : 0;

    gpup_sriov_add_functions(t, 0, facts);
    for (guint i = 0; i < facts->functions->len; i++) {
        struct gpup_function *f = &g_array_index(facts->functions, struct gpup_function, i);
        uint64_t quota = knob_sum(t, i + 1, KNOB_VRAM);

        f->vram = quota || facts->elastic ? quota : each;
    }
}

static void describe_limits(const struct gpup_target *t, struct gpup_facts *facts)
{
    bool memory = has_knob(t, KNOB_VRAM), time = has_knob(t, KNOB_QUANTUM);
    bool may_memory = memory && may_set(t, KNOB_VRAM);

    facts->elastic = may_memory;
    facts->resource[GPUP_VRAM].enforcement = GPUP_ENFORCE_HARD;
    facts->resource[GPUP_COMPUTE] = (struct gpup_resource_info){
        GPUP_PPM_FULL, time && may_set(t, KNOB_QUANTUM) ? GPUP_ENFORCE_SHARE : GPUP_ENFORCE_NONE};
    /* engines for video are shared with what the rest of the VF does; there is no quota */
    facts->resource[GPUP_ENCODE] = (struct gpup_resource_info){GPUP_PPM_FULL, GPUP_ENFORCE_NONE};
    facts->resource[GPUP_DECODE] = (struct gpup_resource_info){GPUP_PPM_FULL, GPUP_ENFORCE_NONE};
    if (memory && !may_memory)
        gpup_facts_note(facts, "equal VF sizes only: debugfs is locked (Secure Boot); kernel 7.0 "
                               "needs none");
    else if (!memory && facts->resource[GPUP_VRAM].total > 0)
        gpup_facts_note(facts, "equal VF sizes only: this kernel offers no sizes per VF; 7.0 does");
    if (!time)
        gpup_facts_note(facts, "GPU time is shared without limit: this kernel offers no time "
                               "slices per VF; 6.19 does");
}

/* Newer than many a system's pci.ids. */
static void describe_name(const struct gpup_target *t, struct gpup_facts *facts)
{
    static const struct {
        uint16_t device;
        const char *name;
    } names[] = {{0xe211, "Arc Pro B60"}, {0xe212, "Arc Pro B50"}, {0xe222, "Arc Pro B70"}};

    for (gsize i = 0; i < G_N_ELEMENTS(names); i++) {
        if (names[i].device == t->pci->device)
            facts->name = g_strdup(names[i].name);
    }
}

static int xe_describe(const struct gpup_target *t, struct gpup_facts *facts,
                       struct gpup_error **err)
{
    unsigned n = 0;
    int ret;

    describe_name(t, facts);
    if (is_i915_without_vfs(t)) {
        gpup_facts_unusable(facts,
                            "the kernel's i915 driver makes no VFs: boot with "
                            "i915.force_probe=!%04x xe.force_probe=%04x to have xe drive it",
                            (unsigned)t->pci->device, (unsigned)t->pci->device);
        return 0;
    }
    ret = gpup_sriov_count(t, &n, err);
    if (ret < 0)
        return ret;
    facts->resource[GPUP_VRAM].total = t->memory ? t->memory : capacity(t);
    if (facts->resource[GPUP_VRAM].total == 0)
        facts->resource[GPUP_VRAM].total = memory_of_vfs(t, n);
    describe_limits(t, facts);
    if (facts->resource[GPUP_VRAM].total == 0 && has_knob(t, KNOB_VRAM))
        gpup_facts_note(facts,
                        "its memory is told only when it is partitioned (Linux 6.14 tells it "
                        "before): set memory= in section [gpu %s] of gpup.conf",
                        t->pci->address);
    gpup_facts_equal_counts(facts, (unsigned)t->pci->total_vfs);
    describe_functions(t, n, facts);
    return 0;
}

/* Sets a VF back to what it has as long as no VM has it: no memory of its own, no time limit. */
static int clear_vf(const struct gpup_target *t, unsigned vf, struct gpup_error **err)
{
    int ret = set_knob(t, vf, KNOB_VRAM, 0, err);

    if (ret == 0)
        ret = set_knob(t, vf, KNOB_QUANTUM, 0, err);
    return ret < 0 ? ret : set_knob(t, vf, KNOB_TIMEOUT, 0, err);
}

static int set_priority(const struct gpup_target *t, unsigned n, struct gpup_error **err)
{
    g_autofree char *priority = NULL;

    if (!t->settings || !g_variant_lookup(t->settings, "sched-priority", "s", &priority))
        return 0;
    for (unsigned vf = 1; vf <= n; vf++) {
        g_autoptr(GPtrArray) files = knob_files(t, vf, KNOB_PRIORITY);

        for (guint i = 0; i < files->len; i++) {
            int ret = gpup_sysfs_write(files->pdata[i], "", priority);

            if (ret < 0)
                return gpup_error_set(err, -ret, "%s: %s: %s", t->name, (char *)files->pdata[i],
                                      g_strerror(-ret));
        }
    }
    return 0;
}

/* The driver has divided the memory equally now: what it gave is what there is to give, less than
 * the GPU has. Where sizes can be set per VF, that is taken back, so that each gets its own when a
 * VM starts. */
static int provision(const struct gpup_target *t, unsigned n, struct gpup_facts *facts,
                     struct gpup_error **err)
{
    int ret = xe_describe(t, facts, err);
    uint64_t given = memory_of_vfs(t, n);

    if (given > 0) {
        facts->resource[GPUP_VRAM].total = given;
        g_array_set_size(facts->counts, 0);
        gpup_facts_equal_counts(facts, (unsigned)t->pci->total_vfs);
    }
    if (ret == 0)
        ret = set_priority(t, n, err);
    for (unsigned vf = 1; ret == 0 && facts->elastic && vf <= n; vf++)
        ret = set_knob(t, vf, KNOB_VRAM, 0, err);
    return ret;
}

static int xe_create(const struct gpup_target *t, unsigned n, struct gpup_facts *facts,
                     struct gpup_error **err)
{
    int ret = gpup_sriov_enable(t, n, err);

    if (ret < 0)
        return ret;
    ret = provision(t, n, facts, err);
    if (ret < 0)
        gpup_sriov_disable(t, NULL);
    return ret;
}

/* A turn of all VFs is as long as the vendor's tool makes it; each has its share of that. */
static int set_time(const struct gpup_target *t, struct gpup_work *work, struct gpup_error **err)
{
    const struct gpup_share *share = &work->grant.share[GPUP_COMPUTE];
    unsigned others = work->n_slots > 1 ? work->n_slots - 1 : 1;
    uint64_t quantum = MAX(MIN(share->weight, GPUP_PPM_FULL) * TURN_MS / GPUP_PPM_FULL, 1);
    uint64_t timeout = MAX(PATIENCE_MS / others, 2 * quantum) - quantum;
    int ret;

    if (share->weight == 0)
        return 0;
    ret = set_knob(t, work->slot + 1, KNOB_QUANTUM, quantum, err);
    return ret < 0 ? ret : set_knob(t, work->slot + 1, KNOB_TIMEOUT, timeout * 1000, err);
}

static const char *vfio_driver(const struct gpup_target *t)
{
    g_autofree char *variant =
        g_build_filename(t->system->sysfs, "bus", "pci", "drivers", "xe-vfio-pci", NULL);

    return g_file_test(variant, G_FILE_TEST_EXISTS) ? "xe-vfio-pci" : "vfio-pci";
}

static int xe_prepare(const struct gpup_target *t, struct gpup_work *work, struct gpup_error **err)
{
    uint64_t vram = work->grant.share[GPUP_VRAM].min;
    bool sized = has_knob(t, KNOB_VRAM) && may_set(t, KNOB_VRAM);
    bool timed = has_knob(t, KNOB_QUANTUM) && may_set(t, KNOB_QUANTUM);
    int ret = 0;

    if (sized)
        ret = set_knob(t, work->slot + 1, KNOB_VRAM, vram, err);
    if (ret == 0 && timed)
        ret = set_time(t, work, err);
    if (ret == 0)
        ret = gpup_sriov_prepare_function(t, work, vfio_driver(t), err);
    if (ret == 0 && has_knob(t, KNOB_VRAM))
        work->function.vram = knob_sum(t, work->slot + 1, KNOB_VRAM);
    if (ret < 0 && sized)
        clear_vf(t, work->slot + 1, NULL);
    return ret;
}

static int xe_release(const struct gpup_target *t, struct gpup_work *work, struct gpup_error **err)
{
    int ret = gpup_sriov_release_function(t, work, err);

    if (ret == 0 && has_knob(t, KNOB_VRAM) && may_set(t, KNOB_VRAM))
        ret = clear_vf(t, work->slot + 1, err);
    if (ret == 0 && has_knob(t, KNOB_VRAM))
        work->function.vram = knob_sum(t, work->slot + 1, KNOB_VRAM);
    return ret;
}

const struct gpup_provider gpup_provider_xe = {
    .name = "xe",
    .kind = GPUP_KIND_SRIOV,
    .claims = xe_claims,
    .describe = xe_describe,
    .create = xe_create,
    .destroy = gpup_sriov_disable,
    .prepare = xe_prepare,
    .release = xe_release,
};
