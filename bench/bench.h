/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_BENCH_BENCH_H
#define GPUP_BENCH_BENCH_H

#include "report.h"
#include "world.h"

#include <stdio.h>

/* What the cases of `./benchmark share` have in common. */

#define SETTLE_MS 500u
#define SECOND    UINT64_C(1000000000)
/* Where CPUs are taken away meanwhile it is measured on, for at most so many times as long. */
#define MOST_TIMES 4u

struct bench {
    struct report *report;
    unsigned seconds; /* of one measurement */
    const char *only;
    FILE *windows;            /* where each window is written to, or NULL */
    const char *reference[6]; /* QEMU's own back-end with its arguments; empty: there is none */
};

/* Puts a case into the report. `note`: said beside it, or NULL. */
void bench_noted(struct bench *b, const char *name, double value, const char *unit, double baseline,
                 const char *goal, bool met, const char *note);
void bench_result(struct bench *b, const char *name, double value, const char *unit,
                  double baseline, const char *goal, bool met);

/* n partitions that ask for the same and do the same work. */
struct world_setup bench_equal_setup(size_t n);
/* backend: world.h. */
struct world *bench_equal_world(size_t n, bool no_arbiter, const char *const *backend);
void bench_set_all(struct world *w, size_t n, enum world_mode mode);

void bench_sort(double *values, size_t n);
/* Sorts them. */
double bench_median(double *values, size_t n);
double bench_least_to_most(const double *values, size_t n);

/* What was measured, and what of it has to be believed though CPUs were taken away. */
struct bench_tries {
    size_t all, unclean, given_up;
};

/* Into `text`, to be said beside the case; NULL: there is nothing to say. */
const char *bench_tell_tries(char *text, size_t size, const struct bench_tries *tries);

void bench_latency(struct bench *b);

/* explain.c, latency.c: what is run only when it is asked for by its name. */
void bench_explain_cpus(struct bench *b);
void bench_explain_turns(struct bench *b);
void bench_explain_moved(struct bench *b);
void bench_explain_guests(struct bench *b);

#endif
