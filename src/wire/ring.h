/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_WIRE_RING_H
#define GPUP_WIRE_RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "wire/render.h"

/*
 * The two ends of a `struct gpup_ring` (see wire/render.h for its form). An end keeps its own
 * position and the ring's size in private memory: nothing the peer writes can lead it outside of
 * the ring. An end that finds the peer's position impossible answers -EPROTO, then and for ever.
 *
 * Of each ring there is one producer and one consumer; one end is used by one thread at a time.
 */

struct gpup_ring_end {
    struct gpup_ring *ring;
    uint64_t size;     /* bytes of data, a power of two */
    uint64_t position; /* the own position: head of a producer, tail of a consumer */
    uint64_t next;     /* producer: where the position goes at commit */
    int wake_fd;       /* the eventfd that wakes the peer; borrowed, -1 for none */
    bool broken;       /* the peer broke the protocol */
};

/* Bytes of shared memory that a ring with `data_size` bytes of data takes. */
static inline uint64_t gpup_ring_bytes(uint64_t data_size)
{
    return sizeof(struct gpup_ring) + data_size;
}

/*
 * Starts one end on a ring that lies in `bytes` bytes (as of gpup_ring_bytes()) of zeroed shared
 * memory. -EINVAL: misaligned, or the data's size is no power of two or too small.
 */
int gpup_ring_end_init(struct gpup_ring_end *end, void *memory, uint64_t bytes, int wake_fd);

/* ---- producer ---- */

/*
 * Room for one record of `size` bytes with its header, which is filled in; the rest is what lay
 * there before and is for the caller to write. NULL with errno: ENOSPC: full now; the consumer
 * will wake this end's eventfd as soon as it frees something, then try again. EMSGSIZE: larger
 * than half of the ring. EPROTO. A reservation that is not committed is forgotten by the next.
 */
void *gpup_ring_reserve(struct gpup_ring_end *end, uint32_t type, uint64_t size, uint64_t seq);

/* Publishes the record reserved last and wakes the consumer where it waits. */
void gpup_ring_commit(struct gpup_ring_end *end);

/* Reserve, copy the whole of `record` (its header tells the size), commit. 0 or -errno as above. */
int gpup_ring_put(struct gpup_ring_end *end, const struct gpup_record *record);

/* ---- consumer ---- */

/*
 * Copies the next record into `record` (aligned to 8, `room` bytes) and frees its place. 1: a
 * record, of record->size bytes, which is at least the header; 0: none; -EMSGSIZE: larger than
 * `room`; -EPROTO. The caller checks the size against the type.
 */
int gpup_ring_take(struct gpup_ring_end *end, struct gpup_record *record, size_t room);

/*
 * The next record where it lies in the ring, without a copy; gpup_ring_release() frees its place.
 * Only for a consumer that trusts the producer not to change what it has published. 1, 0, -EPROTO.
 */
int gpup_ring_peek(struct gpup_ring_end *end, const struct gpup_record **record);
void gpup_ring_release(struct gpup_ring_end *end);

/* Whether the producer has published something, or broken the protocol, which the next call tells.
 */
bool gpup_ring_has_some(struct gpup_ring_end *end);

/*
 * To be called before sleeping on the own eventfd: asks to be woken. True: nothing is there, go to
 * sleep. False: look again. After the wake gpup_ring_wake_clear() empties the eventfd.
 */
bool gpup_ring_may_sleep(struct gpup_ring_end *end);

void gpup_ring_wake_clear(int fd);

#endif
