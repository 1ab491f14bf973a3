/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_WIRE_GPU_TIME_H
#define GPUP_WIRE_GPU_TIME_H

#include <stdatomic.h>
#include <stdint.h>

/*
 * The page that gpupd's arbiter of GPU time shares with one gpup-vgpu. gpupd makes it (a memfd,
 * sealed against any change of its size) and sends it in GPUP_MSG_GPU_TIME with three more
 * descriptors. What is charged is not told here: gpupd asks the kernel.
 *
 * kick (eventfd) wakes the arbiter, wake (timerfd: gpupd sets it, which never waits) wakes
 * gpup-vgpu. Both sides use sequentially consistent accesses, so that neither wake is lost: whoever
 * waits says so, then looks again.
 *
 * guard is the reading end of a pipe whose other end only gpupd has. gpup-vgpu keeps it open and
 * never looks at it: when gpupd ends, however that comes about, the kernel sends SIGCONT to the
 * renderer, so that one that gpupd had stopped is not left so.
 */
struct gpup_gpu_time {
    /* written by gpupd */
    _Alignas(64) _Atomic uint32_t hold; /* 1: no further command to the renderer */
    /* Commands that may be unfinished in the renderer at a time; 0: any number, none is followed.
     * Above 2 not each one without a fence is counted. */
    _Atomic uint32_t depth;
    _Atomic uint32_t
        call; /* 1: write to kick when `busy` changes or nothing is unfinished any more, once */
    _Atomic uint32_t own_share;   /* parts per million: what to keep to without gpupd */
    _Atomic uint32_t capacity;    /* charged time per real time: CPUs, or 1 for a GPU */
    _Atomic int32_t renderer_pid; /* whose CPU time is charged then; 0: time by the clock */
    _Atomic uint64_t stopped_ns;  /* for how long gpupd kept the renderer stopped, since start */
    /* written by gpup-vgpu */
    _Alignas(64) _Atomic uint32_t busy; /* has commands waiting or unfinished */
    _Atomic uint32_t unfinished;        /* commands in the renderer, as far as they are followed */
    _Atomic uint32_t waiting;           /* is held: write to wake when `hold` becomes 0 */
    _Atomic uint64_t waited_ns;         /* for how long commands were held back, since start */
};

#define GPUP_GPU_TIME_FDS 4 /* the page, kick, wake, guard */

#endif
