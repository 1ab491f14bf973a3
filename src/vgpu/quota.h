/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_VGPU_QUOTA_H
#define GPUP_VGPU_QUOTA_H

#include <stdbool.h>
#include <stdint.h>

/* The partition's memory: charged before something is created, given back when it is gone. Bytes.
 */
struct vgpu_quota {
    uint64_t limit, used, peak;
    uint64_t refused; /* charges that did not fit */
};

static inline bool vgpu_quota_charge(struct vgpu_quota *quota, uint64_t bytes)
{
    if (quota->used > quota->limit || bytes > quota->limit - quota->used) {
        quota->refused++;
        return false;
    }
    quota->used += bytes;
    if (quota->used > quota->peak)
        quota->peak = quota->used;
    return true;
}

static inline void vgpu_quota_credit(struct vgpu_quota *quota, uint64_t bytes)
{
    quota->used -= bytes < quota->used ? bytes : quota->used;
}

#endif
