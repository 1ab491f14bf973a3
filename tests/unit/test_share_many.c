/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/share.h"

#include <glib.h>

/*
 * Thousands of partitions on one GPU that does one command at a time, that of the one that is
 * furthest behind, against the ideal fluid schedule: everybody that is active gets its rate of each
 * moment.
 */
#define US     UINT64_C(1000)
#define MS     (1000 * US)
#define SECOND (1000 * MS)
#define WINDOW (2 * MS)
#define MANY   2000u

enum kind {
    GREEDY,
    PERIODIC,    /* a frame each 16 ms */
    HALF_SERIAL, /* its CPU works as long as the GPU did */
    BURSTY,      /* greedy for a while, then not for a while */
    IDLE,        /* comes once, for one command */
    N_KINDS,
};

struct client {
    enum kind kind;
    bool active;
    uint64_t command_ns, ready_at, burst_ns, pause_ns, burst_ends;
    uint64_t used;
    double ideal; /* what the fluid gave it */
};

struct world {
    struct gpup_share *share;
    struct client *c;
    struct gpup_share_request *requests;
    unsigned n;
    uint64_t now, idle, longest_ns, all_ns;
};

static struct client any_client(enum kind kind)
{
    struct client c = {
        .kind = kind,
        .command_ns = (uint64_t)g_test_rand_int_range(50, 500) * US,
        .burst_ns = (uint64_t)g_test_rand_int_range(100, 2000) * MS,
        .pause_ns = (uint64_t)g_test_rand_int_range(10, 2000) * MS,
    };

    if (kind != GREEDY)
        c.ready_at = (uint64_t)g_test_rand_int_range(0, 2000) * MS;
    c.burst_ends = c.ready_at + c.burst_ns;
    return c;
}

static struct world world_of(unsigned n, unsigned greedy_of_ten)
{
    struct world w = {.share = gpup_share_new(1, WINDOW, n), .n = n};

    g_assert_nonnull(w.share);
    w.c = g_new0(struct client, n);
    w.requests = g_new0(struct gpup_share_request, n);
    for (unsigned i = 0; i < n; i++) {
        bool greedy = i % 10 < greedy_of_ten;

        w.c[i] = any_client(greedy ? GREEDY : (enum kind)(1 + i % (N_KINDS - 1)));
        w.requests[i] = (struct gpup_share_request){
            .min = i % 7 == 0 ? 1000000 / (2 * n) : 0,
            .weight = (uint32_t)g_test_rand_int_range(1000, 1000000),
            .cap = 1000000,
        };
        w.all_ns += w.c[i].command_ns;
        w.longest_ns = MAX(w.longest_ns, w.c[i].command_ns);
        g_assert_cmpint(gpup_share_add(w.share, &w.requests[i], 0), ==, (int)i);
    }
    return w;
}

static void world_clear(struct world *w)
{
    gpup_share_free(w->share);
    g_free(w->requests);
    g_free(w->c);
}

static void set_active(struct world *w)
{
    for (unsigned i = 0; i < w->n; i++) {
        bool active = w->c[i].ready_at <= w->now;

        if (active != w->c[i].active)
            gpup_share_set_active(w->share, i, active, w->now);
        w->c[i].active = active;
    }
}

static int furthest_behind(struct world *w)
{
    int best = -1;

    for (unsigned i = 0; i < w->n; i++) {
        if (w->c[i].active &&
            (best < 0 || gpup_share_lead(w->share, i) < gpup_share_lead(w->share, (unsigned)best)))
            best = (int)i;
    }
    return best;
}

static uint64_t ready_after(const struct world *w, struct client *c)
{
    switch (c->kind) {
    case PERIODIC:
        return MAX(w->now, c->ready_at + 16 * MS);
    case HALF_SERIAL:
        return w->now + c->command_ns;
    case BURSTY:
        if (w->now < c->burst_ends)
            return w->now;
        c->burst_ends = w->now + c->pause_ns + c->burst_ns;
        return w->now + c->pause_ns;
    case IDLE:
        return UINT64_MAX;
    case GREEDY:
    case N_KINDS:
        break;
    }
    return w->now;
}

static void run_command(struct world *w, unsigned i)
{
    struct client *c = &w->c[i];

    g_assert_true(gpup_share_may_submit(w->share, i, w->now, NULL));
    for (unsigned k = 0; k < w->n; k++)
        w->c[k].ideal += (double)gpup_share_rate(w->share, k) / 1e6 * (double)c->command_ns;
    w->now += c->command_ns;
    c->used += c->command_ns;
    gpup_share_charge(w->share, i, c->command_ns, w->now);
    c->ready_at = ready_after(w, c);
}

static void step(struct world *w)
{
    int next;

    set_active(w);
    next = furthest_behind(w);
    if (next >= 0) {
        run_command(w, (unsigned)next);
        return;
    }
    w->now += 100 * US;
    w->idle += 100 * US;
}

/* The bound that core/share.h states for those that always have work while nobody comes or goes. */
static void assert_bound(const struct world *w)
{
    for (unsigned i = 0; i < w->n; i++) {
        const struct client *c = &w->c[i];
        double rate = gpup_share_rate(w->share, i) / 1e6;
        double error = (double)c->used - c->ideal;

        g_assert_cmpfloat(error, <=, rate * (double)WINDOW + (double)c->command_ns);
        g_assert_cmpfloat(error, >=, -(double)WINDOW - (double)(w->all_ns - c->command_ns));
    }
}

/* How far anybody is ahead of the fluid; and of those that always have work, behind it. */
static void find_errors(const struct world *w, double *ahead, double *behind)
{
    for (unsigned i = 0; i < w->n; i++) {
        double error = (double)w->c[i].used - w->c[i].ideal;

        *ahead = MAX(*ahead, error);
        if (w->c[i].kind == GREEDY)
            *behind = MAX(*behind, -error);
    }
}

/* The GPU is never left idle while somebody has work; and the errors are far below the bound: the
 * one that is furthest behind is next, so that all others' commands do not add up. */
static void many(unsigned greedy_of_ten)
{
    struct world w = world_of(MANY, greedy_of_ten);
    double ahead = 0, behind = 0, most = (double)(WINDOW + 2 * w.longest_ns);

    while (w.now < 2 * SECOND) {
        step(&w);
        find_errors(&w, &ahead, &behind);
        if (greedy_of_ten == 10)
            assert_bound(&w);
    }
    g_test_message("at most %.0f us ahead, greedy ones %.0f us behind", ahead / 1e3, behind / 1e3);
    g_assert_cmpfloat(ahead, <=, most);
    g_assert_cmpfloat(behind, <=, most);
    g_assert_cmpuint(w.idle, ==, 0);
    world_clear(&w);
}

static void greedy_ones(void)
{
    many(10);
}

static void of_all_kinds(void)
{
    many(3);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/share-many/greedy", greedy_ones);
    g_test_add_func("/share-many/all-kinds", of_all_kinds);
    return g_test_run();
}
