/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "vgpu/renderer.h"

#include "core/error.h"
#include "core/file.h"
#include "vgpu/guest_memory.h"
#include "vgpu/loop.h"
#include "wire/ring.h"
#include "wire/seqpacket.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* For what the display reads back. */
#define PIXEL_AREA  (UINT64_C(4) << 20)
#define MAX_CAPSETS (64u << 10) /* bytes of all capability sets */
#define START_MS    30000u      /* until it greets, at least */

struct renderer {
    struct vgpu_loop *loop;
    const struct renderer_events *events;
    void *device;
    int sock, pidfd, shared_fd;
    int command_fd, event_fd; /* wake the renderer; wake us */
    struct vgpu_source *sock_source, *event_source, *hang_timer;
    unsigned char *shared;
    uint64_t shared_size, pixel_offset;
    struct gpup_ring_end commands, answers;
    struct gpup_render_exported exported;
    int exported_fd;      /* -1: none */
    uint64_t seq;         /* the last number given */
    uint64_t outstanding; /* answers that are due, those to fences included */
    uint64_t fences;      /* of these */
    uint64_t ping;        /* the number of our own last question, or 0 */
    bool answered, fence; /* the command reserved last is to be answered; is a fence */
    bool unwatched;       /* commands were sent after the last that is to be answered */
    bool full;            /* there was no room for a question */
    bool timing;          /* hang_timer runs; it may find nothing to wait for any more */
    uint32_t hang_ms;
    uint64_t progress_ms; /* when something came back last, or the first answer became due */
    uint64_t fence_ms;    /* the same of fences: work on the GPU may hang while commands go on */
    bool started, ready, ended, hung;
};

static uint64_t up_64(uint64_t value)
{
    return (value + 63) & ~UINT64_C(63);
}

/* The time that it could use: one that gpupd keeps stopped does not hang. */
static uint64_t running_ms(const struct renderer *r)
{
    return vgpu_loop_now_ms() - r->events->stopped_ms(r->device);
}

static void end(struct renderer *r, const char *reason)
{
    if (r->ended)
        return;
    r->ended = true;
    r->ready = false;
    vgpu_timer_disarm(r->hang_timer);
    r->events->ended(r->device, reason);
}

bool renderer_hung(const struct renderer *r)
{
    return r && r->hung;
}

bool renderer_is_ready(const struct renderer *r)
{
    return r && r->ready && !r->ended;
}

bool renderer_is_busy(const struct renderer *r)
{
    return r && !r->ended && r->outstanding > 0;
}

const unsigned char *renderer_pixels(const struct renderer *r, uint64_t *size)
{
    *size = PIXEL_AREA;
    return r->shared + r->pixel_offset;
}

uint64_t renderer_seq(const struct renderer *r)
{
    return r->seq;
}

/* ---- set-up ---- */

