/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_DAEMON_BUS_H
#define GPUP_DAEMON_BUS_H

#include "daemon/daemon.h"

#include <gio/gio.h>

/* org.gpup1 on a bus (data/org.gpup1.xml): objects for GPUs, partitions and VMs. */
struct gpup_bus;

struct gpup_bus *gpup_bus_new(struct gpup_daemon *daemon, GDBusConnection *connection,
                              struct gpup_error **err);
/* Borrowed. */
GDBusConnection *gpup_bus_connection(struct gpup_bus *bus);
void gpup_bus_free(struct gpup_bus *bus);

/* Brings all objects in line with the host and the VMs, soon (many changes, one pass). */
void gpup_bus_refresh(struct gpup_bus *bus);

#endif
