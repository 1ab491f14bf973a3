/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_CORE_SHARE_H
#define GPUP_CORE_SHARE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Dividing GPU time: who may submit work now, given what each partition asked for and what it was
 * charged. No clock and no I/O of its own: the caller says what time it is and what was used.
 * Deterministic.
 *
 * The model is a fluid one: every active partition i flows at the rate
 *
 *     r_i = clamp(L * weight_i, min_i, cap_i)   with L such that the rates add up to the whole GPU
 *
 * (or to the sum of the caps when that is less). A partition's normalised usage is what it was
 * charged divided by its rate. It may submit while that is at most a window ahead of the mean of
 * all that have work, weighted by their rates. One that falls behind because the GPU was busy with
 * a long command stream of another is owed that time; one that falls behind because it cannot use
 * its share (time was left idle) is owed nothing, and what it left goes to the others by weight.
 * One that was charged more than it was allowed waits until the others have caught up.
 *
 * The cap is a token bucket on real time: it holds on an otherwise idle GPU too. In any time t a
 * partition is charged at most cap * (t + 8 windows) and one command stream more.
 *
 * Bound: while the same partitions are active and always have work, at any t a partition has been
 * charged at most r_i * (t + window) and one command stream of its own more, and at least r_i * t
 * less one window and one command stream of each other.
 */

struct gpup_share_request {
    uint32_t min, weight, cap; /* parts per million of the GPU; weight 0 counts as 1 */
};

/*
 * The fluid rates of n requests, in parts per million, rounded down. Minima that add up to more
 * than the GPU are scaled down in proportion.
 */
void gpup_share_rates(const struct gpup_share_request *requests, size_t n, uint32_t *rates);

struct gpup_share;

/*
 * capacity: how many nanoseconds of charged time one nanosecond of real time has (1 for a GPU,
 * the number of CPUs for the software renderer). window_ns: of charged time on the whole GPU; how
 * far one may run ahead. most: how many partitions there can be. NULL when out of memory.
 *
 * A charge costs the same however many there are, but for a tenth of a second after
 * gpup_share_idle(); whatever changes who is active, or what they asked for, grows with their
 * number.
 */
struct gpup_share *gpup_share_new(unsigned capacity, uint64_t window_ns, size_t most);
void gpup_share_free(struct gpup_share *share);
/* From now on; as above. What is charged and owed stays. */
void gpup_share_set_window(struct gpup_share *share, uint64_t window_ns);

/* Index of the new partition, or -ENOSPC. It starts inactive. */
int gpup_share_add(struct gpup_share *share, const struct gpup_share_request *request,
                   uint64_t now_ns);
void gpup_share_remove(struct gpup_share *share, unsigned index);
/* Takes effect at once; debt and cap tokens stay. */
void gpup_share_change(struct gpup_share *share, unsigned index,
                       const struct gpup_share_request *request, uint64_t now_ns);

/*
 * Active: has work submitted or waiting. A newly active one starts at the mean, less debt it had
 * when it became inactive: idling neither earns nor clears. Only what it was owed a moment ago it
 * is owed still.
 */
void gpup_share_set_active(struct gpup_share *share, unsigned index, bool active, uint64_t now_ns);

/* Charges what the meter saw since the last call. */
void gpup_share_charge(struct gpup_share *share, unsigned index, uint64_t used_ns, uint64_t now_ns);

/*
 * Tells that GPU time was left idle while somebody was held back: those that are behind could have
 * used it and did not, so they are owed nothing for a tenth of a second and hold nobody back.
 */
void gpup_share_idle(struct gpup_share *share, uint64_t now_ns);

/*
 * Whether this partition may submit another command now. *retry_ns (may be NULL): when it may not
 * only because of its cap, the real time to wait until it may; else UINT64_MAX: ask again when
 * another was charged.
 */
bool gpup_share_may_submit(struct gpup_share *share, unsigned index, uint64_t now_ns,
                           uint64_t *retry_ns);

/*
 * How much more a partition was charged than it may have by now, in charged ns (by its cap, or
 * beyond the window that it may be ahead); 0 or less: it may submit.
 */
int64_t gpup_share_excess(struct gpup_share *share, unsigned index, uint64_t now_ns);

/* How far a partition is ahead of the mean of the active ones (below 0: behind), ns of charged time
 * divided by its rate: what tells who is due. */
int64_t gpup_share_lead(const struct gpup_share *share, unsigned index);

/* The present rate of a partition, parts per million; 0 while inactive. */
uint32_t gpup_share_rate(const struct gpup_share *share, unsigned index);

#endif
