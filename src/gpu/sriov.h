/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_GPU_SRIOV_H
#define GPUP_GPU_SRIOV_H

#include "gpu/provider.h"

/*
 * What all SR-IOV GPUs have in common (drivers/pci/iov.c of the kernel), for the providers of
 * vendors to build on. In the helper only.
 */

/* How many VFs there are now. Blocks while the driver is busy with them. */
int gpup_sriov_count(const struct gpup_target *target, unsigned *n, struct gpup_error **err);
/* Switches n VFs on where there are none: no host driver takes them. All or nothing. */
int gpup_sriov_enable(const struct gpup_target *target, unsigned n, struct gpup_error **err);
/* Switches all VFs off. -EBUSY while one is open. */
int gpup_sriov_disable(const struct gpup_target *target, struct gpup_error **err);
/* -EBUSY, naming the process, while a VF is open. */
int gpup_sriov_check_closed(const struct gpup_target *target, struct gpup_error **err);
/* Appends the VFs there are, each with `vram` bytes. */
void gpup_sriov_add_functions(const struct gpup_target *target, uint64_t vram,
                              struct gpup_facts *facts);

/* Whether the VF is there and nobody has it open: -ENODEV, -EBUSY. */
int gpup_sriov_check_function_closed(const struct gpup_target *target, const struct gpup_work *work,
                                     struct gpup_error **err);
/* prepare and release as they are for every VF that is bound to VFIO; driver: which, or NULL. */
int gpup_sriov_prepare_function(const struct gpup_target *target, struct gpup_work *work,
                                const char *driver, struct gpup_error **err);
int gpup_sriov_release_function(const struct gpup_target *target, struct gpup_work *work,
                                struct gpup_error **err);

#endif
