/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_WIRE_SEQPACKET_H
#define GPUP_WIRE_SEQPACKET_H

#include <stddef.h>
#include <sys/types.h>

/* Messages with descriptors over an AF_UNIX SOCK_SEQPACKET socket. */

/* What the kernel lets through in one message (SCM_MAX_FD). */
#define GPUP_SEQPACKET_MAX_FDS 253u

/*
 * Sends one message with n_fds descriptors (which stay the caller's). `flags` as of sendmsg(2):
 * 0 or MSG_DONTWAIT; never raises SIGPIPE. 0 or -errno.
 */
int gpup_seqpacket_send(int sock, const void *msg, size_t size, const int *fds, unsigned int n_fds,
                        int flags);

/*
 * Receives one message of at most `size` bytes with at most max_fds descriptors, which become the
 * caller's, close-on-exec; unused places of `fds` are set to -1, *n_fds (may be NULL) counts.
 * Returns the message's bytes, 0 at end of file, or -errno: -EAGAIN (MSG_DONTWAIT, or a time-out of
 * the socket), -EMSGSIZE (longer than `size`), -EPROTO (more descriptors than max_fds, or lost
 * ones). In every case but success all descriptors that came are closed.
 */
ssize_t gpup_seqpacket_receive(int sock, void *msg, size_t size, int *fds, unsigned int max_fds,
                               unsigned int *n_fds, int flags);

#endif
