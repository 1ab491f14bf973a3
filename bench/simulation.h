/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_BENCH_SIMULATION_H
#define GPUP_BENCH_SIMULATION_H

#include <stdint.h>

/* core/share alone, on a GPU that does one command at a time and takes whoever may go on in turn.
 */
struct simulation_result {
    double fairness; /* worst second of any run: least to most, of what each got by its rate */
    double bound;    /* how much of the stated bound was used at most; above 1: it was exceeded */
};

/* n equal greedy partitions whose commands take up to most_ns, for some seconds, in several runs.
 */
struct simulation_result simulate_equal(unsigned n, uint64_t most_ns, unsigned runs);
/* Up to 64 partitions with any weights and commands up to most_ns: the bound only. */
struct simulation_result simulate_any(uint64_t most_ns, unsigned runs);

#endif
