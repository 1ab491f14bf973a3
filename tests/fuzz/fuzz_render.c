/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "render/render.h"
#include "wire/seqpacket.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>
#include <virgl/virglrenderer.h>

/*
 * gpup-render's end of the render socket: the input is the set-up, the messages and what lies in
 * the command ring. virglrenderer's place is taken by functions that touch all of the guest memory
 * that they are given: what is not mapped is found.
 */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define SHARED (UINT64_C(1) << 18)
#define RING   (UINT64_C(1) << 14)
#define EVENTS (UINT64_C(1) << 12)
#define GUEST  65536u

static int our_end = -1;

/* Called when there is nothing to do: then the input is at its end. */
int __real_poll(struct pollfd *fds, nfds_t n, int timeout);
int __wrap_poll(struct pollfd *fds, nfds_t n, int timeout);

int __wrap_poll(struct pollfd *fds, nfds_t n, int timeout)
{
    if (our_end >= 0)
        shutdown(our_end, SHUT_RDWR);
    return __real_poll(fds, n, timeout);
}

/* ---- in the place of virgl.c and virglrenderer ---- */

static struct {
    struct iovec *iov;
    int n;
} backings[64];

int virgl_start(struct render *render, const char *render_node, struct gpup_error **err)
{
    render->fences_end = &render->fences;
    return 0;
}

void gl_renderer_name(char *text, size_t size)
{
    strncpy(text, "fuzz", size);
}

void virgl_describe_capsets(struct gpup_render_ready *ready)
{
}

int virgl_capsets(const struct gpup_render_ready *ready)
{
    return memfd_create("caps", MFD_CLOEXEC);
}

int virgl_fence(struct render *render, uint64_t seq)
{
    return session_emit(render, GPUP_EVENT_FENCE, seq, 0);
}

bool virgl_has_fences(struct render *render)
{
    return true;
}

/* There is no GPU: nothing is exported. */
int virgl_renderer_resource_get_info(int res_handle, struct virgl_renderer_resource_info *info)
{
    return -1;
}

int virgl_renderer_execute(void *execute_args, uint32_t execute_size)
{
    return -1;
}

void virgl_renderer_poll(void)
{
}

void virgl_renderer_force_ctx_0(void)
{
}

int virgl_renderer_context_create(uint32_t handle, uint32_t nlen, const char *name)
{
    const volatile char *last = name + nlen - 1;

    if (nlen > 0)
        (void)*last;
    return handle % 7 == 6 ? EINVAL : 0;
}

void virgl_renderer_context_destroy(uint32_t handle)
{
}

void virgl_renderer_ctx_attach_resource(int ctx_id, int res_handle)
{
}

void virgl_renderer_ctx_detach_resource(int ctx_id, int res_handle)
{
}

int virgl_renderer_resource_create(struct virgl_renderer_resource_create_args *args,
                                   struct iovec *iov, uint32_t num_iovs)
{
    return args->handle % 5 == 4 ? EINVAL : 0;
}

void virgl_renderer_resource_unref(uint32_t res_handle)
{
}

int virgl_renderer_resource_attach_iov(int res_handle, struct iovec *iov, int num_iovs)
{
    backings[res_handle % 64].iov = iov;
    backings[res_handle % 64].n = num_iovs;
    return 0;
}

void virgl_renderer_resource_detach_iov(int res_handle, struct iovec **iov, int *num_iovs)
{
    backings[res_handle % 64].n = 0;
}

static int touch(uint32_t handle)
{
    for (int i = 0; i < backings[handle % 64].n; i++) {
        const struct iovec *iov = &backings[handle % 64].iov[i];

        memset(iov->iov_base, 1, iov->iov_len);
    }
    return 0;
}

int virgl_renderer_transfer_read_iov(uint32_t handle, uint32_t ctx_id, uint32_t level,
                                     uint32_t stride, uint32_t layer_stride, struct virgl_box *box,
                                     uint64_t offset, struct iovec *iov, int iovec_cnt)
{
    for (int i = 0; i < iovec_cnt; i++)
        memset(iov[i].iov_base, 2, iov[i].iov_len);
    return touch(handle);
}

int virgl_renderer_transfer_write_iov(uint32_t handle, uint32_t ctx_id, int level, uint32_t stride,
                                      uint32_t layer_stride, struct virgl_box *box, uint64_t offset,
                                      struct iovec *iovec, unsigned int iovec_cnt)
{
    return touch(handle);
}

int virgl_renderer_submit_cmd(void *buffer, int ctx_id, int ndw)
{
    const volatile uint32_t *dwords = buffer;

    for (int i = 0; i < ndw; i++)
        (void)dwords[i];
    return 0;
}

/* ---- the peer ---- */

struct peer {
    int sock, guest, shared_fd, eventfds[2];
    unsigned char *shared;
    struct gpup_ring_end commands;
};

