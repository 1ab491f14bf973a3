/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_DAEMON_LEASE_H
#define GPUP_DAEMON_LEASE_H

#include "daemon/server.h"

#include <glib.h>

/* One gpup-vgpu's connection, from its hello on. Owned by the server's connection. */
struct gpup_lease {
    struct gpup_server_setup setup;
    char adapter[37];
    int sock; /* the connection's, borrowed */
    struct gpup_msg_usage usage;
    int renderer;       /* pidfd of the renderer that lives, or -1 */
    uint64_t memory;    /* bytes that it may take for itself; 0: not known */
    uint64_t oom_kills; /* of its group, when that was last looked at */
    bool starting;      /* one is on its way */
    bool limiting;      /* its group's limits are being set, */
    bool limit_again;   /* and have to be set once more */
    char ended[80];     /* how the last one ended, where that says something; "" */
    gint64 window;      /* when counting starts began, and how many there were since */
    unsigned starts;
    unsigned *degraded;           /* collects what jails lacked */
    bool takes_time;              /* it said GPUP_HELLO_GPU_TIME */
    uint32_t render_version;      /* that it speaks with renderers */
    struct gpup_arbiter *arbiter; /* borrowed; NULL: nothing divides the GPU's time */
    int arbiter_number;
};

/* Refuses (-EACCES, -ENOENT) or gives a lease. */
struct gpup_lease *gpup_lease_new(const struct gpup_server_setup *setup, int sock,
                                  const struct gpup_msg_hello *hello, unsigned *degraded,
                                  struct gpup_msg_grant *grant, struct gpup_error **err);
/* Kills its renderer, which nobody could reach any more. */
void gpup_lease_unref(struct gpup_lease *lease);

/* Has its share of the GPU's time watched, and tells gpup-vgpu by what. */
void gpup_lease_join_arbiter(struct gpup_lease *lease);
void gpup_lease_leave_arbiter(struct gpup_lease *lease);
/* The claim's grant is another one now. */
void gpup_lease_regrant(struct gpup_lease *lease);

void gpup_lease_want_renderer(struct gpup_lease *lease);
void gpup_lease_kill_renderer(struct gpup_lease *lease);
/* Why no renderer of this release can be given to it, for a person; NULL: one can. */
const char *gpup_lease_outdated(const struct gpup_lease *lease);
/* Its pid as we see it, or 0. */
pid_t gpup_lease_renderer_pid(const struct gpup_lease *lease);

#endif
