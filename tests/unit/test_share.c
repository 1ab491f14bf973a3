/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/share.h"

#include <glib.h>

/*
 * A GPU that does one command at a time, given to whoever asks among those that may submit (round
 * robin, which is what a GPU without an arbiter does), simulated against the fluid schedule.
 */
#define US     UINT64_C(1000)
#define MS     (1000 * US)
#define SECOND (1000 * MS)
#define WINDOW (5 * MS)
#define MOST   256u

struct client {
    struct gpup_share_request request;
    uint64_t command_ns;     /* length of one command */
    uint64_t pause_ns;       /* after each command; 0: greedy */
    uint64_t from_ns, to_ns; /* when it is there */
    uint64_t used;           /* what it got */
    uint64_t ready_at;
    int index;
};

struct simulation {
    struct gpup_share *share;
    struct client *clients;
    size_t n;
    uint64_t now;
    size_t turn;
};

static void come_and_go(struct simulation *s, struct client *c)
{
    bool there = s->now >= c->from_ns && s->now < c->to_ns;

    gpup_share_set_active(s->share, (unsigned)c->index, there && c->ready_at <= s->now, s->now);
}

/* Runs one command of somebody, or lets 100 us pass. */
static void step(struct simulation *s)
{
    for (size_t i = 0; i < s->n; i++)
        come_and_go(s, &s->clients[i]);
    for (size_t k = 0; k < s->n; k++) {
        struct client *c = &s->clients[(s->turn + k) % s->n];
        bool there = s->now >= c->from_ns && s->now < c->to_ns;

        if (!there || c->ready_at > s->now ||
            !gpup_share_may_submit(s->share, (unsigned)c->index, s->now, NULL))
            continue;
        s->turn = (s->turn + k + 1) % s->n;
        s->now += c->command_ns;
        c->used += c->command_ns;
        c->ready_at = s->now + c->pause_ns;
        gpup_share_charge(s->share, (unsigned)c->index, c->command_ns, s->now);
        return;
    }
    s->now += 100 * US;
    gpup_share_idle(s->share, s->now);
}

static struct simulation start(struct client *clients, size_t n)
{
    struct simulation s = {.share = gpup_share_new(1, WINDOW, n), .clients = clients, .n = n};

    g_assert_nonnull(s.share);
    for (size_t i = 0; i < n; i++) {
        if (clients[i].to_ns == 0)
            clients[i].to_ns = UINT64_MAX;
        clients[i].index = gpup_share_add(s.share, &clients[i].request, 0);
        g_assert_cmpint(clients[i].index, ==, (int)i);
    }
    return s;
}

static void run_until(struct simulation *s, uint64_t end)
{
    while (s->now < end)
        step(s);
}

static double part(const struct client *c, uint64_t of)
{
    return (double)c->used / (double)of;
}

static void assert_near(double got, double want, double tolerance)
{
    if (got < want - tolerance || got > want + tolerance)
        g_error("got %.4f, want %.4f +- %.4f", got, want, tolerance);
}

static const struct gpup_share_request equal = {0, 250000, 1000000};

static void rates(void)
{
    static const struct {
        size_t n;
        struct gpup_share_request q[4];
        uint32_t want[4];
    } cases[] = {
        {1, {{0, 1, 1000000}}, {1000000}},
        {1, {{0, 500000, 300000}}, {300000}},
        {2, {{0, 750000, 1000000}, {0, 250000, 1000000}}, {750000, 250000}},
        {2, {{400000, 50000, 1000000}, {0, 950000, 1000000}}, {400000, 600000}},
        {3, {{0, 1, 100000}, {0, 1, 1000000}, {0, 1, 1000000}}, {100000, 450000, 450000}},
        {2, {{0, 0, 1000000}, {0, 0, 1000000}}, {500000, 500000}},
        {2, {{800000, 1, 1000000}, {800000, 1, 1000000}}, {500000, 500000}},
        {2, {{0, 1000000, 0}, {0, 1, 1000000}}, {0, 1000000}},
    };

    for (size_t k = 0; k < G_N_ELEMENTS(cases); k++) {
        uint32_t got[4];

        gpup_share_rates(cases[k].q, cases[k].n, got);
        for (size_t i = 0; i < cases[k].n; i++) {
            g_assert_cmpint(got[i], <=, cases[k].want[i]);
            g_assert_cmpint(got[i] + 2, >=, cases[k].want[i]);
        }
    }
}

