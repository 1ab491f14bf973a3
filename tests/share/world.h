/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_TEST_WORLD_H
#define GPUP_TEST_WORLD_H

#include "work.h"

#include <stdatomic.h>

/*
 * A GPU with several VMs on it: gpupd's own code (without a bus and libvirt) in one process, and
 * for each VM a stand-in for QEMU and its guest with the real gpup-vgpu and gpup-render. What the
 * partitions get is measured from outside, by the CPU time of their renderers.
 */

#define WORLD_MOST 8u
#define WORLD_LOG  65536u

enum world_mode {
    WORLD_IDLE,
    WORLD_GREEDY,   /* `queue` command streams at a time, always */
    WORLD_LIGHT,    /* one each `period_us` */
    WORLD_UNFENCED, /* greedy, and never waits for one to be done */
    WORLD_TRANSFER, /* greedy by copying pictures */
    WORLD_CONTEXTS, /* greedy, each stream in another one of many contexts; once in its life */
    WORLD_QUIT,
};

struct world_share {
    unsigned min, weight, cap; /* percent */
};

/* What one stand-in does; in memory shared with it. */
struct world_client {
    struct work work;
    unsigned queue, period_us;
    _Atomic uint32_t mode;   /* a futex */
    _Atomic uint32_t state;  /* the mode that it is in by now */
    _Atomic int32_t backend; /* its process, where it is another one than gpup's */
    _Atomic uint64_t n_done;
    struct {
        uint64_t start_ns, end_ns;
    } done[WORLD_LOG]; /* the last ones, by number modulo WORLD_LOG */
};

struct world_setup {
    size_t n;
    struct world_share share[WORLD_MOST];
    struct work work;  /* everybody's, until changed */
    bool no_arbiter;   /* as if there were none */
    bool in_turn;      /* as on a GPU: one at a time */
    unsigned slice_ms; /* of its turns; 0: the usual */
    bool stay;         /* renderers are not moved between CPUs */
    bool guests_first; /* what stands for QEMU runs before all else, as with libvirt's vcpusched */
    unsigned vram_mib; /* of each; 0: 64 */
    bool quiet;        /* what the processes say is dropped */
    /* Another vhost-user back-end in place of gpup-vgpu, with its arguments, ended by NULL: gpupd
     * has nothing to do with it. NULL: gpup's. */
    const char *const *backend;
};

struct world;

struct world *world_new(const struct world_setup *setup);
void world_free(struct world *world);

struct world_client *world_client(struct world *world, size_t i);
/* Returns when it does it. */
void world_set_mode(struct world *world, size_t i, enum world_mode mode);

/* The CPU time of the partition's renderer (of another back-end: of its process), ns. */
uint64_t world_charged(struct world *world, size_t i);
pid_t world_renderer(struct world *world, size_t i);
/* The CPU time of gpupd. */
uint64_t world_gpupd_cpu(struct world *world);
/* Ends gpupd as by kill -9; and starts it again. */
void world_kill_gpupd(struct world *world);
void world_start_gpupd(struct world *world);
/* Whether that many device processes are connected to it. */
bool world_is_connected(struct world *world, unsigned n);
/* As `gpup assign --live` does it. */
void world_change(struct world *world, size_t i, const struct world_share *share);
/* Work units of the client done in a stretch of time; one that lies partly in it counts so. */
double world_work(struct world *world, size_t i, uint64_t from_ns, uint64_t to_ns);

/* The caller leads a session of its own from now on, with the priority of the one it was in: VMs
 * are apart for the scheduler, as their cgroups are on a host. */
void world_own_session(void);

uint64_t world_now(void); /* CLOCK_MONOTONIC, ns */
void world_sleep_ms(unsigned ms);

#endif
