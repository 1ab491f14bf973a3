/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gpu/sriov.h"

#include "core/error.h"
#include "core/units.h"
#include "fault/fault.h"
#include "gpu/sysfs.h"
#include "gpu/vfio.h"

#include <errno.h>
#include <string.h>

/*
 * Any GPU with SR-IOV, by what the PCI core offers. Nobody tells how the GPU divides its memory and
 * time among VFs: memory is as configured, an equal part each, and no share is promised.
 */

int gpup_sriov_count(const struct gpup_target *t, unsigned *n, struct gpup_error **err)
{
    uint64_t value;

    if (!gpup_sysfs_read_number(t->pci->dir, "sriov_numvfs", &value) || value > GPUP_MAX_SLOTS)
        return gpup_error_set(err, EIO, "%s: %s/sriov_numvfs cannot be read", t->name, t->pci->dir);
    *n = (unsigned)value;
    return 0;
}

/* What the kernel means (sriov_numvfs_store and pci_enable_sriov), and what to do. */
static int explain(const struct gpup_target *t, unsigned n, int code, struct gpup_error **err)
{
    const char *driver = t->pci->driver;

    switch (code) {
    case ENOENT:
        if (driver && gpup_vfio_is_driver(driver))
            return gpup_error_set(err, EBUSY,
                                  "%s: it is given whole to a VM (driver %s), so it cannot be "
                                  "partitioned",
                                  t->name, driver);
        if (!driver)
            return gpup_error_set(err, code,
                                  "%s: no driver has it, and only its driver can make VFs: load "
                                  "the GPU's host driver",
                                  t->name);
        return gpup_error_set(err, code,
                              "%s: its driver %s cannot make VFs: a newer one, or the vendor's "
                              "host driver for virtualization, is needed",
                              t->name, driver);
    case ERANGE:
        return gpup_error_set(err, code, "%s: its driver allows fewer than %u VFs now", t->name, n);
    case EBUSY:
        return gpup_error_set(err, code,
                              "%s: somebody else made VFs at this moment; gpup rescan shows them",
                              t->name);
    case ENOMEM:
        return gpup_error_set(err, code,
                              "%s: no address space for the VFs' memory: in the firmware, switch "
                              "on 'Above 4G Decoding' and 'SR-IOV', and Resizable BAR where there "
                              "is one; or try pci=realloc on the kernel command line",
                              t->name);
    case EPERM:
    case EACCES:
        return gpup_error_set(err, code,
                              "%s: the kernel does not permit VFs here (driver %s): is gpupd "
                              "confined, or kernel lockdown on?",
                              t->name, driver ? driver : "none");
    case ENODEV:
    case ENOSYS:
    case EOPNOTSUPP:
        return gpup_error_set(err, code,
                              "%s: its driver %s refuses VFs: is SR-IOV switched on in the "
                              "firmware, and is the driver set up for it?",
                              t->name, driver ? driver : "none");
    default:
        return gpup_error_set(err, code, "%s: its driver %s cannot make %u VFs: %s; see dmesg",
                              t->name, driver ? driver : "none", n, g_strerror(code));
    }
}

static void set_autoprobe(const struct gpup_target *t, bool on)
{
    gpup_sysfs_write(t->pci->dir, "sriov_drivers_autoprobe", on ? "1" : "0");
}

int gpup_sriov_enable(const struct gpup_target *t, unsigned n, struct gpup_error **err)
{
    unsigned made = 0;
    int ret;

    set_autoprobe(t, false); /* the host's driver is not to take what is a VM's */
    ret = gpup_sysfs_write_number(t->pci->dir, "sriov_numvfs", n);
    GPUP_FAULT("helper.sriov.made");
    if (ret < 0)
        ret = explain(t, n, -ret, err);
    else
        ret = gpup_sriov_count(t, &made, err);
    if (ret == 0 && made < n) /* a driver that makes fewer only logs it */
        ret = gpup_error_set(err, EIO,
                             "%s: its driver %s made only %u of %u VFs, which were removed again; "
                             "see dmesg",
                             t->name, t->pci->driver ? t->pci->driver : "none", made, n);
    if (ret < 0) {
        if (made > 0)
            gpup_sysfs_write_number(t->pci->dir, "sriov_numvfs", 0);
        set_autoprobe(t, true);
    }
    return ret;
}

int gpup_sriov_check_closed(const struct gpup_target *t, struct gpup_error **err)
{
    g_autoptr(GPtrArray) vfs = gpup_pci_vfs(t->pci);

    for (guint i = 0; i < vfs->len; i++) {
        g_autofree char *holder = gpup_vfio_holder(t->system, vfs->pdata[i]);

        if (holder)
            return gpup_error_set(err, EBUSY, "%s: its VF %s is open in %s; stop that first",
                                  t->name, gpup_short_id(vfs->pdata[i]), holder);
    }
    return 0;
}

int gpup_sriov_disable(const struct gpup_target *t, struct gpup_error **err)
{
    unsigned n = 0;
    int ret = gpup_sriov_check_closed(t, err);

    if (ret == 0)
        ret = gpup_sriov_count(t, &n, err);
    if (ret < 0 || n == 0)
        return ret;
    ret = gpup_sysfs_write_number(t->pci->dir, "sriov_numvfs", 0);
    if (ret < 0)
        return gpup_error_set(err, -ret, "%s: its %u VFs cannot be removed: %s; see dmesg", t->name,
                              n, g_strerror(-ret));
    set_autoprobe(t, true);
    return 0;
}

