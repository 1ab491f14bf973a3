/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/error.h"
#include "vgpu/device.h"
#include "vgpu/display_socket.h"
#include "vgpu/log.h"
#include "vgpu/loop.h"
#include "vgpu/vhost_user_message.h"
#include "wire/ring.h"
#include "wire/seqpacket.h"

#include <linux/virtio_gpu.h>
#include <linux/virtio_ring.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

/*
 * The whole device process but its main(): the input is what the guest puts on the control queue
 * and what the front-end says, in any order. The renderer's end is played here: it answers what it
 * is asked, or (by the input) with what nobody asked for. So is QEMU's display, which ends the run
 * when it is told what would hurt QEMU.
 */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MEMORY  (1u << 18)
#define USER    UINT64_C(0x7f0000000000)
#define SIZE    16u
#define AVAIL   4096u
#define USED    8192u
#define REQUEST 16384u
#define ANSWER  131072u

struct fuzz {
    struct vgpu_loop *loop;
    struct vgpu_device *device;
    struct vgpu_source *stop;
    int sock, memory_fd, kick, call;
    unsigned char *memory;
    bool closed;
    int rounds;
    /* the display's end */
    int display;
    uint32_t shown_width, shown_height;
    size_t unread;
    /* the renderer's end */
    int render;
    unsigned char *shared;
    uint64_t shared_size;
    int event_fd;
    struct gpup_ring_end commands, events;
};

/* A fuzzer's inputs are no news. */
void vgpu_log(int level, const char *fmt, ...)
{
}

/* ---- the renderer's end ---- */

static void drop_renderer(struct fuzz *f)
{
    if (f->render >= 0)
        close(f->render);
    if (f->shared)
        munmap(f->shared, f->shared_size);
    if (f->event_fd >= 0)
        close(f->event_fd);
    f->render = f->event_fd = -1;
    f->shared = NULL;
}

static void want_renderer(void *data)
{
    struct fuzz *f = data;
    int pair[2];

    drop_renderer(f);
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        abort();
    f->render = pair[1];
    vgpu_device_renderer(f->device, pair[0], -1);
}

static void on_closed(void *data)
{
    struct fuzz *f = data;

    f->closed = true;
    vgpu_loop_quit(f->loop, 0);
}

static const struct vgpu_device_events events = {want_renderer, on_closed};

static void answer_setup(struct fuzz *f, const struct gpup_render_setup *setup, const int *fds)
{
    struct gpup_render_ready ready = {.header = {GPUP_RENDER_READY, GPUP_RENDER_VERSION},
                                      .n_capsets = 2,
                                      .capsets = {{1, 1, 308, 0}, {2, 2, 1376, 0}}};
    int caps = memfd_create("caps", MFD_CLOEXEC);

    f->shared_size = setup->shared_size;
    f->shared = mmap(NULL, setup->shared_size, PROT_READ | PROT_WRITE, MAP_SHARED, fds[0], 0);
    if (f->shared == MAP_FAILED || caps < 0 || ftruncate(caps, 308 + 1376) < 0)
        abort();
    f->event_fd = dup(fds[2]);
    gpup_ring_end_init(&f->commands, f->shared + setup->command_offset, setup->command_size,
                       f->event_fd);
    gpup_ring_end_init(&f->events, f->shared + setup->event_offset, setup->event_size, f->event_fd);
    gpup_seqpacket_send(f->render, &ready, sizeof(ready), &caps, 1, MSG_DONTWAIT);
    close(caps);
}

static void read_render_socket(struct fuzz *f)
{
    union {
        struct gpup_render_header header;
        struct gpup_render_setup setup;
        struct gpup_render_memory memory;
    } m;
    int fds[3];
    unsigned n;

    while (f->render >= 0 &&
           gpup_seqpacket_receive(f->render, &m, sizeof(m), fds, 3, &n, MSG_DONTWAIT) > 0) {
        if (m.header.type == GPUP_RENDER_SETUP && n == 3)
            answer_setup(f, &m.setup, fds);
        for (unsigned i = 0; i < n; i++)
            close(fds[i]);
    }
}

static void put_event(struct fuzz *f, uint32_t type, uint64_t seq, int32_t status)
{
    const struct gpup_event event = {.record = {.type = type, .size = sizeof(event), .seq = seq},
                                     .status = status};

    if (f->shared)
        gpup_ring_put(&f->events, &event.record);
}

