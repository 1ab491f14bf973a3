/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_GPU_PROVIDER_H
#define GPUP_GPU_PROVIDER_H

#include "core/model.h"

#include <glib.h>

struct gpup_error;

/* Where the system is, and what the administrator set: given to every operation, so that tests
 * put another tree there. Strings are owned by the caller and outlive the inventory. */
struct gpup_system {
    const char *sysfs;         /* "/sys" */
    const char *dev;           /* "/dev" */
    const char *proc;          /* "/proc" */
    bool software;             /* offer the software GPU */
    uint64_t software_memory;  /* bytes; 0: a quarter of RAM */
    unsigned software_cpus;    /* 0: all */
    GHashTable *memory_by_gpu; /* BDF or key (char *) -> guint64 *: memory the driver does not tell;
                                  may be NULL */
};

/*
 * Knows one kind of GPU. Adding a vendor takes one file and one line of the table in inventory.c.
 * Every operation returns a negative errno and fills err. An operation that is not there (NULL)
 * is not needed for that kind: the generic code does what is common.
 */
struct gpup_provider {
    const char *name;
    enum gpup_kind kind;

    /* Appends what it finds (struct gpup_gpu *, owned by the array). A GPU that is there but
     * cannot be used is appended with mode unusable and the reason. */
    int (*probe)(const struct gpup_system *system, GPtrArray *gpus, struct gpup_error **err);

    /* Makes n partitions where there are none. On success slots are read back into the GPU. */
    int (*create)(const struct gpup_system *system, struct gpup_gpu *gpu, unsigned n,
                  struct gpup_error **err);
    int (*destroy)(const struct gpup_system *system, struct gpup_gpu *gpu, struct gpup_error **err);

    /* Readies a slot for a VM: grant -> vendor settings. */
    int (*prepare)(const struct gpup_system *system, struct gpup_gpu *gpu, unsigned slot,
                   const struct gpup_grant *grant, struct gpup_error **err);
    int (*release)(const struct gpup_system *system, struct gpup_gpu *gpu, unsigned slot,
                   struct gpup_error **err);
};

extern const struct gpup_provider gpup_provider_software;
extern const struct gpup_provider gpup_provider_rendernode;

#endif
