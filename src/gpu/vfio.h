/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_GPU_VFIO_H
#define GPUP_GPU_VFIO_H

#include "gpu/system.h"

struct gpup_error;

/*
 * Handing a PCI function to VFIO and taking it back, by the kernel's own rules
 * (Documentation/driver-api/vfio.rst and ABI/testing/sysfs-bus-pci). May block: in the helper only.
 */

/* Whether QEMU may have it: it is behind an IOMMU, and nothing else in its group is in the way.
 * -ENXIO: no IOMMU; -EBUSY: another function of its group has a driver. */
int gpup_vfio_check_group(const struct gpup_system *system, const char *address,
                          struct gpup_error **err);

/* "qemu-system-x86 (1234)": who has it open, or NULL. The caller's. */
char *gpup_vfio_holder(const struct gpup_system *system, const char *address);
/* The same of a mediated device. */
char *gpup_vfio_mdev_holder(const struct gpup_system *system, const char *uuid);

/* Binds it to this driver, whatever it had, and reads that back. Loads the module where it is not
 * there. On failure it is left unbound, without driver_override. */
int gpup_vfio_bind(const struct gpup_system *system, const char *address, const char *driver,
                   struct gpup_error **err);
/* Without a driver and without driver_override then; to_host: the host's own driver may take it
 * again. */
int gpup_vfio_unbind(const struct gpup_system *system, const char *address, bool to_host,
                     struct gpup_error **err);
/* Function-level reset, where it offers one. */
int gpup_vfio_reset(const struct gpup_system *system, const char *address, struct gpup_error **err);

/* vfio-pci, or a variant of it. */
bool gpup_vfio_is_driver(const char *driver);
/* The driver it has, or NULL. The caller's. */
char *gpup_vfio_driver(const struct gpup_system *system, const char *address);

#endif
