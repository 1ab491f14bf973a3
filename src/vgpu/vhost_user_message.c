/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "vgpu/vhost_user_message.h"

#include "core/error.h"

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define TIMEOUT_MS 5000

void vhost_user_close_fds(struct vhost_user_message *message)
{
    for (unsigned i = 0; i < message->n_fds; i++) {
        if (message->fds[i] >= 0)
            close(message->fds[i]);
    }
    message->n_fds = 0;
}

/* Takes all descriptors of a control message; those that there is no room for are closed. */
static bool take_fds(struct msghdr *msg, struct vhost_user_message *message)
{
    bool fits = !(msg->msg_flags & MSG_CTRUNC);

    for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
        size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        for (size_t i = 0; i < n; i++) {
            int fd;

            memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
            if (message->n_fds < VHOST_USER_MAX_FDS) {
                message->fds[message->n_fds++] = fd;
            } else {
                close(fd);
                fits = false;
            }
        }
    }
    return fits;
}

static int wait_for(int sock, short events)
{
    struct pollfd p = {.fd = sock, .events = events};
    int n;

    do
        n = poll(&p, 1, TIMEOUT_MS);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return -errno;
    return n == 0 ? -ETIMEDOUT : 0;
}

/* Exactly `size` bytes; descriptors may come with any of them. 1, 0 at end of file before the
 * first byte, or -errno. */
static int receive_exactly(int sock, void *data, size_t size, struct vhost_user_message *message)
{
    size_t done = 0;

    while (done < size) {
        _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int) * VHOST_USER_MAX_FDS)];
        struct iovec iov = {(char *)data + done, size - done};
        struct msghdr msg = {.msg_iov = &iov,
                             .msg_iovlen = 1,
                             .msg_control = control,
                             .msg_controllen = sizeof(control)};
        ssize_t n = recvmsg(sock, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

        if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
            int ret = wait_for(sock, POLLIN);

            if (ret < 0)
                return ret;
            continue;
        }
        if (n < 0)
            return -errno;
        if (!take_fds(&msg, message))
            return -EPROTO;
        if (n == 0)
            return done == 0 ? 0 : -EPROTO;
        done += (size_t)n;
    }
    return 1;
}

int vhost_user_receive(int sock, struct vhost_user_message *message, struct gpup_error **err)
{
    int ret;

    memset(message, 0, sizeof(*message));
    ret = receive_exactly(sock, &message->header, sizeof(message->header), message);
    if (ret == 0)
        return 0;
    if (ret > 0 && ((message->header.flags & VHOST_USER_VERSION_MASK) != VHOST_USER_VERSION ||
                    message->header.size > sizeof(message->payload)))
        ret = -EPROTO;
    if (ret > 0 && message->header.size > 0) {
        ret = receive_exactly(sock, &message->payload, message->header.size, message);
        if (ret == 0)
            ret = -EPROTO;
    }
    if (ret > 0)
        return 1;
    vhost_user_close_fds(message);
    return gpup_error_set(err, -ret, "receiving a vhost-user message (request %u, %u bytes): %s",
                          message->header.request, message->header.size, strerror(-ret));
}

int vhost_user_send(int sock, const struct vhost_user_message *message, struct gpup_error **err)
{
    size_t size = sizeof(message->header) + message->header.size;
    char buffer[sizeof(message->header) + sizeof(message->payload)];
    size_t done = 0;

    memcpy(buffer, &message->header, sizeof(message->header));
    memcpy(buffer + sizeof(message->header), &message->payload, message->header.size);
    while (done < size) {
        ssize_t n = send(sock, buffer + done, size - done, MSG_NOSIGNAL | MSG_DONTWAIT);
        int ret = n < 0 ? -errno : 0;

        if (ret == -EAGAIN)
            ret = wait_for(sock, POLLOUT);
        if (ret < 0 && ret != -EINTR)
            return gpup_error_set(err, -ret, "sending a vhost-user message: %s", strerror(-ret));
        if (n > 0)
            done += (size_t)n;
    }
    return 0;
}
