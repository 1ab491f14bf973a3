/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_BENCH_CPUS_H
#define GPUP_BENCH_CPUS_H

#include <sched.h>
#include <stddef.h>

/* The CPUs that the benchmark may run on (taskset(1)): those are what is measured. */
const cpu_set_t *cpus_allowed(void);
unsigned cpus_count(void);

/* Keeps the caller to the one with this number of them, around. */
void cpus_keep_to(size_t number);

#endif
