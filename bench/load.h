/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_BENCH_LOAD_H
#define GPUP_BENCH_LOAD_H

#include <stdbool.h>
#include <stdint.h>

/*
 * Whom the machine's CPUs worked for: the hypervisor may take them away ("steal" in proc(5)), and
 * there may be other processes than those that are measured. Both are no doing of what is
 * measured, which cannot be fair with CPUs that it does not have.
 */
struct load;

/* All but `ns` since the machine was started, ns of all CPUs together. */
struct load_sample {
    uint64_t ns; /* CLOCK_MONOTONIC */
    uint64_t stolen, idle;
    uint64_t ours; /* of this process and its descendants, as they were at load_new() */
};

struct load *load_new(void);
void load_free(struct load *load);
void load_take(const struct load *load, struct load_sample *sample);

/* Parts of all the CPUs' time. */
struct taken {
    double stolen;  /* by the hypervisor */
    double foreign; /* by processes that have nothing to do with the measurement, and interrupts */
    double idle;
};

struct taken load_taken(const struct load_sample *from, const struct load_sample *to);
/* Whether so little was taken that what was measured meanwhile tells about what was measured. */
bool load_is_clean(const struct load_sample *from, const struct load_sample *to);

#endif
