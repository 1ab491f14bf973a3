/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/error.h"
#include "vgpu/guest_memory.h"
#include "vgpu/log.h"
#include "vgpu/loop.h"
#include "vgpu/renderer.h"
#include "wire/ring.h"
#include "wire/seqpacket.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

/*
 * gpup-vgpu's end of the render socket, against a renderer that a guest has taken over: the input
 * is what that one says, writes into the shared rings, and does to their positions.
 */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct fuzz {
    struct vgpu_loop *loop;
    struct vgpu_source *stop;
    struct renderer *renderer;
    int sock, event_fd;
    unsigned char *shared;
    struct gpup_render_setup setup;
    bool ended;
    int rounds;
    uint64_t due; /* the last number that was asked for */
};

void vgpu_log(int level, const char *fmt, ...)
{
}

static void on_started(void *device, const struct gpup_render_ready *ready)
{
    if (ready->n_capsets > GPUP_RENDER_MAX_CAPSETS)
        abort();
}

static void on_ready(void *device, const struct gpup_render_ready *ready, const void *data,
                     size_t size)
{
    const volatile unsigned char *bytes = data;
    size_t all = 0;

    for (uint32_t i = 0; i < ready->n_capsets; i++)
        all += ready->capsets[i].size;
    if (all > size)
        abort();
    for (size_t i = 0; i < size; i++)
        (void)bytes[i];
}

static bool on_finished(void *device, uint64_t seq, int status)
{
    struct fuzz *f = device;

    return seq > 0 && seq <= f->due;
}

static void on_idle(void *device)
{
}

static void on_ended(void *device, const char *reason)
{
    struct fuzz *f = device;

    if (f->ended || strlen(reason) >= 512)
        abort();
    f->ended = true;
}

static uint64_t on_stopped_ms(void *device)
{
    return 0;
}

static const struct renderer_events events = {on_started, on_ready, on_finished,
                                              on_idle,    on_ended, on_stopped_ms};

/* What is ready comes before a timer that is armed anew. */
static void on_stop(void *data)
{
    struct fuzz *f = data;

    if (f->rounds++ < 1)
        vgpu_timer_arm(f->stop, 0);
    else
        vgpu_loop_quit(f->loop, 0);
}

static void turn(struct fuzz *f)
{
    f->rounds = 0;
    vgpu_timer_arm(f->stop, 0);
    vgpu_loop_run(f->loop);
}

static void take_setup(struct fuzz *f)
{
    int fds[3];
    unsigned n;

    if (gpup_seqpacket_receive(f->sock, &f->setup, sizeof(f->setup), fds, 3, &n, MSG_DONTWAIT) !=
            sizeof(f->setup) ||
        n != 3)
        abort();
    f->shared = mmap(NULL, f->setup.shared_size, PROT_READ | PROT_WRITE, MAP_SHARED, fds[0], 0);
    if (f->shared == MAP_FAILED)
        abort();
    f->event_fd = dup(fds[2]);
    for (unsigned i = 0; i < n; i++)
        close(fds[i]);
}

static void say_ready(struct fuzz *f, const uint8_t *p, size_t n)
{
    struct gpup_render_ready ready = {.header = {GPUP_RENDER_READY, GPUP_RENDER_VERSION},
                                      .n_capsets = 2,
                                      .capsets = {{1, 1, 308, 0}, {2, 2, 1376, 0}}};
    int caps = memfd_create("caps", MFD_CLOEXEC);

    if (caps < 0 || ftruncate(caps, 308 + 1376) < 0)
        abort();
    /* changed at places that the input names */
    for (size_t i = 0; i + 1 < n; i += 2)
        ((uint8_t *)&ready)[p[i]] = p[i + 1];
    gpup_seqpacket_send(f->sock, &ready, sizeof(ready), &caps, 1, MSG_DONTWAIT);
    close(caps);
}

static void ask(struct fuzz *f, bool answer)
{
    struct gpup_record *record;

    if (f->ended)
        return;
    record = renderer_reserve(f->renderer, GPUP_CMD_PING, sizeof(*record), answer);
    if (!record)
        return;
    if (answer)
        f->due = renderer_seq(f->renderer);
    renderer_commit(f->renderer);
    renderer_watch(f->renderer);
}

static void put_event(struct fuzz *f, const uint8_t *p)
{
    struct gpup_ring *ring = (void *)(f->shared + f->setup.event_offset);
    struct gpup_event event = {.record = {.type = p[0] % 4, .size = sizeof(event), .seq = p[1]},
                               .status = (int8_t)p[2]};
    uint64_t head = ring->head;
    uint64_t size = f->setup.event_size - sizeof(*ring);

    memcpy(ring->data + head % size, &event,
           size - head % size < sizeof(event) ? size - head % size : sizeof(event));
    ring->head = head + sizeof(event);
}

/* A position or a byte of the shared memory, anything in it. */
static void scribble(struct fuzz *f, const uint8_t *p, size_t n)
{
    uint64_t offset = 0, value = 0;

    memcpy(&offset, p, n < 4 ? n : 4);
    memcpy(&value, p + (n < 4 ? 0 : 4), n < 4 ? n : n - 4 < 8 ? n - 4 : 8);
    offset %= 512;
    if (p[0] & 1)
        offset += f->setup.event_offset;
    memcpy(f->shared + offset / 8 * 8, &value, sizeof(value));
}

static size_t operate(struct fuzz *f, const uint8_t *p, size_t left)
{
    const uint64_t one = 1;
    size_t n = left < 5 ? 0 : (size_t)p[1] < left - 2 ? p[1] : left - 2;

    if (n < 3)
        return left;
    switch (p[0] & 7) {
    case 0:
        say_ready(f, p + 2, n);
        break;
    case 1: /* any message, with a descriptor or without */
        gpup_seqpacket_send(f->sock, p + 2, n, &f->event_fd, p[0] >> 7, MSG_DONTWAIT);
        break;
    case 2:
        put_event(f, p + 2);
        break;
    case 3:
        scribble(f, p + 2, n);
        break;
    case 4:
        ask(f, false);
        break;
    default:
        ask(f, true);
        break;
    }
    if (write(f->event_fd, &one, sizeof(one)) < 0)
        abort();
    turn(f);
    return 2 + n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz f = {.loop = vgpu_loop_new(NULL)};
    int pair[2];

    if (!f.loop || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        abort();
    f.sock = pair[0];
    f.stop = vgpu_loop_add_timer(f.loop, on_stop, &f, NULL);
    f.renderer = renderer_new(f.loop, pair[1], -1, 64 << 20, 50, &events, &f, NULL);
    if (!f.stop || !f.renderer)
        abort();
    take_setup(&f);
    while (size > 0 && !f.ended) {
        size_t used = operate(&f, data, size);

        data += used;
        size -= used;
    }
    renderer_free(f.renderer);
    vgpu_source_remove(f.stop);
    vgpu_loop_free(f.loop);
    munmap(f.shared, f.setup.shared_size);
    close(f.event_fd);
    close(f.sock);
    return 0;
}