/* For any requests: within min and cap, never more than a GPU, and all of it where caps allow. */
static void rates_of_any(void)
{
    for (int round = 0; round < 2000; round++) {
        struct gpup_share_request q[32];
        uint32_t got[32];
        size_t n = (size_t)g_test_rand_int_range(1, 33);
        uint64_t sum = 0, caps = 0;

        for (size_t i = 0; i < n; i++) {
            q[i].min = (uint32_t)g_test_rand_int_range(0, (gint32)(1000000 / n) + 1);
            q[i].weight = (uint32_t)g_test_rand_int_range(0, 1000001);
            q[i].cap = (uint32_t)g_test_rand_int_range((gint32)q[i].min, 1000001);
            caps += q[i].cap;
        }
        gpup_share_rates(q, n, got);
        for (size_t i = 0; i < n; i++) {
            g_assert_cmpuint(got[i], >=, q[i].min);
            g_assert_cmpuint(got[i], <=, q[i].cap);
            sum += got[i];
        }
        g_assert_cmpuint(sum, <=, 1000000);
        g_assert_cmpuint(sum + 2 * n, >=, MIN(caps, 1000000));
    }
}

static void equal_ones_with_unequal_commands(void)
{
    struct client c[4] = {
        {.request = equal, .command_ns = 1 * MS},
        {.request = equal, .command_ns = 3 * MS},
        {.request = equal, .command_ns = 200 * US},
        {.request = equal, .command_ns = 4 * MS},
    };
    struct simulation s = start(c, 4);

    run_until(&s, 10 * SECOND);
    for (int i = 0; i < 4; i++)
        assert_near(part(&c[i], s.now), 0.25, 0.0025);
    gpup_share_free(s.share);
}

static void weights_in_one_second_windows(void)
{
    struct client c[4];
    struct simulation s;

    for (int i = 0; i < 4; i++)
        c[i] = (struct client){.request = {0, (uint32_t)(i + 1) * 100000, 1000000},
                               .command_ns = (uint64_t)(i + 1) * 700 * US};
    s = start(c, 4);
    run_until(&s, 1 * SECOND);
    for (int second = 0; second < 20; second++) {
        uint64_t from = s.now, before[4];

        for (int i = 0; i < 4; i++)
            before[i] = c[i].used;
        run_until(&s, from + SECOND);
        for (int i = 0; i < 4; i++)
            assert_near((double)(c[i].used - before[i]) / (double)(s.now - from), (i + 1) * 0.1,
                        0.01 * (i + 1) * 0.1 + 0.003);
    }
    gpup_share_free(s.share);
}

/* The bound that the header states, at any time. */
static void the_bound_holds(void)
{
    struct client c[8];
    struct simulation s;
    double all = 0;

    for (int i = 0; i < 8; i++) {
        c[i] = (struct client){.request = {0, (uint32_t)(i + 1) * 10000, 1000000},
                               .command_ns = (uint64_t)g_test_rand_int_range(100, 4000) * US};
        all += (double)c[i].command_ns;
    }
    s = start(c, 8);
    while (s.now < 5 * SECOND) {
        step(&s);
        for (int i = 0; i < 8; i++) {
            double rate = gpup_share_rate(s.share, (unsigned)c[i].index) / 1e6;
            double error = (double)c[i].used - rate * (double)s.now;
            double longest = (double)c[i].command_ns;

            g_assert_cmpfloat(error, <=, rate * (double)WINDOW + longest);
            g_assert_cmpfloat(error, >=, -(double)WINDOW - (all - longest));
        }
    }
    gpup_share_free(s.share);
}

static struct client any_client(void)
{
    struct client c = {.request = {0, (uint32_t)g_test_rand_int_range(1000, 1000000), 1000000},
                       .command_ns = (uint64_t)g_test_rand_int_range(50, 500) * US};

