/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_BENCH_PLAIN_H
#define GPUP_BENCH_PLAIN_H

#include <stddef.h>

#define PLAIN_MOST 1024u /* windows */

/*
 * How evenly this machine's CPUs work, without gpup and without a GPU: plain processes that only
 * compute. What each does in a second, for each second of CPU time that it had, slowest to fastest.
 * Two CPUs of one core, caches and other guests of the same host slow some of them down; no
 * division of CPU time can be more even than that in work.
 */
enum plain_way {
    PLAIN_FREE,   /* where the scheduler puts them */
    PLAIN_PINNED, /* the first one on the first CPU, and so on */
    PLAIN_MOVED,  /* each to the next CPU each 20 ms, such that all have had all CPUs alike */
};

/* All zero to begin with; what is measured again into the same one is added. */
struct plain_result {
    double median, worst; /* of the clean windows of 1 s (load.h); NAN: there was none */
    double all_median, all_worst;
    size_t n_windows, n_clean;
    double all[PLAIN_MOST], clean[PLAIN_MOST];
};

void plain_processes(size_t n, unsigned seconds, enum plain_way way, struct plain_result *result);

#endif
