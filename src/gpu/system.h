/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_GPU_SYSTEM_H
#define GPUP_GPU_SYSTEM_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

/* Where the system is, and what the administrator set: given to every operation, so that tests
 * put another tree there. Strings are owned by the caller and outlive the inventory. */
struct gpup_system {
    const char *sysfs;   /* "/sys" */
    const char *dev;     /* "/dev" */
    const char *proc;    /* "/proc" */
    const char *helper;  /* program: gpup-gpu-helper */
    unsigned timeout_ms; /* of every operation of the helper; 0: what suits it */
    const char *const
        *pci_ids; /* "vvvv:dddd" that count as GPUs whatever their class; may be NULL */
    /* What is stored of a GPU, from any thread: partitions wanted, and the key of the one at this
     * address that was given whole to a VM (its driver, which knew the key, is gone then; NULL: not
     * known; the caller's). Both may be NULL. */
    unsigned (*wanted)(const char *key, void *data);
    char *(*whole_key)(const char *address, const char *pci_id, void *data);
    void *data;                /* of these two */
    bool software;             /* offer the software GPU */
    uint64_t software_memory;  /* bytes; 0: a quarter of RAM */
    unsigned software_cpus;    /* 0: all */
    GHashTable *memory_by_gpu; /* BDF or key (char *) -> guint64 *: memory the driver does not tell;
                                  may be NULL */
    GHashTable *settings_by_gpu; /* BDF or key (char *) -> GHashTable * of char * -> char *: what
                                    else gpup.conf says about a GPU; may be NULL */
};

#endif
