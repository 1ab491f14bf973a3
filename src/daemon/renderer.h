/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_DAEMON_RENDERER_H
#define GPUP_DAEMON_RENDERER_H

#include "core/model.h"
#include "daemon/cgroup.h"

#include <glib.h>

struct gpup_error;

/* What a renderer is started with; owned by the spec. */
struct gpup_renderer_spec {
    char *program;
    char *user;       /* whom it runs as, when we are root */
    char *node;       /* render node, or NULL for the software GPU */
    unsigned threads; /* of the software renderer */
    int cgroup_fd;    /* owned, or -1 */
    uint64_t memory;  /* bytes that it may take for itself */
};

void gpup_renderer_spec_free(struct gpup_renderer_spec *spec);

struct gpup_renderer {
    pid_t pid;         /* ours to reap */
    int sock;          /* gpup-vgpu's end, owned */
    int pidfd;         /* owned */
    unsigned degraded; /* enum sandbox_degraded */
};

/* Starts one in its jail, as its own user where that exists. May block for a moment: called from a
 * worker thread. The process is a child to be reaped by waitid(P_PIDFD). */
int gpup_renderer_start(const struct gpup_renderer_spec *spec, struct gpup_renderer *renderer,
                        struct gpup_error **err);

#endif
