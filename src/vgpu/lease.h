/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_VGPU_LEASE_H
#define GPUP_VGPU_LEASE_H

#include "wire/gpupd.h"

#include <stdbool.h>

struct gpup_error;
struct vgpu_loop;

/*
 * The connection to gpupd (wire/gpupd.h): tells what this process was granted and brings its
 * renderers. When gpupd goes away the partition runs on with what it has; the connection is made
 * again as soon as gpupd is back.
 */
struct lease;

struct lease_events {
    void (*renderer)(void *data, int sock, int pidfd); /* both are the receiver's */
    void (*no_renderer)(void *data, const char *reason);
    bool (*has_renderer)(void *data);
    /* GPUP_MSG_GPU_TIME: the descriptors are the receiver's. And: gpupd has gone. */
    void (*gpu_time)(void *data, const int *fds);
    void (*lost)(void *data);
    /* The grant is another one now. */
    void (*granted)(void *data, const struct gpup_msg_grant *grant);
};

/* Asks for the grant of this adapter: for 5 s where gpupd is not there, for 20 s where it does not
 * answer. NULL with the reason. */
struct lease *lease_new(struct vgpu_loop *loop, const char *socket_path, const char *adapter,
                        const struct lease_events *events, void *data, struct gpup_msg_grant *grant,
                        struct gpup_error **err);
void lease_free(struct lease *lease);

/* Answered by one of the events, maybe before this returns. */
void lease_want_renderer(struct lease *lease);
/* Sent when it has changed. */
void lease_report(struct lease *lease, const struct gpup_msg_usage *usage);

#endif
