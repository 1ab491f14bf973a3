/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/arbiter_internal.h"

#include "daemon/priority.h"

#include <stdio.h>
#include <unistd.h>

/*
 * The software GPU: all partitions run at the same time, since one alone does not keep all CPUs
 * busy at every moment, and each is held back when it is ahead of the others. Charged is the CPU
 * time of the renderer. A renderer that goes on though its commands are held back (it has much
 * work queued, a long command, or is not gpup's any more) is stopped.
 */

/* Commands in a renderer at a time: one that is ahead of the others waits after each; one that is
 * behind has the next one lie ready; one that is far behind, a window, several: a renderer that has
 * to wait for its next command leaves CPUs idle. */
#define DEPTH_AHEAD      1u
#define DEPTH_BEHIND     2u
#define DEPTH_FAR_BEHIND 4u
/* Of the whole GPU's time: how far one may be ahead, for each one that is active. */
#define EACH_WINDOW_NS  (250 * GPUP_MS / 1000)
#define LEAST_WINDOW_NS (2 * GPUP_MS)
#define MOST_WINDOW_NS  (6 * GPUP_MS)
/* Without work or use for so many looks it is not active. */
#define QUIET_LOOKS 3u
/* Beyond its share by so much of the whole GPU's time, its renderer is stopped. */
#define OVERRUN_NS (20 * GPUP_MS)
/* How often it is looked whether CPUs are idle while somebody is held back, and how many of them,
 * in percent, then count as left over. */
#define IDLE_LOOK_NS (100 * GPUP_MS)
#define IDLE_PERCENT 30u
/* Renderers are moved to other CPUs each so often while all CPUs are busy; where so many of them
 * are idle, in percent, the scheduler moves them better, and is left to it for a while. */
#define MOVE_NS          (20 * GPUP_MS)
#define NOT_BUSY_PERCENT 20u
#define LEFT_ALONE_NS    (1000 * GPUP_MS)
/* Who uses less than half of its share runs before the others, until it has used so much of the
 * whole GPU's time beyond that: a small frame is done by then, each time. It does so again when
 * all of that is paid off by time that went by. */
#define BURST_NS (5 * GPUP_MS)
/* So long after several had work we look on: each frame of a light one would wake us. */
#define LOOK_ON_NS (100 * GPUP_MS)
/* So long after its threads came to run first, new ones are looked for. */
#define FIRST_AGAIN_NS (500 * GPUP_MS)
/* That pays off at a time: any burst, and the product with the CPUs and the share fits. */
#define MOST_PAID_US (3600 * UINT64_C(1000000))

void gpup_arbiter_charge_together(struct gpup_arbiter *a, uint64_t now)
{
    for (unsigned i = 0; i < GPUP_ARBITER_MOST; i++) {
        struct gpup_partition *p = a->p[i];
        uint64_t used = 0;

        if (!p)
            continue;
        gpup_arbiter_metered(a, p, now, &used);
        p->used = used > (now - a->last_ns) / 50;
        p->burst_ns += used;
        if (used > 0)
            gpup_arbiter_charge(a, i, used, now);
    }
}

static void set_first(struct gpup_partition *p, bool first, uint64_t now)
{
    if (p->meter.pid <= 0)
        return;
    p->first = first;
    p->first_at = now;
    gpup_priority_set(p->meter.pid, p->pidfd, p->cgroup_fd, p->asked.weight, first);
}

static void let_go(struct gpup_arbiter *a, struct gpup_partition *p)
{
    if (p->placed)
        gpup_placement_let_go(&a->placement, p->meter.pid, p->pidfd);
    p->placed = false;
}

void gpup_arbiter_release_together(struct gpup_arbiter *a, struct gpup_partition *p)
{
    let_go(a, p);
    if (p->first)
        set_first(p, false, 0);
}

void gpup_arbiter_renderer_together(struct gpup_arbiter *a, struct gpup_partition *p, uint64_t now)
{
    /* one that is taken over may have been left where it was moved to */
    gpup_placement_look(&a->placement);
    gpup_placement_let_go(&a->placement, p->meter.pid, p->pidfd);
    p->placed = false;
    p->burst_ns = 0;
    p->light = true;
    set_first(p, false, now);
}

