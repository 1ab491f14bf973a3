/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gpu/vfio.h"

#include "core/error.h"
#include "fault/fault.h"
#include "gpu/pci.h"
#include "gpu/sysfs.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

static char *dir_of(const struct gpup_system *system, const char *address)
{
    return g_build_filename(system->sysfs, "bus", "pci", "devices", address, NULL);
}

static char *driver_dir(const struct gpup_system *system, const char *driver)
{
    return g_build_filename(system->sysfs, "bus", "pci", "drivers", driver, NULL);
}

char *gpup_vfio_driver(const struct gpup_system *system, const char *address)
{
    g_autofree char *dir = dir_of(system, address);

    return gpup_sysfs_link_name(dir, "driver");
}

/* ---- IOMMU group ---- */

bool gpup_vfio_is_driver(const char *driver)
{
    return strcmp(driver, "vfio-pci") == 0 || g_str_has_suffix(driver, "-vfio-pci") ||
           g_str_has_suffix(driver, "_vfio_pci");
}

int gpup_vfio_check_group(const struct gpup_system *system, const char *address,
                          struct gpup_error **err)
{
    g_autofree char *dir = dir_of(system, address);
    g_autofree char *group = gpup_sysfs_link_name(dir, "iommu_group");
    g_autoptr(GPtrArray) members = gpup_sysfs_list(dir, "iommu_group/devices");

    if (!group)
        return gpup_error_set(err, ENXIO,
                              "%s is behind no IOMMU, so that no VM can have it: switch the IOMMU "
                              "(VT-d, AMD-Vi) on in the firmware, and on Intel add intel_iommu=on "
                              "to the kernel command line",
                              gpup_short_id(address));
    for (guint i = 0; i < members->len; i++) {
        g_autoptr(gpup_pci) member = gpup_pci_read(system, members->pdata[i]);

        if (!member || strcmp(member->address, address) == 0 ||
            member->class >> 16 == GPUP_CLASS_BRIDGE || !member->driver ||
            gpup_vfio_is_driver(member->driver))
            continue;
        return gpup_error_set(err, EBUSY,
                              "%s is in IOMMU group %s together with %s (driver %s), and a group "
                              "goes to a VM as a whole: the slot lacks ACS. Move the card to a "
                              "slot of its own root port, or switch ACS on in the firmware",
                              gpup_short_id(address), group, gpup_short_id(member->address),
                              member->driver);
    }
    return 0;
}

/* ---- who has it open ---- */

/* "Device Minor: 	 0" of NVIDIA's driver */
static char *nvidia_minor(const struct gpup_system *system, const char *address)
{
    g_autofree char *text = gpup_pci_nvidia_information(system, address);
    const char *line = text ? strstr(text, "Device Minor:") : NULL;

    if (!line)
        return NULL;
    line += strlen("Device Minor:");
    line += strspn(line, " \t");
    return g_strndup(line, strspn(line, "0123456789"));
}

/* The device nodes of VFIO through which a process can have it: the group's and its own. */
static void add_vfio_nodes(const char *dir, GPtrArray *nodes)
{
    g_autofree char *group = gpup_sysfs_link_name(dir, "iommu_group");
    g_autoptr(GPtrArray) own = gpup_sysfs_list(dir, "vfio-dev");

    if (group)
        g_ptr_array_add(nodes, g_build_filename("/dev/vfio", group, NULL));
    for (guint i = 0; i < own->len; i++)
        g_ptr_array_add(nodes, g_build_filename("/dev/vfio/devices", own->pdata[i], NULL));
}

/* Those of the host's driver. */
static void add_host_nodes(const struct gpup_system *system, const char *address, GPtrArray *nodes)
{
    g_autofree char *dir = dir_of(system, address);
    g_autoptr(GPtrArray) drm = gpup_sysfs_list(dir, "drm");
    g_autofree char *minor = nvidia_minor(system, address);

    for (guint i = 0; i < drm->len; i++)
        g_ptr_array_add(nodes, g_build_filename("/dev/dri", drm->pdata[i], NULL));
    if (minor)
        g_ptr_array_add(nodes, g_strconcat("/dev/nvidia", minor, NULL));
}

