/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_VGPU_LOG_H
#define GPUP_VGPU_LOG_H

#include <stdbool.h>
#include <stdint.h>

/*
 * To standard error and to the system log (libvirt gives its helpers no standard error). `level`
 * is LOG_ERR, LOG_WARNING, LOG_INFO of syslog(3). Never anything from a guest's memory; and since a
 * guest causes many of them, not without end: what is too much is counted, and the count is said.
 */
void vgpu_log(int level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* How much may be said: VGPU_LOG_BURST lines at once, and one more every VGPU_LOG_REFILL_MS. */
#define VGPU_LOG_BURST     100u
#define VGPU_LOG_REFILL_MS 6000u

struct vgpu_log_budget {
    unsigned int spent;
    unsigned int left_out; /* lines, since the last one that was said */
    uint64_t refilled_ms;
};

/* Whether a line may be said now; *left_out: how many could not be before it. */
bool vgpu_log_may(struct vgpu_log_budget *budget, uint64_t now_ms, unsigned int *left_out);

#endif
