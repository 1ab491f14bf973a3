/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/share.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define WHOLE 1000000 /* parts per million */
/* Normalised usage is nanoseconds * WHOLE / rate: at a rate of one millionth it grows a million
 * times faster than time. */
typedef __int128 usage_t;

/* No partition is owed more than this, normalised ns: as long as a command stream may run. */
#define MOST_OWED ((usage_t)10 * 1000000000)
/* Who left time unused is taken for one that cannot use its share, for this long. */
#define LIMITED_NS UINT64_C(100000000)
/* Who was away for no longer than that is owed what it was owed before, up to so many windows. */
#define SHORT_PAUSE_NS   UINT64_C(50000000)
#define KEPT_FOR_WINDOWS 8
#define BUCKET_WINDOWS   8
/* The mean is followed charge by charge, rounded down, and computed anew after so many. */
#define CHARGES_BETWEEN 4096u

/* All but those that are away have a part in the fluid. */
enum state {
    AWAY,
    WANTS,
    LEAVES,  /* wants nothing now, but has a debt; until that is paid */
    LINGERS, /* wants nothing now, but is owed something; for a short time */
};

struct partition {
    bool present;
    enum state state;
    struct gpup_share_request request;
    uint32_t rate;       /* of the fluid, unless it is away */
    usage_t at;          /* while it wants or leaves: where it is, normalised ns */
    usage_t kept;        /* else: how far it is ahead of the mean; negative: behind */
    usage_t kept_since;  /* away: the progress there had been then, which pays debts */
    usage_t tokens;      /* charged ns * WHOLE that the cap still allows; negative: overdrawn */
    uint64_t filled_ns;  /* when tokens were last filled up */
    uint64_t limited_ns; /* until when it is owed nothing */
    uint64_t left_ns;    /* when it last wanted something */
};

struct gpup_share {
    unsigned capacity;
    int64_t window;
    uint64_t now_ns; /* the latest that the caller told */
    size_t most, n;  /* one past the last one present */
    size_t n_wanting, n_leaving, n_lingering;
    uint64_t rates;         /* of all that are active, added up */
    uint64_t lingering;     /* of those that linger */
    usage_t owed;           /* to them: each one's rate * how far it is behind, added up */
    uint64_t linger_until;  /* none ends before */
    usage_t mean, progress; /* of the active ones; how far it has come by charges */
    usage_t lowest;         /* none that wants or leaves is behind that */
    usage_t first_leaving;  /* and none that is leaving has paid its debt before the mean is here */
    uint64_t limited_ns;    /* until then one may be */
    unsigned charges;       /* since the mean was computed */
    /* for a moment */
    struct gpup_share_request *requests;
    uint32_t *new_rates;
    unsigned *index;
    bool *carried;
    struct partition p[];
};

static bool wants(const struct partition *p)
{
    return p->state == WANTS;
}

static bool is_active(const struct partition *p)
{
    return p->state != AWAY;
}

/* Who lingers keeps its distance from the mean. */
static bool is_moving(enum state state)
{
    return state == WANTS || state == LEAVES;
}

/* How far it is ahead of the mean. Time that went by has paid the debt of one that is away. */
static usage_t ahead_of(const struct gpup_share *share, const struct partition *p)
{
    usage_t paid = share->progress - p->kept_since;

    if (is_moving(p->state))
        return p->at - share->mean;
    if (p->state == LINGERS || p->kept <= 0)
        return p->kept;
    return p->kept > paid ? p->kept - paid : 0;
}

static void count(struct gpup_share *share, const struct partition *p, int by)
{
    share->n_wanting += (size_t)(by * (p->state == WANTS));
    share->n_leaving += (size_t)(by * (p->state == LEAVES));
    share->n_lingering += (size_t)(by * (p->state == LINGERS));
    if (p->state != LINGERS)
        return;
    share->lingering += (uint64_t)(by * (int64_t)p->rate);
    share->owed -= by * p->kept * p->rate;
}

static void set_state(struct gpup_share *share, struct partition *p, enum state state)
{
    usage_t ahead = ahead_of(share, p);

    count(share, p, -1);
    if (is_moving(state)) {
        p->at = share->mean + ahead;
    } else {
        p->kept = ahead;
        p->kept_since = share->progress;
    }
    p->state = state;
    count(share, p, 1);
    if (state == LEAVES && p->at < share->first_leaving)
        share->first_leaving = p->at;
}

