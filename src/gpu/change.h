/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_GPU_CHANGE_H
#define GPUP_GPU_CHANGE_H

#include "gpu/inventory.h"
#include "gpu/job.h"

/* What inventory.c, probe.c and change.c share. */

struct gpup_entry {
    struct gpup_gpu *gpu;
    const struct gpup_provider *provider;
    int stuck; /* pidfd of a helper that hangs, or -1 */
    bool gone; /* it is not in this host any more: kept while VMs hold its partitions */
};

struct gpup_inventory {
    struct gpup_system system;
    GArray *entries;    /* struct gpup_entry */
    GPtrArray *gpus;    /* the same GPUs, borrowed, for the caller */
    GPtrArray *changes; /* struct gpup_change *: those that run, borrowed */
    GHashTable *stuck;  /* GPU's address -> struct gpup_stuck *, owned */
    void (*changed)(void *data);
    void *data;
};

static inline struct gpup_entry *gpup_entry_at(GArray *entries, guint i)
{
    return &g_array_index(entries, struct gpup_entry, i);
}

/* Looks at the hardware: all GPUs of all providers. Any thread. `stuck`: addresses (char *) of GPUs
 * whose helper hangs still: these are not asked. */
GArray *gpup_probe(const struct gpup_system *system, GHashTable *stuck);

int gpup_compare_entries(const void *a, const void *b); /* by id, the software GPU last */

struct gpup_entry *gpup_inventory_entry(struct gpup_inventory *inventory,
                                        const struct gpup_gpu *gpu);
struct gpup_gpu *gpup_inventory_by_key(struct gpup_inventory *inventory, const char *key);
/* GPUs of a probe that are known get the keys that they are known by. */
void gpup_inventory_keep_keys(struct gpup_inventory *inventory, GArray *fresh);
/* Takes over what a probe found. */
void gpup_inventory_adopt(struct gpup_inventory *inventory, GArray *fresh);
/* Watches a helper that hangs: once it has ended, the GPU is asked again. Takes the pidfd. */
void gpup_inventory_watch(struct gpup_inventory *inventory, const char *address, int pidfd);

GHashTable *gpup_stuck_table(void);
/* The inventory ends: changes that run still find nothing to put their outcome into. */
void gpup_changes_orphan(struct gpup_inventory *inventory);
/* A slot was cleared, or could not be. */
void gpup_inventory_cleared(struct gpup_gpu *gpu, unsigned slot, const struct gpup_error *err);

void gpup_gpu_set_problem(struct gpup_gpu *gpu, enum gpup_mode mode, const char *reason);

/* A change of one GPU by one job, run in a thread; `done` may be NULL: a failure is logged. */
void gpup_change_start(struct gpup_inventory *inventory, struct gpup_gpu *gpu, enum gpup_op op,
                       unsigned slot, gpup_inventory_done done, void *data);
/* A `done` for what is tried again and again: that it fails still is nothing new. */
void gpup_change_ignore(const struct gpup_error *err, void *data);

#endif
