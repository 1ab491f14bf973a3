/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_DAEMON_DEVICE_H
#define GPUP_DAEMON_DEVICE_H

#include "core/resolve.h"
#include "vm/device.h"

#include <glib.h>

struct gpup_error;

/*
 * Which of the host's PCI functions stands in a VM's definition. A VM that is started by plain
 * `virsh start` gets the one that its definition names, so each has one of its own while there are
 * enough; where they are fewer than VMs, some share one and are moved on when it is taken.
 */

/* A VM and the function that its definition names; the strings are borrowed. */
struct gpup_user {
    const char *uuid;
    const char *address;
};

/* The slot behind a PCI function. */
bool gpup_slot_find(struct gpup_gpu *const *gpus, size_t n, const char *address, size_t *gpu,
                    unsigned *slot);

/* What a definition says for this slot. sysfs: where it is mounted. */
void gpup_slot_device(const char *sysfs, const struct gpup_gpu *gpu, unsigned slot,
                      struct gpup_device *device);

/*
 * The best slot for the definition of the VM `uuid` (NULL: it has none yet), whose adapter is for
 * hardware: one that no other names, that is free, on a GPU that suits its values; the one that it
 * names unless another is better. users: all VMs with such an adapter. -ENOENT or -EINVAL: no GPU
 * can serve it, and why.
 */
int gpup_slot_choose(struct gpup_gpu *const *gpus, size_t n, const struct gpup_adapter *adapter,
                     const char *vm, const char *uuid, const GArray *users, enum gpup_policy policy,
                     size_t *gpu, unsigned *slot, struct gpup_error **err);

#endif
