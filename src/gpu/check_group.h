/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_GPU_CHECK_GROUP_H
#define GPUP_GPU_CHECK_GROUP_H

#include "gpu/check.h"
#include "gpu/pci.h"

/* Whether a GPU and its VFs can go to different VMs: an IOMMU group goes to one as a whole. NULL
 * where nothing is known of it. */
struct gpup_finding *gpup_check_group(const struct gpup_system *system, const struct gpup_pci *pci);

#endif
