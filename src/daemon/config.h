/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_DAEMON_CONFIG_H
#define GPUP_DAEMON_CONFIG_H

#include "core/model.h"
#include "daemon/arbiter.h"

#include <glib.h>

struct gpup_error;

/* gpup.conf(5), and where things are. */
struct gpup_config {
    enum gpup_policy policy;
    unsigned hang_seconds; /* 0: a renderer is never ended for taking long */
    enum gpup_time_policy gpu_time;
    unsigned slice_ms; /* of a GPU's time; 0: default */
    bool software;
    uint64_t software_memory;    /* bytes, 0: a quarter of RAM */
    unsigned software_cpus;      /* 0: all */
    GHashTable *memory_by_gpu;   /* BDF or key -> guint64 * */
    GHashTable *settings_by_gpu; /* BDF or key -> GHashTable * of name -> value (char *) */
    char **pci_ids;              /* "vvvv:dddd" that are GPUs whatever their class, or NULL */
};

/*
 * Reads the file; one that is not there gives the defaults. -EINVAL names the file, the key and
 * what would be accepted; unknown groups and keys are errors too, so that no typo goes unnoticed.
 */
int gpup_config_read(const char *path, struct gpup_config *config, struct gpup_error **err);
void gpup_config_clear(struct gpup_config *config);

#endif
