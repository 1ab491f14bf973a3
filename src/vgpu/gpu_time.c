/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "vgpu/gpu_time.h"

#include "core/error.h"
#include "core/units.h"
#include "vgpu/log.h"
#include "vgpu/loop.h"
#include "wire/gpu_time.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

/* As many fences as are followed at a time; gpupd asks for less. */
#define MAX_UNFINISHED 64u
/* Where more than that may be unfinished, of those without a fence only one in so many is followed.
 */
#define STRICT_DEPTH  2u
#define UNFENCED_EACH 8u
/* Without gpupd: how far the own share may be overdrawn or saved up, real time. */
#define WINDOW_NS UINT64_C(5000000)
#define OWN_DEPTH 2u

enum {
    PAGE,
    KICK,
    WAKE,
    GUARD,
};

struct gpu_time {
    struct vgpu_loop *loop;
    void (*opened)(void *data);
    void *data;
    struct gpup_gpu_time *page; /* NULL: gpupd never said anything */
    int fds[GPUP_GPU_TIME_FDS];
    struct vgpu_source *wake_source, *retry_timer;
    bool attached; /* gpupd is there */
    bool open, busy;
    bool held;          /* commands are waiting */
    uint64_t held_ns;   /* since then */
    uint64_t waited_ns; /* before this page */
    uint64_t stopped_ns;

    struct {
        uint64_t seq;
        bool own;
    } unfinished[MAX_UNFINISHED];
    unsigned n_unfinished, unfenced;

    /* without gpupd */
    int64_t tokens; /* charged ns that are left */
    uint64_t filled_ns, metered_ns, busy_ns;
};

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec t;

    if (clock_gettime(clock, &t) < 0)
        return 0;
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static uint64_t now_ns(void)
{
    return clock_ns(CLOCK_MONOTONIC);
}

/* ---- waiting ---- */

static void publish_waited(struct gpu_time *t)
{
    if (t->page)
        atomic_store_explicit(&t->page->waited_ns, t->waited_ns, memory_order_relaxed);
}

static bool hold(struct gpu_time *t, bool held)
{
    if (held && !t->held) {
        t->held_ns = now_ns();
    } else if (!held && t->held) {
        t->waited_ns += now_ns() - t->held_ns;
        publish_waited(t);
    }
    t->held = held;
    return held;
}

/* Says that we wait, then looks again. */
static bool held_by_gpupd(struct gpup_gpu_time *page)
{
    if (!atomic_load(&page->hold))
        return false;
    atomic_store(&page->waiting, 1);
    if (atomic_load(&page->hold))
        return true;
    atomic_store(&page->waiting, 0);
    return false;
}

/*
 * The clock of another process's CPU time, as clock_getcpuclockid(3) makes it. What the renderer
 * says of itself is not asked. Where its number is not known, time by the clock while it is busy.
 */
static uint64_t meter_ns(struct gpu_time *t)
{
    int32_t pid = atomic_load(&t->page->renderer_pid);

    if (pid <= 0)
        return t->busy_ns;
    return clock_ns((clockid_t)(~(unsigned)pid << 3 | 2u));
}

/* A bucket that fills by the own share of the GPU; what the renderer used is taken out. */
static bool held_by_own_share(struct gpu_time *t)
{
    uint64_t share = atomic_load(&t->page->own_share);
    uint64_t capacity = atomic_load(&t->page->capacity);
    uint64_t now = now_ns(), each_us = capacity * share; /* millionths of a ns, each ns */
    uint64_t elapsed = now - t->filled_ns, used, metered;
    int64_t most = (int64_t)(WINDOW_NS / 1000 * each_us / 1000);

    if (share >= GPUP_PPM_FULL || share == 0 || capacity == 0)
        return false;
    if (t->busy)
        t->busy_ns += elapsed;
    metered = meter_ns(t);
    used = metered > t->metered_ns ? metered - t->metered_ns : 0;
    t->metered_ns = metered;
    t->filled_ns = now;
    if (elapsed > UINT64_C(1000000000))
        elapsed = UINT64_C(1000000000);
    t->tokens += (int64_t)(elapsed / 1000 * each_us / 1000) - (int64_t)used;
    if (t->tokens > most)
        t->tokens = most;
    if (t->tokens > 0)
        return false;
    vgpu_timer_arm(t->retry_timer, (uint64_t)-t->tokens / (each_us / 1000 + 1) / 1000 + 1);
    return true;
}

static uint32_t depth(const struct gpu_time *t)
{
    if (!t->page)
        return 0;
    if (!t->attached)
        return OWN_DEPTH;
    return atomic_load(&t->page->depth);
}

bool gpu_time_holds(struct gpu_time *t)
{
    uint32_t most = depth(t);

    if (!t->page || t->open)
        return hold(t, false);
    if (most > 0 && t->n_unfinished >= most)
        return true; /* its end lets the next one go: that is work, not waiting */
    return hold(t, t->attached ? held_by_gpupd(t->page) : held_by_own_share(t));
}

void gpu_time_set_open(struct gpu_time *t, bool open)
{
    t->open = open;
}

