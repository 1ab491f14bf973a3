/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "vgpu/loop.h"

#include "core/error.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

/*
 * To sleep and be woken costs more than the command of a driver that sends one after the other. Who
 * slept for less than SHORT_SLEEP_NS looks for up to LOOK_NS the next time. Who looks for nothing
 * sleeps again, and leaves out twice as many looks as the last time, up to MAX_LEFT_OUT: what comes
 * regularly, but later, would otherwise cost a look each time. Between two turns of sources that
 * are only looked at, all others get theirs after TURN_NS.
 */
#define SHORT_SLEEP_NS UINT64_C(50000)
#define LOOK_NS        UINT64_C(20000)
#define TURN_NS        UINT64_C(50000)
#define MAX_LEFT_OUT   64u

struct vgpu_source {
    struct vgpu_loop *loop;
    struct vgpu_source *next; /* in one of the loop's lists */
    int fd;
    bool removed;
    vgpu_loop_func func; /* NULL: a timer, whose descriptor is ours */
    vgpu_timer_func timer_func;
    bool (*peek)(void *data); /* NULL: only its descriptor tells */
    void *data;
};

struct vgpu_loop {
    int epoll;
    bool quit;
    int status;
    bool looks;                   /* there is another CPU, for whoever sends */
    bool busy;                    /* the last sleep was short, and no look is to be left out */
    unsigned left_out, leave_out; /* looks: so many the last time; so many from now on */
    uint64_t all_ns;              /* when all sources were asked last */
    struct vgpu_source *sources;
};

static bool has_cpus(void)
{
    cpu_set_t set;

    return sched_getaffinity(0, sizeof(set), &set) == 0 && CPU_COUNT(&set) > 1;
}

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
    loop->looks = has_cpus();
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

void vgpu_source_set_peek(struct vgpu_source *source, bool (*peek)(void *data))
{
    source->peek = peek;
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

static uint64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static void relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#endif
}

static bool serve_peeked(struct vgpu_loop *loop)
{
    bool any = false;

    for (struct vgpu_source *source = loop->sources; source && !loop->quit; source = source->next) {
        if (source->removed || !source->peek || !source->peek(source->data))
            continue;
        source->func(0, source->data);
        any = true;
    }
    return any;
}

/* Looks at memory for a while. How long the descriptors may be waited for after it, ms. */
static int look(struct vgpu_loop *loop)
{
    uint64_t since = now_ns(), now = since;

    while (now - since < LOOK_NS) {
        if (serve_peeked(loop)) {
            since = now = now_ns();
            loop->left_out = 0;
        }
        if (loop->quit || now - loop->all_ns >= TURN_NS)
            return 0;
        relax();
        now = now_ns();
    }
    loop->left_out = loop->left_out == 0 ? 1 : loop->left_out * 2;
    if (loop->left_out > MAX_LEFT_OUT)
        loop->left_out = MAX_LEFT_OUT;
    loop->leave_out = loop->left_out;
    return -1;
}

/* After a sleep: whether the next one is to begin with a look. */
static bool is_busy(struct vgpu_loop *loop, uint64_t slept_ns)
{
    if (!loop->looks || slept_ns >= SHORT_SLEEP_NS)
        return false;
    if (loop->leave_out == 0)
        return true;
    loop->leave_out--;
    return false;
}

int vgpu_loop_run(struct vgpu_loop *loop)
{
    struct epoll_event events[16];

    loop->quit = false;
    while (!loop->quit) {
        int timeout = loop->busy ? look(loop) : -1;
        uint64_t slept = timeout ? now_ns() : 0;
        int n;

        sweep(loop, false);
        if (loop->quit)
            break;
        n = epoll_wait(loop->epoll, events, 16, timeout);
        if (n < 0 && errno != EINTR)
            return -errno;
        loop->all_ns = now_ns();
        if (timeout)
            loop->busy = is_busy(loop, loop->all_ns - slept);
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
