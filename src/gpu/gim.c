/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/error.h"
#include "core/units.h"
#include "gpu/sriov.h"
#include "gpu/sysfs.h"
#include "gpu/vfio.h"

#include <errno.h>
#include <string.h>

/*
 * AMD: the GIM driver. It makes its VFs when it is loaded (module parameter vf_num), so the count
 * is not ours to choose: a GPU has the partitions that the module gave it. Size (MiB) and time
 * slice (microseconds) of each VF, counted from 0, are set through debugfs gim/PF/asymmetric_fb and
 * asymmetric_timeslice where the module was loaded for that (the driver's sources, gim_debugfs.c);
 * they cannot be read back. On MI300 the GPU's own division is shown.
 */

#define MIB       (UINT64_C(1) << 20)
#define TURN_US   100000u /* one turn of all VFs */
#define SLICE_MIN 100u    /* what the driver takes */
#define SLICE_MAX 1000000u

static char *knobs_dir(const struct gpup_target *t)
{
    return g_build_filename(t->system->sysfs, "kernel", "debug", "gim", t->pci->address, NULL);
}

static bool has_knob(const struct gpup_target *t, const char *name)
{
    g_autofree char *dir = knobs_dir(t);

    return gpup_sysfs_exists(dir, name);
}

static int set_knob(const struct gpup_target *t, const char *name, unsigned vf, uint64_t value,
                    struct gpup_error **err)
{
    g_autofree char *dir = knobs_dir(t);
    g_autofree char *text = g_strdup_printf("%u,%" G_GUINT64_FORMAT, vf, (guint64)value);
    int ret = gpup_sysfs_write(dir, name, text);

    if (ret == 0)
        return 0;
    return gpup_error_set(err, -ret, "%s: GIM does not take %s for %s: %s; see dmesg", t->name,
                          text, name, g_strerror(-ret));
}

static bool gim_claims(const struct gpup_system *system, const struct gpup_pci *pci)
{
    return pci->driver && strcmp(pci->driver, "gim") == 0;
}

static void describe_modes(const struct gpup_target *t, struct gpup_facts *facts)
{
    g_autofree char *profile = gpup_sysfs_read(t->pci->dir, "accelerator_partition_profile");
    g_autofree char *memory = gpup_sysfs_read(t->pci->dir, "memory_partition_mode");

    if (profile)
        gpup_facts_note(facts, "accelerator partition profile %s%s%s", profile,
                        memory ? ", memory partition mode " : "", memory ? memory : "");
}

static int gim_describe(const struct gpup_target *t, struct gpup_facts *facts,
                        struct gpup_error **err)
{
    bool sized = has_knob(t, "asymmetric_fb") && t->memory > 0;
    bool timed = has_knob(t, "asymmetric_timeslice");
    unsigned n = 0;
    int ret = gpup_sriov_count(t, &n, err);

    if (ret < 0)
        return ret;
    facts->elastic = sized;
    facts->resource[GPUP_VRAM] = (struct gpup_resource_info){t->memory, GPUP_ENFORCE_HARD};
    for (int r = GPUP_COMPUTE; r < GPUP_RESOURCES; r++)
        facts->resource[r] = (struct gpup_resource_info){GPUP_PPM_FULL, GPUP_ENFORCE_NONE};
    if (timed)
        facts->resource[GPUP_COMPUTE].enforcement = GPUP_ENFORCE_SHARE;
    if (n > 0)
        gpup_facts_count(facts, n, t->memory / n);
    gpup_sriov_add_functions(t, sized || n == 0 ? 0 : t->memory / n, facts);
    if (n == 0)
        gpup_facts_unusable(facts, "GIM made no VFs: load it with modprobe gim vf_num=N (a number "
                                   "for each GPU)");
    gpup_facts_note(facts, "GIM's module parameter vf_num sets how many partitions there are");
    if (t->memory == 0)
        gpup_facts_note(facts,
                        "GIM does not tell the GPU's memory: set memory= in section [gpu %s] of "
                        "gpup.conf",
                        t->pci->address);
    describe_modes(t, facts);
    return 0;
}

static int wrong_count(const struct gpup_target *t, struct gpup_error **err)
{
    g_autoptr(GPtrArray) vfs = gpup_pci_vfs(t->pci);

    return gpup_error_set(err, EOPNOTSUPP,
                          "%s: GIM gave it %u VFs when it was loaded, and only loading it anew "
                          "changes that: modprobe -r gim; modprobe gim vf_num=N",
                          t->name, vfs->len);
}

static int gim_create(const struct gpup_target *t, unsigned n, struct gpup_facts *facts,
                      struct gpup_error **err)
{
    unsigned now = 0;
    int ret = gpup_sriov_count(t, &now, err);

    if (ret == 0 && now != n)
        ret = wrong_count(t, err);
    return ret < 0 ? ret : gim_describe(t, facts, err);
}

static int gim_destroy(const struct gpup_target *t, struct gpup_error **err)
{
    return wrong_count(t, err);
}

static int set_limits(const struct gpup_target *t, struct gpup_work *work, struct gpup_error **err)
{
    uint64_t vram = work->grant.share[GPUP_VRAM].min;
    uint64_t weight = MIN(work->grant.share[GPUP_COMPUTE].weight, GPUP_PPM_FULL);
    int ret = 0;

    if (t->memory > 0 && vram > 0 && has_knob(t, "asymmetric_fb"))
        ret = set_knob(t, "asymmetric_fb", work->slot, vram / MIB, err);
    if (ret == 0 && weight > 0 && has_knob(t, "asymmetric_timeslice"))
        ret = set_knob(t, "asymmetric_timeslice", work->slot,
                       CLAMP(weight * TURN_US / GPUP_PPM_FULL, SLICE_MIN, SLICE_MAX), err);
    return ret;
}

static int gim_prepare(const struct gpup_target *t, struct gpup_work *work, struct gpup_error **err)
{
    int ret = set_limits(t, work, err);

    if (ret == 0)
        ret = gpup_sriov_prepare_function(t, work, "vfio-pci", err);
    if (ret == 0 && t->memory > 0 && has_knob(t, "asymmetric_fb"))
        work->function.vram = work->grant.share[GPUP_VRAM].min / MIB * MIB;
    return ret;
}

const struct gpup_provider gpup_provider_gim = {
    .name = "gim",
    .kind = GPUP_KIND_SRIOV,
    .claims = gim_claims,
    .describe = gim_describe,
    .create = gim_create,
    .destroy = gim_destroy,
    .prepare = gim_prepare,
    .release = gpup_sriov_release_function,
};
