/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_DAEMON_ARBITER_INTERNAL_H
#define GPUP_DAEMON_ARBITER_INTERNAL_H

#include "core/units.h"
#include "daemon/arbiter.h"
#include "daemon/meter.h"
#include "daemon/placement.h"
#include "wire/gpu_time.h"

#include <pthread.h>

/* Partitions of one GPU. */
#define GPUP_ARBITER_MOST 256u
#define GPUP_MS           UINT64_C(1000000)
/* Between two looks, while there is something to look at. */
#define GPUP_TICK_MS 1
/* Commands in a renderer at a time while nobody else wants the GPU: enough to keep it busy, and not
 * so many that one that comes has to wait long. */
#define GPUP_DEPTH_ALONE 32u

struct gpup_partition {
    struct gpup_gpu_time *page;
    int page_fd, kick, wake;
    int guard[2];                             /* wire/gpu_time.h */
    struct gpup_share_request asked, request; /* by the grant; what the policy makes of it */
    uint32_t own_share;                       /* parts per million: while all are busy */
    struct gpup_meter meter;
    int pidfd, cgroup_fd; /* of the renderer; -1: none */
    uint64_t metered_ns;  /* the meter's last value */
    uint64_t charged_ns, stopped_ns, stopped_at;
    bool active, held, stopped;
    /* together.c */
    bool used;                   /* since the last look */
    bool light, first;           /* it uses little; its threads run before others */
    unsigned quiet;              /* looks without work or use */
    bool placed;                 /* its threads are kept to CPUs */
    uint64_t first_at;           /* when that was last said of its threads */
    uint64_t burst_ns, burst_at; /* charged beyond half of its share; as of then */
    /* turns.c */
    bool working;         /* it had something to do at the last look */
    uint64_t by_clock_ns; /* charged since the driver was asked */
    int64_t owed_ns;      /* below 0: charged beyond what the driver saw */
};

struct gpup_arbiter {
    bool in_turn, stay;
    enum gpup_time_policy policy;
    char proc[64], bdf[16];
    unsigned capacity;
    uint64_t slice_ns, window_ns; /* of real time; of the whole GPU's time */
    struct gpup_share *share;
    struct gpup_partition *p[GPUP_ARBITER_MOST]; /* by their number in `share` */
    pthread_mutex_t lock;
    pthread_t thread;
    bool started, quit;
    int epoll, event; /* event: wakes the thread */
    uint64_t last_ns;
    /* together.c */
    int stat; /* /proc/stat */
    uint64_t idle_ns, idle_looked_ns;
    bool held_since_look;
    struct gpup_placement placement;
    bool busy; /* few CPUs were idle at the last look */
    uint64_t left_alone_until_ns, moved_ns;
    uint64_t together_ns; /* when several had work last */
    unsigned turn;
    /* turns.c */
    int holder;   /* whose turn it is, or -1 */
    bool leaving; /* the holder, whose turn is over when its work is done */
    uint64_t since_ns, left_ns, charged_until_ns, metered_at_ns;
};

/* arbiter.c */
void gpup_arbiter_hold(struct gpup_arbiter *a, struct gpup_partition *p, bool hold);
void gpup_arbiter_stop(struct gpup_partition *p, bool stop, uint64_t now);
/* What the meter saw since it was asked last. False: it sees nothing now. */
bool gpup_arbiter_metered(struct gpup_arbiter *a, struct gpup_partition *p, uint64_t now,
                          uint64_t *used);
void gpup_arbiter_charge(struct gpup_arbiter *a, unsigned number, uint64_t ns, uint64_t now);

/*
 * One look at all partitions. Milliseconds until the next one; -1: when somebody calls.
 * together.c: they run at the same time, held back by what they have used (software GPU).
 * turns.c: one at a time (GPUs).
 */
int gpup_arbiter_look_together(struct gpup_arbiter *a, uint64_t now);
int gpup_arbiter_look_in_turn(struct gpup_arbiter *a, uint64_t now);
void gpup_arbiter_charge_together(struct gpup_arbiter *a, uint64_t now);
void gpup_arbiter_charge_in_turn(struct gpup_arbiter *a, uint64_t now);
/* It is gone, and so is its turn. */
void gpup_arbiter_removed_in_turn(struct gpup_arbiter *a, unsigned number);
/* It has a new renderer. */
void gpup_arbiter_renderer_together(struct gpup_arbiter *a, struct gpup_partition *p, uint64_t now);
/* Its renderer is not arbitrated any more: it is no sooner than others, and runs anywhere. */
void gpup_arbiter_release_together(struct gpup_arbiter *a, struct gpup_partition *p);

#endif
