/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_DAEMON_HEALTH_H
#define GPUP_DAEMON_HEALTH_H

#include "wire/gpupd.h"

#include <glib.h>

/*
 * What went wrong on each GPU since the host was booted. Kept in RUN/health, so that a restart of
 * gpupd loses none and counts none twice.
 */
struct gpup_health;

enum gpup_trouble {
    GPUP_TROUBLE_DEATH,   /* a renderer ended by itself, hangs included */
    GPUP_TROUBLE_HANG,    /* it was ended for taking too long */
    GPUP_TROUBLE_RESET,   /* the GPU's driver reset it */
    GPUP_TROUBLE_MEMORY,  /* a guest was refused memory beyond its partition's */
    GPUP_TROUBLE_COMMAND, /* a guest's command stream was not valid */
    GPUP_TROUBLE_START,   /* a VM's start was refused */
    GPUP_TROUBLES,
};

/* Words for D-Bus: "renderer-deaths", "hangs", "resets", "refused-memory", "refused-commands",
 * "refused-starts". */
const char *gpup_trouble_name(enum gpup_trouble trouble);

struct gpup_troubles {
    guint64 count[GPUP_TROUBLES];
};

struct gpup_health *gpup_health_new(const char *run_dir);
void gpup_health_free(struct gpup_health *health);

/* What the device process of an adapter told: its counts since this start of its VM (nonce).
 * `fresh` gets what is new. */
void gpup_health_report(struct gpup_health *health, const char *gpu_key, const char *adapter,
                        const char *nonce, const struct gpup_msg_usage *usage,
                        struct gpup_troubles *fresh);
/* The adapter's partition is free: no more reports of this start will come. */
void gpup_health_end(struct gpup_health *health, const char *adapter);
void gpup_health_add(struct gpup_health *health, const char *gpu_key, enum gpup_trouble trouble);
/* All zero for a GPU that nothing happened to. */
void gpup_health_get(struct gpup_health *health, const char *gpu_key, struct gpup_troubles *total);
/* When counting began: microseconds since 1970. */
gint64 gpup_health_since(struct gpup_health *health);
/* Writes what has changed now, instead of soon. */
void gpup_health_flush(struct gpup_health *health);

#endif
