/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_DAEMON_PLACEMENT_H
#define GPUP_DAEMON_PLACEMENT_H

#include <sched.h>
#include <sys/types.h>

/*
 * On which CPUs renderers run. The scheduler leaves a busy thread on its CPU for seconds, and CPUs
 * are not equally fast: two of them may be one core, and where the host is a virtual machine others
 * may compute on the other half of the core. Who is moved around has had all of them alike.
 */
struct gpup_placement {
    cpu_set_t all;
    unsigned n; /* 0: not known */
};

/* The CPUs that gpupd itself may use, as renderers may that it starts. */
void gpup_placement_look(struct gpup_placement *placement);

/* Keeps each thread of a process to one CPU of its own, from this number on, around. pidfd: the
 * process's; nothing is done to one that has ended. */
void gpup_placement_move(const struct gpup_placement *placement, pid_t pid, int pidfd,
                         unsigned number);
/* It may run anywhere again. */
void gpup_placement_let_go(const struct gpup_placement *placement, pid_t pid, int pidfd);

#endif
