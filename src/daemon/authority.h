/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_DAEMON_AUTHORITY_H
#define GPUP_DAEMON_AUTHORITY_H

#include <gio/gio.h>

#define GPUP_ACTION_PARTITION "org.gpup1.partition"
#define GPUP_ACTION_ADAPTER   "org.gpup1.adapter"
#define GPUP_ACTION_START     "org.gpup1.start"

/*
 * Asks polkit whether the caller may do this. Where polkit cannot be asked, root may and nobody
 * else. `done` is called later, only when the caller may; otherwise the invocation is answered with
 * AccessDenied and `drop` is called (either gets `data`).
 */
void gpup_authority_check(GDBusMethodInvocation *invocation, const char *action,
                          void (*done)(void *data), void (*drop)(void *data), void *data);

#endif