    switch (g_test_rand_int_range(0, 4)) {
    case 0: /* greedy */
        break;
    case 1: /* periodic: a frame each 16 ms */
        c.pause_ns = 16 * MS;
        break;
    case 2: /* half-serial: its CPU works as long as the GPU does */
        c.pause_ns = c.command_ns;
        break;
    default: /* comes and goes */
        c.from_ns = (uint64_t)g_test_rand_int_range(0, 1000) * MS;
        c.to_ns = c.from_ns + (uint64_t)g_test_rand_int_range(1, 1000) * MS;
    }
    return c;
}

/*
 * Hundreds of all kinds, some at a time: whoever always has work gets what it would if all
 * had, whatever the others do, but for what the header says and what those that were late by a
 * moment are owed (8 windows).
 */
static void greedy_among_any(void)
{
    for (int round = 0; round < 12; round++) {
        size_t n = (size_t)g_test_rand_int_range(5, 30);
        struct gpup_share_request requests[30];
        struct client c[30];
        struct simulation s;
        uint32_t rates[30];
        uint64_t all = 0;

        for (size_t i = 0; i < n; i++) {
            c[i] = any_client();
            requests[i] = c[i].request;
            all += c[i].command_ns;
        }
        s = start(c, n);
        gpup_share_rates(requests, n, rates);
        run_until(&s, 10 * SECOND);
        for (size_t i = 0; i < n; i++) {
            bool greedy = c[i].pause_ns == 0 && c[i].to_ns == UINT64_MAX;
            double due = (double)rates[i] / 1e6 * (double)s.now;

            if (greedy)
                g_assert_cmpfloat((double)c[i].used, >=, due - (double)(8 * WINDOW) - (double)all);
        }
        gpup_share_free(s.share);
    }
}

/* Several that pause all the time are owed something in turn: the light one that never pauses gets
 * its part all the same, and nobody waits for what those in a pause are owed. */
static void greedy_among_half_serial(void)
{
    static const unsigned weight[] = {140648, 621546, 727671, 949355, 644949, 887873,
                                      200758, 904722, 982113, 334033, 710914};
    static const unsigned command_us[] = {213, 102, 161, 120, 423, 287, 470, 328, 193, 287, 225};
    static const unsigned pause_us[] = {0, 16000, 161, 120, 423, 287, 470, 0, 16000, 16000, 16000};
    struct gpup_share_request requests[G_N_ELEMENTS(weight)];
    struct client c[G_N_ELEMENTS(weight)];
    uint32_t rates[G_N_ELEMENTS(weight)];
    struct simulation s;

    for (size_t i = 0; i < G_N_ELEMENTS(c); i++) {
        requests[i] = (struct gpup_share_request){0, weight[i], 1000000};
        c[i] = (struct client){
            .request = requests[i], .command_ns = command_us[i] * US, .pause_ns = pause_us[i] * US};
    }
    c[7].from_ns = 543 * MS;
    c[7].to_ns = 1470 * MS;
    gpup_share_rates(requests, G_N_ELEMENTS(c), rates);
    s = start(c, G_N_ELEMENTS(c));
    run_until(&s, 10 * SECOND);
    g_assert_cmpfloat(part(&c[0], s.now), >=, rates[0] / 1e6 - 0.001);
    gpup_share_free(s.share);
}

static void minimum_beside_a_heavy_weight(void)
{
    struct client c[2] = {
        {.request = {400000, 50000, 1000000}, .command_ns = 2 * MS},
        {.request = {0, 950000, 1000000}, .command_ns = 2 * MS},
    };
    struct simulation s = start(c, 2);

    run_until(&s, 10 * SECOND);
    assert_near(part(&c[0], s.now), 0.40, 0.002);
    gpup_share_free(s.share);
}

static void cap_alone(void)
{
    struct client c[1] = {{.request = {0, 1000000, 300000}, .command_ns = 2 * MS}};
    struct simulation s = start(c, 1);

    run_until(&s, 10 * SECOND);
    assert_near(part(&c[0], s.now), 0.30, 0.003);
    gpup_share_free(s.share);
}

