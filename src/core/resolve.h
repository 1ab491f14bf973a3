/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_CORE_RESOLVE_H
#define GPUP_CORE_RESOLVE_H

#include "core/model.h"

struct gpup_error;

struct gpup_placement {
    size_t gpu; /* index into the array given */
    unsigned slot;
    struct gpup_grant grant;
};

/* What one GPU said to an adapter, for `gpup explain` and for refusals. */
struct gpup_verdict {
    bool fits;
    bool chosen;
    int code;   /* 0, or EBUSY (full now), ENOSPC (too little left), EINVAL (never fits as it is) */
    char *text; /* one line: "4 GiB each, win15 needs 6 GiB"; "all 4 used by win11 win12 ..." */
    char *way_out; /* one line such as "gpup gpu partition 41:00.0 2", or NULL */
};

/*
 * adapter -> partition (the rules are in docs/architecture.md, "Resolve"). `vm` is the VM's name,
 * for messages. Changes nothing: the caller reserves. Deterministic: the same state always gives
 * the same answer, ties go to the lower id.
 *
 * verdicts: NULL, or an array of n_gpus to be filled; free each with gpup_verdict_clear().
 * -ENOENT: no GPU of the kind or pin; -EBUSY or -ENOSPC: fits, but not now; -EINVAL: fits nowhere
 * as the GPUs are now. The message has a first line "no partition for VM" and one line for each
 * GPU considered, then the ways out.
 */
int gpup_resolve(struct gpup_gpu *const *gpus, size_t n_gpus, const struct gpup_adapter *adapter,
                 const char *vm, enum gpup_policy policy, struct gpup_placement *placement,
                 struct gpup_verdict *verdicts, struct gpup_error **err);

void gpup_verdict_clear(struct gpup_verdict *verdict);

/*
 * The GPU that a user's word means: id, short id (03:00.0), stable key, node, or name,
 * case-insensitive, or a unique prefix of a name. -ENOENT lists the GPUs there are; -EINVAL for an
 * ambiguous word lists what it could be.
 */
int gpup_find_gpu(struct gpup_gpu *const *gpus, size_t n_gpus, const char *word, size_t *index,
                  struct gpup_error **err);

/* gpup_short_id() of its id. */
const char *gpup_gpu_short_id(const struct gpup_gpu *gpu);

#endif
