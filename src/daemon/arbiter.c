/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/arbiter.h"

#include "core/error.h"
#include "daemon/meter.h"
#include "wire/gpu_time.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define WHOLE     1000000u
#define MS        UINT64_C(1000000)
#define WINDOW_NS (3 * MS)
/* While several are active, or one has a cap. */
#define TICK_MS 1
/* Commands in the renderer at a time: one is worked on, the next one lies ready. */
#define DEPTH 2u
/* Without work or use for so many looks it is not active. */
#define QUIET_LOOKS 3u
/* Beyond its share by so much of the whole GPU's time, its renderer is stopped. */
#define OVERRUN_NS (20 * MS)
/* How often it is looked whether CPUs are idle while somebody is held back, and how many of them,
 * in percent, then count as left over. */
#define IDLE_LOOK_NS (100 * MS)
#define IDLE_PERCENT 30u
/* A process is not charged more than its threads could have used: a clock that jumps is another
 * process's. */
#define MOST_CPUS   4096u
#define ABOVE_USUAL (-10) /* nice: it has to run when others have used up their share */

struct partition {
    struct gpup_gpu_time *page;
    int page_fd, kick, wake;
    int guard[2]; /* wire/gpu_time.h */
    struct gpup_share_request request;
    struct gpup_meter meter;
    int pidfd;
    uint64_t metered_ns; /* the meter's last value */
    uint64_t charged_ns, stopped_ns, stopped_at;
    bool active, held, stopped, used;
    unsigned quiet;
};

struct gpup_arbiter {
    unsigned capacity;
    struct gpup_share *share;
    struct partition *p[GPUP_SHARE_MAX]; /* by their number in `share` */
    pthread_mutex_t lock;
    pthread_t thread;
    bool started, quit;
    int epoll, event; /* event: wakes the thread */
    uint64_t last_ns;

    int stat; /* /proc/stat */
    uint64_t idle_ns, idle_looked_ns;
    bool held_since_look;
};

static uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
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

/* ---- what a partition is told, and made to do ---- */

static void set_hold(struct gpup_arbiter *a, struct partition *p, bool hold)
{
    if (hold)
        a->held_since_look = true;
    if (p->held == hold)
        return;
    p->held = hold;
    atomic_store(&p->page->hold, hold);
    if (!hold && atomic_exchange(&p->page->waiting, 0))
        (void)!eventfd_write(p->wake, 1);
}

static void set_stopped(struct partition *p, bool stopped, uint64_t now)
{
    if (p->stopped) {
        p->stopped_ns += now - p->stopped_at;
        p->stopped_at = now;
        atomic_store(&p->page->stopped_ns, p->stopped_ns);
    }
    if (p->stopped == stopped || p->pidfd < 0)
        return;
    p->stopped = stopped;
    p->stopped_at = now;
    syscall(SYS_pidfd_send_signal, p->pidfd, stopped ? SIGSTOP : SIGCONT, NULL, 0);
}

/* ---- a look at all of them ---- */

/* Charges what was used since the last look. */
static void meter(struct gpup_arbiter *a, unsigned i, uint64_t now)
{
    struct partition *p = a->p[i];
    uint64_t value, used;

    p->used = false;
    if (!gpup_meter_read(&p->meter, &value))
        return;
    used = value > p->metered_ns ? value - p->metered_ns : 0;
    p->metered_ns = value;
    if (used == 0 || used / MOST_CPUS > now - a->last_ns + 1000 * MS)
        return;
    p->used = used > (now - a->last_ns) / 50;
    p->charged_ns += used;
    gpup_share_charge(a->share, i, used, now);
}

static void meter_all(struct gpup_arbiter *a, uint64_t now)
{
    for (unsigned i = 0; i < GPUP_SHARE_MAX; i++) {
        if (a->p[i])
            meter(a, i, now);
    }
    a->last_ns = now;
}