static bool has_open(const char *process, GPtrArray *nodes)
{
    g_autoptr(GPtrArray) fds = gpup_sysfs_list(process, "fd");
    g_autofree char *dir = g_build_filename(process, "fd", NULL);

    for (guint i = 0; i < fds->len; i++) {
        g_autofree char *link = g_build_filename(dir, fds->pdata[i], NULL);
        g_autofree char *target = g_file_read_link(link, NULL);

        for (guint k = 0; target && k < nodes->len; k++) {
            if (strcmp(target, nodes->pdata[k]) == 0)
                return true;
        }
    }
    return false;
}

static char *holder_of(const struct gpup_system *system, GPtrArray *nodes)
{
    g_autoptr(GDir) processes = g_dir_open(system->proc, 0, NULL);
    const char *pid;

    while (nodes->len > 0 && processes && (pid = g_dir_read_name(processes))) {
        g_autofree char *process = NULL;
        g_autofree char *name = NULL;

        if (!g_ascii_isdigit(*pid))
            continue;
        process = g_build_filename(system->proc, pid, NULL);
        if (!has_open(process, nodes))
            continue;
        name = gpup_sysfs_read(process, "comm");
        return g_strdup_printf("%s (process %s)", name ? name : "a process", pid);
    }
    return NULL;
}

char *gpup_vfio_holder(const struct gpup_system *system, const char *address)
{
    g_autoptr(GPtrArray) nodes = g_ptr_array_new_with_free_func(g_free);
    g_autofree char *dir = dir_of(system, address);

    add_vfio_nodes(dir, nodes);
    add_host_nodes(system, address, nodes);
    return holder_of(system, nodes);
}

char *gpup_vfio_mdev_holder(const struct gpup_system *system, const char *uuid)
{
    g_autoptr(GPtrArray) nodes = g_ptr_array_new_with_free_func(g_free);
    g_autofree char *dir = g_build_filename(system->sysfs, "bus", "mdev", "devices", uuid, NULL);

    add_vfio_nodes(dir, nodes);
    return holder_of(system, nodes);
}

/* ---- drivers ---- */

/* modprobe only for the system itself, never for a test's tree. */
static bool have_driver(const struct gpup_system *system, const char *driver)
{
    g_autofree char *dir = driver_dir(system, driver);
    char *argv[] = {(char *)"modprobe", (char *)"-q", (char *)driver, NULL};

    if (!gpup_sysfs_exists(dir, "") && strcmp(system->sysfs, "/sys") == 0)
        g_spawn_sync(NULL, argv, NULL,
                     G_SPAWN_SEARCH_PATH | G_SPAWN_STDOUT_TO_DEV_NULL | G_SPAWN_STDERR_TO_DEV_NULL,
                     NULL, NULL, NULL, NULL, NULL, NULL);
    return gpup_sysfs_exists(dir, "");
}

/* NVIDIA's driver would wait for ever for who uses the GPU, unless it has promised that none does.
 */
static int lock_nvidia(const struct gpup_system *system, const char *address,
                       struct gpup_error **err)
{
    g_autofree char *dir =
        g_build_filename(system->proc, "driver", "nvidia", "gpus", address, NULL);
    uint64_t locked = 0;

    if (!gpup_sysfs_exists(dir, "unbindLock"))
        return 0;
    gpup_sysfs_write(dir, "unbindLock", "1");
    if (gpup_sysfs_read_number(dir, "unbindLock", &locked) && locked == 1)
        return 0;
    return gpup_error_set(
        err, EBUSY,
        "%s is in use: another program (a monitoring service, nvidia-persistenced, "
        "CUDA) has it open through NVIDIA's driver; stop that first",
        gpup_short_id(address));
}