/* It is asked for rarely only, as on a busy machine: nothing is lost by that. */
static void cap_looked_at_late(void)
{
    static const struct gpup_share_request capped = {0, 1000000, 300000};
    struct gpup_share *share = gpup_share_new(1, 2 * MS, MOST);
    uint64_t used = 0;

    gpup_share_add(share, &capped, 0);
    gpup_share_set_active(share, 0, true, 0);
    for (uint64_t now = 0; now < 10 * SECOND; now += 11 * MS) {
        if (!gpup_share_may_submit(share, 0, now, NULL))
            continue;
        gpup_share_charge(share, 0, 4 * MS, now);
        used += 4 * MS;
    }
    assert_near((double)used / (10.0 * (double)SECOND), 0.30, 0.003);
    gpup_share_free(share);
}

/* Who is late by a moment is owed what another took before; after a long pause, or when it could
 * not use it anyway, nothing. */
static void a_moment_late(void)
{
    struct gpup_share *share = gpup_share_new(1, WINDOW, MOST);
    int64_t owed;

    gpup_share_add(share, &equal, 0);
    gpup_share_add(share, &equal, 0);
    gpup_share_set_active(share, 0, true, 0);
    gpup_share_set_active(share, 1, true, 0);
    gpup_share_charge(share, 1, 20 * MS, 20 * MS);
    owed = gpup_share_lead(share, 0);
    g_assert_cmpint(owed, <, 0);
    gpup_share_set_active(share, 0, false, 20 * MS);
    gpup_share_set_active(share, 0, true, 25 * MS);
    g_assert_cmpint(gpup_share_lead(share, 0), <, owed / 4);
    g_assert_cmpint(gpup_share_lead(share, 0), >=, owed);
    gpup_share_set_active(share, 0, false, 25 * MS);
    gpup_share_set_active(share, 0, true, 125 * MS);
    g_assert_cmpint(gpup_share_lead(share, 0), ==, 0);
    gpup_share_free(share);
}

/* However long it was quiet: neither held for ever nor let off. */
static void cap_after_a_long_pause(void)
{
    static const struct gpup_share_request capped = {0, 1000000, 300000};
    const uint64_t day = 86400 * SECOND;
    struct gpup_share *share = gpup_share_new(128, WINDOW, MOST);
    uint64_t retry;

    gpup_share_add(share, &capped, 0);
    g_assert_true(gpup_share_may_submit(share, 0, 30 * day, NULL));
    gpup_share_set_active(share, 0, true, 30 * day);
    gpup_share_charge(share, 0, 128 * SECOND, 30 * day);
    g_assert_false(gpup_share_may_submit(share, 0, 30 * day, &retry));
    g_assert_cmpfloat((double)retry, >, 3.2 * (double)SECOND);
    g_assert_cmpfloat((double)retry, <, 3.4 * (double)SECOND);
    g_assert_cmpint(gpup_share_excess(share, 0, 30 * day), >, (gint64)(127 * SECOND));
    g_assert_true(gpup_share_may_submit(share, 0, 30 * day + 4 * SECOND, NULL));
    g_assert_cmpint(gpup_share_excess(share, 0, 30 * day + 4 * SECOND), <=, 0);
    gpup_share_free(share);
}

static void unused_time_goes_to_the_others(void)
{
    struct client c[3] = {
        {.request = equal, .command_ns = 1 * MS, .pause_ns = 19 * MS}, /* wants 5 % at most */
        {.request = equal, .command_ns = 1 * MS},
        {.request = equal, .command_ns = 1 * MS},
    };
    struct simulation s = start(c, 3);
    uint64_t busy = 0;

    run_until(&s, 10 * SECOND);
    for (int i = 0; i < 3; i++)
        busy += c[i].used;
    g_assert_cmpfloat((double)busy / (double)s.now, >, 0.99);
    assert_near(part(&c[0], s.now), 0.045, 0.005);
    assert_near(part(&c[1], s.now), part(&c[2], s.now), 0.005);
    gpup_share_free(s.share);
}

