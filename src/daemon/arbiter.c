/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/arbiter_internal.h"

#include "core/error.h"
#include "core/file.h"
#include "daemon/priority.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define WINDOW_NS (2 * GPUP_MS)
#define SLICE_NS  (4 * GPUP_MS)
/* A minimum is a promise about each second, in which one may be behind by a window and a command,
 * and clocks are right to some milliseconds: so much more is aimed at, parts per thousand of it. */
#define MIN_MARGIN 20u
/* More threads than that no process keeps busy: a clock that says so is another process's. */
#define MOST_CPUS 4096u

static uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/* Whoever holds it is not kept from running meanwhile by renderers that come first. */
static void init_lock(pthread_mutex_t *lock)
{
    pthread_mutexattr_t attributes;

    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setprotocol(&attributes, PTHREAD_PRIO_INHERIT);
    pthread_mutex_init(lock, &attributes);
    pthread_mutexattr_destroy(&attributes);
}

static void lock(struct gpup_arbiter *a)
{
    pthread_mutex_lock(&a->lock);
}

static void unlock(struct gpup_arbiter *a)
{
    pthread_mutex_unlock(&a->lock);
}

static void poke(struct gpup_arbiter *a)
{
    (void)!eventfd_write(a->event, 1);
}

/* Whether a descriptor blocks belongs to the open file, which gpup-vgpu has too: nothing is done to
 * one that might. Setting a timer never does. */
static void wake(struct gpup_partition *p)
{
    const struct itimerspec now = {.it_value.tv_nsec = 1};

    timerfd_settime(p->wake, 0, &now, NULL);
}

static void clear(int event)
{
    uint64_t value;
    const struct iovec iov = {&value, sizeof(value)};

    if (preadv2(event, &iov, 1, -1, RWF_NOWAIT) < 0 && errno == EOPNOTSUPP) /* before Linux 5.8 */
        (void)!read(event, &value, sizeof(value));
}

/* ---- what a partition is told, and made to do ---- */

void gpup_arbiter_hold(struct gpup_arbiter *a, struct gpup_partition *p, bool hold)
{
    if (hold)
        a->held_since_look = true;
    if (p->held == hold)
        return;
    p->held = hold;
    atomic_store(&p->page->hold, hold);
    if (!hold && atomic_exchange(&p->page->waiting, 0))
        wake(p);
}

void gpup_arbiter_stop(struct gpup_partition *p, bool stop, uint64_t now)
{
    if (p->stopped) {
        p->stopped_ns += now - p->stopped_at;
        p->stopped_at = now;
        atomic_store(&p->page->stopped_ns, p->stopped_ns);
    }
    if (p->stopped == stop || p->pidfd < 0)
        return;
    p->stopped = stop;
    p->stopped_at = now;
    syscall(SYS_pidfd_send_signal, p->pidfd, stop ? SIGSTOP : SIGCONT, NULL, 0);
}

/* ---- charging ---- */

bool gpup_arbiter_metered(struct gpup_arbiter *a, struct gpup_partition *p, uint64_t now,
                          uint64_t *used)
{
    uint64_t most, value;

    *used = 0;
    if (__builtin_mul_overflow(now - a->last_ns + 1000 * GPUP_MS, MOST_CPUS, &most))
        most = UINT64_MAX; /* nobody has looked for weeks */
    if (!gpup_meter_read(&p->meter, &value))
        return false;
    if (value > p->metered_ns && value - p->metered_ns <= most)
        *used = value - p->metered_ns;
    p->metered_ns = value;
    return true;
}

void gpup_arbiter_charge(struct gpup_arbiter *a, unsigned number, uint64_t ns, uint64_t now)
{
    a->p[number]->charged_ns += ns;
    gpup_share_charge(a->share, number, ns, now);
}

static void charge_all(struct gpup_arbiter *a, uint64_t now)
{
    if (a->in_turn)
        gpup_arbiter_charge_in_turn(a, now);
    else
        gpup_arbiter_charge_together(a, now);
    a->last_ns = now;
}

/* ---- the thread ---- */

static int look(struct gpup_arbiter *a)
{
    uint64_t now = now_ns();

    charge_all(a, now);
    return a->in_turn ? gpup_arbiter_look_in_turn(a, now) : gpup_arbiter_look_together(a, now);
}