static void update_burst(struct gpup_arbiter *a, struct gpup_partition *p, uint64_t now)
{
    uint64_t us = (now - p->burst_at) / 1000, paid;

    us = us < MOST_PAID_US ? us : MOST_PAID_US;
    paid = us * a->capacity * p->own_share / (2 * GPUP_PPM_FULL / 1000);
    p->burst_at = now;
    p->burst_ns = p->burst_ns > paid ? p->burst_ns - paid : 0;
    if (p->burst_ns > 2 * BURST_NS * a->capacity) /* so that it is paid off some time */
        p->burst_ns = 2 * BURST_NS * a->capacity;
    if (p->burst_ns > BURST_NS * a->capacity)
        p->light = false;
    else if (p->burst_ns == 0)
        p->light = true;
}

/* Active: it says that it has work, or the kernel says that it does some. */
static unsigned find_active(struct gpup_arbiter *a, uint64_t now)
{
    unsigned n = 0;

    for (unsigned i = 0; i < GPUP_ARBITER_MOST; i++) {
        struct gpup_partition *p = a->p[i];
        bool active;

        if (!p)
            continue;
        p->quiet = atomic_load(&p->page->busy) || p->used ? 0 : p->quiet + 1;
        active = p->quiet < QUIET_LOOKS;
        if (active != p->active)
            gpup_share_set_active(a->share, i, active, now);
        p->active = active;
        update_burst(a, p, now);
        n += active;
    }
    return n;
}

/*
 * Light ones come first while somebody else computes and we look on: whoever is first could keep
 * everybody from running. Their new threads are not first of themselves, and they make some for
 * each program that draws.
 */
static void set_all_first(struct gpup_arbiter *a, bool looks_on, uint64_t now)
{
    bool heavy = false;

    for (unsigned i = 0; i < GPUP_ARBITER_MOST; i++)
        heavy |= a->p[i] && a->p[i]->active && !a->p[i]->light;
    for (unsigned i = 0; i < GPUP_ARBITER_MOST; i++) {
        struct gpup_partition *p = a->p[i];
        bool first = p && p->light && heavy && looks_on;

        if (p && (p->first != first || (first && p->active && now - p->first_at >= FIRST_AGAIN_NS)))
            set_first(p, first, now);
    }
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
    /* NOLINTNEXTLINE(cert-err34-c): the kernel wrote it */
    if (sscanf(text, "cpu %*u %*u %*u %llu %llu", &idle, &iowait) != 2)
        return 0;
    return (idle + iowait) * (1000 * GPUP_MS / (uint64_t)sysconf(_SC_CLK_TCK));
}

