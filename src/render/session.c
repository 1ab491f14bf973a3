/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <virgl/virglrenderer.h>

#include "fault/fault.h"
#include "render/render.h"
#include "wire/seqpacket.h"

/* How many commands are executed before fences and the socket are looked at again. */
#define BURST 32
/* virglrenderer is polled that often while commands are executed and fences are unfinished: what a
 * guest asked the GPU to count is looked at there, before the fence after it is reported. */
#define REPORT_US 100
/* How long a socket without room is waited for. */
#define SEND_MS INT64_C(5000)
/* An event ring without room is looked at again after that. */
#define FULL_MS 1

static int64_t now_us(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000000) + now.tv_nsec / 1000;
}

int session_send(struct render *render, const void *message, size_t size, int fd)
{
    struct pollfd room = {.fd = render->sock, .events = POLLOUT};
    int64_t until = now_us() + SEND_MS * 1000;

    for (;;) {
        int r = gpup_seqpacket_send(render->sock, message, size, &fd, fd >= 0, MSG_DONTWAIT);
        int64_t left = until - now_us();

        if (r != -EAGAIN)
            return r;
        if (left <= 0)
            return -ETIMEDOUT;
        if (poll(&room, 1, (int)(left / 1000) + 1) < 0 && errno != EINTR)
            return -errno;
    }
}

static int take_message(struct render *render)
{
    struct gpup_render_memory message;
    int fd, r;
    ssize_t n =
        gpup_seqpacket_receive(render->sock, &message, sizeof(message), &fd, 1, NULL, MSG_DONTWAIT);

    if (n == -EAGAIN)
        return 0;
    if (n == 0 || n == -ECONNRESET) {
        render->over = 1;
        return 0;
    }
    if (n < 0)
        return gpup_error_set(&render->error, (int)-n, "the socket: %s", strerror((int)-n));
    if (n != sizeof(message) || message.header.type != GPUP_RENDER_MEMORY_ADD ||
        message.header.version != render->version || fd < 0) {
        if (fd >= 0)
            close(fd);
        return gpup_error_set(&render->error, EPROTO, "an unexpected message on the socket");
    }
    r = region_add(&render->objects, &message, fd, &render->error);
    close(fd);
    return r < 0 ? r : 1;
}

int session_read_socket(struct render *render)
{
    int r = 1;

    while (!render->over && r > 0) {
        r = take_message(render);
        if (r < 0)
            render->over = r;
    }
    return render->over;
}

int session_emit(struct render *render, uint32_t type, uint64_t seq, int status)
{
    struct gpup_event event = {
        .record = {.type = type, .size = sizeof(event), .seq = seq},
        .status = status,
    };

    for (;;) {
        struct pollfd ended = {.fd = render->sock, .events = 0};
        int r;

        pthread_mutex_lock(&render->events_lock);
        r = gpup_ring_put(&render->events, &event.record);
        pthread_mutex_unlock(&render->events_lock);
        if (r != -ENOSPC)
            return r;
        /* The peer takes events soon, or is gone. Its wake may be taken by another thread. */
        if (poll(&ended, 1, FULL_MS) < 0 && errno != EINTR)
            return -errno;
        if (ended.revents & (POLLHUP | POLLERR))
            return -EPIPE;
    }
}

static bool lies_inside(uint64_t offset, uint64_t size, uint64_t all)
{
    return offset <= all && size <= all - offset;
}

static int map_shared(struct render *render, const struct gpup_render_setup *setup, int fd,
                      struct gpup_error **err)
{
    struct stat st;
    int seals = fcntl(fd, F_GET_SEALS);
    unsigned char *base;
    int r;

