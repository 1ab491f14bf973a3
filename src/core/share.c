/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/share.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define WHOLE 1000000 /* parts per million */
/* Normalised usage is nanoseconds * WHOLE / rate: at a rate of one millionth it grows a million
 * times faster than time, so it is kept relative to the mean, which stays at 0. */
typedef __int128 usage_t;

/* No partition is owed more than this, normalised ns: as long as a command stream may run. */
#define MOST_OWED ((usage_t)10 * 1000000000)
/* Who left time unused is taken for one that cannot use its share, for this long. */
#define LIMITED_NS UINT64_C(100000000)
/* Who was away for no longer than that is owed what it was owed before, up to so many windows. */
#define SHORT_PAUSE_NS   UINT64_C(50000000)
#define KEPT_FOR_WINDOWS 8
#define BUCKET_WINDOWS   8

struct partition {
    bool present;
    bool active;  /* has a part in the fluid */
    bool leaving; /* has one until its debt is paid, though it wants nothing now */
    struct gpup_share_request request;
    uint32_t rate;       /* of the fluid, while active */
    usage_t ahead;       /* of the mean, normalised ns; negative: behind */
    usage_t tokens;      /* charged ns * WHOLE that the cap still allows; negative: overdrawn */
    uint64_t filled_ns;  /* when tokens were last filled up */
    uint64_t limited_ns; /* until when it is owed nothing */
    uint64_t left_ns;    /* when it became inactive */
};

struct gpup_share {
    unsigned capacity;
    int64_t window;
    uint64_t now_ns; /* the latest that the caller told */
    size_t n;        /* one past the last one present */
    struct partition p[GPUP_SHARE_MAX];
};

static uint32_t low_of(const struct gpup_share_request *q)
{
    return q->min < q->cap ? q->min : q->cap;
}

/* What everybody gets at the level L (of weight, in units of 2^-32), clamped to min and cap. */
static uint64_t rate_at(const struct gpup_share_request *q, uint64_t level)
{
    uint64_t weight = q->weight ? q->weight : 1;
    unsigned __int128 r = ((unsigned __int128)weight * level) >> 32;
    uint32_t low = low_of(q);

    if (r < low)
        return low;
    return r > q->cap ? q->cap : (uint64_t)r;
}

static uint64_t sum_at(const struct gpup_share_request *q, size_t n, uint64_t level)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < n; i++)
        sum += rate_at(&q[i], level);
    return sum;
}

void gpup_share_rates(const struct gpup_share_request *requests, size_t n, uint32_t *rates)
{
    uint64_t minima = 0;
    uint64_t low = 0, high = UINT64_C(1) << 53; /* weight 1 alone reaches the whole GPU below it */

    for (size_t i = 0; i < n; i++)
        minima += low_of(&requests[i]);
    if (minima > WHOLE) {
        for (size_t i = 0; i < n; i++)
            rates[i] = (uint32_t)((uint64_t)low_of(&requests[i]) * WHOLE / minima);
        return;
    }
    /* the sum grows with the level: find the highest one that still fits */
    while (high - low > 1) {
        uint64_t middle = low + (high - low) / 2;

        if (sum_at(requests, n, middle) <= WHOLE)
            low = middle;
        else
            high = middle;
    }
    for (size_t i = 0; i < n; i++)
        rates[i] = (uint32_t)rate_at(&requests[i], low);
}

struct gpup_share *gpup_share_new(unsigned capacity, uint64_t window_ns)
{
    struct gpup_share *share = calloc(1, sizeof(*share));

    if (!share)
        return NULL;
    share->capacity = capacity ? capacity : 1;
    share->window = window_ns > INT64_MAX / 4 ? INT64_MAX / 4 : (int64_t)window_ns;
    return share;
}

void gpup_share_free(struct gpup_share *share)
{
    free(share);
}

/* Rates of those that are active; usage stays what it is in charged time, so it is rescaled. */
static void update_rates(struct gpup_share *share)
{
    struct gpup_share_request requests[GPUP_SHARE_MAX];
    uint32_t rates[GPUP_SHARE_MAX];
    unsigned index[GPUP_SHARE_MAX];
    size_t n = 0;

    for (unsigned i = 0; i < share->n; i++) {
        if (!share->p[i].active)
            continue;
        requests[n] = share->p[i].request;
        index[n++] = i;
    }
    if (n == 0)
        return;
    gpup_share_rates(requests, n, rates);
    for (size_t i = 0; i < n; i++) {
        struct partition *p = &share->p[index[i]];
        uint32_t rate = rates[i] ? rates[i] : 1;

        if (p->rate)
            p->ahead = p->ahead * p->rate / rate;
        p->rate = rate;
    }
}

/* How far a partition may be behind before it is carried along. */
static usage_t owed_at_most(const struct gpup_share *share, const struct partition *p)
{
    return p->limited_ns > share->now_ns ? 0 : MOST_OWED;
}

