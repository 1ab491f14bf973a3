/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_GPU_PCI_H
#define GPUP_GPU_PCI_H

#include "core/model.h"
#include "gpu/system.h"

#include <glib.h>

/* Base class codes (PCI Code and ID Assignment Specification). */
#define GPUP_CLASS_BRIDGE 0x06u

/* A PCI function, as far as the PCI core tells it: reading this never blocks. */
struct gpup_pci {
    char *address; /* "0000:03:00.0" */
    char *dir;     /* SYSFS/bus/pci/devices/ADDRESS */
    uint64_t vendor, device, subvendor, subdevice;
    uint64_t class;
    char *driver;       /* or NULL */
    bool is_vf;         /* it is another function's VF */
    uint64_t total_vfs; /* how many VFs it can have at most; 0: no SR-IOV */
};

/* NULL when there is no such function (or it is gone meanwhile). */
struct gpup_pci *gpup_pci_read(const struct gpup_system *system, const char *address);
void gpup_pci_free(struct gpup_pci *pci);
typedef struct gpup_pci gpup_pci; /* for g_autoptr */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(gpup_pci, gpup_pci_free)

/* A GPU by its class, or a VF of one; whatever driver has it. */
bool gpup_pci_is_gpu(const struct gpup_pci *pci);
/* Display controllers and what the administrator allows, without VFs, ascending by address. */
GPtrArray *gpup_pci_list(const struct gpup_system *system);

#define GPUP_NO_DRIVER "none" /* a GPU's driver where it has none */

/* "0000:03:00.0" as the kernel writes it. */
bool gpup_pci_is_address(const char *text);
/* Whether both are functions of one card: the same domain, bus and slot. */
bool gpup_pci_same_card(const char *a, const char *b);

/* Where in a configuration space an extended capability begins (PCI Express Base
 * Specification, 7.6.3), or 0. */
gsize gpup_pci_find_extended(const guint8 *config, gsize size, unsigned id);

/* A GPU with what its PCI function tells: id, stable key, name, vendor, driver, render node. */
struct gpup_gpu *gpup_pci_gpu(const struct gpup_system *system, const struct gpup_pci *pci);

/* What NVIDIA's driver tells of a GPU that it has ("KEY: VALUE" a line), or NULL. The caller's. */
char *gpup_pci_nvidia_information(const struct gpup_system *system, const char *address);

/* What a table of gpup.conf (by address or key; may be NULL) has for this GPU, or NULL. */
void *gpup_pci_configured(GHashTable *by_gpu, const struct gpup_gpu *gpu);
/* Its memory by gpup.conf, or 0. */
uint64_t gpup_pci_configured_memory(const struct gpup_system *system, const struct gpup_gpu *gpu);

/* Whether its driver is one that makes VFs, as far as that is known: the kernel tells only when it
 * is tried. */
bool gpup_pci_may_make_vfs(const struct gpup_pci *pci);

/* The other functions of its card that are in its IOMMU group (char *): sound, USB. They go to a VM
 * with it or not at all. sysfs: where it is mounted. */
GPtrArray *gpup_pci_companions(const char *sysfs, const char *address);

/* The addresses of its VFs (char *), by index. */
GPtrArray *gpup_pci_vfs(const struct gpup_pci *pci);

#endif