    if (seals < 0 || !(seals & F_SEAL_SHRINK))
        return gpup_error_set(err, EPROTO, "the shared memory is not sealed against shrinking");
    if (fstat(fd, &st) < 0 || setup->shared_size == 0 ||
        setup->shared_size > (uint64_t)st.st_size || setup->shared_size > SIZE_MAX ||
        !lies_inside(setup->command_offset, setup->command_size, setup->shared_size) ||
        !lies_inside(setup->event_offset, setup->event_size, setup->shared_size) ||
        !lies_inside(setup->pixel_offset, setup->pixel_size, setup->shared_size))
        return gpup_error_set(err, EPROTO, "the set-up names memory that is not there");
    base = mmap(NULL, setup->shared_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (base == MAP_FAILED)
        return gpup_error_set(err, errno, "mapping the shared memory: %s", strerror(errno));
    render->shared = base;
    render->shared_size = setup->shared_size;
    render->pixels = base + setup->pixel_offset;
    render->pixel_size = setup->pixel_size;
    r = gpup_ring_end_init(&render->commands, base + setup->command_offset, setup->command_size,
                           render->event_fd);
    if (r == 0)
        r = gpup_ring_end_init(&render->events, base + setup->event_offset, setup->event_size,
                               render->event_fd);
    if (r < 0)
        return gpup_error_set(err, EPROTO, "the set-up's rings have an impossible place or size");
    return 0;
}

static int check_setup(const struct gpup_render_setup *setup, ssize_t n, unsigned int n_fds,
                       struct gpup_error **err)
{
    if (n < (ssize_t)sizeof(setup->header) || setup->header.type != GPUP_RENDER_SETUP)
        return gpup_error_set(err, EPROTO, "the first message is no set-up");
    if (setup->header.version < GPUP_RENDER_OLDEST || setup->header.version > GPUP_RENDER_VERSION)
        return gpup_error_set(
            err, EPROTO,
            setup->header.version > GPUP_RENDER_VERSION
                ? "gpup-render is older than the VM's device process (protocol %u, not %u to %u): "
                  "install gpup completely, then shut the VM down and start it again"
                : "the VM's device process is of an older gpup than gpup-render (protocol %u, not "
                  "%u to %u): shut the VM down and start it again",
            setup->header.version, GPUP_RENDER_OLDEST, GPUP_RENDER_VERSION);
    if (n != sizeof(*setup) || n_fds != 3)
        return gpup_error_set(err, EPROTO, "a malformed set-up (%zd bytes, %u descriptors)", n,
                              n_fds);
    return 0;
}

/* 1: end of file before anything came. */
static int receive_setup(struct render *render, struct gpup_error **err)
{
    struct gpup_render_setup setup;
    unsigned int n_fds;
    int fds[3], r;
    ssize_t n = gpup_seqpacket_receive(render->sock, &setup, sizeof(setup), fds, 3, &n_fds, 0);

    if (n == 0)
        return 1;
    if (n < 0)
        return gpup_error_set(err, (int)-n, "receiving the set-up: %s", strerror((int)-n));
    if (check_setup(&setup, n, n_fds, err) < 0) {
        for (unsigned int i = 0; i < n_fds; i++)
            close(fds[i]);
        return -EPROTO;
    }
    render->version = setup.header.version;
    render->command_fd = fds[1];
    render->event_fd = fds[2];
    for (unsigned int i = 1; i < 3; i++)
        fcntl(fds[i], F_SETFL, fcntl(fds[i], F_GETFL) | O_NONBLOCK);
    r = map_shared(render, &setup, fds[0], err);
    close(fds[0]);
    return r;
}

/* What a guest's driver asks first can be answered before OpenGL has been started: which capability
 * sets there are depends on virglrenderer alone. */
static int send_started(struct render *render, struct gpup_error **err)
{
    struct gpup_render_ready started = {
        .header = {.type = GPUP_RENDER_STARTED, .version = render->version}};
    int r;

    virgl_describe_capsets(&started);
    if (started.n_capsets == 0) /* a version that knows them later */
        return 0;
    r = session_send(render, &started, sizeof(started), -1);
    return r < 0 ? gpup_error_set(err, -r, "the socket: %s", strerror(-r)) : 0;
}

static int send_ready(struct render *render, struct gpup_error **err)
{
    struct gpup_render_ready ready = {
        .header = {.type = GPUP_RENDER_READY, .version = render->version}};
    int fd, r;

    virgl_describe_capsets(&ready);
    gl_renderer_name(ready.renderer, sizeof(ready.renderer));
    fd = virgl_capsets(&ready);
    if (fd < 0)
        return gpup_error_set(err, -fd, "the capability sets: %s", strerror(-fd));
    r = session_send(render, &ready, sizeof(ready), fd);
    close(fd);
    return r < 0 ? gpup_error_set(err, -r, "the socket: %s", strerror(-r)) : 0;
}

static void send_failed(struct render *render, const struct gpup_error *error)
{
    struct gpup_render_failed failed = {
        .header = {.type = GPUP_RENDER_FAILED, .version = render->version},
        .status = error ? -error->code : -EIO,
    };

    snprintf(failed.text, sizeof(failed.text), "%s", gpup_error_message(error));
    (void)gpup_seqpacket_send(render->sock, &failed, sizeof(failed), NULL, 0, MSG_DONTWAIT);
}

/* 1: the socket is to be read; 0; or -errno. */
static int wait_for_work(struct render *render, struct gpup_error **err)
{
    struct pollfd fds[3] = {
        {.fd = render->sock, .events = POLLIN},
        {.fd = render->command_fd, .events = POLLIN},
        {.fd = render->virgl_fd, .events = POLLIN},
    };

    /* now, not when it woke us: the command does not wait for it */
    if (render->woken)
        gpup_ring_wake_clear(render->command_fd);
    render->woken = false;
    if (!gpup_ring_may_sleep(&render->commands))
        return 1;
    if (poll(fds, 3, -1) < 0 && errno != EINTR)
        return gpup_error_set(err, errno, "poll: %s", strerror(errno));
    render->woken = fds[1].revents != 0;
    /* Whatever it is for: the descriptor is only read there, and would wake us for ever. */
    if (fds[2].revents)
        virgl_renderer_poll();
    return fds[0].revents != 0;
}

static void report_fences(struct render *render, int64_t *reported)
{
    int64_t now;

    if (!virgl_has_fences(render))
        return;
    now = now_us();
    if (now - *reported < REPORT_US)
        return;
    *reported = now;
    virgl_renderer_poll();
}

static int main_loop(struct render *render, struct gpup_error **err)
{
    int64_t reported = 0;
    bool socket = true;

    for (;;) {
        int r = socket ? session_read_socket(render) : render->over, n = 0;

        if (r > 0)
            return 0;
        if (r < 0) {
            struct gpup_error *error = render->error;

            render->error = NULL;
            return gpup_error_move(err, error);
        }
        for (r = 1; r > 0 && n < BURST; n++) {
            r = gpup_ring_peek(&render->commands, &render->record);
            if (r < 0)
                return gpup_error_set(err, -r, "the command ring: %s", strerror(-r));
            if (r > 0 && execute(render, err) < 0)
                return -EIO;
            if (r > 0) {
                gpup_ring_release(&render->commands);
                report_fences(render, &reported);
                GPUP_FAULT_RENDER("render.command");
            }
        }
        socket = true;
        if (r == 0) {
            r = wait_for_work(render, err);
            if (r < 0)
                return r;
            socket = r > 0;
        }
    }
}

int session_run(struct render *render, const char *render_node, struct gpup_error **err)
{
    GPUP_AUTO_ERROR error = NULL;
    int r = receive_setup(render, &error);

    if (r > 0)
        return 0;
    GPUP_FAULT_RENDER("render.set-up");
    if (r == 0)
        r = send_started(render, &error);
    if (r == 0)
        r = virgl_start(render, render_node, &error);
    log_alone();
    GPUP_FAULT_RENDER("render.initialised");
    if (r == 0)
        r = send_ready(render, &error);
    GPUP_FAULT_RENDER("render.ready");
    if (r < 0) {
        send_failed(render, error);
    } else {
        r = main_loop(render, &error);
    }
    if (r < 0) {
        struct gpup_error *moved = error;

        error = NULL;
        return gpup_error_move(err, moved);
    }
    return 0;
}