static int unbind_from(const struct gpup_system *system, const char *address, const char *driver,
                       struct gpup_error **err)
{
    g_autofree char *dir = driver_dir(system, driver);
    g_autofree char *still = NULL;
    int ret = strcmp(driver, "nvidia") == 0 ? lock_nvidia(system, address, err) : 0;

    if (ret < 0)
        return ret;
    ret = gpup_sysfs_write(dir, "unbind", address);
    still = gpup_vfio_driver(system, address);
    if (!still)
        return 0; /* it may have gone by itself meanwhile */
    return gpup_error_set(err, ret < 0 ? -ret : EBUSY, "%s cannot be taken from its driver %s: %s",
                          gpup_short_id(address), driver, g_strerror(ret < 0 ? -ret : EBUSY));
}

static int set_override(const struct gpup_system *system, const char *address, const char *driver,
                        struct gpup_error **err)
{
    g_autofree char *dir = dir_of(system, address);
    int ret = gpup_sysfs_write(dir, "driver_override", driver);

    if (ret == 0)
        return 0;
    return gpup_error_set(err, -ret, "%s/driver_override: %s", dir, g_strerror(-ret));
}

/* The kernel says yes to what it could not bind: only the driver link tells. */
static int probe_and_check(const struct gpup_system *system, const char *address,
                           const char *driver, struct gpup_error **err)
{
    g_autofree char *bus = g_build_filename(system->sysfs, "bus", "pci", NULL);
    int ret = gpup_sysfs_write(bus, "drivers_probe", address);
    g_autofree char *now = gpup_vfio_driver(system, address);

    if (now && strcmp(now, driver) == 0)
        return 0;
    if (ret < 0)
        return gpup_error_set(err, -ret, "%s does not take %s: %s", driver, gpup_short_id(address),
                              g_strerror(-ret));
    return gpup_error_set(err, EIO, "%s did not take %s, and the kernel gives no reason: see dmesg",
                          driver, gpup_short_id(address));
}

int gpup_vfio_bind(const struct gpup_system *system, const char *address, const char *driver,
                   struct gpup_error **err)
{
    g_autofree char *now = gpup_vfio_driver(system, address);
    int ret = 0;

    if (now && strcmp(now, driver) == 0)
        return 0;
    if (!have_driver(system, driver))
        return gpup_error_set(err, ENOENT,
                              "%s cannot be readied for a VM: this host has no driver %s (modprobe "
                              "%s fails); install a kernel that has it, and the package with its "
                              "modules",
                              gpup_short_id(address), driver, driver);
    if (now)
        ret = unbind_from(system, address, now, err);
    if (ret == 0)
        ret = set_override(system, address, driver, err);
    GPUP_FAULT("helper.bind.free");
    if (ret == 0)
        ret = probe_and_check(system, address, driver, err);
    if (ret < 0)
        set_override(system, address, "\n", NULL);
    return ret;
}

int gpup_vfio_unbind(const struct gpup_system *system, const char *address, bool to_host,
                     struct gpup_error **err)
{
    g_autofree char *driver = gpup_vfio_driver(system, address);
    g_autofree char *bus = g_build_filename(system->sysfs, "bus", "pci", NULL);
    int ret = set_override(system, address, "\n", err);

    if (ret == 0 && driver)
        ret = unbind_from(system, address, driver, err);
    GPUP_FAULT("helper.unbind.free");
    if (ret == 0 && to_host) /* it stays without a driver where none wants it */
        gpup_sysfs_write(bus, "drivers_probe", address);
    return ret;
}

int gpup_vfio_reset(const struct gpup_system *system, const char *address, struct gpup_error **err)
{
    g_autofree char *dir = dir_of(system, address);
    int ret;

    if (!gpup_sysfs_exists(dir, "reset"))
        return 0;
    ret = gpup_sysfs_write(dir, "reset", "1");
    if (ret < 0)
        return gpup_error_set(err, -ret,
                              "%s cannot be reset (%s): no VM gets it, since it may hold what the "
                              "last one left",
                              gpup_short_id(address), g_strerror(-ret));
    return 0;
}
