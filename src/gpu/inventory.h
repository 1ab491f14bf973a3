/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_GPU_INVENTORY_H
#define GPUP_GPU_INVENTORY_H

#include "gpu/system.h"

#include "core/model.h"

#include <glib.h>

struct gpup_error;

/*
 * The GPUs of this host, by all providers. Used by the main thread only, but for gpup_change_run().
 * What touches hardware is done by helper processes and ends in the main loop.
 */
struct gpup_inventory;

/* Never fails for want of a GPU; one that does not answer in time is there as wedged. Blocks for
 * the helper's time at most. */
struct gpup_inventory *gpup_inventory_new(const struct gpup_system *system,
                                          struct gpup_error **err);
void gpup_inventory_free(struct gpup_inventory *inventory);
typedef struct gpup_inventory gpup_inventory; /* for g_autoptr */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(gpup_inventory, gpup_inventory_free)

/* Called from the main loop when a GPU changed by itself: a slot was cleared, one is wedged no
 * more. */
void gpup_inventory_on_change(struct gpup_inventory *inventory, void (*changed)(void *data),
                              void *data);

/* Ascending by id, "software" last. Borrowed; valid until the next rescan ends. */
struct gpup_gpu *const *gpup_inventory_gpus(struct gpup_inventory *inventory, size_t *n);

/*
 * A change to the hardware in three steps: begun on the main thread, which checks and marks the
 * GPU; run on any thread, which blocks; ended on the main thread, which puts the outcome into the
 * GPUs and says whether it worked. Every change that was begun must be ended, run or not.
 */
struct gpup_change;
/* What follows a change that ran by itself. Not called when the inventory has been freed. */
typedef void (*gpup_inventory_done)(const struct gpup_error *err, void *data);
/* Runs it in a thread and ends it in the main loop; `done` may be NULL. */
void gpup_change_run_later(struct gpup_change *change, gpup_inventory_done done, void *data);
void gpup_change_run(struct gpup_change *change);
/* 0 or the error. Frees the change. */
int gpup_change_end(struct gpup_change *change, struct gpup_error **err);

/*
 * Cuts a GPU into n partitions (0: none). NULL and -EINVAL for a count that is not valid (names
 * those that are), -EBUSY while a slot is in use (names the VMs) or another change runs, -EINVAL
 * for a GPU that cannot be used or is passed through. On failure nothing is changed.
 */
struct gpup_change *gpup_inventory_begin_partition(struct gpup_inventory *inventory,
                                                   struct gpup_gpu *gpu, unsigned n,
                                                   struct gpup_error **err);
/* Gives a GPU whole to VMs (bound to VFIO, one slot), or back to the host. NULL and -EBUSY while it
 * has partitions or a VM has it, -EINVAL where that cannot be. */
struct gpup_change *gpup_inventory_begin_passthrough(struct gpup_inventory *inventory,
                                                     struct gpup_gpu *gpu, bool on,
                                                     struct gpup_error **err);
/* Gives a GPU to the host's driver that was left without one, half way. NULL: it is gone. */
struct gpup_change *gpup_inventory_begin_undo(struct gpup_inventory *inventory,
                                              const char *address);
int gpup_inventory_may_pass_through(const struct gpup_gpu *gpu, bool on, struct gpup_error **err);
/* Looks again. GPUs with slots in use keep them (matched by stable key) even when they are gone:
 * those become unusable with the reason. */
struct gpup_change *gpup_inventory_begin_rescan(struct gpup_inventory *inventory);
/* A GPU was kept that is not in this host any more, and nobody holds a partition of it now: looking
 * again drops it. */
bool gpup_inventory_is_done_with_gone(const struct gpup_inventory *inventory);
/* What a rescan that has run would put in place of the GPUs that are known: struct gpup_gpu *, the
 * change's. NULL: the inventory has ended. */
GPtrArray *gpup_change_found(struct gpup_change *change);
/* In place of gpup_change_end(): what a rescan has found is not taken over. */
void gpup_change_discard(struct gpup_change *change);

/* The same in one go, blocking. */
int gpup_inventory_partition(struct gpup_inventory *inventory, struct gpup_gpu *gpu, unsigned n,
                             struct gpup_error **err);
int gpup_inventory_rescan(struct gpup_inventory *inventory, struct gpup_error **err);

/* Whether that would be done, with the same errors, without doing it. */
int gpup_inventory_may_partition(const struct gpup_gpu *gpu, unsigned n, struct gpup_error **err);

/* Reserves the slot for an adapter. Touches no hardware: gpup_inventory_prepare() does. */
int gpup_inventory_take(struct gpup_inventory *inventory, struct gpup_gpu *gpu, unsigned slot,
                        const char *adapter, const char *vm, const struct gpup_grant *grant,
                        struct gpup_error **err);

/*
 * Readies a slot that was taken: the vendor's settings, its driver, its IOMMU group. `done` is
 * called once, from the main loop, or before this returns where there is nothing to do (virtio);
 * slot->function then says what the VM gets. After a failure the caller gives the slot back.
 */
void gpup_inventory_prepare(struct gpup_inventory *inventory, struct gpup_gpu *gpu, unsigned slot,
                            gpup_inventory_done done, void *data);

/* Gives a slot back. It is free at once, or, where hardware has to be reset first, once that is
 * done; until then its adapter is GPUP_CLEARING. Of a slot that is free: nothing. */
int gpup_inventory_give_back(struct gpup_inventory *inventory, struct gpup_gpu *gpu, unsigned slot,
                             struct gpup_error **err);

/* Tries again to clear the slots that could not be cleared (something had them open). */
void gpup_inventory_clear_again(struct gpup_inventory *inventory);

/* A change was begun and has not ended: a thread may be at it. */
bool gpup_inventory_is_busy(const struct gpup_inventory *inventory);

/* Asks the wedged GPUs again whose helper could be ended: of the others it is known when they
 * answer. One that answers is reported by gpup_inventory_on_change(). */
void gpup_inventory_ask_wedged(struct gpup_inventory *inventory);

#endif
