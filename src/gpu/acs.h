/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_GPU_ACS_H
#define GPUP_GPU_ACS_H

#include "gpu/pci.h"

/*
 * Access Control Services (PCI Express Base Specification, 6.12 and 7.7.8): whether a bridge keeps
 * the functions behind it apart. Where one does not, the kernel puts all that is behind it into the
 * bridge's own IOMMU group.
 */
enum gpup_acs {
    GPUP_ACS_ON,
    GPUP_ACS_OFF,     /* it could, and is not switched on: the kernel does that with the IOMMU */
    GPUP_ACS_NONE,    /* it cannot */
    GPUP_ACS_UNKNOWN, /* its configuration space cannot be read (that takes root) */
};

/* The addresses (char *) of the bridges above a function, the nearest first. */
GPtrArray *gpup_acs_bridges(const struct gpup_pci *pci);
/* Of a bridge of gpup_acs_bridges(). */
enum gpup_acs gpup_acs_of(const struct gpup_system *system, const char *bridge);

#endif
