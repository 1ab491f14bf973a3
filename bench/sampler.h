/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_BENCH_SAMPLER_H
#define GPUP_BENCH_SAMPLER_H

#include "load.h"
#include "world.h"

/* What partitions were charged, over time: the CPU time of their renderers, measured apart from
 * gpupd; and what the machine's CPUs did else. */
struct sampler;

struct sampler *sampler_new(struct world *world, size_t n);
void sampler_free(struct sampler *sampler);
/* Takes a sample each 10 ms for that long. */
void sampler_run(struct sampler *sampler, unsigned ms);

size_t sampler_count(const struct sampler *sampler);
uint64_t sampler_time(const struct sampler *sampler, size_t k);
/* Charged ns of partition i between two samples. */
double sampler_charged(const struct sampler *sampler, size_t i, size_t from, size_t to);
/* Its part of what all were charged. */
double sampler_part(const struct sampler *sampler, size_t i, size_t from, size_t to);
/* The first sample at or after this time; the last one where there is none. */
size_t sampler_at(const struct sampler *sampler, uint64_t ns);

struct taken sampler_taken(const struct sampler *sampler, uint64_t from_ns, uint64_t to_ns);
bool sampler_is_clean(const struct sampler *sampler, uint64_t from_ns, uint64_t to_ns);

#endif