/* Active: it says that it has work, or the kernel says that it does some. */
static unsigned find_active(struct gpup_arbiter *a, uint64_t now)
{
    unsigned n = 0;

    for (unsigned i = 0; i < GPUP_SHARE_MAX; i++) {
        struct partition *p = a->p[i];
        bool active;

        if (!p)
            continue;
        p->quiet = atomic_load(&p->page->busy) || p->used ? 0 : p->quiet + 1;
        active = p->quiet < QUIET_LOOKS;
        if (active != p->active)
            gpup_share_set_active(a->share, i, active, now);
        p->active = active;
        n += active;
    }
    return n;
}

/* The time that CPUs had nothing to do, of all of them; 0 when it is not known. */
static uint64_t idle_clock(struct gpup_arbiter *a)
{
    unsigned long long idle, iowait;
    char text[256];
    ssize_t n = a->stat >= 0 ? pread(a->stat, text, sizeof(text) - 1, 0) : -1;

    if (n <= 0)
        return 0;
    text[n] = '\0';
    if (sscanf(text, "cpu %*u %*u %*u %llu %llu", &idle, &iowait) != 2)
        return 0;
    return (idle + iowait) * (1000 * MS / (uint64_t)sysconf(_SC_CLK_TCK));
}

/*
 * Where the GPU's CPUs are idle though somebody is held back, those that are behind cannot use
 * their share: the others need not wait for them.
 */
static void look_for_idle(struct gpup_arbiter *a, uint64_t now)
{
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    uint64_t elapsed = now - a->idle_looked_ns, idle, spare = 0;

    if (elapsed < IDLE_LOOK_NS)
        return;
    idle = idle_clock(a);
    if (online > (long)a->capacity)
        spare = elapsed * ((uint64_t)online - a->capacity); /* not this GPU's */
    if (a->held_since_look && elapsed < 3 * IDLE_LOOK_NS && a->idle_ns > 0 &&
        idle > a->idle_ns + spare &&
        (idle - a->idle_ns - spare) * 100 > elapsed * a->capacity * IDLE_PERCENT)
        gpup_share_idle(a->share, now);
    a->idle_ns = idle;
    a->idle_looked_ns = now;
    a->held_since_look = false;
}

static void decide(struct gpup_arbiter *a, unsigned i, bool contended, uint64_t now)
{
    struct partition *p = a->p[i];
    bool limited = contended || p->request.cap < WHOLE;
    int64_t excess = gpup_share_excess(a->share, i, now);

    atomic_store(&p->page->depth, limited ? DEPTH : 0);
    set_hold(a, p, !gpup_share_may_submit(a->share, i, now, NULL));
    if (excess > (int64_t)(OVERRUN_NS * a->capacity))
        set_stopped(p, true, now);
    else
        set_stopped(p, p->stopped && excess > 0, now);
}

/* Asks to be woken by those that come; false: one has come meanwhile. */
static bool may_sleep(struct gpup_arbiter *a)
{
    bool sleep = true;

    for (unsigned i = 0; i < GPUP_SHARE_MAX; i++) {
        struct partition *p = a->p[i];

        if (!p || p->active)
            continue;
        atomic_store(&p->page->call, 1);
        sleep &= !atomic_load(&p->page->busy);
    }
    return sleep;
}

/* Milliseconds until the next look; -1: when somebody calls. */
static int look(struct gpup_arbiter *a)
{
    uint64_t now = now_ns();
    bool ticks = false, contended;

    meter_all(a, now);
    contended = find_active(a, now) > 1;
    if (contended)
        look_for_idle(a, now);
    for (unsigned i = 0; i < GPUP_SHARE_MAX; i++) {
        struct partition *p = a->p[i];

        if (!p)
            continue;
        decide(a, i, contended, now);
        ticks |= p->held || p->stopped || (p->active && p->request.cap < WHOLE);
    }
    if (contended || ticks || !may_sleep(a))
        return TICK_MS;
    return -1;
}

