/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_GPU_INVENTORY_H
#define GPUP_GPU_INVENTORY_H

#include "gpu/provider.h"

/* The GPUs of this host, by all providers. */
struct gpup_inventory;

/* Never fails for want of a GPU; a provider that fails is logged and left out. */
struct gpup_inventory *gpup_inventory_new(const struct gpup_system *system,
                                          struct gpup_error **err);
void gpup_inventory_free(struct gpup_inventory *inventory);
typedef struct gpup_inventory gpup_inventory; /* for g_autoptr */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(gpup_inventory, gpup_inventory_free)

/* Ascending by id, "software" last. Borrowed; valid until the next rescan. */
struct gpup_gpu *const *gpup_inventory_gpus(struct gpup_inventory *inventory, size_t *n);

/* Looks again. GPUs with slots in use keep them (matched by stable key) even when they are gone:
 * those become unusable with the reason. */
int gpup_inventory_rescan(struct gpup_inventory *inventory, struct gpup_error **err);

/*
 * Cuts a GPU into n partitions (0: none). -EINVAL for a count that is not valid (names those that
 * are), -EBUSY while a slot is in use (names the VMs), -EINVAL for a GPU that cannot be used or is
 * passed through. On failure nothing is changed.
 */
int gpup_inventory_partition(struct gpup_inventory *inventory, struct gpup_gpu *gpu, unsigned n,
                             struct gpup_error **err);

/* Whether that would be done, with the same errors, without doing it. */
int gpup_inventory_may_partition(const struct gpup_gpu *gpu, unsigned n, struct gpup_error **err);

/* Takes the slot for an adapter (the provider readies it), or gives it back. */
int gpup_inventory_take(struct gpup_inventory *inventory, struct gpup_gpu *gpu, unsigned slot,
                        const char *adapter, const char *vm, const struct gpup_grant *grant,
                        struct gpup_error **err);
int gpup_inventory_give_back(struct gpup_inventory *inventory, struct gpup_gpu *gpu, unsigned slot,
                             struct gpup_error **err);

#endif
