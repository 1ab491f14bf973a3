/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_DAEMON_ARBITERS_H
#define GPUP_DAEMON_ARBITERS_H

#include "core/model.h"
#include "daemon/arbiter.h"
#include "daemon/config.h"

/* The arbiters of this host's GPUs: each is there from its GPU's first partition on. */
struct gpup_arbiters;

struct gpup_arbiters *gpup_arbiters_new(const struct gpup_config *config);
void gpup_arbiters_free(struct gpup_arbiters *arbiters);

/* NULL: it cannot be started. */
struct gpup_arbiter *gpup_arbiters_get(struct gpup_arbiters *arbiters, const struct gpup_gpu *gpu,
                                       struct gpup_error **err);

/* Has this GPU's time divided by an arbiter that was made otherwise; takes it. */
void gpup_arbiters_put(struct gpup_arbiters *arbiters, const char *key,
                       struct gpup_arbiter *arbiter);

/* What the arbiter is asked for, for a grant. */
struct gpup_share_request gpup_arbiters_request(const struct gpup_grant *grant);

#endif