static void *run(void *data)
{
    struct gpup_arbiter *a = data;

    /* its own priority, not gpupd's; without the right to, it does what it can */
    setpriority(PRIO_PROCESS, (id_t)gettid(), ABOVE_USUAL);
    for (;;) {
        struct epoll_event events[16];
        int timeout, n;

        lock(a);
        timeout = a->quit ? 0 : look(a);
        unlock(a);
        if (a->quit)
            return NULL;
        n = epoll_wait(a->epoll, events, 16, timeout);
        for (int i = 0; i < n; i++) {
            eventfd_t value;

            /* one that was removed meanwhile has another file there, or none: no harm */
            (void)!eventfd_read(events[i].data.fd, &value);
        }
    }
}

/* ---- partitions ---- */

static void publish_own_shares(struct gpup_arbiter *a)
{
    struct gpup_share_request requests[GPUP_SHARE_MAX];
    uint32_t rates[GPUP_SHARE_MAX];
    size_t n = 0;

    for (unsigned i = 0; i < GPUP_SHARE_MAX; i++) {
        if (a->p[i])
            requests[n++] = a->p[i]->request;
    }
    gpup_share_rates(requests, n, rates);
    n = 0;
    for (unsigned i = 0; i < GPUP_SHARE_MAX; i++) {
        if (a->p[i])
            atomic_store(&a->p[i]->page->own_share, rates[n++]);
    }
}

static void close_fd(int fd)
{
    if (fd >= 0)
        close(fd);
}

static void partition_free(struct partition *p)
{
    set_stopped(p, false, now_ns());
    gpup_meter_close(&p->meter);
    if (p->page)
        munmap(p->page, sizeof(*p->page));
    close_fd(p->page_fd);
    close_fd(p->kick);
    close_fd(p->wake);
    close_fd(p->guard[0]);
    close_fd(p->guard[1]);
    close_fd(p->pidfd);
    free(p);
}

static int make_page(struct partition *p)
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

static struct partition *partition_new(struct gpup_error **err)
{
    struct partition *p = calloc(1, sizeof(*p));
    int ret;

    if (!p) {
        gpup_error_set(err, ENOMEM, "out of memory");
        return NULL;
    }
    *p = (struct partition){.page_fd = -1,
                            .guard = {-1, -1},
                            .pidfd = -1,
                            .meter = {.file = -1},
                            .quiet = QUIET_LOOKS,
                            .kick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
                            .wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
    ret = make_page(p);
    if (ret == 0 && (p->kick < 0 || p->wake < 0 || pipe2(p->guard, O_CLOEXEC | O_NONBLOCK) < 0 ||
                     fcntl(p->guard[0], F_SETSIG, SIGCONT) < 0 ||
                     fcntl(p->guard[0], F_SETFL, O_NONBLOCK | O_ASYNC) < 0))
        ret = -errno;
    if (ret == 0)
        return p;
    gpup_error_set(err, -ret, "what GPU time is told by cannot be made: %s", strerror(-ret));
    partition_free(p);
    return NULL;
}

int gpup_arbiter_add(struct gpup_arbiter *a, const struct gpup_share_request *request, int *fds,
                     struct gpup_error **err)
{
    struct partition *p = partition_new(err);
    struct epoll_event event = {.events = EPOLLIN};
    int number;

