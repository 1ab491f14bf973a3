/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_DAEMON_PRIORITY_H
#define GPUP_DAEMON_PRIORITY_H

#include <stdbool.h>
#include <sys/types.h>

/*
 * How soon the kernel lets a renderer's threads run, not how much they get. first: before those of
 * others, for a short moment at a time; else as gpupd itself. Threads that it makes later have it
 * too. Does what we have the right to.
 */
void gpup_priority_set(pid_t pid, bool first);

/* The same for the calling thread alone. */
void gpup_priority_thread_first(void);

#endif
