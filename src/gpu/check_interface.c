/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gpu/check_interface.h"

#include "gpu/sysfs.h"

#include <string.h>
#include <unistd.h>

static struct gpup_finding *ok(const struct gpup_pci *pci, const char *text)
{
    return gpup_finding_new(GPUP_FINDING_OK, "interface", pci->address, NULL, "%s", text);
}

/* Users cannot look into debugfs. */
static bool sees_debugfs(const struct gpup_system *system)
{
    g_autofree char *dir = g_build_filename(system->sysfs, "kernel", "debug", NULL);

    return !g_file_test(dir, G_FILE_TEST_IS_DIR) || access(dir, X_OK) == 0;
}

static bool in_debugfs(const struct gpup_system *system, const char *name,
                       const struct gpup_pci *pci)
{
    g_autofree char *dir =
        g_build_filename(system->sysfs, "kernel", "debug", name, pci->address, NULL);

    return g_file_test(dir, G_FILE_TEST_IS_DIR);
}

static struct gpup_finding *of_xe(const struct gpup_system *system, const struct gpup_pci *pci)
{
    if (gpup_sysfs_exists(pci->dir, "sriov_admin/vf1/profile/vram_quota"))
        return ok(pci, "sizes and time slices per VF by sriov_admin");
    if (gpup_sysfs_exists(pci->dir, "sriov_admin"))
        return ok(pci, "time slices per VF by sriov_admin (sizes too from Linux 7.0 on, on GPUs "
                       "with memory of their own)");
    if (in_debugfs(system, "dri", pci))
        return ok(pci, "sizes and time slices per VF by debugfs");
    if (!sees_debugfs(system))
        return NULL;
    return gpup_finding_new(GPUP_FINDING_WARN, "interface", pci->address,
                            "kernel 6.19 has time slices, 7.0 sizes too; or mount debugfs",
                            "equal VFs only: this kernel shows nothing to set them with");
}

static struct gpup_finding *of_i915(const struct gpup_pci *pci)
{
    return gpup_sysfs_exists(pci->dir, "iov") || gpup_sysfs_exists(pci->dir, "prelim_iov")
               ? ok(pci, "sizes and time slices per VF by i915's iov")
               : NULL;
}

static struct gpup_finding *of_gim(const struct gpup_system *system, const struct gpup_pci *pci)
{
    if (in_debugfs(system, "gim", pci))
        return ok(pci, "sizes and time slices per VF by debugfs");
    if (!sees_debugfs(system))
        return NULL;
    return gpup_finding_new(GPUP_FINDING_WARN, "interface", pci->address,
                            "mount debugfs (mount -t debugfs none /sys/kernel/debug), or take a "
                            "GIM that has asymmetric_fb and asymmetric_timeslice",
                            "equal VFs only: GIM shows nothing to set them with");
}

static bool is_mdev(const struct gpup_system *system, const struct gpup_pci *pci)
{
    return gpup_sysfs_exists(system->sysfs, "class/mdev_bus") &&
           !gpup_sysfs_exists(pci->dir, "virtfn0/nvidia/current_vgpu_type");
}

static struct gpup_finding *of_nvidia(const struct gpup_system *system, const struct gpup_pci *pci)
{
    g_autofree char *root = g_path_get_dirname(system->sysfs);

    if (!gpup_sysfs_exists(system->sysfs, "module/nvidia_vgpu_vfio"))
        return NULL; /* of the driver something else is said */
    if (!gpup_sysfs_exists(root, "usr/lib/nvidia/sriov-manage"))
        return gpup_finding_new(GPUP_FINDING_FAIL, "interface", pci->address,
                                "install all of NVIDIA's vGPU host driver again",
                                "/usr/lib/nvidia/sriov-manage is not there: without it the driver "
                                "makes no VFs");
    return ok(pci, is_mdev(system, pci) ? "vGPUs as mediated devices"
                                        : "vGPUs by the driver's own VFIO (Linux 6.8)");
}

struct gpup_finding *gpup_check_interface(const struct gpup_system *system,
                                          const struct gpup_pci *pci)
{
    const char *driver = pci->driver ? pci->driver : "";

    if (pci->total_vfs == 0)
        return NULL;
    if (strcmp(driver, "xe") == 0)
        return of_xe(system, pci);
    if (strcmp(driver, "i915") == 0)
        return of_i915(pci);
    if (strcmp(driver, "gim") == 0)
        return of_gim(system, pci);
    if (strcmp(driver, "nvidia") == 0)
        return of_nvidia(system, pci);
    return NULL;
}
