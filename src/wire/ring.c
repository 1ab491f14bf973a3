/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "wire/ring.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define ALIGNMENT 8u
#define SMALLEST  (UINT64_C(4) * sizeof(struct gpup_record))
/* What is used of a large ring while the consumer keeps up: it stays in the processor's caches. */
#define WARM_SIZE    (UINT64_C(2) << 20)
#define PAD_MIN_SIZE (2 * sizeof(uint32_t)) /* type and size: what a pad record always has */

static uint64_t round_up(uint64_t size)
{
    return (size + (ALIGNMENT - 1)) & ~(uint64_t)(ALIGNMENT - 1);
}

int gpup_ring_end_init(struct gpup_ring_end *end, void *memory, uint64_t bytes, int wake_fd)
{
    uint64_t size;

    memset(end, 0, sizeof(*end));
    end->broken = true;
    if (!memory || (uintptr_t)memory % _Alignof(struct gpup_ring) != 0)
        return -EINVAL;
    if (__builtin_sub_overflow(bytes, (uint64_t)sizeof(struct gpup_ring), &size))
        return -EINVAL;
    if (size < SMALLEST || (size & (size - 1)) != 0)
        return -EINVAL;
    end->ring = memory;
    end->size = size;
    end->wake_fd = wake_fd;
    end->broken = false;
    return 0;
}

static void wake(int fd)
{
    /* EAGAIN means the counter is full: then a wake is pending already. */
    if (fd >= 0)
        (void)!eventfd_write(fd, 1);
}

void gpup_ring_wake_clear(int fd)
{
    eventfd_t value;

    (void)!eventfd_read(fd, &value);
}

/* Free bytes as the producer sees them, or -1 when the consumer's position is impossible. */
static int64_t free_bytes(struct gpup_ring_end *end)
{
    uint64_t tail = atomic_load_explicit(&end->ring->tail, memory_order_acquire);
    uint64_t used = end->position - tail;

    if (end->broken || used > end->size || tail % ALIGNMENT != 0) {
        end->broken = true;
        return -1;
    }
    return (int64_t)(end->size - used);
}

/* 0: `need` bytes are free; else errno. A producer that finds too few asks to be woken. */
static int have_room(struct gpup_ring_end *end, uint64_t need)
{
    int64_t room = free_bytes(end);

    if (room < 0)
        return EPROTO;
    if ((uint64_t)room >= need)
        return 0;
    atomic_store_explicit(&end->ring->producer_waits, 1, memory_order_relaxed);
    atomic_thread_fence(memory_order_seq_cst);
    room = free_bytes(end);
    if (room < 0)
        return EPROTO;
    if ((uint64_t)room < need)
        return ENOSPC;
    atomic_store_explicit(&end->ring->producer_waits, 0, memory_order_relaxed);
    return 0;
}

void *gpup_ring_reserve(struct gpup_ring_end *end, uint32_t type, uint64_t size, uint64_t seq)
{
    struct gpup_record header = {.type = type, .size = (uint32_t)size, .seq = seq};
    uint64_t offset, rest, pad, need;
    int error;

    if (end->broken) {
        errno = EPROTO;
        return NULL;
    }
    if (size < sizeof(header) || size > end->size / 2 || size > UINT32_MAX - ALIGNMENT) {
        errno = EMSGSIZE;
        return NULL;
    }
    need = round_up(size);
    offset = end->position & (end->size - 1);
    rest = end->size - offset;
    pad = rest < need ? rest : 0;
    if (offset >= WARM_SIZE && free_bytes(end) >= (int64_t)(rest + need))
        pad = rest;
    error = have_room(end, pad + need);
    if (error) {
        errno = error;
        return NULL;
    }
    if (pad) {
        uint32_t words[2] = {GPUP_REC_PAD, (uint32_t)pad};

        memcpy(end->ring->data + offset, words, sizeof(words));
        offset = 0;
    }
    memcpy(end->ring->data + offset, &header, sizeof(header));
    end->next = end->position + pad + need;
    return end->ring->data + offset;
}