static uint32_t low_of(const struct gpup_share_request *q)
{
    return q->min < q->cap ? q->min : q->cap;
}

/* What everybody gets at the level L (of weight, in units of 2^-32), clamped to min and cap. */
static uint64_t rate_at(const struct gpup_share_request *q, uint64_t level, uint64_t *free_weight)
{
    uint64_t weight = q->weight ? q->weight : 1;
    unsigned __int128 r = ((unsigned __int128)weight * level) >> 32;
    uint32_t low = low_of(q);

    if (r < low)
        return low;
    if (r > q->cap)
        return q->cap;
    *free_weight += weight;
    return (uint64_t)r;
}

/* free_weight: of those that neither min nor cap holds at this level. */
static uint64_t sum_at(const struct gpup_share_request *q, size_t n, uint64_t level,
                       uint64_t *free_weight)
{
    uint64_t sum = 0;

    *free_weight = 0;
    for (size_t i = 0; i < n; i++)
        sum += rate_at(&q[i], level, free_weight);
    return sum;
}

/* Where the sum is the whole if nobody else is clamped or set free until there. */
static uint64_t guess(uint64_t level, uint64_t sum, uint64_t free_weight)
{
    __int128 missing = ((__int128)WHOLE - (__int128)sum) * ((__int128)1 << 32);
    __int128 at = free_weight > 0 ? (__int128)level + missing / (__int128)free_weight : -1;

    return at < 0 || at > UINT64_MAX ? 0 : (uint64_t)at;
}

/* The sum grows with the level, in straight pieces: finds the highest one that still fits, or one
 * where no more is left than is lost by rounding. By turns a guess and the middle, so that it ends
 * soon in any case. */
static uint64_t find_level(const struct gpup_share_request *q, size_t n)
{
    uint64_t low = 0, high = UINT64_C(1) << 53; /* weight 1 alone reaches the whole GPU below it */
    uint64_t weight, sum = sum_at(q, n, 0, &weight);
    uint64_t next = 0, at = 0;

    for (bool guessed = false; high - low > 1; guessed = !guessed) {
        next = guessed ? 0 : guess(at, sum, weight);
        at = next > low && next < high ? next : low + (high - low) / 2;
        sum = sum_at(q, n, at, &weight);
        if (sum > WHOLE) {
            high = at;
            continue;
        }
        low = at;
        if (WHOLE - sum <= n)
            break;
    }
    return low;
}

void gpup_share_rates(const struct gpup_share_request *requests, size_t n, uint32_t *rates)
{
    uint64_t minima = 0, caps = 0, level, weight = 0;

    for (size_t i = 0; i < n; i++) {
        minima += low_of(&requests[i]);
        caps += requests[i].cap;
    }
    if (minima > WHOLE) {
        for (size_t i = 0; i < n; i++)
            rates[i] = (uint32_t)((uint64_t)low_of(&requests[i]) * WHOLE / minima);
        return;
    }
    level = caps > WHOLE ? find_level(requests, n) : 0;
    for (size_t i = 0; i < n; i++)
        rates[i] = caps > WHOLE ? (uint32_t)rate_at(&requests[i], level, &weight) : requests[i].cap;
}

struct gpup_share *gpup_share_new(unsigned capacity, uint64_t window_ns, size_t most)
{
    struct gpup_share *share = calloc(1, sizeof(*share) + most * sizeof(share->p[0]));

    if (!share)
        return NULL;
    share->capacity = capacity ? capacity : 1;
    gpup_share_set_window(share, window_ns);
    share->most = most;
    share->linger_until = UINT64_MAX;
    share->requests = calloc(most, sizeof(*share->requests));
    share->new_rates = calloc(most, sizeof(*share->new_rates));
    share->index = calloc(most, sizeof(*share->index));
    share->carried = calloc(most, sizeof(*share->carried));
    if (share->requests && share->new_rates && share->index && share->carried)
        return share;
    gpup_share_free(share);
    return NULL;
}

void gpup_share_free(struct gpup_share *share)
{
    if (!share)
        return;
    free(share->requests);
    free(share->new_rates);
    free(share->index);
    free(share->carried);
    free(share);
}

void gpup_share_set_window(struct gpup_share *share, uint64_t window_ns)
{
    share->window = window_ns > INT64_MAX / 4 ? INT64_MAX / 4 : (int64_t)window_ns;
}