static void one_alone_is_never_held_back(void)
{
    struct client c[2] = {
        {.request = equal, .command_ns = 3 * MS},
        {.request = equal, .command_ns = 3 * MS, .from_ns = UINT64_MAX},
    };
    struct simulation s = start(c, 2);

    run_until(&s, 10 * SECOND);
    g_assert_cmpuint(c[0].used, ==, s.now);
    gpup_share_free(s.share);
}

/* After idling for long it gets its share, not what it missed; the others go on at theirs. */
static void idling_earns_nothing(void)
{
    struct client c[2] = {
        {.request = equal, .command_ns = 1 * MS},
        {.request = equal, .command_ns = 1 * MS, .from_ns = 5 * SECOND},
    };
    struct simulation s = start(c, 2);
    uint64_t before;

    run_until(&s, 5 * SECOND);
    before = c[0].used;
    run_until(&s, 5 * SECOND + 200 * MS);
    assert_near((double)(c[0].used - before) / (200.0 * (double)MS), 0.5, 0.04);
    gpup_share_free(s.share);
}

static void an_overrun_is_paid_back(void)
{
    struct client c[2] = {
        {.request = equal, .command_ns = 300 * MS},
        {.request = equal, .command_ns = 1 * MS},
    };
    struct simulation s = start(c, 2);

    run_until(&s, 20 * SECOND);
    assert_near(part(&c[0], s.now), 0.5, 0.02);
    gpup_share_free(s.share);
}

/* Leaving for a moment after an overrun does not clear the debt. */
static void debt_survives_a_pause(void)
{
    struct client c[2] = {
        {.request = equal, .command_ns = 50 * MS, .pause_ns = 1 * MS},
        {.request = equal, .command_ns = 1 * MS},
    };
    struct simulation s = start(c, 2);

    run_until(&s, 20 * SECOND);
    g_assert_cmpfloat(part(&c[0], s.now), <=, 0.51);
    gpup_share_free(s.share);
}

/* Nor does it when the last one that wants something is removed. */
static void debt_survives_the_last_other(void)
{
    struct gpup_share *share = gpup_share_new(1, WINDOW, MOST);
    int64_t debt;

    for (unsigned i = 0; i < 2; i++) {
        gpup_share_add(share, &equal, 0);
        gpup_share_set_active(share, i, true, 0);
    }
    gpup_share_charge(share, 0, 50 * MS, 50 * MS);
    debt = gpup_share_lead(share, 0);
    g_assert_cmpint(debt, >, 0);
    gpup_share_set_active(share, 0, false, 50 * MS); /* its part goes on */
    gpup_share_remove(share, 1);
    g_assert_cmpint(gpup_share_lead(share, 0), ==, debt);
    gpup_share_free(share);
}

/*
 * Four CPUs, two partitions of equal weight, one of them with a single thread: it gets all it can
 * use, and the other the rest, not just as much.
 */
static void a_serial_one_holds_nobody_back(void)
{
    struct gpup_share *share = gpup_share_new(4, WINDOW, MOST);
    uint64_t used[2] = {0, 0};
    uint64_t now;

    gpup_share_add(share, &equal, 0);
    gpup_share_add(share, &equal, 0);
    gpup_share_set_active(share, 0, true, 0);
    gpup_share_set_active(share, 1, true, 0);
    for (now = 0; now < 10 * SECOND; now += MS) {
        uint64_t ran = 0;

        if (gpup_share_may_submit(share, 0, now, NULL)) {
            gpup_share_charge(share, 0, MS, now);
            used[0] += MS;
            ran += MS;
        }
        if (gpup_share_may_submit(share, 1, now, NULL)) {
            gpup_share_charge(share, 1, 4 * MS - ran, now);
            used[1] += 4 * MS - ran;
            ran = 4 * MS;
        }
        if (ran < 4 * MS)
            gpup_share_idle(share, now);
    }
    assert_near((double)used[0] / (double)now, 1.0, 0.01);
    g_assert_cmpfloat((double)used[1] / (double)now, >, 2.0);
    g_test_message("serial %.3f, parallel %.3f CPUs", (double)used[0] / (double)now,
                   (double)used[1] / (double)now);
    g_assert_cmpfloat((double)(used[0] + used[1]) / (double)now, >, 3.8);
    gpup_share_free(share);
}