static void export(struct fuzz *f, uint32_t resource)
{
    const struct gpup_render_exported m = {
        .header = {GPUP_RENDER_EXPORTED, GPUP_RENDER_VERSION},
        .resource = resource,
        .width = 16,
        .height = 16,
        .stride = 64,
        .fourcc = 1,
    };
    int fd = memfd_create("export", MFD_CLOEXEC);

    if (fd < 0 || ftruncate(fd, 1024) < 0)
        abort();
    gpup_seqpacket_send(f->render, &m, sizeof(m), &fd, 1, MSG_DONTWAIT);
    close(fd);
}

static void serve_renderer(struct fuzz *f)
{
    static _Alignas(8) unsigned char buffer[5 << 20];
    struct gpup_record *record = (void *)buffer;

    read_render_socket(f);
    while (f->shared && gpup_ring_take(&f->commands, record, sizeof(buffer)) > 0) {
        if (record->type == GPUP_CMD_EXPORT)
            export(f, ((struct gpup_cmd_resource *)(void *)record)->resource);
        if (record->seq != 0)
            put_event(f, record->type == GPUP_CMD_FENCE ? GPUP_EVENT_FENCE : GPUP_EVENT_DONE,
                      record->seq, 0);
    }
    if (f->shared)
        gpup_ring_may_sleep(&f->commands);
}

/* ---- the display's end ---- */

static void check_message(struct fuzz *f, const struct display_header *header, const void *payload)
{
    struct display_scanout scanout;
    struct display_update update;

    if (header->request == DISPLAY_SCANOUT) {
        if (header->size != sizeof(scanout))
            abort();
        memcpy(&scanout, payload, sizeof(scanout));
        f->shown_width = scanout.width;
        f->shown_height = scanout.height;
    } else if (header->request == DISPLAY_UPDATE) {
        if (header->size < sizeof(update))
            abort();
        memcpy(&update, payload, sizeof(update));
        if (update.width == 0 || update.height == 0 ||
            (uint64_t)update.x + update.width > f->shown_width ||
            (uint64_t)update.y + update.height > f->shown_height ||
            header->size != sizeof(update) + (uint64_t)update.width * update.height * 4)
            abort();
    } else if (header->request == 0 || header->request > DISPLAY_DMABUF_SCANOUT2) {
        abort();
    }
}

static void read_display(struct fuzz *f)
{
    static unsigned char buffer[600 << 10];
    struct display_header header;
    size_t at = 0;
    ssize_t n;

    while (f->display >= 0 && f->unread < sizeof(buffer) &&
           (n = recv(f->display, buffer + f->unread, sizeof(buffer) - f->unread, MSG_DONTWAIT)) > 0)
        f->unread += (size_t)n;
    while (f->unread - at >= sizeof(header)) {
        memcpy(&header, buffer + at, sizeof(header));
        if (header.size > DISPLAY_MAX_MESSAGE)
            abort();
        if (header.size > f->unread - at - sizeof(header))
            break; /* the rest is still to come */
        check_message(f, &header, buffer + at + sizeof(header));
        at += sizeof(header) + header.size;
    }
    memmove(buffer, buffer + at, f->unread - at);
    f->unread -= at;
}

/* A new socket, as QEMU gives it at every start; the device's end of it. */
static int connect_display(struct fuzz *f)
{
    int pair[2];

    if (f->display >= 0)
        close(f->display);
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        abort();
    f->display = pair[0];
    f->shown_width = f->shown_height = 0;
    f->unread = 0;
    return pair[1];
}

