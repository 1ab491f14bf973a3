/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_DAEMON_ARBITER_H
#define GPUP_DAEMON_ARBITER_H

#include "core/share.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct gpup_error;

/*
 * Divides one GPU's time among its partitions. Has a thread of its own, which sleeps while at most
 * one partition is active and none has a cap. It meters what each renderer uses (meter.h), decides
 * by core/share.h, and tells gpup-vgpu by a shared page (wire/gpu_time.h) when to hold commands
 * back. A renderer that goes on nevertheless (it has much work queued, a long command, or is not
 * gpup's any more) is stopped by a signal until the others have had theirs.
 *
 * May be called from any thread.
 */
struct gpup_arbiter;

struct gpup_arbiter_setup {
    unsigned capacity;  /* charged time per real time: CPUs of the software GPU, else 1 */
    uint64_t window_ns; /* how far one may run ahead, of the whole GPU's time; 0: default */
};

struct gpup_arbiter *gpup_arbiter_new(const struct gpup_arbiter_setup *setup,
                                      struct gpup_error **err);
/* Lets go of every renderer. */
void gpup_arbiter_free(struct gpup_arbiter *arbiter);

/*
 * A partition comes. fds (GPUP_GPU_TIME_FDS of them) are for its gpup-vgpu and the caller's to
 * close. Its number, or -errno.
 */
int gpup_arbiter_add(struct gpup_arbiter *arbiter, const struct gpup_share_request *request,
                     int *fds, struct gpup_error **err);
void gpup_arbiter_remove(struct gpup_arbiter *arbiter, int number);
/* Asks for another share: holds at once. */
void gpup_arbiter_change(struct gpup_arbiter *arbiter, int number,
                         const struct gpup_share_request *request);
/* The partition's renderer now: its pidfd and open cgroup (both borrowed; -1 for none). pid 0: it
 * has none. */
void gpup_arbiter_set_renderer(struct gpup_arbiter *arbiter, int number, pid_t pid, int pidfd,
                               int cgroup_fd);

struct gpup_arbiter_usage {
    uint64_t now_ns;     /* CLOCK_MONOTONIC: when this was true */
    uint64_t charged_ns; /* of the whole GPU's time, since the partition came */
    uint64_t waited_ns;  /* commands were held back */
    uint64_t stopped_ns; /* the renderer was kept stopped */
    uint32_t rate;       /* what it is entitled to now, parts per million; 0: inactive */
};

/* False: there is no such partition. */
bool gpup_arbiter_usage(struct gpup_arbiter *arbiter, int number, struct gpup_arbiter_usage *usage);

#endif