/* What is ahead by this at one rate is so at another: the charged time is the same. */
static usage_t rescaled(usage_t ahead, uint32_t from, uint32_t to)
{
    const int64_t quick = INT64_MAX / WHOLE;

    if (ahead <= quick && ahead >= -quick)
        return (int64_t)ahead * (int64_t)from / (int64_t)to;
    return ahead * from / to;
}

/* Rates of those that are active; usage stays what it is in charged time, so it is rescaled. */
static void update_rates(struct gpup_share *share)
{
    size_t n = 0;

    share->rates = share->lingering = 0;
    share->owed = 0;
    for (unsigned i = 0; i < share->n; i++) {
        if (!is_active(&share->p[i]))
            continue;
        share->requests[n] = share->p[i].request;
        share->index[n++] = i;
    }
    if (n == 0)
        return;
    gpup_share_rates(share->requests, n, share->new_rates);
    for (size_t i = 0; i < n; i++) {
        struct partition *p = &share->p[share->index[i]];
        uint32_t rate = share->new_rates[i] ? share->new_rates[i] : 1;

        share->rates += rate;
        if (p->rate && p->rate != rate && is_moving(p->state))
            p->at = share->mean + rescaled(p->at - share->mean, p->rate, rate);
        else if (p->rate && p->rate != rate)
            p->kept = rescaled(p->kept, p->rate, rate);
        p->rate = rate;
        if (p->state != LINGERS)
            continue;
        share->lingering += rate;
        share->owed -= p->kept * rate;
    }
}

/* How far a partition may be behind before it is carried along. */
static usage_t owed_at_most(const struct gpup_share *share, const struct partition *p)
{
    return p->limited_ns > share->now_ns ? 0 : MOST_OWED;
}

/*
 * The mean of the active ones, weighted by rate, relative to what it was, with those carried along
 * that are behind it by more than they can be owed, or that linger. Carrying one along moves the
 * mean: with S those carried, it is (sum of rate * ahead outside S - sum of rate * owed in S) /
 * rates outside S. S only grows, and never holds the one that is furthest ahead. False: nobody is
 * active.
 */
static bool find_mean(struct gpup_share *share, usage_t *mean)
{
    bool again = true;

    memset(share->carried, 0, share->n * sizeof(*share->carried));
    while (again) {
        usage_t sum = 0, outside = 0;

        again = false;
        for (size_t i = 0; i < share->n; i++) {
            const struct partition *p = &share->p[i];

            if (!is_active(p))
                continue;
            if (p->state == LINGERS) {
                sum += p->kept * p->rate;
            } else if (share->carried[i]) {
                sum -= owed_at_most(share, p) * p->rate;
            } else {
                sum += (p->at - share->mean) * p->rate;
                outside += p->rate;
            }
        }
        if (outside == 0)
            return false;
        *mean = sum / outside;
        for (size_t i = 0; i < share->n; i++) {
            const struct partition *p = &share->p[i];

            if (is_moving(p->state) && !share->carried[i] &&
                p->at - share->mean < *mean - owed_at_most(share, p))
                share->carried[i] = again = true;
        }
    }
    return true;
}

/* Moves the mean to where it is, and those that are to be carried along. Returns how far. */
static usage_t carry_along(struct gpup_share *share)
{
    usage_t moved = 0;

    share->charges = 0;
    if (!find_mean(share, &moved))
        return 0;
    share->mean += moved;
    share->lowest = share->first_leaving = share->mean + MOST_OWED;
    share->limited_ns = 0;
    for (size_t i = 0; i < share->n; i++) {
        struct partition *p = &share->p[i];

        if (!is_moving(p->state))
            continue;
        if (share->carried[i])
            p->at = share->mean - owed_at_most(share, p);
        if (p->at < share->lowest)
            share->lowest = p->at;
        if (p->state == LEAVES && p->at < share->first_leaving)
            share->first_leaving = p->at;
        if (p->limited_ns > share->limited_ns)
            share->limited_ns = p->limited_ns;
    }
    return moved;
}

/*
 * The part of those that were leaving ends when their debt is paid: then the mean stays where it is
 * without them. With debts it would move for all, again and again where partitions come and go, and
 * debts would pass from one to the other. (The same is done by Linux's scheduler since 6.12,
 * "delayed dequeue".) When nobody wants anything, time stands still: debts are kept as they are.
 */