/*
 * Moves the mean of the active ones, weighted by rate, back to 0, and carries along those that are
 * behind it by more than they can be owed. Carrying one along moves the mean: with S those carried,
 * it is (sum of rate * ahead outside S - sum of rate * owed in S) / rates outside S. S only grows,
 * and never holds the one that is furthest ahead. Returns by how much the mean had moved.
 */
static usage_t carry_along(struct gpup_share *share)
{
    bool carried[GPUP_SHARE_MAX] = {false};
    usage_t mean = 0;
    bool again = true;

    while (again) {
        usage_t sum = 0, outside = 0;

        again = false;
        for (size_t i = 0; i < share->n; i++) {
            const struct partition *p = &share->p[i];

            if (!p->active)
                continue;
            if (carried[i]) {
                sum -= owed_at_most(share, p) * p->rate;
            } else {
                sum += p->ahead * p->rate;
                outside += p->rate;
            }
        }
        if (outside == 0)
            return 0;
        mean = sum / outside;
        for (size_t i = 0; i < share->n; i++) {
            const struct partition *p = &share->p[i];

            if (p->active && !carried[i] && p->ahead < mean - owed_at_most(share, p))
                carried[i] = again = true;
        }
    }
    for (size_t i = 0; i < share->n; i++) {
        struct partition *p = &share->p[i];

        if (p->active)
            p->ahead = carried[i] ? -owed_at_most(share, p) : p->ahead - mean;
    }
    return mean;
}

static size_t active_count(const struct gpup_share *share)
{
    size_t n = 0;

    for (size_t i = 0; i < share->n; i++)
        n += share->p[i].active && !share->p[i].leaving;
    return n;
}

/*
 * The part of those that were leaving ends when their debt is paid: then the mean stays where it is
 * without them. With debts it would move for all, again and again where partitions come and go, and
 * debts would pass from one to the other. (The same is done by Linux's scheduler since 6.12,
 * "delayed dequeue".) When nobody wants anything, time stands still: debts are kept as they are.
 */
static void let_go(struct gpup_share *share)
{
    bool nobody = active_count(share) == 0, gone = false;

    for (size_t i = 0; i < share->n; i++) {
        struct partition *p = &share->p[i];

        if (!p->leaving || (p->ahead > 0 && !nobody))
            continue;
        p->active = false;
        p->leaving = false;
        if (p->ahead < 0)
            p->ahead = 0;
        gone = true;
    }
    if (!gone || nobody)
        return;
    update_rates(share);
    carry_along(share);
}

/* Time went by: those that are not active pay their debt with it. */
static void progress(struct gpup_share *share)
{
    usage_t mean = carry_along(share);

    for (size_t i = 0; i < share->n; i++) {
        struct partition *p = &share->p[i];

        if (!p->active && p->ahead > 0)
            p->ahead = p->ahead > mean ? p->ahead - mean : 0;
    }
    let_go(share);
}

/*
 * A partition comes with a debt to the mean: whoever joins moves the mean towards itself, so its
 * place is set such that the debt is the same afterwards.
 */
static void join_with_debt(struct gpup_share *share, struct partition *p)
{
    usage_t others = 0;

    for (size_t i = 0; i < share->n; i++) {
        if (share->p[i].active && &share->p[i] != p)
            others += share->p[i].rate;
    }
    if (others > 0)
        p->ahead = p->ahead * (others + p->rate) / others;
}

/* What the cap lets through in a stretch of real time, in millionths of a charged nanosecond. */
static usage_t allowance(const struct gpup_share *share, const struct partition *p, uint64_t ns)
{
    return (usage_t)ns * share->capacity * p->request.cap;
}

/* What the cap allows during some windows: who finds out late that it may go on does not lose what
 * it had by then. */
static usage_t bucket_size(const struct gpup_share *share, const struct partition *p)
{
    return (usage_t)BUCKET_WINDOWS * share->window * p->request.cap;
}

static void fill(const struct gpup_share *share, struct partition *p, uint64_t now_ns)
{
    if (now_ns <= p->filled_ns)
        return;
    p->tokens += allowance(share, p, now_ns - p->filled_ns);
    if (p->tokens > bucket_size(share, p))
        p->tokens = bucket_size(share, p);
    p->filled_ns = now_ns;
}

static void tell_time(struct gpup_share *share, uint64_t now_ns)
{
    if (now_ns > share->now_ns)
        share->now_ns = now_ns;
}

int gpup_share_add(struct gpup_share *share, const struct gpup_share_request *request,
                   uint64_t now_ns)
{
    for (unsigned i = 0; i < GPUP_SHARE_MAX; i++) {
        if (share->p[i].present)
            continue;
        share->p[i] = (struct partition){.present = true, .request = *request, .filled_ns = now_ns};
        share->p[i].tokens = bucket_size(share, &share->p[i]);
        if (i >= share->n)
            share->n = i + 1;
        return (int)i;
    }
    return -ENOSPC;
}

void gpup_share_remove(struct gpup_share *share, unsigned index)
{
    if (index >= share->n || !share->p[index].present)
        return;
    share->p[index] = (struct partition){0};
    while (share->n > 0 && !share->p[share->n - 1].present)
        share->n--;
    update_rates(share);
    carry_along(share);
}