static int make_shared(struct renderer *r, struct gpup_render_setup *setup, struct gpup_error **err)
{
    setup->command_size = gpup_ring_bytes(GPUP_CMD_RING_SIZE);
    setup->event_offset = up_64(setup->command_offset + setup->command_size);
    setup->event_size = gpup_ring_bytes(GPUP_EVENT_RING_SIZE);
    setup->pixel_offset = r->pixel_offset = up_64(setup->event_offset + setup->event_size);
    setup->pixel_size = PIXEL_AREA;
    setup->shared_size = r->shared_size = setup->pixel_offset + PIXEL_AREA;
    r->shared_fd = memfd_create("gpup-rings", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (r->shared_fd < 0 || ftruncate(r->shared_fd, (off_t)r->shared_size) < 0 ||
        fcntl(r->shared_fd, F_ADD_SEALS, F_SEAL_SHRINK) < 0)
        return gpup_error_set(err, errno, "memory shared with the renderer: %s", strerror(errno));
    r->shared = mmap(NULL, r->shared_size, PROT_READ | PROT_WRITE, MAP_SHARED, r->shared_fd, 0);
    if (r->shared == MAP_FAILED) {
        r->shared = NULL;
        return gpup_error_set(err, errno, "memory shared with the renderer: %s", strerror(errno));
    }
    return 0;
}

static int make_rings(struct renderer *r, const struct gpup_render_setup *setup,
                      struct gpup_error **err)
{
    int ret;

    r->command_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    r->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (r->command_fd < 0 || r->event_fd < 0)
        return gpup_error_set(err, errno, "eventfd: %s", strerror(errno));
    ret = gpup_ring_end_init(&r->commands, r->shared + setup->command_offset, setup->command_size,
                             r->command_fd);
    if (ret == 0)
        ret = gpup_ring_end_init(&r->answers, r->shared + setup->event_offset, setup->event_size,
                                 r->command_fd);
    return ret < 0 ? gpup_error_set(err, -ret, "the renderer's rings: %s", strerror(-ret)) : 0;
}

static int send_setup(struct renderer *r, const struct gpup_render_setup *setup,
                      struct gpup_error **err)
{
    const int fds[] = {r->shared_fd, r->command_fd, r->event_fd};
    int ret = gpup_seqpacket_send(r->sock, setup, sizeof(*setup), fds, 3, MSG_DONTWAIT);

    return ret < 0 ? gpup_error_set(err, -ret, "telling the renderer: %s", strerror(-ret)) : 0;
}

/* ---- what comes from the socket ---- */

/* No command of the guest's runs yet in one that starts, and on a busy host ending it only makes
 * the next one start as slowly. */
static uint32_t limit_ms(const struct renderer *r)
{
    return r->ready || r->hang_ms > START_MS ? r->hang_ms : START_MS;
}

static void set_timer(struct renderer *r, uint64_t after_ms)
{
    r->timing = true;
    vgpu_timer_arm(r->hang_timer, after_ms);
}

/* The bytes of all capability sets; false: there cannot be such ones. */
static bool capsets_size(const struct gpup_render_ready *ready, uint64_t *size)
{
    *size = 0;
    for (uint32_t i = 0; i < ready->n_capsets && i < GPUP_RENDER_MAX_CAPSETS; i++)
        *size += ready->capsets[i].size;
    return ready->n_capsets <= GPUP_RENDER_MAX_CAPSETS && *size <= MAX_CAPSETS;
}

static void on_started(struct renderer *r, const struct gpup_render_ready *ready)
{
    uint64_t size;

    if (r->started || r->ready || !capsets_size(ready, &size)) {
        end(r, "it sent a malformed greeting");
        return;
    }
    r->started = true;
    r->events->started(r->device, ready);
}

static void on_ready(struct renderer *r, const struct gpup_render_ready *ready, int fd)
{
    struct stat st;
    uint64_t size;
    void *data;

    if (r->ready || !capsets_size(ready, &size) || fd < 0 || fstat(fd, &st) < 0 ||
        (uint64_t)st.st_size < size) {
        end(r, "it sent a malformed greeting");
        return;
    }
    data = malloc(size ? size : 1);
    /* read, not mapped: the file is the renderer's */
    if (!data || pread(fd, data, size, 0) != (ssize_t)size) {
        free(data);
        end(r, "its capability sets cannot be read");
        return;
    }
    r->ready = true;
    r->outstanding--;
    r->progress_ms = running_ms(r);
    if (r->timing)
        set_timer(r, r->hang_ms);
    r->events->ready(r->device, ready, data, size);
    free(data);
}

static void on_failed(struct renderer *r, const struct gpup_render_failed *failed)
{
    char text[sizeof(failed->text)];

    memcpy(text, failed->text, sizeof(text));
    text[sizeof(text) - 1] = '\0';
    /* goes to a log: nothing but plain characters */
    for (char *c = text; *c; c++) {
        if ((unsigned char)*c < ' ' || (unsigned char)*c > '~')
            *c = '?';
    }
    end(r, text);
}

static void keep_export(struct renderer *r, const struct gpup_render_exported *exported, int *fd)
{
    gpup_fd_close(&r->exported_fd);
    r->exported = *exported;
    r->exported_fd = *fd;
    *fd = -1;
}

static void on_socket(uint32_t events, void *data)
{
    struct renderer *r = data;
    union {
        struct gpup_render_header header;
        struct gpup_render_ready ready;
        struct gpup_render_failed failed;
        struct gpup_render_exported exported;
    } m;
    int fd = -1;
    ssize_t n = gpup_seqpacket_receive(r->sock, &m, sizeof(m), &fd, 1, NULL, MSG_DONTWAIT);

    if (n == -EAGAIN || r->ended)
        return;
    if (n <= 0)
        end(r, n == 0 || n == -ECONNRESET ? "it ended" : "it broke the protocol");
    else if (n == sizeof(m.failed) && m.header.type == GPUP_RENDER_FAILED)
        on_failed(r, &m.failed);
    else if (n >= (ssize_t)sizeof(m.header) && m.header.version != GPUP_RENDER_VERSION)
        end(r, "it is of another release of gpup");
    else if (n == sizeof(m.ready) && m.header.type == GPUP_RENDER_READY)
        on_ready(r, &m.ready, fd);
    else if (n == sizeof(m.ready) && m.header.type == GPUP_RENDER_STARTED)
        on_started(r, &m.ready);
    else if (n == sizeof(m.exported) && m.header.type == GPUP_RENDER_EXPORTED && fd >= 0)
        keep_export(r, &m.exported, &fd);
    else
        end(r, "it sent a message that does not exist");
    if (fd >= 0)
        close(fd);
}

bool renderer_take_export(struct renderer *r, struct gpup_render_exported *exported, int *fd)
{
    on_socket(0, r); /* it lies there: it was sent before the answer */
    if (r->ended || r->exported_fd < 0)
        return false;
    *exported = r->exported;
    *fd = r->exported_fd;
    r->exported_fd = -1;
    return true;
}

/* ---- what comes through the ring ---- */

static void on_answer(struct renderer *r, const struct gpup_event *event)
{
    bool fence = event->record.type == GPUP_EVENT_FENCE;

    if (!r->ready || event->record.size != sizeof(*event) ||
        (fence ? r->fences : r->outstanding - r->fences) == 0 ||
        (!fence && event->record.type != GPUP_EVENT_DONE)) {
        end(r, "it broke the protocol");
        return;
    }
    r->progress_ms = running_ms(r);
    r->outstanding--;
    if (fence) {
        r->fences--;
        r->fence_ms = r->progress_ms;
    }
    if (event->record.seq == r->ping && r->ping != 0)
        r->ping = 0;
    else if (!r->events->finished(r->device, event->record.seq, fence ? 0 : event->status))
        end(r, "it answered what was not asked");
}

static void read_answers(struct renderer *r)
{
    struct gpup_event event;

    while (!r->ended) {
        int ret = gpup_ring_take(&r->answers, &event.record, sizeof(event));

        if (ret < 0)
            end(r, "it broke the protocol");
        else if (ret > 0)
            on_answer(r, &event);
        else if (gpup_ring_may_sleep(&r->answers))
            break;
    }
    r->full = false;
    if (!r->ended)
        r->events->idle(r->device);
    if (!r->ended)
        renderer_watch(r);
}

static void on_event(uint32_t events, void *data)
{
    struct renderer *r = data;

    if (r->ended)
        return;
    read_answers(r);
}

static bool has_answers(void *data)
{
    struct renderer *r = data;

    return !r->ended && gpup_ring_has_some(&r->answers);
}

static void on_hang_timer(void *data)
{
    struct renderer *r = data;
    uint64_t quiet = running_ms(r) - (r->fences > 0 ? r->fence_ms : r->progress_ms);
    char reason[96];

    r->timing = false;
    if (r->ended || (r->outstanding == 0 && !r->full))
        return;
    if (quiet < limit_ms(r)) {
        set_timer(r, limit_ms(r) - quiet);
        return;
    }
    r->hung = true;
    snprintf(reason, sizeof(reason),
             r->ready ? "a command took longer than %u ms" : "it did not start within %u ms",
             limit_ms(r));
    end(r, reason);
}

static void start_watch(struct renderer *r)
{
    r->progress_ms = running_ms(r);
    if (r->hang_ms > 0 && !r->timing)
        set_timer(r, limit_ms(r));
}

static void expect_answer(struct renderer *r, bool fence)
{
    if (r->outstanding++ == 0)
        start_watch(r);
    if (fence && r->fences++ == 0)
        r->fence_ms = running_ms(r);
}

void renderer_watch(struct renderer *r)
{
    if (!renderer_is_ready(r) || !r->unwatched || r->outstanding > 0 || r->full)
        return;
    if (renderer_reserve(r, GPUP_CMD_PING, sizeof(struct gpup_record), true)) {
        r->ping = r->seq;
        renderer_commit(r);
    } else if (!r->ended) {
        r->full = true; /* asked again when it has made room, which it must */
        start_watch(r);
    }
}

void renderer_wait(struct renderer *r, int timeout_ms)
{
    struct pollfd fds[] = {{.fd = r->event_fd, .events = POLLIN},
                           {.fd = r->sock, .events = POLLIN}};

    if (r->ended)
        return;
    poll(fds, 2, timeout_ms);
    if (fds[0].revents) {
        gpup_ring_wake_clear(r->event_fd);
        on_event(EPOLLIN, r);
    }
    if (fds[1].revents && !r->ended)
        on_socket(EPOLLIN, r);
}

/* ---- commands ---- */

void *renderer_reserve(struct renderer *r, uint32_t type, size_t size, bool answer)
{
    void *record;

    if (r->ended)
        return NULL;
    record = gpup_ring_reserve(&r->commands, type, size, answer ? r->seq + 1 : 0);
    if (!record) {
        if (errno == EPROTO)
            end(r, "it broke the protocol");
        return NULL;
    }
    r->answered = answer;
    r->fence = type == GPUP_CMD_FENCE;
    if (answer)
        r->seq++;
    return record;
}

void renderer_commit(struct renderer *r)
{
    if (r->answered)
        expect_answer(r, r->fence);
    r->unwatched = !r->answered;
    gpup_ring_commit(&r->commands);
}

int renderer_add_memory(struct renderer *r, const struct guest_region *region,
                        struct gpup_error **err)
{
    const struct gpup_render_memory message = {
        .header = {GPUP_RENDER_MEMORY_ADD, GPUP_RENDER_VERSION},
        .region = region->id,
        .size = region->size,
        .offset = region->offset,
    };
    int ret = gpup_seqpacket_send(r->sock, &message, sizeof(message), &region->fd, 1, MSG_DONTWAIT);

    return ret < 0 ? gpup_error_set(err, -ret, "giving the renderer the guest's memory: %s",
                                    strerror(-ret))
                   : 0;
}

/* ---- life ---- */

static int add_sources(struct renderer *r, struct gpup_error **err)
{
    r->sock_source = vgpu_loop_add(r->loop, r->sock, EPOLLIN, on_socket, r, err);
    /* each write wakes us once: it is emptied only where renderer_wait() sleeps on it */
    r->event_source = vgpu_loop_add(r->loop, r->event_fd, EPOLLIN | EPOLLET, on_event, r, err);
    r->hang_timer = vgpu_loop_add_timer(r->loop, on_hang_timer, r, err);
    if (r->event_source)
        vgpu_source_set_peek(r->event_source, has_answers);
    return r->sock_source && r->event_source && r->hang_timer ? 0 : -EIO;
}

struct renderer *renderer_new(struct vgpu_loop *loop, int sock, int pidfd, uint64_t vram,
                              uint32_t hang_ms, const struct renderer_events *events, void *device,
                              struct gpup_error **err)
{
    struct gpup_render_setup setup = {.header = {GPUP_RENDER_SETUP, GPUP_RENDER_VERSION},
                                      .vram = vram};
    struct renderer *r = calloc(1, sizeof(*r));

    if (!r) {
        close(sock);
        close(pidfd);
        gpup_error_set(err, ENOMEM, "out of memory");
        return NULL;
    }
    *r = (struct renderer){.loop = loop,
                           .events = events,
                           .device = device,
                           .sock = sock,
                           .pidfd = pidfd,
                           .hang_ms = hang_ms,
                           .shared_fd = -1,
                           .command_fd = -1,
                           .exported_fd = -1,
                           .event_fd = -1};
    if (make_shared(r, &setup, err) < 0 || make_rings(r, &setup, err) < 0 ||
        add_sources(r, err) < 0 || send_setup(r, &setup, err) < 0) {
        renderer_free(r);
        return NULL;
    }
    expect_answer(r, false); /* the greeting: a renderer that never starts hangs too */
    read_answers(r);
    return r;
}

void renderer_free(struct renderer *r)
{
    if (!r)
        return;
    if (r->pidfd >= 0)
        syscall(SYS_pidfd_send_signal, r->pidfd, SIGKILL, NULL, 0);
    vgpu_source_remove(r->sock_source);
    vgpu_source_remove(r->event_source);
    vgpu_source_remove(r->hang_timer);
    if (r->shared)
        munmap(r->shared, r->shared_size);
    gpup_fd_close(&r->shared_fd);
    gpup_fd_close(&r->exported_fd);
    gpup_fd_close(&r->command_fd);
    gpup_fd_close(&r->event_fd);
    gpup_fd_close(&r->sock);
    gpup_fd_close(&r->pidfd);
    free(r);
}