static void let_go(struct gpup_share *share)
{
    bool nobody = share->n_wanting == 0, gone = false;

    if (share->n_leaving == 0 || (!nobody && share->mean < share->first_leaving))
        return;
    share->first_leaving = share->mean + MOST_OWED;
    for (size_t i = 0; i < share->n; i++) {
        struct partition *p = &share->p[i];

        if (p->state != LEAVES)
            continue;
        if (p->at > share->mean && !nobody) {
            if (p->at < share->first_leaving)
                share->first_leaving = p->at;
            continue;
        }
        set_state(share, p, AWAY);
        if (p->kept < 0)
            p->kept = 0;
        gone = true;
    }
    if (!gone || nobody)
        return;
    update_rates(share);
    carry_along(share);
}

/*
 * Who is owed something and pauses, as half-serial guests do all the time, keeps its part and its
 * distance from the mean for a short while: if the mean moved for all when such a one left and
 * came, some could be owed the same time again and again, at the cost of those that stay. When it
 * has been away for longer, the others get what it was owed.
 */
static void end_lingering(struct gpup_share *share)
{
    bool gone = false;

    if (share->n_lingering == 0 || share->now_ns < share->linger_until)
        return;
    share->linger_until = UINT64_MAX;
    for (size_t i = 0; i < share->n; i++) {
        struct partition *p = &share->p[i];

        if (p->state != LINGERS)
            continue;
        if (p->left_ns + SHORT_PAUSE_NS > share->now_ns) {
            if (p->left_ns + SHORT_PAUSE_NS < share->linger_until)
                share->linger_until = p->left_ns + SHORT_PAUSE_NS;
            continue;
        }
        set_state(share, p, AWAY);
        p->kept = 0;
        gone = true;
    }
    if (!gone)
        return;
    update_rates(share);
    carry_along(share);
}

/* One that is active was charged: the mean of all goes on, which pays the debt of those that are
 * not. */
static void progress(struct gpup_share *share, int64_t used)
{
    usage_t rates = (usage_t)(share->rates - share->lingering), moved;

    if (rates == 0)
        return;
    moved = (usage_t)used * WHOLE / rates;
    if (share->limited_ns > share->now_ns || ++share->charges >= CHARGES_BETWEEN ||
        share->mean + moved - share->lowest > MOST_OWED)
        moved = carry_along(share);
    else
        share->mean += moved;
    share->progress += moved;
    let_go(share);
}

/*
 * A partition comes with a debt to the mean: whoever joins moves the mean towards itself, so its
 * place is set such that the debt is the same afterwards.
 */
