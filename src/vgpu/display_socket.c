/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "vgpu/display_socket.h"

#include "core/error.h"
#include "vgpu/loop.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

struct display_socket {
    struct vgpu_loop *loop;
    struct vgpu_source *source;
    const struct display_socket_events *events;
    void *data;
    int fd;
    int passed; /* a descriptor that goes with the message's first byte, or -1 */
    bool waits; /* for room in the socket */
    bool closed;
    size_t sent, size; /* of the message under way, with its header */
    struct {
        struct display_header header;
        unsigned char payload[sizeof(struct virtio_gpu_resp_display_info)];
    } in;
    size_t received;
    unsigned char *out; /* header and payload */
};

static void hang_up(struct display_socket *s)
{
    if (s->closed)
        return;
    s->closed = true;
    vgpu_source_remove(s->source);
    s->source = NULL;
    s->events->closed(s->data);
}

bool display_socket_is_idle(const struct display_socket *s)
{
    return !s->closed && s->size == 0;
}

void *display_socket_payload(struct display_socket *s)
{
    return s->out + sizeof(struct display_header);
}

static ssize_t send_some(struct display_socket *s)
{
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {0};
    struct iovec iov = {s->out + s->sent, s->size - s->sent};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

    if (s->passed >= 0) {
        struct cmsghdr *c;

        msg.msg_control = control;
        msg.msg_controllen = sizeof(control);
        c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(c), &s->passed, sizeof(int));
    }
    return sendmsg(s->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void wait_for_room(struct display_socket *s, bool waits)
{
    if (s->waits == waits || !s->source)
        return;
    s->waits = waits;
    vgpu_source_set_events(s->source, waits ? EPOLLIN | EPOLLOUT : EPOLLIN);
}

static void drop_passed(struct display_socket *s)
{
    if (s->passed >= 0)
        close(s->passed);
    s->passed = -1;
}

/* Sends until the message is through or the socket full. */
static void flush(struct display_socket *s)
{
    while (s->sent < s->size) {
        ssize_t n = send_some(s);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
            wait_for_room(s, true);
            return;
        }
        if (n <= 0) {
            hang_up(s);
            return;
        }
        drop_passed(s);
        s->sent += (size_t)n;
    }
    s->sent = s->size = 0;
}

void display_socket_send(struct display_socket *s, uint32_t request, size_t size, int fd)
{
    const struct display_header header = {.request = request, .size = (uint32_t)size};

    if (!display_socket_is_idle(s) || size > DISPLAY_MAX_MESSAGE)
        return;
    memcpy(s->out, &header, sizeof(header));
    s->size = sizeof(header) + size;
    s->sent = 0;
    if (fd >= 0) {
        s->passed = fcntl(fd, F_DUPFD_CLOEXEC, 3);
        if (s->passed < 0) { /* without it the message would say something else */
            s->size = 0;
            return;
        }
    }
    flush(s);
}

/* The size that a reply must have; -1: there is none to such a request. */
static ssize_t reply_size(const struct display_header *header)
{
    if (!(header->flags & DISPLAY_FLAG_REPLY))
        return -1;
    switch (header->request) {
    case DISPLAY_GET_PROTOCOL_FEATURES:
        return sizeof(uint64_t);
    case DISPLAY_GET_INFO:
        return sizeof(struct virtio_gpu_resp_display_info);
    case DISPLAY_DMABUF_UPDATE:
        return 0;
    default:
        return -1;
    }
}

/* 1: a whole reply is there; 0: not yet; -1: it is over. */
static int receive(struct display_socket *s)
{
    for (;;) {
        size_t want = sizeof(s->in.header);
        ssize_t n;

        if (s->received >= want) {
            ssize_t payload = reply_size(&s->in.header);

            if (payload < 0 || (size_t)payload != s->in.header.size)
                return -1;
            want += (size_t)payload;
            if (s->received == want)
                return 1;
        }
        n = recv(s->fd, (char *)&s->in + s->received, want - s->received, MSG_DONTWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            return 0;
        if (n <= 0)
            return -1;
        s->received += (size_t)n;
    }
}

static void on_socket(uint32_t events, void *data)
{
    struct display_socket *s = data;
    int ret = 1;

    if (s->size > 0)
        flush(s);
    while (!s->closed && (ret = receive(s)) > 0) {
        s->received = 0;
        s->events->reply(s->data, s->in.header.request, s->in.header.size ? s->in.payload : NULL);
    }
    if (!s->closed && ret < 0) {
        hang_up(s);
        return;
    }
    if (display_socket_is_idle(s)) {
        wait_for_room(s, false);
        s->events->writable(s->data);
    }
}

struct display_socket *display_socket_new(struct vgpu_loop *loop, int fd,
                                          const struct display_socket_events *events, void *data,
                                          struct gpup_error **err)
{
    struct display_socket *s = calloc(1, sizeof(*s));

    if (!s) {
        close(fd);
        gpup_error_set(err, ENOMEM, "out of memory");
        return NULL;
    }
    *s =
        (struct display_socket){.loop = loop,
                                .events = events,
                                .data = data,
                                .fd = fd,
                                .passed = -1,
                                .out = malloc(sizeof(struct display_header) + DISPLAY_MAX_MESSAGE)};
    if (s->out)
        s->source = vgpu_loop_add(loop, fd, EPOLLIN, on_socket, s, err);
    else
        gpup_error_set(err, ENOMEM, "out of memory");
    if (!s->source) {
        display_socket_free(s);
        return NULL;
    }
    return s;
}

void display_socket_free(struct display_socket *s)
{
    if (!s)
        return;
    vgpu_source_remove(s->source);
    drop_passed(s);
    close(s->fd);
    free(s->out);
    free(s);
}