static void look_whether_busy(struct gpup_arbiter *a, uint64_t idle_ns, uint64_t now)
{
    uint64_t all = (now - a->idle_looked_ns) * (uint64_t)sysconf(_SC_NPROCESSORS_ONLN);

    if (idle_ns * 100 > all * NOT_BUSY_PERCENT)
        a->left_alone_until_ns = now + LEFT_ALONE_NS;
    a->busy = now >= a->left_alone_until_ns;
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
    a->busy = false; /* unless it is known */
    if (elapsed < 3 * IDLE_LOOK_NS && a->idle_ns > 0)
        look_whether_busy(a, idle - a->idle_ns, now);
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

static uint32_t depth_of(const struct gpup_arbiter *a, unsigned i)
{
    int64_t lead = gpup_share_lead(a->share, i);

    if (lead > 0)
        return DEPTH_AHEAD;
    return lead > -(int64_t)(a->window_ns * a->capacity) ? DEPTH_BEHIND : DEPTH_FAR_BEHIND;
}

static void decide(struct gpup_arbiter *a, unsigned i, unsigned n_active, uint64_t now)
{
    struct gpup_partition *p = a->p[i];
    bool limited = n_active > 1 || p->request.cap < GPUP_PPM_FULL;
    int64_t excess = gpup_share_excess(a->share, i, now);

    atomic_store(&p->page->depth, limited ? depth_of(a, i) : GPUP_DEPTH_ALONE);
    gpup_arbiter_hold(a, p, !gpup_share_may_submit(a->share, i, now, NULL));
    if (excess > (int64_t)(OVERRUN_NS * a->capacity))
        gpup_arbiter_stop(p, true, now);
    else
        gpup_arbiter_stop(p, p->stopped && excess > 0, now);
}

/* Asks to be woken by those that come; false: one has come meanwhile. */
static bool may_sleep(struct gpup_arbiter *a)
{
    bool sleep = true;

    for (unsigned i = 0; i < GPUP_ARBITER_MOST; i++) {
        struct gpup_partition *p = a->p[i];

        if (!p || p->active)
            continue;
        atomic_store(&p->page->call, 1);
        sleep &= !atomic_load(&p->page->busy);
    }
    return sleep;
}

/* The more they are, the longer one may have to wait for its next turn on a CPU, and shall not be
 * held back beside that. Three times as much was no faster and less even. */
static void set_window(struct gpup_arbiter *a, unsigned n_active)
{
    uint64_t window = n_active * EACH_WINDOW_NS;

    window = window < LEAST_WINDOW_NS ? LEAST_WINDOW_NS : window;
    window = window > MOST_WINDOW_NS ? MOST_WINDOW_NS : window;
    if (window == a->window_ns)
        return;
    a->window_ns = window;
    gpup_share_set_window(a->share, window * a->capacity);
}

/* As many CPUs as its share is: the next one's threads begin there. */
static unsigned step_of(struct gpup_arbiter *a, unsigned i)
{
    uint64_t cpus = (uint64_t)gpup_share_rate(a->share, i) * a->capacity;

    return (unsigned)((cpus + GPUP_PPM_FULL - 1) / GPUP_PPM_FULL);
}

/* Who runs before the others finds a CPU at once wherever it may run. */
static unsigned find_moved(struct gpup_arbiter *a, unsigned *who)
{
    unsigned n = 0;

    for (unsigned i = 0; i < GPUP_ARBITER_MOST; i++) {
        struct gpup_partition *p = a->p[i];

        if (!p)
            continue;
        if (p->active && !p->first && a->placement.n > 1)
            who[n++] = i;
        else
            let_go(a, p);
    }
    return n;
}

/* The others each time a CPU further, and in another order, since some may have fewer CPUs to share
 * with others. While CPUs are idle everybody is left alone. */
static void move_on(struct gpup_arbiter *a)
{
    unsigned who[GPUP_ARBITER_MOST], at = ++a->turn, n;

    gpup_placement_look(&a->placement);
    n = find_moved(a, who);
    for (unsigned k = 0; k < n; k++) {
        unsigned i = who[(a->turn + k) % n];

        gpup_placement_move(&a->placement, a->p[i]->meter.pid, a->p[i]->pidfd, at);
        a->p[i]->placed = true;
        at += step_of(a, i);
    }
}

static void place(struct gpup_arbiter *a, unsigned n_active, uint64_t now)
{
    if (n_active > 1 && a->busy && !a->stay) {
        if (now - a->moved_ns < MOVE_NS)
            return;
        a->moved_ns = now;
        move_on(a);
        return;
    }
    for (unsigned i = 0; i < GPUP_ARBITER_MOST; i++) {
        if (a->p[i])
            let_go(a, a->p[i]);
    }
}

int gpup_arbiter_look_together(struct gpup_arbiter *a, uint64_t now)
{
    bool ticks = false;
    unsigned n_active;

    n_active = find_active(a, now);
    set_window(a, n_active);
    if (n_active > 1)
        look_for_idle(a, now);
    place(a, n_active, now);
    for (unsigned i = 0; i < GPUP_ARBITER_MOST; i++) {
        struct gpup_partition *p = a->p[i];

        if (!p)
            continue;
        decide(a, i, n_active, now);
        ticks |= p->held || p->stopped || (p->active && p->request.cap < GPUP_PPM_FULL);
    }
    if (n_active > 1)
        a->together_ns = now;
    ticks |= n_active > 0 && now - a->together_ns < LOOK_ON_NS;
    set_all_first(a, n_active > 1 || ticks, now);
    return n_active > 1 || ticks || !may_sleep(a) ? GPUP_TICK_MS : -1;
}