static void join_with_debt(struct gpup_share *share, struct partition *p)
{
    usage_t others = (usage_t)(share->rates - share->lingering) - p->rate;

    if (others > 0)
        p->at = share->mean + (p->at - share->mean) * (others + p->rate) / others;
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

/* While nobody is charged, too: nobody may be, since all wait for one that lingers. */
static void pass_time(struct gpup_share *share, uint64_t now_ns)
{
    tell_time(share, now_ns);
    end_lingering(share);
    let_go(share);
}

int gpup_share_add(struct gpup_share *share, const struct gpup_share_request *request,
                   uint64_t now_ns)
{
    for (unsigned i = 0; i < share->most; i++) {
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
    set_state(share, &share->p[index], AWAY);
    share->p[index] = (struct partition){0};
    while (share->n > 0 && !share->p[share->n - 1].present)
        share->n--;
    let_go(share); /* all that is left may be on its way */
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
    if (!is_active(&share->p[index]))
        return;
    update_rates(share);
    carry_along(share);
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
    usage_t ahead = ahead_of(share, p);

    if (ahead >= 0)
        return ahead;
    if (p->limited_ns > now_ns)
        return 0;
    return ahead < -most ? -most : ahead;
}

static void leave(struct gpup_share *share, struct partition *p, uint64_t now_ns)
{
    usage_t ahead = owed_after_pause(share, p, now_ns);

    p->left_ns = now_ns;
    if (ahead > 0) { /* its part goes on */
        set_state(share, p, LEAVES);
        let_go(share);
        return;
    }
    p->at = share->mean + ahead;
    set_state(share, p, ahead < 0 ? LINGERS : AWAY);
    if (ahead < 0 && now_ns + SHORT_PAUSE_NS < share->linger_until)
        share->linger_until = now_ns + SHORT_PAUSE_NS;
    let_go(share); /* all that is left may be on its way */
    update_rates(share);
    carry_along(share);
}

static void join(struct gpup_share *share, struct partition *p, uint64_t now_ns)
{
    usage_t ahead = owed_after_pause(share, p, now_ns);
    bool returns = is_active(p);

    set_state(share, p, WANTS);
    p->at = share->mean + ahead;
    let_go(share);
    if (returns)
        return;
    update_rates(share);
    join_with_debt(share, p);
    carry_along(share);
}

void gpup_share_set_active(struct gpup_share *share, unsigned index, bool active, uint64_t now_ns)
{
    struct partition *p;

    if (index >= share->n || !share->p[index].present || wants(&share->p[index]) == active)
        return;
    p = &share->p[index];
    tell_time(share, now_ns);
    end_lingering(share);
    fill(share, p, now_ns);
    if (active)
        join(share, p, now_ns);
    else
        leave(share, p, now_ns);
}

void gpup_share_charge(struct gpup_share *share, unsigned index, uint64_t used_ns, uint64_t now_ns)
{
    struct partition *p;
    int64_t used = used_ns > INT64_MAX / 4 ? INT64_MAX / 4 : (int64_t)used_ns;
    usage_t more;

    if (index >= share->n || !share->p[index].present)
        return;
    p = &share->p[index];
    tell_time(share, now_ns);
    end_lingering(share);
    fill(share, p, now_ns);
    p->tokens -= (usage_t)used * WHOLE;
    if (!p->rate)
        return;
    more = (usage_t)used * WHOLE / p->rate;
    if (is_moving(p->state)) {
        p->at += more;
        progress(share, used);
        return;
    }
    if (p->state == LINGERS) {
        count(share, p, -1);
        p->kept += more;
        count(share, p, 1);
        if (p->kept > 0)
            set_state(share, p, LEAVES);
        progress(share, used);
        return;
    }
    /* work that ends after its partition was taken for idle is owed at the rate it had */
    p->kept = ahead_of(share, p) + more;
    p->kept_since = share->progress;
}

void gpup_share_idle(struct gpup_share *share, uint64_t now_ns)
{
    tell_time(share, now_ns);
    end_lingering(share);
    for (size_t i = 0; i < share->n; i++) {
        struct partition *p = &share->p[i];

        if (wants(p) && p->at <= share->mean)
            p->limited_ns = now_ns + LIMITED_NS;
    }
    share->progress += carry_along(share);
    let_go(share);
}

/* How far it is beyond where submitting ends, which is a window beyond the mean of those that want
 * something now. What others are owed that do not is kept for them, but idles nobody: neither does
 * what else holds the mean back, so the first of those that want something always goes on. */
static usage_t beyond_gate(const struct gpup_share *share, const struct partition *p)
{
    usage_t rates = (usage_t)(share->rates - share->lingering);
    usage_t gate = share->mean + share->window + (rates > 0 ? share->owed / rates : 0);

    if (p->at <= gate)
        return p->at - gate;
    for (size_t i = 0; i < share->n; i++) {
        if (wants(&share->p[i]) && share->p[i].at < p->at)
            return p->at - gate;
    }
    return wants(p) ? 0 : p->at - gate;
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
    pass_time(share, now_ns);
    fill(share, p, now_ns);
    if (p->request.cap < WHOLE && p->tokens <= 0) {
        if (retry_ns && p->request.cap > 0) {
            usage_t each_ns = (usage_t)share->capacity * p->request.cap;
            usage_t wait = (1 - p->tokens + each_ns - 1) / each_ns;

            *retry_ns = wait > INT64_MAX ? INT64_MAX : (uint64_t)wait;
        }
        return false;
    }
    return !is_moving(p->state) || share->n_wanting < 2 || beyond_gate(share, p) <= 0;
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
    pass_time(share, now_ns);
    fill(share, p, now_ns);
    if (is_moving(p->state) && share->n_wanting >= 2)
        excess = beyond_gate(share, p) * p->rate / WHOLE;
    if (p->request.cap < WHOLE && -p->tokens / WHOLE > excess)
        excess = -p->tokens / WHOLE;
    return clamp_to_int64(excess);
}

int64_t gpup_share_lead(const struct gpup_share *share, unsigned index)
{
    return index < share->n ? clamp_to_int64(ahead_of(share, &share->p[index])) : 0;
}

uint32_t gpup_share_rate(const struct gpup_share *share, unsigned index)
{
    return index < share->n && wants(&share->p[index]) ? share->p[index].rate : 0;
}
