/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_DAEMON_PEER_H
#define GPUP_DAEMON_PEER_H

#include <stdbool.h>
#include <sys/types.h>

struct gpup_error;

/* Who is at the other end of a socket, as the kernel saw it when they connected. */
struct gpup_peer {
    pid_t pid;
    uid_t uid;
    gid_t gid;
};

int gpup_peer_of(int sock, struct gpup_peer *peer, struct gpup_error **err);

/*
 * Whether this process is the device process that libvirt started for its running VM `domain`:
 * libvirt writes the pid of each into DIR/DOMAIN-NAME-ALIAS-vhost-user-gpu.pid before it executes
 * it. A file counts when it belongs to root, or to the peer's own user where libvirt keeps the
 * folder for that one. -EACCES when no file names it.
 */
int gpup_peer_check(const char *dir, int domain, const struct gpup_peer *peer,
                    struct gpup_error **err);

#endif
