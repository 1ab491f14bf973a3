/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_DAEMON_SERVER_H
#define GPUP_DAEMON_SERVER_H

#include "daemon/arbiters.h"
#include "daemon/cgroup.h"
#include "daemon/events.h"
#include "daemon/health.h"
#include "daemon/host.h"
#include "wire/gpupd.h"

#include <sys/types.h>

struct gpup_error;

/*
 * The socket RUN/gpupd.sock (wire/gpupd.h): answers the libvirt hook, and gives gpup-vgpu its grant
 * and its renderers. Everything is answered from the main thread, without libvirt; only starting a
 * renderer goes through a worker.
 */
struct gpup_server;

struct gpup_server_setup {
    struct gpup_host *host;
    struct gpup_arbiters *arbiters;
    struct gpup_cgroups *cgroups;
    struct gpup_events *events;
    struct gpup_health *health;
    const struct gpup_folders *folders;
    const char *renderer;    /* the program */
    const char *render_user; /* whom it runs as, when we are root */
    const char *group; /* may connect beside root: libvirt's; one that does not exist is left out */
    /* A lease came, went or reported. */
    void (*changed)(void *data);
    void *data;
};

struct gpup_server *gpup_server_new(const struct gpup_server_setup *setup, struct gpup_error **err);
/* Closes the socket; renderers live on with their gpup-vgpu. */
void gpup_server_free(struct gpup_server *server);

/* Whether the adapter's gpup-vgpu is connected. `server` as void * for gpup_host_prepare(). */
bool gpup_server_is_alive(const char *adapter, void *server);
/* What the adapter's gpup-vgpu told last; false when none is connected. renderer_pid: 0 for none.
 */
bool gpup_server_usage(struct gpup_server *server, const char *adapter,
                       struct gpup_msg_usage *usage, pid_t *renderer_pid);
/* What is wrong with the adapter's gpup-vgpu, for a person, or NULL. */
const char *gpup_server_problem(struct gpup_server *server, const char *adapter);
/* What the arbiter knows of the adapter's partition; false when it has none. */
bool gpup_server_time(struct gpup_server *server, const char *adapter,
                      struct gpup_arbiter_usage *usage);
/* The adapter's grant has changed. */
void gpup_server_regrant(struct gpup_server *server, const char *adapter);
/* Ends what belongs to an adapter whose partition is free now. */
void gpup_server_drop(struct gpup_server *server, const char *adapter);
/* enum sandbox_degraded, of all renderers started so far. */
unsigned gpup_server_degraded(struct gpup_server *server);

#endif
