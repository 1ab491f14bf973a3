/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_DAEMON_DAEMON_H
#define GPUP_DAEMON_DAEMON_H

#include "daemon/events.h"
#include "daemon/health.h"
#include "daemon/resets.h"
#include "daemon/server.h"
#include "daemon/vms.h"

/* The parts of a running gpupd, for what serves them on D-Bus. */
struct gpup_daemon {
    struct gpup_config config;
    struct gpup_folders folders;
    struct gpup_cgroups *cgroups;
    struct gpup_events *events;
    struct gpup_health *health;
    struct gpup_resets *resets; /* NULL: not seen here */
    struct gpup_host *host;
    struct gpup_arbiters *arbiters;
    struct gpup_server *server;
    struct gpup_vms *vms;
    struct gpup_restarts *restarts;
    struct gpup_bus *bus;
    bool ending;           /* nothing new is begun (ending.h) */
    bool flushed;          /* what was answered has left, when ending */
    guint working;         /* workers and waits of calls (call.h) and restarts */
    guint checking;        /* soon (provisional.c) */
    bool adopting;         /* a VM that runs without a claim is being looked at */
    GHashTable *adopted;   /* UUID -> when libvirt was asked for it (gint64 *): those that were */
    bool moving;           /* a definition is being changed */
    GHashTable *unmovable; /* VM's UUID -> address that its definition could not be given */
};

#endif
