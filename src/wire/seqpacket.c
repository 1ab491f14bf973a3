/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "wire/seqpacket.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

int gpup_seqpacket_send(int sock, const void *msg, size_t size, const int *fds, unsigned int n_fds,
                        int flags)
{
    _Alignas(
        struct cmsghdr) unsigned char control[CMSG_SPACE(GPUP_SEQPACKET_MAX_FDS * sizeof(int))];
    struct iovec iov = {.iov_base = (void *)(size_t)msg, .iov_len = size};
    struct msghdr header = {.msg_iov = &iov, .msg_iovlen = 1};
    ssize_t sent;

    if (size == 0 || n_fds > GPUP_SEQPACKET_MAX_FDS)
        return -EINVAL;
    if (n_fds > 0) {
        struct cmsghdr *cmsg;

        memset(control, 0, CMSG_SPACE(n_fds * sizeof(int)));
        header.msg_control = control;
        header.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
        cmsg = CMSG_FIRSTHDR(&header);
        cmsg->cmsg_level = SOL_SOCKET;
        cmsg->cmsg_type = SCM_RIGHTS;
        cmsg->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
        memcpy(CMSG_DATA(cmsg), fds, n_fds * sizeof(int));
    }
    do {
        sent = sendmsg(sock, &header, flags | MSG_NOSIGNAL);
    } while (sent < 0 && errno == EINTR);
    return sent < 0 ? -errno : 0;
}

/* Moves the descriptors of all SCM_RIGHTS parts into `all`; how many there were. */
static unsigned int collect(struct msghdr *header, int *all)
{
    unsigned int n = 0;

    for (struct cmsghdr *cmsg = CMSG_FIRSTHDR(header); cmsg; cmsg = CMSG_NXTHDR(header, cmsg)) {
        size_t bytes;

        if (cmsg->cmsg_level != SOL_SOCKET || cmsg->cmsg_type != SCM_RIGHTS)
            continue;
        bytes = cmsg->cmsg_len - CMSG_LEN(0);
        for (size_t i = 0; i < bytes / sizeof(int) && n < GPUP_SEQPACKET_MAX_FDS; i++)
            memcpy(&all[n++], CMSG_DATA(cmsg) + i * sizeof(int), sizeof(int));
    }
    return n;
}

ssize_t gpup_seqpacket_receive(int sock, void *msg, size_t size, int *fds, unsigned int max_fds,
                               unsigned int *n_fds, int flags)
{
    /* Room for everything the kernel lets through: then nothing is cut off unseen. The spare space
     * takes the sender's credentials, where the socket was told to pass them. */
    _Alignas(struct cmsghdr) unsigned char
        control[CMSG_SPACE(GPUP_SEQPACKET_MAX_FDS * sizeof(int)) + 256];
    struct iovec iov = {.iov_base = msg, .iov_len = size};
    struct msghdr header = {.msg_iov = &iov,
                            .msg_iovlen = 1,
                            .msg_control = control,
                            .msg_controllen = sizeof(control)};
    int all[GPUP_SEQPACKET_MAX_FDS];
    unsigned int n;
    ssize_t got;

    for (unsigned int i = 0; i < max_fds; i++)
        fds[i] = -1;
    if (n_fds)
        *n_fds = 0;
    do {
        got = recvmsg(sock, &header, flags | MSG_CMSG_CLOEXEC);
    } while (got < 0 && errno == EINTR);
    if (got < 0)
        return -errno;
    n = collect(&header, all);
    if (header.msg_flags & MSG_TRUNC)
        got = -EMSGSIZE;
    else if ((header.msg_flags & MSG_CTRUNC) || n > max_fds)
        got = -EPROTO;
    if (got <= 0) {
        for (unsigned int i = 0; i < n; i++)
            close(all[i]);
        return got;
    }
    if (n > 0)
        memcpy(fds, all, n * sizeof(int));
    if (n_fds)
        *n_fds = n;
    return got;
}
