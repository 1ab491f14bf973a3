/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_DAEMON_STORE_H
#define GPUP_DAEMON_STORE_H

#include "core/model.h"

#include <glib.h>

struct gpup_error;

/*
 * What is wanted of each GPU, by its stable key, under DIR/gpus: applied again at every start, so
 * that it outlives a reboot.
 */

/* 0 partitions removes the entry. */
int gpup_store_set_count(const char *dir, const struct gpup_gpu *gpu, unsigned count,
                         struct gpup_error **err);
/* 0 when nothing is stored. A damaged entry is reported (-EIO) once, then there is none. */
int gpup_store_get_count(const char *dir, const struct gpup_gpu *gpu, unsigned *count,
                         struct gpup_error **err);
/* The memory that was measured when the GPU was partitioned, where only that tells it; 0: none. */
uint64_t gpup_store_peek_memory(const char *dir, const char *key);
/* Whether it is to be given whole to VMs; off removes the entry. */
int gpup_store_set_whole(const char *dir, const struct gpup_gpu *gpu, bool on,
                         struct gpup_error **err);
/* These only look, from any thread: a damaged entry is not there for them. */
unsigned gpup_store_peek_count(const char *dir, const char *key);
bool gpup_store_is_whole(const char *dir, const char *key);
/* The key of the one that is given whole to VMs and sits at this address; the caller's, or NULL. */
char *gpup_store_whole_key(const char *dir, const char *address, const char *pci_id);

/* What is stored of one GPU. */
struct gpup_store_entry {
    char *key, *id, *name; /* where it was and what it was called, then */
};
void gpup_store_entry_free(struct gpup_store_entry *entry);

/* All of them (struct gpup_store_entry *); `problems` (char *) gets a line for each that was set
 * aside. */
GPtrArray *gpup_store_entries(const char *dir, GPtrArray *problems);
/* Removes the entry of a key; fine where there is none. */
int gpup_store_forget(const char *dir, const char *key, struct gpup_error **err);

#endif