static void *run(void *data)
{
    struct gpup_arbiter *a = data;

    gpup_priority_thread_first(); /* it has to run when others have used up their share */
    for (;;) {
        struct epoll_event events[16];
        int timeout, n;
        bool quit;

        lock(a);
        quit = a->quit;
        timeout = quit ? 0 : look(a);
        unlock(a);
        if (quit)
            return NULL;
        n = epoll_wait(a->epoll, events, 16, timeout);
        /* one that was removed meanwhile has another file there, or none: no harm */
        for (int i = 0; i < n; i++)
            clear(events[i].data.fd);
    }
}

/* ---- partitions ---- */

/* What the policy makes of a grant while n partitions are there. */
static struct gpup_share_request apply_policy(enum gpup_time_policy policy,
                                              struct gpup_share_request q, uint32_t n)
{
    switch (policy) {
    case GPUP_TIME_WEIGHTED:
        break;
    case GPUP_TIME_BEST_EFFORT:
        q = (struct gpup_share_request){0, 1, GPUP_PPM_FULL};
        break;
    case GPUP_TIME_EQUAL_SHARE:
        q = (struct gpup_share_request){GPUP_PPM_FULL / n, GPUP_PPM_FULL / n, GPUP_PPM_FULL / n};
        break;
    case GPUP_TIME_FIXED_SHARE:
        q = (struct gpup_share_request){q.weight, q.weight, q.weight};
        break;
    }
    q.min += q.min * MIN_MARGIN / 1000; /* together at most the GPU: gpup_share_rates() */
    return q;
}

/* Whenever one came, went, or asks for something else. */
static void update_requests(struct gpup_arbiter *a, uint64_t now)
{
    struct gpup_share_request requests[GPUP_ARBITER_MOST];
    uint32_t rates[GPUP_ARBITER_MOST];
    uint32_t n = 0, k = 0;

    for (unsigned i = 0; i < GPUP_ARBITER_MOST; i++)
        n += a->p[i] != NULL;
    for (unsigned i = 0; i < GPUP_ARBITER_MOST; i++) {
        struct gpup_partition *p = a->p[i];

        if (!p)
            continue;
        p->request = apply_policy(a->policy, p->asked, n);
        gpup_share_change(a->share, i, &p->request, now);
        requests[k++] = p->request;
    }
    gpup_share_rates(requests, n, rates);
    k = 0;
    for (unsigned i = 0; i < GPUP_ARBITER_MOST; i++) {
        if (!a->p[i])
            continue;
        a->p[i]->own_share = rates[k++];
        atomic_store(&a->p[i]->page->own_share, a->p[i]->own_share);
    }
}

static void partition_free(struct gpup_arbiter *a, struct gpup_partition *p)
{
    gpup_arbiter_release_together(a, p);
    gpup_arbiter_stop(p, false, now_ns());
    gpup_meter_close(&p->meter);
    if (p->page)
        munmap(p->page, sizeof(*p->page));
    gpup_fd_close(&p->page_fd);
    gpup_fd_close(&p->kick);
    gpup_fd_close(&p->wake);
    gpup_fd_close(&p->guard[0]);
    gpup_fd_close(&p->guard[1]);
    gpup_fd_close(&p->pidfd);
    gpup_fd_close(&p->cgroup_fd);
    free(p);
}

