/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/ending.h"

#include "daemon/bus.h"

#include <gio/gio.h>

/* A start that libvirt is at may take some seconds; systemd waits longer. */
#define WAIT_MS 5000

static gboolean on_time(void *data)
{
    *(guint *)data = 0;
    return G_SOURCE_REMOVE;
}

static bool is_busy(struct gpup_daemon *d)
{
    return d->working > 0 || d->moving || d->adopting || gpup_host_is_busy(d->host) ||
           gpup_vms_are_busy(d->vms);
}

static void on_flushed(GObject *source, GAsyncResult *result, void *data)
{
    g_dbus_connection_flush_finish(G_DBUS_CONNECTION(source), result, NULL);
    ((struct gpup_daemon *)data)->flushed = true;
}

bool gpup_daemon_end(struct gpup_daemon *d)
{
    guint timer = g_timeout_add(WAIT_MS, on_time, &timer);
    GDBusConnection *connection = d->bus ? gpup_bus_connection(d->bus) : NULL;
    bool ended;

    d->ending = true;
    gpup_vms_end(d->vms);
    while (timer && is_busy(d))
        g_main_context_iteration(NULL, TRUE);
    ended = !is_busy(d);
    d->flushed = !connection;
    if (connection) /* the answers */
        g_dbus_connection_flush(connection, NULL, on_flushed, d);
    while (timer && !d->flushed)
        g_main_context_iteration(NULL, TRUE);
    g_clear_handle_id(&timer, g_source_remove);
    return ended;
}