    if (!p)
        return -EIO;
    event.data.fd = p->kick;
    p->request = *request;
    atomic_store(&p->page->capacity, a->capacity);
    lock(a);
    number = gpup_share_add(a->share, request, now_ns());
    if (number >= 0 && epoll_ctl(a->epoll, EPOLL_CTL_ADD, p->kick, &event) < 0) {
        gpup_share_remove(a->share, (unsigned)number);
        number = -errno;
    }
    if (number < 0) {
        unlock(a);
        partition_free(p);
        return gpup_error_set(err, -number, "the GPU's time cannot be divided further: %s",
                              strerror(-number));
    }
    a->p[number] = p;
    publish_own_shares(a);
    fds[0] = fcntl(p->page_fd, F_DUPFD_CLOEXEC, 3);
    fds[1] = fcntl(p->kick, F_DUPFD_CLOEXEC, 3);
    fds[2] = fcntl(p->wake, F_DUPFD_CLOEXEC, 3);
    fds[3] = fcntl(p->guard[0], F_DUPFD_CLOEXEC, 3);
    unlock(a);
    poke(a);
    return number;
}

static bool is_number(const struct gpup_arbiter *a, int number)
{
    return number >= 0 && number < (int)GPUP_SHARE_MAX && a->p[number];
}

void gpup_arbiter_remove(struct gpup_arbiter *a, int number)
{
    struct partition *p = NULL;

    lock(a);
    if (is_number(a, number)) {
        p = a->p[number];
        a->p[number] = NULL;
        gpup_share_remove(a->share, (unsigned)number);
        epoll_ctl(a->epoll, EPOLL_CTL_DEL, p->kick, NULL);
        publish_own_shares(a);
        partition_free(p);
    }
    unlock(a);
    poke(a);
}

void gpup_arbiter_change(struct gpup_arbiter *a, int number,
                         const struct gpup_share_request *request)
{
    lock(a);
    if (is_number(a, number)) {
        meter_all(a, now_ns());
        a->p[number]->request = *request;
        gpup_share_change(a->share, (unsigned)number, request, now_ns());
        publish_own_shares(a);
    }
    unlock(a);
    poke(a);
}

void gpup_arbiter_set_renderer(struct gpup_arbiter *a, int number, pid_t pid, int pidfd,
                               int cgroup_fd)
{
    lock(a);
    if (is_number(a, number)) {
        struct partition *p = a->p[number];

        set_stopped(p, false, now_ns());
        gpup_meter_close(&p->meter);
        close_fd(p->pidfd);
        p->pidfd = pid > 0 && pidfd >= 0 ? fcntl(pidfd, F_DUPFD_CLOEXEC, 3) : -1;
        fcntl(p->guard[0], F_SETOWN, p->pidfd >= 0 ? pid : 0);
        atomic_store(&p->page->renderer_pid, p->pidfd >= 0 ? pid : 0);
        if (p->pidfd >= 0) {
            /* one that is taken over may have been left stopped */
            syscall(SYS_pidfd_send_signal, p->pidfd, SIGCONT, NULL, 0);
            gpup_meter_open_cpu(&p->meter, pid, cgroup_fd);
            if (!gpup_meter_read(&p->meter, &p->metered_ns))
                p->metered_ns = 0;
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
        const struct partition *p = a->p[number];
        uint64_t now = now_ns();

        meter_all(a, now); /* while one is alone nobody else does */
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
    uint64_t window;

    if (!a) {
        gpup_error_set(err, ENOMEM, "out of memory");
        return NULL;
    }
    pthread_mutex_init(&a->lock, NULL);
    a->capacity = setup->capacity > 0 ? setup->capacity : 1;
    window = (setup->window_ns > 0 ? setup->window_ns : WINDOW_NS) * a->capacity;
    a->share = gpup_share_new(a->capacity, window);
    a->stat = open("/proc/stat", O_RDONLY | O_CLOEXEC);
    a->epoll = epoll_create1(EPOLL_CLOEXEC);
    a->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    event.data.fd = a->event;
    a->last_ns = now_ns();
    if (a->share && a->epoll >= 0 && a->event >= 0 &&
        epoll_ctl(a->epoll, EPOLL_CTL_ADD, a->event, &event) == 0)
        a->started = pthread_create(&a->thread, NULL, run, a) == 0;
    if (a->started)
        return a;
    gpup_error_set(err, EIO, "the arbiter of GPU time cannot be started: %s", strerror(errno));
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
    for (unsigned i = 0; i < GPUP_SHARE_MAX; i++) {
        if (a->p[i])
            partition_free(a->p[i]);
    }
    gpup_share_free(a->share);
    close_fd(a->stat);
    close_fd(a->epoll);
    close_fd(a->event);
    pthread_mutex_destroy(&a->lock);
    free(a);
}