static void kick(struct gpu_time *t)
{
    if (t->attached && atomic_load(&t->page->call) && atomic_exchange(&t->page->call, 0))
        (void)!eventfd_write(t->fds[KICK], 1);
}

void gpu_time_set_busy(struct gpu_time *t, bool busy)
{
    busy |= t->n_unfinished > 0;
    if (!busy)
        hold(t, false);
    if (t->busy == busy)
        return;
    t->busy = busy;
    if (!t->page)
        return;
    atomic_store(&t->page->busy, busy);
    kick(t);
}

/* ---- what is unfinished ---- */

bool gpu_time_wants_fence(struct gpu_time *t, bool fenced)
{
    uint32_t most = depth(t);

    if (most == 0 || t->n_unfinished == MAX_UNFINISHED)
        return false;
    if (fenced || most <= STRICT_DEPTH)
        return true;
    if (++t->unfenced < UNFENCED_EACH)
        return false;
    t->unfenced = 0;
    return true;
}

static void publish_unfinished(struct gpu_time *t)
{
    if (!t->page)
        return;
    atomic_store(&t->page->unfinished, t->n_unfinished);
    if (t->n_unfinished == 0)
        kick(t);
}

void gpu_time_sent(struct gpu_time *t, uint64_t seq, bool own)
{
    if (t->n_unfinished == MAX_UNFINISHED)
        return;
    t->unfinished[t->n_unfinished].seq = seq;
    t->unfinished[t->n_unfinished++].own = own;
    publish_unfinished(t);
}

bool gpu_time_finished(struct gpu_time *t, uint64_t seq)
{
    for (unsigned i = 0; i < t->n_unfinished; i++) {
        bool own = t->unfinished[i].own;

        if (t->unfinished[i].seq != seq)
            continue;
        t->unfinished[i] = t->unfinished[--t->n_unfinished];
        publish_unfinished(t);
        return own;
    }
    return false;
}

void gpu_time_forget(struct gpu_time *t)
{
    t->n_unfinished = 0;
    t->metered_ns = 0;
    publish_unfinished(t);
}

uint64_t gpu_time_stopped_ms(const struct gpu_time *t)
{
    uint64_t ns = t->stopped_ns;

    if (t->page)
        ns += atomic_load(&t->page->stopped_ns);
    return ns / 1000000;
}

/* ---- gpupd ---- */

static void on_wake(uint32_t events, void *data)
{
    struct gpu_time *t = data;
    eventfd_t value;

    (void)!eventfd_read(t->fds[WAKE], &value);
    t->opened(t->data);
}

static void on_retry(void *data)
{
    struct gpu_time *t = data;

    t->opened(t->data);
}

static void drop(struct gpu_time *t)
{
    vgpu_source_remove(t->wake_source);
    t->wake_source = NULL;
    if (t->page) {
        t->stopped_ns += atomic_load(&t->page->stopped_ns);
        munmap(t->page, sizeof(*t->page));
    }
    t->page = NULL;
    t->attached = false;
    for (unsigned i = 0; i < GPUP_GPU_TIME_FDS; i++) {
        if (t->fds[i] >= 0)
            close(t->fds[i]);
        t->fds[i] = -1;
    }
}

void gpu_time_attach(struct gpu_time *t, const int *fds)
{
    GPUP_AUTO_ERROR err = NULL;
    void *page;

    drop(t);
    memcpy(t->fds, fds, sizeof(t->fds));
    page = mmap(NULL, sizeof(*t->page), PROT_READ | PROT_WRITE, MAP_SHARED, fds[PAGE], 0);
    if (page != MAP_FAILED)
        t->wake_source = vgpu_loop_add(t->loop, fds[WAKE], EPOLLIN, on_wake, t, &err);
    if (!t->wake_source) {
        vgpu_log(LOG_ERR, "the page of GPU time cannot be used: %s",
                 page == MAP_FAILED ? strerror(errno) : gpup_error_message(err));
        if (page != MAP_FAILED)
            munmap(page, sizeof(*t->page));
        drop(t);
        return;
    }
    t->page = page;
    t->attached = true;
    publish_waited(t);
    publish_unfinished(t);
    atomic_store(&t->page->busy, t->busy);
    kick(t);
    t->opened(t->data);
}

void gpu_time_detach(struct gpu_time *t)
{
    if (!t->page)
        return;
    t->attached = false;
    t->tokens = 0;
    t->filled_ns = now_ns();
    t->metered_ns = meter_ns(t);
    t->opened(t->data);
}

struct gpu_time *gpu_time_new(struct vgpu_loop *loop, void (*opened)(void *data), void *data,
                              struct gpup_error **err)
{
    struct gpu_time *t = calloc(1, sizeof(*t));

    if (!t) {
        gpup_error_set(err, ENOMEM, "out of memory");
        return NULL;
    }
    *t = (struct gpu_time){.loop = loop, .opened = opened, .data = data, .fds = {-1, -1, -1, -1}};
    t->retry_timer = vgpu_loop_add_timer(loop, on_retry, t, err);
    if (!t->retry_timer) {
        free(t);
        return NULL;
    }
    return t;
}

void gpu_time_free(struct gpu_time *t)
{
    if (!t)
        return;
    drop(t);
    vgpu_source_remove(t->retry_timer);
    free(t);
}