static void full_table(void)
{
    struct gpup_share *share = gpup_share_new(4, WINDOW, MOST);

    for (unsigned i = 0; i < MOST; i++)
        g_assert_cmpint(gpup_share_add(share, &equal, 0), ==, (int)i);
    g_assert_cmpint(gpup_share_add(share, &equal, 0), <, 0);
    gpup_share_remove(share, 17);
    g_assert_cmpint(gpup_share_add(share, &equal, 0), ==, 17);
    gpup_share_charge(share, 17, UINT64_MAX, UINT64_MAX);
    gpup_share_remove(share, 100000);
    g_assert_false(gpup_share_may_submit(share, 100000, 0, NULL));
    gpup_share_free(share);
}

/* While somebody wants something, somebody may have it, whoever came and left before, with debts or
 * owed something, and however long each command was. */
static void never_nobody(void)
{
    const struct gpup_share_request request = {0, 250000, 1000000};

    for (unsigned seed = 0; seed < 300; seed++) {
        struct gpup_share *share = gpup_share_new(1, MS, 6);
        GRand *random = g_rand_new_with_seed(seed);
        bool active[6] = {false};
        uint64_t now = 0;

        for (unsigned i = 0; i < 6; i++)
            g_assert_cmpint(gpup_share_add(share, &request, 0), ==, (int)i);
        for (unsigned k = 0; k < 2000; k++) {
            unsigned first = (unsigned)g_rand_int_range(random, 0, 6), n = 0, may = 0;
            unsigned allowed = 6;

            if (g_rand_int_range(random, 0, 8) == 0) {
                active[first] = !active[first];
                gpup_share_set_active(share, first, active[first], now);
            }
            for (unsigned i = 0; i < 6; i++) {
                n += active[i];
                if (!active[i] || !gpup_share_may_submit(share, i, now, NULL))
                    continue;
                may++;
                if (allowed == 6 || i == first)
                    allowed = i;
            }
            g_assert_true(n == 0 || may > 0);
            now += (uint64_t)g_rand_int_range(random, 10, 3000) * US;
            if (allowed < 6)
                gpup_share_charge(share, allowed, (uint64_t)g_rand_int_range(random, 10, 3000) * US,
                                  now);
        }
        g_rand_free(random);
        gpup_share_free(share);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/share/rates", rates);
    g_test_add_func("/share/never-nobody", never_nobody);
    g_test_add_func("/share/rates-of-any", rates_of_any);
    g_test_add_func("/share/equal", equal_ones_with_unequal_commands);
    g_test_add_func("/share/weights", weights_in_one_second_windows);
    g_test_add_func("/share/bound", the_bound_holds);
    g_test_add_func("/share/any", greedy_among_any);
    g_test_add_func("/share/half-serial", greedy_among_half_serial);
    g_test_add_func("/share/minimum", minimum_beside_a_heavy_weight);
    g_test_add_func("/share/cap", cap_alone);
    g_test_add_func("/share/cap-looked-at-late", cap_looked_at_late);
    g_test_add_func("/share/a-moment-late", a_moment_late);
    g_test_add_func("/share/cap-after-a-pause", cap_after_a_long_pause);
    g_test_add_func("/share/work-conserving", unused_time_goes_to_the_others);
    g_test_add_func("/share/alone", one_alone_is_never_held_back);
    g_test_add_func("/share/idling", idling_earns_nothing);
    g_test_add_func("/share/overrun", an_overrun_is_paid_back);
    g_test_add_func("/share/debt", debt_survives_a_pause);
    g_test_add_func("/share/debt-and-removal", debt_survives_the_last_other);
    g_test_add_func("/share/serial", a_serial_one_holds_nobody_back);
    g_test_add_func("/share/full-table", full_table);
    return g_test_run();
}
