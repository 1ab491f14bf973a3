/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "simulation.h"

#include "core/share.h"

#include <glib.h>

#define MS      UINT64_C(1000000)
#define SECOND  (1000 * MS)
#define WINDOW  (2 * MS)
#define MOST    64u
#define SECONDS 5u
#define SETTLE  (500 * MS) /* as the measurements of real partitions */

struct client {
    uint64_t command_ns, used, used_before;
};

struct run {
    struct gpup_share *share;
    struct client clients[MOST];
    unsigned n;
    uint64_t now, all_commands_ns;
};

static void begin(struct run *r, unsigned n, const struct gpup_share_request *requests,
                  uint64_t most_ns, GRand *random)
{
    *r = (struct run){.share = gpup_share_new(1, WINDOW, n), .n = n};
    for (unsigned i = 0; i < n; i++) {
        r->clients[i].command_ns =
            most_ns / 10 + (uint64_t)g_rand_int_range(random, 0, (gint32)(most_ns * 9 / 10));
        r->all_commands_ns += r->clients[i].command_ns;
        gpup_share_add(r->share, &requests[i], 0);
        gpup_share_set_active(r->share, i, true, 0);
    }
}

/* One command of the one that is furthest behind, as on a GPU that is used in turns. */
static void step(struct run *r)
{
    unsigned i = 0;

    for (unsigned k = 1; k < r->n; k++) {
        if (gpup_share_lead(r->share, k) < gpup_share_lead(r->share, i))
            i = k;
    }
    g_assert_true(gpup_share_may_submit(r->share, i, r->now, NULL));
    r->now += r->clients[i].command_ns;
    r->clients[i].used += r->clients[i].command_ns;
    gpup_share_charge(r->share, i, r->clients[i].command_ns, r->now);
}

/* core/share.h states the bound. */
static double part_of_bound(const struct run *r, unsigned i)
{
    const struct client *c = &r->clients[i];
    double rate = gpup_share_rate(r->share, i) / 1e6;
    double error = (double)c->used - rate * (double)r->now;
    double above = rate * (double)WINDOW + (double)c->command_ns;
    double below = (double)WINDOW + (double)(r->all_commands_ns - c->command_ns);

    return error > 0 ? error / above : -error / below;
}

static double second_fairness(struct run *r)
{
    double least = G_MAXDOUBLE, most = 0;

    for (unsigned i = 0; i < r->n; i++) {
        struct client *c = &r->clients[i];
        double got = (double)(c->used - c->used_before) / gpup_share_rate(r->share, i);

        least = MIN(least, got);
        most = MAX(most, got);
        c->used_before = c->used;
    }
    return least / most;
}

static void run_all(struct run *r, struct simulation_result *result)
{
    uint64_t next = SETTLE + SECOND;
    double fairness;

    while (r->now < SETTLE)
        step(r);
    second_fairness(r);
    while (r->now < SETTLE + SECONDS * SECOND) {
        step(r);
        for (unsigned i = 0; i < r->n; i++)
            result->bound = MAX(result->bound, part_of_bound(r, i));
        if (r->now < next)
            continue;
        fairness = second_fairness(r);
        result->fairness = MIN(result->fairness, fairness);
        next += SECOND;
    }
    gpup_share_free(r->share);
}

struct simulation_result simulate_equal(unsigned n, uint64_t most_ns, unsigned runs)
{
    struct simulation_result result = {.fairness = 1};
    struct gpup_share_request requests[MOST];
    GRand *random = g_rand_new_with_seed(1);

    for (unsigned i = 0; i < n; i++)
        requests[i] = (struct gpup_share_request){0, 1000000 / n, 1000000};
    for (unsigned k = 0; k < runs; k++) {
        struct run r;

        begin(&r, n, requests, most_ns, random);
        run_all(&r, &result);
    }
    g_rand_free(random);
    return result;
}

struct simulation_result simulate_any(uint64_t most_ns, unsigned runs)
{
    struct simulation_result result = {.fairness = 1};
    GRand *random = g_rand_new_with_seed(2);

    for (unsigned k = 0; k < runs; k++) {
        struct gpup_share_request requests[MOST];
        unsigned n = (unsigned)g_rand_int_range(random, 2, MOST + 1);
        struct run r;

        for (unsigned i = 0; i < n; i++)
            requests[i] = (struct gpup_share_request){
                0, (uint32_t)g_rand_int_range(random, 1000, 1000000), 1000000};
        begin(&r, n, requests, most_ns, random);
        run_all(&r, &result);
    }
    g_rand_free(random);
    return result;
}
