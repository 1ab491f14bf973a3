/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bench.h"

#include <glib.h>
#include <stdlib.h>

void bench_noted(struct bench *b, const char *name, double value, const char *unit, double baseline,
                 const char *goal, bool met, const char *note)
{
    const struct report_case c = {.name = name,
                                  .unit = unit,
                                  .value = value,
                                  .baseline = baseline,
                                  .goal = goal,
                                  .met = met,
                                  .note = note};

    report_add(b->report, &c);
}

void bench_result(struct bench *b, const char *name, double value, const char *unit,
                  double baseline, const char *goal, bool met)
{
    bench_noted(b, name, value, unit, baseline, goal, met, NULL);
}

struct world_setup bench_equal_setup(size_t n)
{
    struct world_setup setup = {
        .n = n, .work = {.size = 512, .loops = 8, .draws = 1}, .quiet = true};

    for (size_t i = 0; i < n; i++)
        setup.share[i] = (struct world_share){0, (unsigned)(100 / n), 100};
    return setup;
}

struct world *bench_equal_world(size_t n, bool no_arbiter, const char *const *backend)
{
    struct world_setup setup = bench_equal_setup(n);

    setup.no_arbiter = no_arbiter;
    setup.backend = backend;
    return world_new(&setup);
}

void bench_set_all(struct world *w, size_t n, enum world_mode mode)
{
    for (size_t i = 0; i < n; i++)
        world_set_mode(w, i, mode);
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

void bench_sort(double *values, size_t n)
{
    qsort(values, n, sizeof(*values), compare);
}

double bench_median(double *values, size_t n)
{
    bench_sort(values, n);
    return n % 2 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

double bench_least_to_most(const double *values, size_t n)
{
    double least = values[0], most = values[0];

    for (size_t i = 1; i < n; i++) {
        least = MIN(least, values[i]);
        most = MAX(most, values[i]);
    }
    return most > 0 ? least / most : 0;
}

const char *bench_tell_tries(char *text, size_t size, const struct bench_tries *tries)
{
    snprintf(text, size,
             "%zu of %zu measurements left out: CPUs were taken away; %zu used though they were",
             tries->unclean - tries->given_up, tries->all, tries->given_up);
    return tries->unclean > 0 ? text : NULL;
}