static int make_page(struct gpup_partition *p)
{
    p->page_fd = memfd_create("gpup-gpu-time", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (p->page_fd < 0 || ftruncate(p->page_fd, sizeof(*p->page)) < 0 ||
        fcntl(p->page_fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
        return -errno;
    p->page = mmap(NULL, sizeof(*p->page), PROT_READ | PROT_WRITE, MAP_SHARED, p->page_fd, 0);
    if (p->page == MAP_FAILED) {
        p->page = NULL;
        return -errno;
    }
    return 0;
}

static struct gpup_partition *partition_new(struct gpup_arbiter *a, struct gpup_error **err)
{
    struct gpup_partition *p = calloc(1, sizeof(*p));
    int ret;

    if (!p) {
        gpup_error_set(err, ENOMEM, "out of memory");
        return NULL;
    }
    *p = (struct gpup_partition){.page_fd = -1,
                                 .guard = {-1, -1},
                                 .pidfd = -1,
                                 .cgroup_fd = -1,
                                 .meter = {.file = -1},
                                 .quiet = UINT_MAX / 2,
                                 .kick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
                                 .wake =
                                     timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK)};
    ret = make_page(p);
    if (ret == 0 && (p->kick < 0 || p->wake < 0 || pipe2(p->guard, O_CLOEXEC | O_NONBLOCK) < 0 ||
                     fcntl(p->guard[0], F_SETSIG, SIGCONT) < 0 ||
                     fcntl(p->guard[0], F_SETFL, O_NONBLOCK | O_ASYNC) < 0))
        ret = -errno;
    if (ret == 0)
        return p;
    gpup_error_set(err, -ret, "what GPU time is told by cannot be made: %s", strerror(-ret));
    partition_free(a, p);
    return NULL;
}

/* Copies of what gpup-vgpu gets; all of them, or -errno and none. */
static int copy_fds(const struct gpup_partition *p, int *fds)
{
    const int own[] = {p->page_fd, p->kick, p->wake, p->guard[0]};

    for (unsigned i = 0; i < sizeof(own) / sizeof(*own); i++) {
        fds[i] = fcntl(own[i], F_DUPFD_CLOEXEC, 3);
        if (fds[i] < 0) {
            int ret = -errno;

            while (i-- > 0)
                gpup_fd_close(&fds[i]);
            return ret;
        }
    }
    return 0;
}

int gpup_arbiter_add(struct gpup_arbiter *a, const struct gpup_share_request *request, int *fds,
                     struct gpup_error **err)
{
    struct gpup_partition *p = partition_new(a, err);
    struct epoll_event event = {.events = EPOLLIN};
    int number;

    if (!p)
        return -EIO;
    number = copy_fds(p, fds);
    if (number < 0) {
        partition_free(a, p);
        return gpup_error_set(err, -number, "what GPU time is told by cannot be handed over: %s",
                              strerror(-number));
    }
    event.data.fd = p->kick;
    p->asked = *request;
    atomic_store(&p->page->capacity, a->capacity);
    p->held = a->in_turn; /* until it is its turn */
    atomic_store(&p->page->hold, p->held);
    lock(a);
    number = gpup_share_add(a->share, request, now_ns());
    if (number >= 0 && epoll_ctl(a->epoll, EPOLL_CTL_ADD, p->kick, &event) < 0) {
        gpup_share_remove(a->share, (unsigned)number);
        number = -errno;
    }
    if (number < 0) {
        unlock(a);
        for (unsigned i = 0; i < GPUP_GPU_TIME_FDS; i++)
            gpup_fd_close(&fds[i]);
        partition_free(a, p);
        return gpup_error_set(err, -number, "the GPU's time cannot be divided further: %s",
                              strerror(-number));
    }
    a->p[number] = p;
    update_requests(a, now_ns());
    unlock(a);
    poke(a);
    return number;
}

static bool is_number(const struct gpup_arbiter *a, int number)
{
    return number >= 0 && number < (int)GPUP_ARBITER_MOST && a->p[number];
}

void gpup_arbiter_remove(struct gpup_arbiter *a, int number)
{
    struct gpup_partition *p = NULL;

    lock(a);
    if (is_number(a, number)) {
        p = a->p[number];
        a->p[number] = NULL;
        gpup_share_remove(a->share, (unsigned)number);
        epoll_ctl(a->epoll, EPOLL_CTL_DEL, p->kick, NULL);
        gpup_arbiter_removed_in_turn(a, (unsigned)number);
        update_requests(a, now_ns());
        partition_free(a, p);
    }
    unlock(a);
    poke(a);
}

void gpup_arbiter_change(struct gpup_arbiter *a, int number,
                         const struct gpup_share_request *request)
{
    lock(a);
    if (is_number(a, number)) {
        charge_all(a, now_ns()); /* at the rates that there were */
        a->p[number]->asked = *request;
        update_requests(a, now_ns());
    }
    unlock(a);
    poke(a);
}

static void open_meter(struct gpup_arbiter *a, struct gpup_partition *p, pid_t pid, int cgroup_fd)
{
    uint64_t value;

    if (a->in_turn)
        gpup_meter_open_drm(&p->meter, a->proc, pid, a->bdf);
    else
        gpup_meter_open_cpu(&p->meter, pid, cgroup_fd);
    p->metered_ns = gpup_meter_read(&p->meter, &value) ? value : 0;
    if (!a->in_turn)
        gpup_arbiter_renderer_together(a, p, now_ns());
}

void gpup_arbiter_set_renderer(struct gpup_arbiter *a, int number, pid_t pid, int pidfd,
                               int cgroup_fd)
{
    lock(a);
    if (is_number(a, number)) {
        struct gpup_partition *p = a->p[number];

        charge_all(a, now_ns());
        gpup_arbiter_stop(p, false, now_ns());
        gpup_arbiter_release_together(a, p);
        gpup_meter_close(&p->meter);
        gpup_fd_close(&p->cgroup_fd);
        p->cgroup_fd = cgroup_fd >= 0 ? fcntl(cgroup_fd, F_DUPFD_CLOEXEC, 3) : -1;
        gpup_fd_close(&p->pidfd);
        p->pidfd = pid > 0 && pidfd >= 0 ? fcntl(pidfd, F_DUPFD_CLOEXEC, 3) : -1;
        fcntl(p->guard[0], F_SETOWN, p->pidfd >= 0 ? pid : 0);
        atomic_store(&p->page->renderer_pid, p->pidfd >= 0 && !a->in_turn ? pid : 0);
        if (p->pidfd >= 0) {
            /* one that is taken over may have been left stopped */
            syscall(SYS_pidfd_send_signal, p->pidfd, SIGCONT, NULL, 0);
            open_meter(a, p, pid, cgroup_fd);
        }
    }
    unlock(a);
    poke(a);
}

bool gpup_arbiter_usage(struct gpup_arbiter *a, int number, struct gpup_arbiter_usage *usage)
{
    bool there;

    lock(a);
    there = is_number(a, number);
    if (there) {
        const struct gpup_partition *p = a->p[number];
        uint64_t now = now_ns();

        charge_all(a, now); /* while one is alone nobody else does */
        *usage = (struct gpup_arbiter_usage){
            .now_ns = now,
            .charged_ns = p->charged_ns / a->capacity,
            .waited_ns = atomic_load(&p->page->waited_ns),
            .stopped_ns = p->stopped_ns,
            .rate = gpup_share_rate(a->share, (unsigned)number),
        };
    }
    unlock(a);
    return there;
}

/* ---- life ---- */

struct gpup_arbiter *gpup_arbiter_new(const struct gpup_arbiter_setup *setup,
                                      struct gpup_error **err)
{
    struct gpup_arbiter *a = calloc(1, sizeof(*a));
    struct epoll_event event = {.events = EPOLLIN};
    int ret;

    if (!a) {
        gpup_error_set(err, ENOMEM, "out of memory");
        return NULL;
    }
    init_lock(&a->lock);
    a->capacity = setup->capacity > 0 ? setup->capacity : 1;
    a->in_turn = setup->in_turn;
    a->stay = setup->stay;
    a->policy = setup->policy;
    snprintf(a->proc, sizeof(a->proc), "%s", setup->proc ? setup->proc : "/proc");
    snprintf(a->bdf, sizeof(a->bdf), "%s", setup->bdf ? setup->bdf : "");
    a->slice_ns = setup->slice_ns > 0 ? setup->slice_ns : SLICE_NS;
    a->holder = -1;
    a->window_ns = WINDOW_NS;
    a->share = gpup_share_new(a->capacity, a->window_ns * a->capacity, GPUP_ARBITER_MOST);
    a->stat = open("/proc/stat", O_RDONLY | O_CLOEXEC);
    a->epoll = epoll_create1(EPOLL_CLOEXEC);
    a->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    event.data.fd = a->event;
    a->last_ns = now_ns();
    ret = errno;
    if (a->share && a->epoll >= 0 && a->event >= 0) {
        ret = epoll_ctl(a->epoll, EPOLL_CTL_ADD, a->event, &event) < 0
                  ? errno
                  : pthread_create(&a->thread, NULL, run, a);
        a->started = ret == 0;
    }
    if (a->started)
        return a;
    gpup_error_set(err, EIO, "the arbiter of GPU time cannot be started: %s", strerror(ret));
    gpup_arbiter_free(a);
    return NULL;
}

void gpup_arbiter_free(struct gpup_arbiter *a)
{
    if (!a)
        return;
    if (a->started) {
        lock(a);
        a->quit = true;
        unlock(a);
        poke(a);
        pthread_join(a->thread, NULL);
    }
    for (unsigned i = 0; i < GPUP_ARBITER_MOST; i++) {
        if (a->p[i])
            partition_free(a, a->p[i]);
    }
    gpup_share_free(a->share);
    gpup_fd_close(&a->stat);
    gpup_fd_close(&a->epoll);
    gpup_fd_close(&a->event);
    pthread_mutex_destroy(&a->lock);
    free(a);
}