static void send_setup(struct peer *peer, uint8_t change, const uint8_t *p)
{
    const int fds[] = {peer->shared_fd, peer->eventfds[0], peer->eventfds[1]};
    struct gpup_render_setup setup = {.header = {GPUP_RENDER_SETUP, GPUP_RENDER_VERSION},
                                      .shared_size = SHARED,
                                      .command_size = gpup_ring_bytes(RING),
                                      .event_offset = 65536,
                                      .event_size = gpup_ring_bytes(EVENTS),
                                      .pixel_offset = 131072,
                                      .pixel_size = 65536,
                                      .vram = 1 << 20};

    if (change & 1)
        memcpy((uint8_t *)&setup + p[0] % (sizeof(setup) - 8), p + 1, 8);
    gpup_seqpacket_send(peer->sock, &setup, sizeof(setup), fds, change == 0xff ? 2 : 3,
                        MSG_DONTWAIT);
}

static void add_memory(struct peer *peer, const uint8_t *p, size_t n)
{
    struct gpup_render_memory message = {
        .header = {GPUP_RENDER_MEMORY_ADD, GPUP_RENDER_VERSION}, .region = p[0] % 4, .size = GUEST};

    if (n >= 10)
        memcpy((uint8_t *)&message + p[1] % (sizeof(message) - 7), p + 2, 8);
    gpup_seqpacket_send(peer->sock, &message, sizeof(message), &peer->guest, p[0] < 0xf0,
                        MSG_DONTWAIT);
}

/* A record with the input in it, whole or in a few of its bytes. */
static void add_command(struct peer *peer, const uint8_t *p, size_t n)
{
    uint64_t size = sizeof(struct gpup_record) + n - 2;
    unsigned char *record =
        gpup_ring_reserve(&peer->commands, p[0] % (GPUP_CMD_PING + 2), size, p[1]);

    if (!record)
        return;
    memcpy(record + sizeof(struct gpup_record), p + 2, n - 2);
    gpup_ring_commit(&peer->commands);
}

static size_t operate(struct peer *peer, const uint8_t *p, size_t left)
{
    size_t n = left < 4 ? 0 : (size_t)p[1] < left - 2 ? p[1] : left - 2;
    uint64_t value = 0;

    if (n < 2)
        return left;
    switch (p[0] & 7) {
    case 0:
        add_memory(peer, p + 2, n);
        break;
    case 1: /* any message */
        gpup_seqpacket_send(peer->sock, p + 2, n, &peer->guest, p[0] >> 7, MSG_DONTWAIT);
        break;
    case 2: /* a ring's position */
        memcpy(&value, p + 3, n - 1 < 8 ? n - 1 : 8);
        memcpy(peer->shared + (p[2] & 1 ? 65536 : 0) + (p[2] & 2 ? 64 : 0), &value, 8);
        break;
    case 3: /* what lies in the ring already */
        memcpy(peer->shared + sizeof(struct gpup_ring) + p[2] * 8u, p + 3, n - 1);
        break;
    default:
        add_command(peer, p + 2, n);
        break;
    }
    return 2 + n;
}

static void set_up(struct peer *peer, struct render *render)
{
    int pair[2];

    peer->shared_fd = memfd_create("shared", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    peer->guest = memfd_create("guest", MFD_CLOEXEC);
    peer->eventfds[0] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    peer->eventfds[1] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0 ||
        ftruncate(peer->shared_fd, (off_t)SHARED) < 0 || ftruncate(peer->guest, GUEST) < 0 ||
        fcntl(peer->shared_fd, F_ADD_SEALS, F_SEAL_SHRINK) < 0)
        abort();
    peer->sock = our_end = pair[0];
    peer->shared = mmap(NULL, SHARED, PROT_READ | PROT_WRITE, MAP_SHARED, peer->shared_fd, 0);
    if (peer->shared == MAP_FAILED)
        abort();
    gpup_ring_end_init(&peer->commands, peer->shared, gpup_ring_bytes(RING), -1);
    *render = (struct render){.sock = pair[1], .command_fd = -1, .event_fd = -1, .virgl_fd = -1};
    memset(backings, 0, sizeof(backings));
}

/* gpup-render itself leaves all this to its end. */
static void clear(struct peer *peer, struct render *render)
{
    struct objects *o = &render->objects;

    for (size_t i = 0; i < RESOURCE_BUCKETS; i++) {
        while (o->resources[i])
            resource_remove(o, o->resources[i]->id);
    }
    while (o->contexts)
        context_remove(o, o->contexts->id);
    while (o->regions && region_remove(o, o->regions->id) == 0)
        continue;
    if (render->shared)
        munmap(render->shared, render->shared_size);
    gpup_error_free(render->error);
    close(render->sock);
    if (render->command_fd >= 0)
        close(render->command_fd);
    if (render->event_fd >= 0)
        close(render->event_fd);
    munmap(peer->shared, SHARED);
    close(peer->sock);
    close(peer->shared_fd);
    close(peer->guest);
    close(peer->eventfds[0]);
    close(peer->eventfds[1]);
    our_end = -1;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct gpup_error *err = NULL;
    struct render render;
    struct peer peer;

    if (size < 10)
        return 0;
    set_up(&peer, &render);
    send_setup(&peer, data[0], data + 1);
    data += 10;
    size -= 10;
    while (size > 0) {
        size_t used = operate(&peer, data, size);

        data += used;
        size -= used;
    }
    session_run(&render, NULL, &err);
    gpup_error_free(err);
    clear(&peer, &render);
    return 0;
}