void gpup_sriov_add_functions(const struct gpup_target *t, uint64_t vram, struct gpup_facts *facts)
{
    g_autoptr(GPtrArray) vfs = gpup_pci_vfs(t->pci);

    for (guint i = 0; i < vfs->len; i++) {
        struct gpup_function f = {.vram = vram};
        g_autofree char *driver = gpup_vfio_driver(t->system, vfs->pdata[i]);

        g_strlcpy(f.address, vfs->pdata[i], sizeof(f.address));
        g_strlcpy(f.driver, driver ? driver : "", sizeof(f.driver));
        gpup_facts_function(facts, &f);
    }
}

/* ---- one VF ---- */

/* The address is what gpupd knew: the VF may have been made anew meanwhile. */
static int check_function(const struct gpup_target *t, const struct gpup_work *work,
                          struct gpup_error **err)
{
    g_autofree char *dir =
        g_build_filename(t->system->sysfs, "bus", "pci", "devices", work->function.address, NULL);
    g_autofree char *pf = gpup_sysfs_link_name(dir, "physfn");

    if (!gpup_pci_is_address(work->function.address) || !pf)
        return gpup_error_set(err, ENODEV,
                              "%s: its VF %u (%s) is gone; gpup rescan shows what is "
                              "there",
                              t->name, work->slot, work->function.address);
    if (strcmp(pf, t->pci->address) != 0)
        return gpup_error_set(err, EINVAL, "%s is no VF of %s but of %s", work->function.address,
                              t->name, pf);
    return 0;
}

static int check_unused(const struct gpup_target *t, const struct gpup_work *work,
                        struct gpup_error **err)
{
    g_autofree char *holder = gpup_vfio_holder(t->system, work->function.address);

    if (!holder)
        return 0;
    return gpup_error_set(err, EBUSY, "%s: its VF %s is open in %s", t->name,
                          gpup_short_id(work->function.address), holder);
}

int gpup_sriov_check_function_closed(const struct gpup_target *t, const struct gpup_work *work,
                                     struct gpup_error **err)
{
    int ret = check_function(t, work, err);

    return ret < 0 ? ret : check_unused(t, work, err);
}

int gpup_sriov_prepare_function(const struct gpup_target *t, struct gpup_work *work,
                                const char *driver, struct gpup_error **err)
{
    struct gpup_function *f = &work->function;
    int ret = gpup_sriov_check_function_closed(t, work, err);

    if (ret == 0)
        ret = gpup_vfio_check_group(t->system, f->address, err);
    if (ret == 0 && driver) {
        ret = gpup_vfio_bind(t->system, f->address, driver, err);
        if (ret == 0)
            g_strlcpy(f->driver, driver, sizeof(f->driver));
    }
    return ret;
}

int gpup_sriov_release_function(const struct gpup_target *t, struct gpup_work *work,
                                struct gpup_error **err)
{
    struct gpup_function *f = &work->function;
    int ret = gpup_sriov_check_function_closed(t, work, err);

    if (ret == 0)
        ret = gpup_vfio_reset(t->system, f->address, err);
    GPUP_FAULT("helper.sriov.reset");
    if (ret == 0)
        ret = gpup_vfio_unbind(t->system, f->address, false, err);
    if (ret == 0)
        *f->driver = '\0';
    return ret;
}

/* ---- the provider ---- */

static bool sriov_claims(const struct gpup_system *system, const struct gpup_pci *pci)
{
    return gpup_pci_may_make_vfs(pci);
}

static int sriov_describe(const struct gpup_target *t, struct gpup_facts *facts,
                          struct gpup_error **err)
{
    unsigned n = 0;
    int ret = gpup_sriov_count(t, &n, err);

    if (ret < 0)
        return ret;
    facts->resource[GPUP_VRAM] = (struct gpup_resource_info){t->memory, GPUP_ENFORCE_HARD};
    for (int r = GPUP_COMPUTE; r < GPUP_RESOURCES; r++)
        facts->resource[r] = (struct gpup_resource_info){GPUP_PPM_FULL, GPUP_ENFORCE_NONE};
    gpup_facts_equal_counts(facts, (unsigned)t->pci->total_vfs);
    gpup_sriov_add_functions(t, n ? t->memory / n : 0, facts);
    if (!t->pci->driver)
        gpup_facts_unusable(facts, "no driver has it, and only its driver can make VFs");
    if (t->memory == 0)
        gpup_facts_note(facts,
                        "its driver does not tell its memory: set memory= in section [gpu %s] of "
                        "gpup.conf",
                        t->pci->address);
    return 0;
}

static int sriov_create(const struct gpup_target *t, unsigned n, struct gpup_facts *facts,
                        struct gpup_error **err)
{
    int ret = gpup_sriov_enable(t, n, err);

    return ret < 0 ? ret : sriov_describe(t, facts, err);
}

static int sriov_prepare(const struct gpup_target *t, struct gpup_work *work,
                         struct gpup_error **err)
{
    return gpup_sriov_prepare_function(t, work, "vfio-pci", err);
}

const struct gpup_provider gpup_provider_sriov = {
    .name = "sriov",
    .kind = GPUP_KIND_SRIOV,
    .claims = sriov_claims,
    .describe = sriov_describe,
    .create = sriov_create,
    .destroy = gpup_sriov_disable,
    .prepare = sriov_prepare,
    .release = gpup_sriov_release_function,
};
