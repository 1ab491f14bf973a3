/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/error.h"
#include "core/units.h"
#include "fault/fault.h"
#include "gpu/sriov.h"
#include "gpu/sysfs.h"
#include "gpu/vfio.h"

#include <errno.h>
#include <string.h>

/*
 * A GPU given whole to one VM: it is bound to vfio-pci, with the other functions of its card that
 * are in its IOMMU group (sound, USB), since a group goes to a VM as one.
 */

static bool whole_claims(const struct gpup_system *system, const struct gpup_pci *pci)
{
    return pci->driver && gpup_vfio_is_driver(pci->driver);
}

static int whole_describe(const struct gpup_target *t, struct gpup_facts *facts,
                          struct gpup_error **err)
{
    struct gpup_function f = {.vram = t->memory};

    g_strlcpy(f.address, t->pci->address, sizeof(f.address));
    g_strlcpy(f.driver, t->pci->driver ? t->pci->driver : "", sizeof(f.driver));
    facts->resource[GPUP_VRAM] = (struct gpup_resource_info){t->memory, GPUP_ENFORCE_HARD};
    for (int r = GPUP_COMPUTE; r < GPUP_RESOURCES; r++)
        facts->resource[r] = (struct gpup_resource_info){GPUP_PPM_FULL, GPUP_ENFORCE_HARD};
    gpup_facts_count(facts, 1, t->memory);
    gpup_facts_function(facts, &f);
    return 0;
}

static GPtrArray *companions(const struct gpup_target *t)
{
    return gpup_pci_companions(t->system->sysfs, t->pci->address);
}

static int check_unused(const struct gpup_target *t, const char *what, struct gpup_error **err)
{
    g_autofree char *holder = gpup_vfio_holder(t->system, t->pci->address);

    if (!holder)
        return 0;
    return gpup_error_set(err, EBUSY, "%s is in use by %s, so it cannot be %s; stop that first",
                          t->name, holder, what);
}

/* Back to the host's own drivers. */
static int give_to_host(const struct gpup_target *t, struct gpup_error **err)
{
    g_autoptr(GPtrArray) others = companions(t);
    int ret = gpup_vfio_unbind(t->system, t->pci->address, true, err);

    for (guint i = 0; i < others->len; i++)
        gpup_vfio_unbind(t->system, others->pdata[i], true, NULL);
    return ret;
}

static int bind_all(const struct gpup_target *t, struct gpup_error **err)
{
    g_autoptr(GPtrArray) others = companions(t);
    int ret = gpup_vfio_bind(t->system, t->pci->address, "vfio-pci", err);

    GPUP_FAULT("helper.whole.first-bound");
    for (guint i = 0; ret == 0 && i < others->len; i++)
        ret = gpup_vfio_bind(t->system, others->pdata[i], "vfio-pci", err);
    return ret == 0 ? gpup_vfio_check_group(t->system, t->pci->address, err) : ret;
}

static int check_no_vfs(const struct gpup_target *t, struct gpup_error **err)
{
    g_autoptr(GPtrArray) vfs = gpup_pci_vfs(t->pci);

    if (vfs->len == 0)
        return 0;
    return gpup_error_set(err, EBUSY,
                          "%s has %u VFs, so it cannot be given whole to a VM: gpup gpu partition "
                          "%s 0 first",
                          t->name, vfs->len, t->name);
}

static int whole_create(const struct gpup_target *t, unsigned n, struct gpup_facts *facts,
                        struct gpup_error **err)
{
    g_autoptr(gpup_pci) now = NULL;
    struct gpup_target after = *t;
    int ret = check_no_vfs(t, err);

    if (ret == 0)
        ret = check_unused(t, "given whole to a VM", err);
    if (ret < 0)
        return ret;
    ret = bind_all(t, err);
    if (ret < 0) {
        give_to_host(t, NULL);
        return ret;
    }
    after.pci = now = gpup_pci_read(t->system, t->pci->address);
    if (!now)
        return gpup_error_set(err, ENODEV, "%s went away while it was given to VMs: see dmesg",
                              t->name);
    return whole_describe(&after, facts, err);
}

static int whole_destroy(const struct gpup_target *t, struct gpup_error **err)
{
    int ret = check_unused(t, "given back to the host", err);

    return ret < 0 ? ret : give_to_host(t, err);
}

static int whole_prepare(const struct gpup_target *t, struct gpup_work *work,
                         struct gpup_error **err)
{
    int ret = check_unused(t, "given to another VM", err);

    if (ret == 0) /* libvirt may have given it back to the host's driver */
        ret = bind_all(t, err);
    if (ret == 0)
        g_strlcpy(work->function.driver, "vfio-pci", sizeof(work->function.driver));
    return ret;
}

static int whole_release(const struct gpup_target *t, struct gpup_work *work,
                         struct gpup_error **err)
{
    int ret = check_unused(t, "made ready for the next VM", err);

    if (ret == 0)
        ret = bind_all(t, err);
    return ret < 0 ? ret : gpup_vfio_reset(t->system, t->pci->address, err);
}

const struct gpup_provider gpup_provider_whole = {
    .name = "whole",
    .kind = GPUP_KIND_PASSTHROUGH,
    .claims = whole_claims,
    .describe = whole_describe,
    .create = whole_create,
    .destroy = whole_destroy,
    .prepare = whole_prepare,
    .release = whole_release,
};
