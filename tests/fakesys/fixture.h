/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef FAKESYS_FIXTURE_H
#define FAKESYS_FIXTURE_H

#include "gpu/inventory.h"

/* A machine of fakesys, mounted for one test, and an inventory of it. */
struct fake {
    char *mount, *sysfs, *proc, *dev;
    GPid pid;
    GHashTable *memory, *settings;
    const char *pci_ids[4];
    unsigned wanted; /* partitions of every GPU, by the store */
    struct gpup_system system;
    struct gpup_inventory *inventory;
};

#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)

void fake_set_up(struct fake *f, gconstpointer data);
void fake_tear_down(struct fake *f, gconstpointer data);
/* An order to fakesys (machine.c), which has to be accepted. */
void fake_order(struct fake *f, const char *fmt, ...) G_GNUC_PRINTF(2, 3);
/* A file below the mount, without its last newline; NULL where there is none. The caller's. */
char *fake_read(struct fake *f, const char *fmt, ...) G_GNUC_PRINTF(2, 3);
bool fake_exists(struct fake *f, const char *fmt, ...) G_GNUC_PRINTF(2, 3);
/* What gpup.conf would say. */
void fake_set(struct fake *f, const char *gpu, const char *name, const char *value);
void fake_set_memory(struct fake *f, const char *gpu, uint64_t bytes);

/* Makes the inventory, as gpupd does when it starts; again: as after a restart. */
void fake_start(struct fake *f);
struct gpup_gpu *fake_gpu(struct fake *f, const char *id);
int fake_partition(struct fake *f, const char *id, unsigned n, char **message);
/* Takes and prepares a slot, and waits. */
int fake_prepare(struct fake *f, const char *id, unsigned slot, uint64_t vram, uint64_t compute,
                 char **message);
/* Gives it back and waits until it is free, or cannot be freed (false). */
bool fake_give_back(struct fake *f, const char *id, unsigned slot);
/* Runs the main loop until `done` says true; fails the test after some seconds. */
void fake_wait(struct fake *f, bool (*done)(struct fake *f));

#define FAKE_ADAPTER "11111111-2222-4333-8444-555555555555"

#endif
