/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_BENCH_PLAIN_H
#define GPUP_BENCH_PLAIN_H

#include <stddef.h>

/*
 * How evenly this machine's CPUs work, without gpup and without a GPU: plain processes that only
 * compute. What each does in a second, for each second of CPU time that it had, slowest to fastest.
 * Two CPUs of one core, caches and other guests of the same host slow some of them down; no
 * division of CPU time can be more even than that in work.
 */
struct plain_result {
    double median, worst; /* of the clean windows of 1 s (load.h); NAN: there was none */
};

struct plain_result plain_processes(size_t n, unsigned seconds);

#endif
