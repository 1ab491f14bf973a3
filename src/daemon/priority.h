/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_DAEMON_PRIORITY_H
#define GPUP_DAEMON_PRIORITY_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* cpu.weight of a renderer's cgroup for this weight (parts per million of the GPU): cgroup's range
 * is 1..10000, 100 the usual; an equal share of a few lands around it. */
unsigned gpup_priority_cpu_weight(uint64_t weight);

/*
 * How soon the kernel lets a renderer's threads run, not how much they get. first: at once, before
 * all that are not real-time (SCHED_RR, sched(7)); threads that it makes later are not, until this
 * is said again. Where there is no right to that: before those of others, for a short moment at a
 * time. The kernel compares threads only within a group then, and groups with each other: so this
 * is said of the threads, of their session (sched(7), autogroup) and of their cgroup (its open
 * directory and the partition's weight; -1: none). Else as gpupd itself. pidfd: the process's;
 * nothing is done to one that has ended. Whoever says "first" has to say when that is over: a
 * thread that computes and is first leaves its CPU to nobody.
 */
void gpup_priority_set(pid_t pid, int pidfd, int cgroup_fd, uint64_t weight, bool first);

/* The calling thread runs before all of those, its children do not: SCHED_RR again; by niceness
 * where there is no right to that. */
void gpup_priority_thread_first(void);

#endif
