/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gpu/check_group.h"

#include "gpu/acs.h"
#include "gpu/sysfs.h"

#include <string.h>

static const char fix[] =
    "move the card to a slot of its own root port, or switch on ACS in the firmware";

struct place {
    const struct gpup_system *system;
    const struct gpup_pci *pci;
    GPtrArray *bridges; /* above it, the nearest first */
    GPtrArray *members; /* of its IOMMU group */
};

static bool has(GPtrArray *addresses, const char *address)
{
    return g_ptr_array_find_with_equal_func(addresses, address, g_str_equal, NULL);
}

/* Of a group, what is no bridge and not to be left out (may be NULL); the caller's, or NULL. */
static char *stranger(const struct gpup_system *system, GPtrArray *members, const char *address,
                      const char *card)
{
    for (guint i = 0; i < members->len; i++) {
        g_autoptr(gpup_pci) other = gpup_pci_read(system, members->pdata[i]);

        if (other && other->class >> 16 != GPUP_CLASS_BRIDGE &&
            strcmp(other->address, address) != 0 &&
            !(card && gpup_pci_same_card(card, other->address)))
            return g_strdup(gpup_short_id(other->address));
    }
    return NULL;
}

/* Without VFs no VM is harmed yet; with them those that are to get one do not start. */
static enum gpup_finding_level level(const struct place *p)
{
    return p->pci->total_vfs > 0 ? GPUP_FINDING_FAIL : GPUP_FINDING_WARN;
}

/* The VFs that there are. */
static struct gpup_finding *check_vfs(const struct place *p, GPtrArray *vfs)
{
    for (guint i = 0; i < vfs->len; i++) {
        g_autofree char *dir =
            g_build_filename(p->system->sysfs, "bus/pci/devices", vfs->pdata[i], NULL);
        g_autoptr(GPtrArray) members = gpup_sysfs_list(dir, "iommu_group/devices");
        g_autofree char *other = stranger(p->system, members, vfs->pdata[i], NULL);

        if (other)
            return gpup_finding_new(GPUP_FINDING_FAIL, "acs", p->pci->address, fix,
                                    "its VF %s shares its IOMMU group with %s: no VM can have it "
                                    "(no ACS)",
                                    gpup_short_id(vfs->pdata[i]), other);
        if (members->len == 0)
            return NULL;
    }
    return gpup_finding_new(GPUP_FINDING_OK, "acs", p->pci->address, NULL,
                            "each of its %u VFs has an IOMMU group of its own", vfs->len);
}

static const char *why(enum gpup_acs acs)
{
    return acs == GPUP_ACS_OFF    ? "its ACS is off"
           : acs == GPUP_ACS_NONE ? "it has no ACS"
                                  : "no ACS";
}

/* VFs that are still to be made come into the group of the bridge that the function itself is
 * grouped with, and into groups of their own where it is grouped with none. */
static struct gpup_finding *check_bridges(const struct place *p)
{
    for (guint i = 0; i < p->bridges->len; i++) {
        const char *bridge = p->bridges->pdata[i];

        if (has(p->members, bridge))
            return gpup_finding_new(
                level(p), "acs", p->pci->address, fix,
                "it shares its IOMMU group with the bridge %s (%s)%s", gpup_short_id(bridge),
                why(gpup_acs_of(p->system, bridge)),
                p->pci->total_vfs > 0 ? ", and so will its VFs: no VM could have one" : "");
    }
    return NULL;
}

/* Without an IOMMU there are no groups; the bridges tell what they will be. */
static struct gpup_finding *foretell(const struct place *p)
{
    for (guint i = 0; i < p->bridges->len; i++) {
        const char *bridge = p->bridges->pdata[i];
        enum gpup_acs acs = gpup_acs_of(p->system, bridge);

        if (acs == GPUP_ACS_UNKNOWN)
            return NULL;
        if (acs == GPUP_ACS_NONE)
            return gpup_finding_new(
                GPUP_FINDING_WARN, "acs", p->pci->address, fix,
                "the bridge %s above it has no ACS: with the IOMMU on, all that is "
                "behind it will probably share one group, and go to VMs "
                "together only",
                gpup_short_id(bridge));
    }
    return gpup_finding_new(GPUP_FINDING_OK, "acs", p->pci->address, NULL,
                            "nothing above it lacks ACS");
}

static struct gpup_finding *check_place(const struct place *p)
{
    g_autoptr(GPtrArray) vfs = gpup_pci_vfs(p->pci);
    g_autofree char *other = stranger(p->system, p->members, p->pci->address, p->pci->address);
    struct gpup_finding *found;

    if (p->members->len == 0)
        return foretell(p);
    if (vfs->len > 0)
        return check_vfs(p, vfs);
    if (other)
        return gpup_finding_new(
            GPUP_FINDING_WARN, "acs", p->pci->address, fix,
            "it shares its IOMMU group with %s: they go to VMs together only (no ACS)", other);
    found = check_bridges(p);
    if (found)
        return found;
    return gpup_finding_new(
        GPUP_FINDING_OK, "acs", p->pci->address, NULL,
        p->pci->total_vfs > 0
            ? "nothing above it lacks ACS: VFs will have IOMMU groups of their own"
            : "IOMMU group of its own");
}

struct gpup_finding *gpup_check_group(const struct gpup_system *system, const struct gpup_pci *pci)
{
    g_autoptr(GPtrArray) bridges = gpup_acs_bridges(pci);
    g_autoptr(GPtrArray) members = gpup_sysfs_list(pci->dir, "iommu_group/devices");
    struct place place = {system, pci, bridges, members};

    return check_place(&place);
}
