/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "fairness.h"

#include <glib.h>
#include <math.h>

/* A window begins each: */
#define STEP (SECOND / 4)

/* Those that are clean, or all. */
size_t fairness_count_windows(const struct sampler *s, bool clean)
{
    size_t last = sampler_count(s) - 1, n = 0;

    for (uint64_t from = sampler_time(s, 0); from + SECOND <= sampler_time(s, last); from += STEP)
        n += !clean || sampler_is_clean(s, from, from + SECOND);
    return n;
}

/* Until there were as many clean windows as there are when nothing disturbs. */
void fairness_run(const struct bench *b, struct sampler *s)
{
    sampler_run(s, b->seconds * 1000);
    for (unsigned k = b->seconds; k < MOST_TIMES * b->seconds; k++) {
        size_t clean = fairness_count_windows(s, true);

        if (clean >= (b->seconds - 1) * 4 || clean == 0) /* nothing to wait for: it is always so */
            return;
        sampler_run(s, 1000);
    }
}

/* That of so long in which the least was taken away by others. */
void fairness_quietest(const struct sampler *s, uint64_t length, size_t *first, size_t *last)
{
    size_t end = sampler_count(s) - 1;
    double least = G_MAXDOUBLE;

    *first = 0;
    *last = end;
    for (uint64_t from = sampler_time(s, 0); from + length <= sampler_time(s, end); from += STEP) {
        struct taken taken = sampler_taken(s, from, from + length);

        if (taken.stolen + taken.foreign >= least)
            continue;
        least = taken.stolen + taken.foreign;
        *first = sampler_at(s, from);
        *last = sampler_at(s, from + length);
    }
}

static void write_window(const struct bench *b, const char *name, const struct sampler *s,
                         struct world *w, size_t n, uint64_t from)
{
    struct taken taken = sampler_taken(s, from, from + SECOND);

    if (!b->windows)
        return;
    fprintf(b->windows, "%s\t%.2f\tstolen %.1f %%\tforeign %.1f %%\tidle %.1f %%\t%s", name,
            (double)from / 1e9, taken.stolen * 100, taken.foreign * 100, taken.idle * 100,
            sampler_is_clean(s, from, from + SECOND) ? "clean" : "left out");
    for (size_t i = 0; i < n; i++)
        fprintf(b->windows, "\t%.1f in %.0f ms", world_work(w, i, from, from + SECOND),
                sampler_charged(s, i, sampler_at(s, from), sampler_at(s, from + SECOND)) / 1e6);
    fprintf(b->windows, "\n");
    fflush(b->windows);
}

void fairness_look(const struct bench *b, const char *name, const struct sampler *s,
                   struct world *w, size_t n, struct fairness *f)
{
    size_t last = sampler_count(s) - 1;
    double values[WORLD_MOST];

    for (uint64_t from = sampler_time(s, 0);
         from + SECOND <= sampler_time(s, last) && f->n_windows < FAIRNESS_MOST; from += STEP) {
        for (size_t i = 0; i < n; i++)
            values[i] = world_work(w, i, from, from + SECOND);
        f->all[f->n_windows++] = bench_least_to_most(values, n);
        if (sampler_is_clean(s, from, from + SECOND))
            f->clean[f->n_clean++] = bench_least_to_most(values, n);
        write_window(b, name, s, w, n, from);
    }
    f->all_median = bench_median(f->all, f->n_windows);
    f->all_worst = f->all[0];
    f->median = f->n_clean > 0 ? bench_median(f->clean, f->n_clean) : NAN;
    f->worst = f->n_clean > 0 ? f->clean[0] : NAN;
}

static void add_totals(const struct sampler *s, struct world *w, size_t n, struct fairness *f)
{
    size_t last = sampler_count(s) - 1;
    uint64_t from = sampler_time(s, 0), to = sampler_time(s, last);

    for (size_t i = 0; i < n; i++) {
        f->work += world_work(w, i, from, to);
        f->cpu_s += sampler_charged(s, i, 0, last) / 1e9;
    }
    f->s += (double)(to - from) / 1e9;
    f->idle_s += sampler_taken(s, from, to).idle * (double)(to - from) / 1e9;
}

void fairness_measure(const struct bench *b, const char *name, struct world *w, size_t n,
                      struct fairness *f)
{
    struct sampler *s = sampler_new(w, n);
    double values[WORLD_MOST] = {0};
    size_t first, last;

    bench_set_all(w, n, WORLD_GREEDY);
    world_sleep_ms(SETTLE_MS);
    fairness_run(b, s);
    world_sleep_ms(100); /* what lies across the end is recorded when it is done */
    bench_set_all(w, n, WORLD_IDLE);
    fairness_quietest(s, b->seconds * SECOND - SECOND / 10, &first, &last);
    for (size_t i = 0; i < n; i++)
        values[i] = sampler_charged(s, i, first, last);
    f->charged = bench_least_to_most(values, n);
    add_totals(s, w, n, f);
    fairness_look(b, name, s, w, n, f);
    sampler_free(s);
}
