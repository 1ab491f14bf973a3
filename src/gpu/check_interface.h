/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_GPU_CHECK_INTERFACE_H
#define GPUP_GPU_CHECK_INTERFACE_H

#include "gpu/check.h"
#include "gpu/pci.h"

/* What the GPU's driver offers for partitions to be made and sized with; NULL: nothing to say. */
struct gpup_finding *gpup_check_interface(const struct gpup_system *system,
                                          const struct gpup_pci *pci);

#endif
