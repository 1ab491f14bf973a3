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
 * one partition is active and that has no cap. It meters what each renderer uses (meter.h), decides
 * by core/share.h, and tells gpup-vgpu by a shared page (wire/gpu_time.h) when to hold commands
 * back. Partitions of the software GPU run at the same time (together.c), others in turn (turns.c).
 *
 * May be called from any thread.
 */
struct gpup_arbiter;

/* Who gets how much (gpup.conf(5), gpu-time). */
enum gpup_time_policy {
    GPUP_TIME_WEIGHTED,    /* as granted; what one does not use goes to the others by weight */
    GPUP_TIME_BEST_EFFORT, /* those that are active share alike */
    GPUP_TIME_EQUAL_SHARE, /* all that run have equal parts, and none gets more than that */
    GPUP_TIME_FIXED_SHARE, /* each its own part, and none gets more than that */
};

struct gpup_arbiter_setup {
    enum gpup_time_policy policy;
    unsigned capacity; /* charged time per real time: CPUs of the software GPU, else 1 */
    bool in_turn;      /* one at a time */
    bool stay;         /* renderers are not moved between CPUs: to compare with */
    uint64_t slice_ns; /* a turn's length while another one waits; 0: default */
    /* of a GPU whose driver tells what it does for whom: its PCI address and where /proc is */
    const char *bdf, *proc;
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
