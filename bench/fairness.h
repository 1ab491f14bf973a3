/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_BENCH_FAIRNESS_H
#define GPUP_BENCH_FAIRNESS_H

#include "bench.h"
#include "sampler.h"

#define FAIRNESS_MOST 1024u /* windows */

/* How even greedy partitions were, in windows of 1 s; all zero to begin with. What is measured
 * again into the same one is added. */
struct fairness {
    double charged;               /* least to most, over the quietest stretch of the last time */
    double median, worst;         /* of work, in clean windows of 1 s; NAN: there was none */
    double all_median, all_worst; /* in all windows */
    size_t n_windows, n_clean;
    double all[FAIRNESS_MOST], clean[FAIRNESS_MOST];
    double work, cpu_s; /* of all partitions */
    double s, idle_s;   /* how long it took; for how much of that no CPU had work, on average */
};

void fairness_measure(const struct bench *b, const char *name, struct world *w, size_t n,
                      struct fairness *f);

/* Parts of it. Samples for b->seconds, and longer where CPUs are taken away. */
void fairness_run(const struct bench *b, struct sampler *s);
/* How many windows there are, all or those that are clean. */
size_t fairness_count_windows(const struct sampler *s, bool clean);
/* The first and last sample of that stretch of so many ns in which the least was taken away. */
void fairness_quietest(const struct sampler *s, uint64_t length, size_t *first, size_t *last);
void fairness_look(const struct bench *b, const char *name, const struct sampler *s,
                   struct world *w, size_t n, struct fairness *f);

#endif
