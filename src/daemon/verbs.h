/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_DAEMON_VERBS_H
#define GPUP_DAEMON_VERBS_H

#include "daemon/call.h"

/* What the methods of org.gpup1 do, once authorised (see data/org.gpup1.xml). */

void gpup_verb_assign(struct gpup_call *call);
void gpup_verb_unassign(struct gpup_call *call);
void gpup_verb_start_vm(struct gpup_call *call);
void gpup_verb_stop_vm(struct gpup_call *call);
void gpup_verb_rescan(struct gpup_call *call);
void gpup_verb_forget(struct gpup_call *call);
void gpup_verb_set_count(struct gpup_call *call);
void gpup_verb_set_passthrough(struct gpup_call *call);

/* Asks the guest itself: guest.c. */
void gpup_verb_get_guest(struct gpup_call *call);

/* Reading: answers at once, for everybody whom the bus lets in. */
void gpup_verb_explain(struct gpup_daemon *daemon, GDBusMethodInvocation *invocation,
                       const char *vm);

/* options: "limit" u, "after" t, "gpu" s (any word that names one), "vm" s. */
void gpup_verb_get_events(struct gpup_daemon *daemon, GDBusMethodInvocation *invocation,
                          GVariant *options);

#endif
