/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/error.h"
#include "vgpu/log.h"
#include "vgpu/loop.h"
#include "vgpu/vhost_user.h"
#include "vgpu/vhost_user_message.h"
#include "vgpu/virtqueue.h"

#include <linux/virtio_ring.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

/*
 * The front-end's messages alone: the input is what comes through the socket, in any order, whole
 * or cut off, with descriptors or without. Its first bytes lie in the guest's memory, so that
 * queues that are set up by it find something.
 */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MEMORY  65536u
#define IN_RING 512u

struct fuzz {
    struct vgpu_loop *loop;
    int sock, memory, kick;
    unsigned elements;
};

/* A fuzzer's inputs are no news. */
void vgpu_log(int level, const char *fmt, ...)
{
}

static void on_features(void *device, uint64_t features)
{
}

static void on_get_config(void *device, uint32_t offset, void *data, uint32_t length)
{
    memset(data, (int)offset, length);
}

static void on_set_config(void *device, uint32_t offset, const void *data, uint32_t length)
{
    const volatile unsigned char *bytes = data;

    for (uint32_t i = 0; i < length; i++)
        (void)bytes[i];
}

static void on_display(void *device, int fd)
{
    close(fd);
}

static void on_kick(void *device, unsigned index, struct virtqueue *queue)
{
    struct virtqueue_element *element;
    char bytes[64];
    int ret;

    for (int i = 0; i < 32 && (ret = virtqueue_pop(queue, &element, NULL)) != 0; i++) {
        if (ret < 0)
            continue;
        virtqueue_read(element, 0, bytes, sizeof(bytes));
        virtqueue_push(element, virtqueue_write(element, 0, bytes, sizeof(bytes)));
    }
    virtqueue_notify(queue);
}

static void on_stop(void *device, unsigned index, struct virtqueue *queue)
{
}

static void on_reset(void *device)
{
}

static void on_memory(void *device, const struct guest_region *region)
{
    volatile char last = ((char *)region->map)[region->size - 1];

    (void)last;
}

static void on_closed(void *device)
{
    vgpu_loop_quit(((struct fuzz *)device)->loop, 0);
}

static const struct vhost_user_device ops = {
    .features = UINT64_C(1) << 32 | 1 << VIRTIO_RING_F_INDIRECT_DESC | 1 << VIRTIO_RING_F_EVENT_IDX,
    .n_queues = 2,
    .set_features = on_features,
    .get_config = on_get_config,
    .set_config = on_set_config,
    .set_display = on_display,
    .kick = on_kick,
    .stop = on_stop,
    .reset = on_reset,
    .memory_added = on_memory,
    .memory_removed = on_memory,
    .closed = on_closed,
};

static void send_bytes(struct fuzz *f, const void *data, size_t size, unsigned n_fds, bool kick)
{
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(9 * sizeof(int))] = {0};
    struct iovec iov = {(void *)(uintptr_t)data, size};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    int fds[9];

    for (unsigned i = 0; i < 9; i++)
        fds[i] = kick ? f->kick : f->memory;
    if (n_fds > 0) {
        struct cmsghdr *c;

        msg.msg_control = control;
        msg.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
        c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
        memcpy(CMSG_DATA(c), fds, n_fds * sizeof(int));
    }
    sendmsg(f->sock, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* Each: request, flags and descriptors, bytes of payload, what the header says more than that. */
static size_t one_message(struct fuzz *f, const uint8_t *p, size_t left)
{
    struct {
        struct vhost_user_header header;
        uint8_t payload[255];
    } m;
    size_t n = left < 4 ? 0 : (size_t)p[2] < left - 4 ? p[2] : left - 4;
    unsigned n_fds;

    if (left < 4)
        return left;
    m.header = (struct vhost_user_header){.request = p[0] % 48,
                                          .flags = VHOST_USER_VERSION | (p[1] & 8) |
                                                   (p[1] == 0xff ? 2u : 0u),
                                          .size = (uint32_t)n + (p[3] == 0xff  ? 1u << 20
                                                                 : p[3] > 0xf0 ? p[3] & 15u
                                                                               : 0u)};
    memcpy(m.payload, p + 4, n);
    n_fds = p[1] >> 4;
    send_bytes(f, &m, sizeof(m.header) + n, n_fds > 9 ? 0 : n_fds,
               m.header.request == VHOST_USER_SET_VRING_KICK ||
                   m.header.request == VHOST_USER_SET_VRING_CALL);
    return 4 + n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz f = {.loop = vgpu_loop_new(NULL)};
    size_t in_ring = size / 2 < IN_RING ? size / 2 : IN_RING;
    struct vhost_user *vhost;
    char answers[4096];
    int pair[2];

    f.memory = memfd_create("guest", MFD_CLOEXEC);
    f.kick = eventfd(3, EFD_CLOEXEC | EFD_NONBLOCK);
    if (!f.loop || f.memory < 0 || f.kick < 0 || ftruncate(f.memory, MEMORY) < 0 ||
        pwrite(f.memory, data, in_ring, 0) < 0 ||
        socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        abort();
    f.sock = pair[0];
    vhost = vhost_user_new(f.loop, pair[1], &ops, &f, NULL);
    if (!vhost)
        abort();
    data += in_ring;
    size -= in_ring;
    while (size > 0) {
        size_t used = one_message(&f, data, size);

        data += used;
        size -= used;
    }
    /* everything is served, then the end of file */
    shutdown(f.sock, SHUT_WR);
    vgpu_loop_run(f.loop);
    while (recv(f.sock, answers, sizeof(answers), MSG_DONTWAIT) > 0)
        continue;
    vhost_user_free(vhost);
    vgpu_loop_free(f.loop);
    close(f.sock);
    close(f.memory);
    close(f.kick);
    return 0;
}
