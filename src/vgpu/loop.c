/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "vgpu/loop.h"

#include "core/error.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

struct vgpu_source {
    struct vgpu_loop *loop;
    struct vgpu_source *next; /* in one of the loop's lists */
    int fd;
    bool removed;
    vgpu_loop_func func; /* NULL: a timer, whose descriptor is ours */
    vgpu_timer_func timer_func;
    void *data;
};

struct vgpu_loop {
    int epoll;
    bool quit;
    int status;
    struct vgpu_source *sources;
};

struct vgpu_loop *vgpu_loop_new(struct gpup_error **err)
{
    struct vgpu_loop *loop = calloc(1, sizeof(*loop));

    if (!loop) {
        gpup_error_set(err, ENOMEM, "out of memory");
        return NULL;
    }
    loop->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (loop->epoll < 0) {
        gpup_error_set(err, errno, "making an epoll descriptor: %s", strerror(errno));
        free(loop);
        return NULL;
    }
    return loop;
}

static void free_source(struct vgpu_source *source)
{
    if (source->timer_func && source->fd >= 0)
        close(source->fd);
    free(source);
}

/* What was removed is freed between two turns: events of the same turn may still name it. */
static void sweep(struct vgpu_loop *loop, bool all)
{
    struct vgpu_source **at = &loop->sources;

    while (*at) {
        struct vgpu_source *source = *at;

        if (all || source->removed) {
            *at = source->next;
            free_source(source);
        } else {
            at = &source->next;
        }
    }
}

void vgpu_loop_free(struct vgpu_loop *loop)
{
    if (!loop)
        return;
    sweep(loop, true);
    close(loop->epoll);
    free(loop);
}

static struct vgpu_source *add(struct vgpu_loop *loop, int fd, uint32_t events,
                               struct gpup_error **err)
{
    struct vgpu_source *source = calloc(1, sizeof(*source));
    struct epoll_event event = {.events = events, .data.ptr = source};

    if (!source) {
        gpup_error_set(err, ENOMEM, "out of memory");
        return NULL;
    }
    if (epoll_ctl(loop->epoll, EPOLL_CTL_ADD, fd, &event) < 0) {
        gpup_error_set(err, errno, "watching a descriptor: %s", strerror(errno));
        free(source);
        return NULL;
    }
    source->loop = loop;
    source->fd = fd;
    source->next = loop->sources;
    loop->sources = source;
    return source;
}

struct vgpu_source *vgpu_loop_add(struct vgpu_loop *loop, int fd, uint32_t events,
                                  vgpu_loop_func func, void *data, struct gpup_error **err)
{
    struct vgpu_source *source = add(loop, fd, events, err);

    if (!source)
        return NULL;
    source->func = func;
    source->data = data;
    return source;
}

int vgpu_source_set_events(struct vgpu_source *source, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = source};

    return epoll_ctl(source->loop->epoll, EPOLL_CTL_MOD, source->fd, &event) < 0 ? -errno : 0;
}

void vgpu_source_remove(struct vgpu_source *source)
{
    if (!source || source->removed)
        return;
    epoll_ctl(source->loop->epoll, EPOLL_CTL_DEL, source->fd, NULL);
    source->removed = true;
}

struct vgpu_source *vgpu_loop_add_timer(struct vgpu_loop *loop, vgpu_timer_func func, void *data,
                                        struct gpup_error **err)
{
    int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    struct vgpu_source *source;

    if (fd < 0) {
        gpup_error_set(err, errno, "making a timer: %s", strerror(errno));
        return NULL;
    }
    source = add(loop, fd, EPOLLIN, err);
    if (!source) {
        close(fd);
        return NULL;
    }
    source->timer_func = func;
    source->data = data;
    return source;
}

static void set_timer(struct vgpu_source *timer, struct timespec after)
{
    const struct itimerspec spec = {.it_value = after};

    timerfd_settime(timer->fd, 0, &spec, NULL);
}

void vgpu_timer_arm(struct vgpu_source *timer, uint64_t after_ms)
{
    struct timespec after = {.tv_sec = (time_t)(after_ms / 1000),
                             .tv_nsec = (long)(after_ms % 1000) * 1000000};

    if (after_ms == 0)
        after.tv_nsec = 1; /* zero would disarm it */
    set_timer(timer, after);
}

void vgpu_timer_disarm(struct vgpu_source *timer)
{
    set_timer(timer, (struct timespec){0});
}

static void dispatch(struct vgpu_source *source, uint32_t events)
{
    uint64_t expirations;

    if (source->removed)
        return;
    if (source->func) {
        source->func(events, source->data);
        return;
    }
    /* a timer that was disarmed meanwhile has nothing to read */
    if (read(source->fd, &expirations, sizeof(expirations)) == sizeof(expirations))
        source->timer_func(source->data);
}

int vgpu_loop_run(struct vgpu_loop *loop)
{
    struct epoll_event events[16];

    loop->quit = false;
    while (!loop->quit) {
        int n = epoll_wait(loop->epoll, events, 16, -1);

        if (n < 0 && errno != EINTR)
            return -errno;
        for (int i = 0; i < n && !loop->quit; i++)
            dispatch(events[i].data.ptr, events[i].events);
        sweep(loop, false);
    }
    return loop->status;
}

void vgpu_loop_quit(struct vgpu_loop *loop, int status)
{
    loop->quit = true;
    loop->status = status;
}

uint64_t vgpu_loop_now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}
