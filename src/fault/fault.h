/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_FAULT_H
#define GPUP_FAULT_H

/*
 * Fault points: moments of partitioning, assigning, starting and stopping at which tests kill a
 * process. GPUP_FAULT("gpupd.prepare.taken") names one: process, step, what has just been done.
 *
 * They exist only in builds configured with -Dfault_points=true. There a test arms a point by
 * making the file GPUP_FAULT_DIR/NAME; the process that reaches the point renames it to NAME.hit,
 * which tells the test, and goes on when that file is gone (or after 20 s): meanwhile the test
 * kills whom it wants. A renderer, which sees no such folder in its jail, has its points named in
 * its environment by gpupd, and ends itself there.
 */
#ifdef GPUP_FAULT_POINTS

#define GPUP_FAULT_DIR          "/run/gpup-faults"
#define GPUP_FAULT(name)        gpup_fault_wait(name)
#define GPUP_FAULT_RENDER(name) gpup_fault_end(name)

void gpup_fault_wait(const char *name);
/* Ends the process as SIGKILL would, which the first process of a namespace cannot send itself. */
void gpup_fault_end(const char *name);
/* The armed point of a renderer as an environment entry (static), disarmed; NULL when none is. */
char *gpup_fault_environment(void);

#else

#define GPUP_FAULT(name)        ((void)0)
#define GPUP_FAULT_RENDER(name) ((void)0)

#endif

#endif