void gpup_share_change(struct gpup_share *share, unsigned index,
                       const struct gpup_share_request *request, uint64_t now_ns)
{
    if (index >= share->n || !share->p[index].present)
        return;
    fill(share, &share->p[index], now_ns);
    share->p[index].request = *request;
    update_rates(share);
}

/*
 * A guest that is late by a moment with its next command loses nothing by it: what it is owed is
 * time that others took, not time that it did not want. That it could not use it yet, and a longer
 * pause, end the claim.
 */
static usage_t owed_after_pause(const struct gpup_share *share, const struct partition *p,
                                uint64_t now_ns)
{
    usage_t most = (usage_t)KEPT_FOR_WINDOWS * share->window;

    if (p->limited_ns > now_ns || (p->active && now_ns - p->left_ns > SHORT_PAUSE_NS))
        return 0;
    return p->ahead < -most ? -most : p->ahead;
}

void gpup_share_set_active(struct gpup_share *share, unsigned index, bool active, uint64_t now_ns)
{
    struct partition *p;

    if (index >= share->n || !share->p[index].present ||
        (share->p[index].active && !share->p[index].leaving) == active)
        return;
    p = &share->p[index];
    tell_time(share, now_ns);
    fill(share, p, now_ns);
    p->leaving = !active && p->ahead > 0;
    if (p->leaving || p->active == active) { /* its part goes on */
        p->left_ns = p->leaving ? now_ns : p->left_ns;
        let_go(share);
        return;
    }
    p->active = active;
    if (p->ahead < 0)
        p->ahead = owed_after_pause(share, p, now_ns);
    if (!active)
        p->left_ns = now_ns;
    let_go(share); /* all that is left may be on its way */
    update_rates(share);
    if (active)
        join_with_debt(share, p);
    carry_along(share);
}

void gpup_share_charge(struct gpup_share *share, unsigned index, uint64_t used_ns, uint64_t now_ns)
{
    struct partition *p;
    int64_t used = used_ns > INT64_MAX / 4 ? INT64_MAX / 4 : (int64_t)used_ns;

    if (index >= share->n || !share->p[index].present)
        return;
    p = &share->p[index];
    tell_time(share, now_ns);
    fill(share, p, now_ns);
    p->tokens -= (usage_t)used * WHOLE;
    /* work that ends after its partition was taken for idle is owed at the rate it had */
    if (p->rate)
        p->ahead += (usage_t)used * WHOLE / p->rate;
    if (p->active)
        progress(share);
}

void gpup_share_idle(struct gpup_share *share, uint64_t now_ns)
{
    tell_time(share, now_ns);
    for (size_t i = 0; i < share->n; i++) {
        struct partition *p = &share->p[i];

        if (p->active && !p->leaving && p->ahead <= 0)
            p->limited_ns = now_ns + LIMITED_NS;
    }
    progress(share);
}

bool gpup_share_may_submit(struct gpup_share *share, unsigned index, uint64_t now_ns,
                           uint64_t *retry_ns)
{
    struct partition *p;

    if (retry_ns)
        *retry_ns = UINT64_MAX;
    if (index >= share->n || !share->p[index].present)
        return false;
    p = &share->p[index];
    tell_time(share, now_ns);
    fill(share, p, now_ns);
    if (p->request.cap < WHOLE && p->tokens <= 0) {
        if (retry_ns && p->request.cap > 0) {
            usage_t each_ns = (usage_t)share->capacity * p->request.cap;
            usage_t wait = (1 - p->tokens + each_ns - 1) / each_ns;

            *retry_ns = wait > INT64_MAX ? INT64_MAX : (uint64_t)wait;
        }
        return false;
    }
    return !p->active || active_count(share) < 2 || p->ahead <= (usage_t)share->window;
}

static int64_t clamp_to_int64(usage_t value)
{
    if (value > INT64_MAX)
        return INT64_MAX;
    return value < -INT64_MAX ? -INT64_MAX : (int64_t)value;
}

int64_t gpup_share_excess(struct gpup_share *share, unsigned index, uint64_t now_ns)
{
    usage_t excess = -INT64_MAX;
    struct partition *p;

    if (index >= share->n || !share->p[index].present)
        return 0;
    p = &share->p[index];
    tell_time(share, now_ns);
    fill(share, p, now_ns);
    if (p->active && active_count(share) >= 2)
        excess = (p->ahead - share->window) * p->rate / WHOLE;
    if (p->request.cap < WHOLE && -p->tokens / WHOLE > excess)
        excess = -p->tokens / WHOLE;
    return clamp_to_int64(excess);
}

int64_t gpup_share_lead(const struct gpup_share *share, unsigned index)
{
    return index < share->n ? clamp_to_int64(share->p[index].ahead) : 0;
}

uint32_t gpup_share_rate(const struct gpup_share *share, unsigned index)
{
    return index < share->n && share->p[index].active && !share->p[index].leaving
               ? share->p[index].rate
               : 0;
}