void gpup_ring_commit(struct gpup_ring_end *end)
{
    end->position = end->next;
    atomic_store_explicit(&end->ring->head, end->position, memory_order_release);
    atomic_thread_fence(memory_order_seq_cst);
    if (atomic_load_explicit(&end->ring->consumer_waits, memory_order_relaxed) &&
        atomic_exchange_explicit(&end->ring->consumer_waits, 0, memory_order_relaxed))
        wake(end->wake_fd);
}

int gpup_ring_put(struct gpup_ring_end *end, const struct gpup_record *record)
{
    void *place = gpup_ring_reserve(end, record->type, record->size, record->seq);

    if (!place)
        return -errno;
    memcpy(place, record, record->size);
    gpup_ring_commit(end);
    return 0;
}

static void publish_tail(struct gpup_ring_end *end)
{
    atomic_store_explicit(&end->ring->tail, end->position, memory_order_release);
    atomic_thread_fence(memory_order_seq_cst);
    if (atomic_load_explicit(&end->ring->producer_waits, memory_order_relaxed) &&
        atomic_exchange_explicit(&end->ring->producer_waits, 0, memory_order_relaxed))
        wake(end->wake_fd);
}

/* Bytes the producer has published, or -1 when its position is impossible. */
static int64_t used_bytes(struct gpup_ring_end *end)
{
    uint64_t head = atomic_load_explicit(&end->ring->head, memory_order_acquire);
    uint64_t used = head - end->position;

    if (end->broken || used > end->size || head % ALIGNMENT != 0) {
        end->broken = true;
        return -1;
    }
    return (int64_t)used;
}

static int broke(struct gpup_ring_end *end)
{
    end->broken = true;
    return -EPROTO;
}

/* Finds the next record: 1, and where it lies with its first two words; 0; -EPROTO. */
static int find(struct gpup_ring_end *end, uint64_t *offset, uint32_t words[2])
{
    for (;;) {
        int64_t used = used_bytes(end);
        uint64_t rest;

        if (used < 0)
            return -EPROTO;
        if (used == 0)
            return 0;
        *offset = end->position & (end->size - 1);
        rest = end->size - *offset;
        /* Positions are multiples of 8, so these two words are always inside. */
        memcpy(words, end->ring->data + *offset, 2 * sizeof(*words));
        if (words[0] == GPUP_REC_PAD) {
            /* A pad goes exactly to the end, so the ring is left after one of them. */
            if (words[1] != rest || rest > (uint64_t)used)
                return broke(end);
            end->position += rest;
            continue;
        }
        if (words[1] < sizeof(struct gpup_record) || words[1] > end->size / 2 ||
            round_up(words[1]) > (uint64_t)used || words[1] > rest)
            return broke(end);
        end->next = end->position + round_up(words[1]);
        return 1;
    }
}

void gpup_ring_release(struct gpup_ring_end *end)
{
    end->position = end->next;
    publish_tail(end);
}

int gpup_ring_take(struct gpup_ring_end *end, struct gpup_record *record, size_t room)
{
    uint32_t words[2];
    uint64_t offset;
    int ret = find(end, &offset, words);

    if (ret <= 0)
        return ret;
    if (words[1] > room)
        return -EMSGSIZE;
    memcpy(record, end->ring->data + offset, words[1]);
    /* What was checked stands, whatever the producer has written there meanwhile. */
    record->type = words[0];
    record->size = words[1];
    gpup_ring_release(end);
    return 1;
}

int gpup_ring_peek(struct gpup_ring_end *end, const struct gpup_record **record)
{
    uint32_t words[2];
    uint64_t offset;
    int ret = find(end, &offset, words);

    if (ret > 0)
        *record = (const struct gpup_record *)(const void *)(end->ring->data + offset);
    return ret;
}

bool gpup_ring_has_some(struct gpup_ring_end *end)
{
    return used_bytes(end) != 0;
}

bool gpup_ring_may_sleep(struct gpup_ring_end *end)
{
    if (end->broken)
        return false;
    atomic_store_explicit(&end->ring->consumer_waits, 1, memory_order_relaxed);
    atomic_thread_fence(memory_order_seq_cst);
    if (used_bytes(end) == 0)
        return true;
    atomic_store_explicit(&end->ring->consumer_waits, 0, memory_order_relaxed);
    return false;
}
