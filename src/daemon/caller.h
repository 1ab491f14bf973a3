/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_DAEMON_CALLER_H
#define GPUP_DAEMON_CALLER_H

#include <gio/gio.h>

/*
 * Who calls a method, for people: "alice", or "root (alice)" where alice logged in and became root
 * (the kernel's audit login id). "uid 1234" for a user without a name, "unknown" where the bus does
 * not say. `name` is lent; done is called once, from the main loop.
 */
void gpup_caller_find(GDBusMethodInvocation *invocation, void (*done)(const char *name, void *data),
                      void *data);

/* The same for a user id and a process; the caller frees it. proc: "/proc". */
char *gpup_caller_name(const char *proc, guint32 uid, guint32 pid);

#endif