static void answer_display(struct fuzz *f)
{
    const struct {
        struct display_header header;
        uint64_t features;
    } __attribute__((packed)) accepted = {
        {DISPLAY_GET_PROTOCOL_FEATURES, DISPLAY_FLAG_REPLY, sizeof(uint64_t)}, DISPLAY_F_DMABUF2};

    if (f->display >= 0)
        send(f->display, &accepted, sizeof(accepted), MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* ---- the front-end ---- */

/* What is ready comes before a timer that is armed anew. */
static void on_stop(void *data)
{
    struct fuzz *f = data;

    if (f->rounds++ < 2)
        vgpu_timer_arm(f->stop, 0);
    else
        vgpu_loop_quit(f->loop, 0);
}

/* Lets the device work on what there is. */
static void turn(struct fuzz *f)
{
    for (int i = 0; i < 2 && !f->closed; i++) {
        f->rounds = 0;
        vgpu_timer_arm(f->stop, 0);
        vgpu_loop_run(f->loop);
        serve_renderer(f);
        read_display(f);
    }
}

static void say(struct fuzz *f, uint32_t request, const void *payload, uint32_t size, int n_fds)
{
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(2 * sizeof(int))] = {0};
    struct vhost_user_header header = {request, VHOST_USER_VERSION, size};
    struct iovec iov[2] = {{&header, sizeof(header)}, {(void *)(uintptr_t)payload, size}};
    struct msghdr msg = {.msg_iov = iov, .msg_iovlen = 2};
    int display = request == VHOST_USER_GPU_SET_SOCKET ? connect_display(f) : -1;
    int fds[2] = {request == VHOST_USER_SET_VRING_KICK   ? f->kick
                  : request == VHOST_USER_SET_VRING_CALL ? f->call
                  : request == VHOST_USER_GPU_SET_SOCKET ? display
                                                         : f->memory_fd,
                  f->memory_fd};

    if (n_fds > 0) {
        struct cmsghdr *c;

        msg.msg_control = control;
        msg.msg_controllen = CMSG_SPACE((size_t)n_fds * sizeof(int));
        c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN((size_t)n_fds * sizeof(int));
        memcpy(CMSG_DATA(c), fds, (size_t)n_fds * sizeof(int));
    }
    sendmsg(f->sock, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (display >= 0)
        close(display);
    turn(f);
    /* answers are thrown away, but must not fill the socket */
    while (recv(f->sock, control, sizeof(control), MSG_DONTWAIT) > 0)
        continue;
}

static void greet(struct fuzz *f)
{
    const struct vhost_user_mem_reg region = {.region = {0, MEMORY, USER, 0}};
    const struct vhost_user_vring_state num = {0, SIZE}, on = {0, 1};
    const struct vhost_user_vring_addr addr = {
        .desc = USER, .avail = USER + AVAIL, .used = USER + USED};
    const uint64_t features = UINT64_C(1) << 32 | 1 << VIRTIO_RING_F_INDIRECT_DESC | 3 |
                              UINT64_C(1) << VHOST_USER_F_PROTOCOL_FEATURES,
                   zero = 0;

    say(f, VHOST_USER_SET_FEATURES, &features, 8, 0);
    say(f, VHOST_USER_ADD_MEM_REG, &region, sizeof(region), 1);
    say(f, VHOST_USER_SET_VRING_NUM, &num, sizeof(num), 0);
    say(f, VHOST_USER_SET_VRING_ADDR, &addr, sizeof(addr), 0);
    say(f, VHOST_USER_SET_VRING_CALL, &zero, 8, 1);
    say(f, VHOST_USER_SET_VRING_KICK, &zero, 8, 1);
    say(f, VHOST_USER_SET_VRING_ENABLE, &on, sizeof(on), 0);
    say(f, VHOST_USER_GPU_SET_SOCKET, NULL, 0, 1);
    answer_display(f);
    turn(f);
}

static void offer(struct fuzz *f, const void *command, size_t size)
{
    struct vring_desc *desc = (void *)f->memory;
    struct vring_avail *avail = (void *)(f->memory + AVAIL);
    const uint64_t one = 1;

    memcpy(f->memory + REQUEST, command, size);
    desc[0] = (struct vring_desc){REQUEST, (uint32_t)size, VRING_DESC_F_NEXT, 1};
    desc[1] = (struct vring_desc){ANSWER, 4096, VRING_DESC_F_WRITE, 0};
    avail->ring[avail->idx % SIZE] = 0;
    avail->idx++;
    if (write(f->kick, &one, sizeof(one)) < 0)
        abort();
    turn(f);
}

/* ---- the input ---- */

static const uint32_t types[] = {
    VIRTIO_GPU_CMD_GET_DISPLAY_INFO,
    VIRTIO_GPU_CMD_RESOURCE_CREATE_2D,
    VIRTIO_GPU_CMD_RESOURCE_UNREF,
    VIRTIO_GPU_CMD_SET_SCANOUT,
    VIRTIO_GPU_CMD_RESOURCE_FLUSH,
    VIRTIO_GPU_CMD_TRANSFER_TO_HOST_2D,
    VIRTIO_GPU_CMD_RESOURCE_ATTACH_BACKING,
    VIRTIO_GPU_CMD_RESOURCE_DETACH_BACKING,
    VIRTIO_GPU_CMD_GET_CAPSET_INFO,
    VIRTIO_GPU_CMD_GET_CAPSET,
    VIRTIO_GPU_CMD_GET_EDID,
    VIRTIO_GPU_CMD_CTX_CREATE,
    VIRTIO_GPU_CMD_CTX_DESTROY,
    VIRTIO_GPU_CMD_CTX_ATTACH_RESOURCE,
    VIRTIO_GPU_CMD_CTX_DETACH_RESOURCE,
    VIRTIO_GPU_CMD_RESOURCE_CREATE_3D,
    VIRTIO_GPU_CMD_TRANSFER_TO_HOST_3D,
    VIRTIO_GPU_CMD_TRANSFER_FROM_HOST_3D,
    VIRTIO_GPU_CMD_SUBMIT_3D,
    0x777,
};

static void one_command(struct fuzz *f, const uint8_t *p, size_t n)
{
    struct {
        struct virtio_gpu_ctrl_hdr header;
        unsigned char rest[2048];
    } command = {.header = {.type = types[p[0] % (sizeof(types) / sizeof(*types))],
                            .flags = p[1] & 1,
                            .fence_id = p[1],
                            .ctx_id = p[1] >> 6}};

    memcpy(command.rest, p + 2, n - 2);
    offer(f, &command, sizeof(command.header) + n - 2);
}

/* An operation: kind, length (of what follows), bytes. Returns what it used. */
static size_t operate(struct fuzz *f, const uint8_t *p, size_t left)
{
    size_t n = left < 3 ? left : (size_t)p[1] < left - 2 ? p[1] : left - 2;

    if (left < 3 || n < 2)
        return left;
    switch (p[0] & 7) {
    case 0: /* a front-end's message */
        say(f, p[2] % 48, p + 4, (uint32_t)(n > 2 ? n - 2 : 0), p[3] % 3);
        break;
    case 1: /* an event that may be wrong */
        put_event(f, p[2] % 4, p[3], -5);
        turn(f);
        break;
    case 2: /* the renderer dies */
        if (p[2] % 8 == 0)
            drop_renderer(f);
        turn(f);
        break;
    case 3: /* anything on the ring */
        memcpy(f->memory + (p[2] % 4) * 4096, p + 3, n - 1);
        turn(f);
        break;
    case 4: /* the display answers, or says what nobody asked */
        if (f->display >= 0)
            send(f->display, p + 2, n, MSG_NOSIGNAL | MSG_DONTWAIT);
        turn(f);
        break;
    case 5: /* it accepts what it is asked */
        answer_display(f);
        turn(f);
        break;
    default:
        one_command(f, p + 2, n);
        break;
    }
    return 2 + n;
}

static void set_up(struct fuzz *f)
{
    const struct vgpu_grant grant = {
        .vram = 64 << 20, .hang_ms = 20, .vm = "fuzz", .display = VGPU_DISPLAY_SHARED};
    int pair[2];

    *f = (struct fuzz){.render = -1, .event_fd = -1, .display = -1};
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        abort();
    f->sock = pair[0];
    f->memory_fd = memfd_create("guest", MFD_CLOEXEC);
    f->kick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    f->call = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (ftruncate(f->memory_fd, MEMORY) < 0)
        abort();
    f->memory = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_SHARED, f->memory_fd, 0);
    f->loop = vgpu_loop_new(NULL);
    f->stop = vgpu_loop_add_timer(f->loop, on_stop, f, NULL);
    f->device = vgpu_device_new(f->loop, pair[1], &grant, &events, f, NULL);
    if (f->memory == MAP_FAILED || !f->device)
        abort();
    greet(f);
}

static void tear_down(struct fuzz *f)
{
    vgpu_device_free(f->device);
    vgpu_source_remove(f->stop);
    vgpu_loop_free(f->loop);
    drop_renderer(f);
    if (f->display >= 0)
        close(f->display);
    munmap(f->memory, MEMORY);
    close(f->memory_fd);
    close(f->kick);
    close(f->call);
    close(f->sock);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz f;

    set_up(&f);
    while (size > 0 && !f.closed) {
        size_t used = operate(&f, data, size);

        data += used;
        size -= used;
    }
    tear_down(&f);
    return 0;
}
