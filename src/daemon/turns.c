/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/arbiter_internal.h"

/*
 * A GPU does one thing after another, and what it has begun cannot be taken back: partitions take
 * turns of a slice. The one whose turn it is may submit; when the slice is over, or another one
 * has come that is further behind, it is held back, and the turn ends when all it had submitted is
 * done. Charged is the time of the turn, corrected by what the GPU's driver says that the
 * renderer's engines were busy (meter.h), where it says so: work that was declared done too early,
 * or went on behind the fences, is found there.
 */

/* One command is worked on, the next one lies ready. */
#define DEPTH 2u
/* How often the driver is asked: for that many files are read. */
#define METER_EACH_NS (50 * GPUP_MS)
/* One that just came takes over when it is behind the holder by this, normalised. */
#define BEHIND_NS (200 * 1000)
/* A turn that does not end: its gpup-vgpu ends a renderer that hangs; if even that does not come,
 * the others go on. */
#define MOST_LEAVING_NS (15000 * GPUP_MS)

static bool is_busy(const struct gpup_partition *p)
{
    return atomic_load(&p->page->busy) || atomic_load(&p->page->unfinished) > 0;
}

/* What the driver saw beside what was charged already is charged, or taken off the next charge. */
static void correct(struct gpup_arbiter *a, uint64_t now)
{
    if (now - a->metered_at_ns < METER_EACH_NS)
        return;
    a->metered_at_ns = now;
    for (unsigned i = 0; i < GPUP_ARBITER_MOST; i++) {
        struct gpup_partition *p = a->p[i];
        uint64_t seen;

        if (!p)
            continue;
        if (p->meter.kind == GPUP_METER_DRM && gpup_arbiter_metered(a, p, now, &seen))
            p->owed_ns += (int64_t)seen - (int64_t)p->by_clock_ns;
        p->by_clock_ns = 0;
        if (p->owed_ns > 0) {
            gpup_arbiter_charge(a, i, (uint64_t)p->owed_ns, now);
            p->owed_ns = 0;
        }
    }
}

void gpup_arbiter_charge_in_turn(struct gpup_arbiter *a, uint64_t now)
{
    struct gpup_partition *p = a->holder >= 0 ? a->p[a->holder] : NULL;
    uint64_t elapsed = now - a->charged_until_ns;

    a->charged_until_ns = now;
    if (p && p->working) { /* it was at the last look */
        int64_t charge = (int64_t)elapsed + p->owed_ns;

        p->by_clock_ns += elapsed;
        p->owed_ns = charge < 0 ? charge : 0;
        if (charge > 0)
            gpup_arbiter_charge(a, (unsigned)a->holder, (uint64_t)charge, now);
    }
    if (p)
        p->working = is_busy(p);
    correct(a, now);
}

static void set_active(struct gpup_arbiter *a, uint64_t now)
{
    for (unsigned i = 0; i < GPUP_ARBITER_MOST; i++) {
        struct gpup_partition *p = a->p[i];

        if (!p || p->active == is_busy(p))
            continue;
        p->active = !p->active;
        gpup_share_set_active(a->share, i, p->active, now);
    }
}

/* Whether its cap, on its own, keeps it from going on. */
static bool is_capped(struct gpup_arbiter *a, unsigned number, uint64_t now)
{
    const struct gpup_partition *p = a->p[number];
    uint64_t retry = UINT64_MAX;

    return p->request.cap < GPUP_PPM_FULL &&
           !gpup_share_may_submit(a->share, number, now, &retry) &&
           (retry != UINT64_MAX || p->request.cap == 0);
}

/* The one that is furthest behind of those that may go on; -1: there is none. */
static int next(struct gpup_arbiter *a, uint64_t now, bool *capped)
{
    int best = -1;

    for (unsigned i = 0; i < GPUP_ARBITER_MOST; i++) {
        struct gpup_partition *p = a->p[i];

        if (!p || !p->active || (int)i == a->holder)
            continue;
        if (is_capped(a, i, now)) {
            *capped = true;
            continue;
        }
        if (best < 0 || gpup_share_lead(a->share, i) < gpup_share_lead(a->share, (unsigned)best))
            best = (int)i;
    }
    return best;
}

static bool must_leave(struct gpup_arbiter *a, int waiter, uint64_t now)
{
    unsigned holder = (unsigned)a->holder;
    struct gpup_partition *p = a->p[holder];

    if (is_capped(a, holder, now))
        return true;
    if (waiter < 0)
        return false;
    if (!is_busy(p) || now - a->since_ns >= a->slice_ns)
        return true;
    return gpup_share_lead(a->share, (unsigned)waiter) + BEHIND_NS <
           gpup_share_lead(a->share, holder);
}

void gpup_arbiter_removed_in_turn(struct gpup_arbiter *a, unsigned number)
{
    if (a->holder != (int)number)
        return;
    a->holder = -1;
    a->leaving = false;
}

static void end_turn(struct gpup_arbiter *a, uint64_t now)
{
    struct gpup_partition *p = a->p[a->holder];

    if (atomic_load(&p->page->unfinished) > 0 && now - a->left_ns < MOST_LEAVING_NS)
        return;
    p->working = false;
    a->holder = -1;
    a->leaving = false;
}

static void begin_turn(struct gpup_arbiter *a, int number, uint64_t now)
{
    struct gpup_partition *p = a->p[number];

    a->holder = number;
    a->leaving = false;
    a->since_ns = a->charged_until_ns = now;
    p->working = true;
    gpup_arbiter_hold(a, p, false);
}

/* Everybody calls when it comes; the holder when it is done, if that matters to anybody. */
static void ask_for_calls(struct gpup_arbiter *a, bool contended)
{
    for (unsigned i = 0; i < GPUP_ARBITER_MOST; i++) {
        struct gpup_partition *p = a->p[i];

        if (!p)
            continue;
        atomic_store(&p->page->depth,
                     contended || p->request.cap < GPUP_PPM_FULL ? DEPTH : GPUP_DEPTH_ALONE);
        if ((int)i != a->holder)
            gpup_arbiter_hold(a, p, true);
        atomic_store(&p->page->call, (int)i != a->holder || contended);
    }
}

/* Whether one has come between the look at it and the wish to be called. */
static bool has_come(struct gpup_arbiter *a)
{
    for (unsigned i = 0; i < GPUP_ARBITER_MOST; i++) {
        struct gpup_partition *p = a->p[i];

        if (p && (int)i != a->holder && p->active != is_busy(p))
            return true;
    }
    return a->leaving && atomic_load(&a->p[a->holder]->page->unfinished) == 0;
}

int gpup_arbiter_look_in_turn(struct gpup_arbiter *a, uint64_t now)
{
    bool capped = false;
    int waiter;

    set_active(a, now);
    waiter = next(a, now, &capped);
    if (a->holder >= 0 && !a->leaving && must_leave(a, waiter, now)) {
        a->leaving = true;
        a->left_ns = now;
        gpup_arbiter_hold(a, a->p[a->holder], true);
        atomic_store(&a->p[a->holder]->page->call, 1);
    }
    if (a->holder >= 0 && a->leaving)
        end_turn(a, now);
    if (a->holder < 0) {
        waiter = next(a, now, &capped);
        if (waiter >= 0)
            begin_turn(a, waiter, now);
        waiter = next(a, now, &capped);
    }
    ask_for_calls(a, waiter >= 0);
    if (has_come(a))
        return 0;
    if (waiter >= 0 || capped || a->leaving ||
        (a->holder >= 0 && a->p[a->holder]->request.cap < GPUP_PPM_FULL))
        return GPUP_TICK_MS;
    return -1;
}
