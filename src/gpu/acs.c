/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gpu/acs.h"

#include <stdlib.h>
#include <string.h>

/* Offsets and bits as in include/uapi/linux/pci_regs.h. */
#define STATUS              0x06u
#define STATUS_CAPABILITIES 0x10u
#define HEADER_TYPE         0x0eu
#define MULTI_FUNCTION      0x80u
#define CAPABILITIES        0x34u
#define CAPABILITY_PCIE     0x10u
#define PCIE_FLAGS          2u
#define PCIE_ROOT_PORT      4u
#define PCIE_UPSTREAM       5u
#define PCIE_DOWNSTREAM     6u
#define EXTENDED_ACS        0x000du
#define ACS_CAPABILITY      4u
#define ACS_CONTROL         6u
/* What the kernel demands before it gives functions groups of their own (drivers/iommu/iommu.c):
 * source validation, request and completion redirection, upstream forwarding. */
#define ACS_DEMANDED (0x01u | 0x04u | 0x08u | 0x10u)

static void add_bridge(GPtrArray *bridges, const char *component)
{
    if (gpup_pci_is_address(component))
        g_ptr_array_insert(bridges, 0, g_strdup(component));
}

/* The function's real path goes through all of them: .../pci0000:00/0000:00:01.0/0000:01:00.0 */
GPtrArray *gpup_acs_bridges(const struct gpup_pci *pci)
{
    GPtrArray *bridges = g_ptr_array_new_with_free_func(g_free);
    char *path = realpath(pci->dir, NULL);
    g_auto(GStrv) components = path ? g_strsplit(path, "/", 0) : NULL;
    guint n = components ? g_strv_length(components) : 0;

    for (guint i = 0; i + 1 < n; i++)
        add_bridge(bridges, components[i]);
    free(path);
    return bridges;
}

/* ---- configuration space ---- */

static unsigned u16_at(const guint8 *config, gsize at)
{
    return config[at] | (unsigned)config[at + 1] << 8;
}

/* Where its PCI Express capability is, or 0. */
static gsize find_pcie(const guint8 *config, gsize size)
{
    gsize at = config[CAPABILITIES] & ~3u;

    if (!(u16_at(config, STATUS) & STATUS_CAPABILITIES))
        return 0;
    for (int guard = 0; guard < 48 && at >= 0x40 && at + 4 <= MIN(size, 0x100); guard++) {
        if (config[at] == CAPABILITY_PCIE)
            return at;
        at = config[at + 1] & ~3u;
    }
    return 0;
}

static enum gpup_acs read_acs(const guint8 *config, gsize size)
{
    gsize pcie = find_pcie(config, size);
    unsigned type = pcie ? u16_at(config, pcie + PCIE_FLAGS) >> 4 & 0xf : 0;
    gsize at;
    unsigned able;

    if (type == PCIE_UPSTREAM && !(config[HEADER_TYPE] & MULTI_FUNCTION))
        return GPUP_ACS_ON; /* there is nothing beside it */
    if (type != PCIE_ROOT_PORT && type != PCIE_DOWNSTREAM && type != PCIE_UPSTREAM)
        return GPUP_ACS_NONE;
    at = gpup_pci_find_extended(config, size, EXTENDED_ACS);
    if (at == 0 || at + 8 > size)
        return GPUP_ACS_NONE;
    able = u16_at(config, at + ACS_CAPABILITY) & ACS_DEMANDED;
    return (u16_at(config, at + ACS_CONTROL) & able) == able ? GPUP_ACS_ON : GPUP_ACS_OFF;
}

enum gpup_acs gpup_acs_of(const struct gpup_system *system, const char *bridge)
{
    g_autofree char *path =
        g_build_filename(system->sysfs, "bus", "pci", "devices", bridge, "config", NULL);
    g_autofree char *text = NULL;
    gsize size = 0;

    /* users get the first 64 bytes only; conventional PCI has no more than 256 */
    if (!g_file_get_contents(path, &text, &size, NULL) || size < 256)
        return GPUP_ACS_UNKNOWN;
    return read_acs((const guint8 *)text, size);
}
