/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/error.h"
#include "vgpu/guest_memory.h"
#include "vgpu/virtqueue_internal.h"

#include <errno.h>
#include <glib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

/* The driver's side of one queue of 8, in a guest of 64 KiB at guest address 0. */
#define MEMORY 65536
#define USER   UINT64_C(0x7f0000000000)
#define SIZE   8
#define DESC   0
#define AVAIL  4096
#define USED   8192
#define DATA   16384

struct fixture {
    struct guest_memory memory;
    struct virtqueue *queue;
    struct virtqueue_setup setup;
    char *guest;
    struct vring_desc *desc;
    struct vring_avail *avail;
    struct vring_used *used;
    int call;
};

static void set_up(struct fixture *f, gconstpointer event_idx)
{
    int fd = memfd_create("guest", MFD_CLOEXEC);
    uint32_t id;

    g_assert_cmpint(ftruncate(fd, MEMORY), ==, 0);
    guest_memory_init(&f->memory);
    g_assert_cmpint(guest_memory_add(&f->memory, 0, USER, MEMORY, 0, fd, &id, NULL), ==, 0);
    f->guest = f->memory.regions[0].map;
    f->desc = (void *)(f->guest + DESC);
    f->avail = (void *)(f->guest + AVAIL);
    f->used = (void *)(f->guest + USED);
    f->call = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    f->queue = virtqueue_new(&f->memory);
    f->setup = (struct virtqueue_setup){.size = SIZE,
                                        .desc = USER + DESC,
                                        .avail = USER + AVAIL,
                                        .used = USER + USED,
                                        .event_idx = event_idx != NULL,
                                        .indirect = true,
                                        .call = f->call};
    g_assert_cmpint(virtqueue_start(f->queue, &f->setup, NULL), ==, 0);
}

static void tear_down(struct fixture *f, gconstpointer data)
{
    virtqueue_free(f->queue);
    guest_memory_clear(&f->memory);
    close(f->call);
}

static void describe(struct vring_desc *d, uint64_t addr, uint32_t len, uint16_t flags,
                     uint16_t next)
{
    *d = (struct vring_desc){addr, len, flags, next};
}

static void offer(struct fixture *f, uint16_t head)
{
    f->avail->ring[f->avail->idx % SIZE] = head;
    f->avail->idx++;
}

static struct virtqueue_element *pop(struct fixture *f)
{
    struct virtqueue_element *e = NULL;

    g_assert_cmpint(virtqueue_pop(f->queue, &e, NULL), ==, 1);
    return e;
}

static bool interrupted(struct fixture *f)
{
    uint64_t n;

    return read(f->call, &n, sizeof(n)) == sizeof(n);
}

static void a_request_and_its_answer(struct fixture *f, gconstpointer data)
{
    struct virtqueue_element *e;
    char buf[16] = "";

    memcpy(f->guest + DATA, "hello ", 6);
    memcpy(f->guest + DATA + 100, "world", 6);
    describe(&f->desc[3], DATA, 6, VRING_DESC_F_NEXT, 1);
    describe(&f->desc[1], DATA + 100, 6, VRING_DESC_F_NEXT, 0);
    describe(&f->desc[0], DATA + 200, 8, VRING_DESC_F_WRITE, 0);
    offer(f, 3);
    e = pop(f);
    g_assert_cmpuint(e->out_size, ==, 12);
    g_assert_cmpuint(e->in_size, ==, 8);
    g_assert_cmpuint(virtqueue_read(e, 3, buf, sizeof(buf)), ==, 9);
    g_assert_cmpstr(buf, ==, "lo world");
    g_assert_cmpuint(virtqueue_write(e, 4, "abcdefgh", 8), ==, 4);
    g_assert_cmpint(memcmp(f->guest + DATA + 204, "abcd\0", 5), ==, 0);
    virtqueue_push(e, 100); /* more than there is room for */
    g_assert_cmpuint(f->used->idx, ==, 1);
    g_assert_cmpuint(f->used->ring[0].id, ==, 3);
    g_assert_cmpuint(f->used->ring[0].len, ==, 8);
    virtqueue_notify(f->queue);
    g_assert_true(interrupted(f));
    g_assert_cmpint(virtqueue_pop(f->queue, &e, NULL), ==, 0);
}

/* Its table may begin anywhere. */
static void indirect(struct fixture *f, gconstpointer data)
{
    for (uint32_t place = 12288; place < 12288 + 16; place++) {
        struct vring_desc table[3] = {{0}};
        struct virtqueue_element *e;

        describe(&table[0], DATA, 10, VRING_DESC_F_NEXT, 2);
        describe(&table[2], DATA + 64, 20, VRING_DESC_F_WRITE, 0);
        memcpy(f->guest + place, table, sizeof(table));
        describe(&f->desc[5], place, sizeof(table), VRING_DESC_F_INDIRECT, 0);
        offer(f, 5);
        e = pop(f);
        g_assert_cmpuint(e->out_size, ==, 10);
        g_assert_cmpuint(e->in_size, ==, 20);
        virtqueue_push(e, 20);
    }
}

/* Each is answered with length 0, and the request behind it is served. */
static void malformed_requests(struct fixture *f, gconstpointer data)
{
    struct vring_desc *table = (void *)(f->guest + 12288);
    uint16_t used = 0;

    for (int i = 0; i < 10; i++) {
        struct virtqueue_element *e = NULL;
        GPUP_AUTO_ERROR err = NULL;

        switch (i) {
        case 0: /* a loop */
            describe(&f->desc[0], DATA, 1, VRING_DESC_F_NEXT, 1);
            describe(&f->desc[1], DATA, 1, VRING_DESC_F_NEXT, 0);
            break;
        case 1: /* outside of memory */
            describe(&f->desc[0], MEMORY - 4, 8, 0, 0);
            break;
        case 2: /* wraps */
            describe(&f->desc[0], UINT64_MAX - 2, 8, 0, 0);
            break;
        case 3: /* next outside of the table */
            describe(&f->desc[0], DATA, 1, VRING_DESC_F_NEXT, SIZE);
            break;
        case 4: /* readable after writable */
            describe(&f->desc[0], DATA, 1, VRING_DESC_F_WRITE | VRING_DESC_F_NEXT, 1);
            describe(&f->desc[1], DATA, 1, 0, 0);
            break;
        case 5: /* an indirect table of half an entry */
            describe(&f->desc[0], 12288, 8, VRING_DESC_F_INDIRECT, 0);
            break;
        case 6: /* nested */
            describe(&table[0], 12288, 16, VRING_DESC_F_INDIRECT, 0);
            describe(&f->desc[0], 12288, 16, VRING_DESC_F_INDIRECT, 0);
            break;
        case 7: /* indirect and chained */
            describe(&f->desc[0], 12288, 16, VRING_DESC_F_INDIRECT | VRING_DESC_F_NEXT, 1);
            break;
        case 8: /* a loop inside */
            describe(&table[0], DATA, 1, VRING_DESC_F_NEXT, 0);
            describe(&f->desc[0], 12288, 16, VRING_DESC_F_INDIRECT, 0);
            break;
        default: /* a table larger than memory */
            describe(&f->desc[0], 12288, UINT32_MAX / 16 * 16, VRING_DESC_F_INDIRECT, 0);
            break;
        }
        offer(f, 0);
        g_assert_cmpint(virtqueue_pop(f->queue, &e, &err), ==, -EINVAL);
        g_assert_nonnull(err);
        g_assert_cmpuint(f->used->idx, ==, ++used);
        g_assert_cmpuint(f->used->ring[(used - 1) % SIZE].len, ==, 0);
        describe(&f->desc[7], DATA, 4, 0, 0);
        offer(f, 7);
        e = pop(f);
        virtqueue_push(e, 0);
        used++;
    }
}

static void a_broken_ring_stops(struct fixture *f, gconstpointer data)
{
    struct virtqueue_element *e;

    offer(f, SIZE); /* no such descriptor */
    g_assert_cmpint(virtqueue_pop(f->queue, &e, NULL), ==, -EINVAL);
    offer(f, 0);
    g_assert_cmpint(virtqueue_pop(f->queue, &e, NULL), ==, 0);
    f->avail->idx = 0;
    f->used->idx = 0;
    g_assert_cmpint(virtqueue_start(f->queue, &f->setup, NULL), ==, 0);
    describe(&f->desc[0], DATA, 4, 0, 0);
    offer(f, 0);
    virtqueue_push(pop(f), 0);
    f->avail->idx = (uint16_t)(f->avail->idx + SIZE + 1); /* more than the ring holds */
    g_assert_cmpint(virtqueue_pop(f->queue, &e, NULL), ==, -EINVAL);
}

static void interrupts_by_event_index(struct fixture *f, gconstpointer data)
{
    describe(&f->desc[0], DATA, 4, 0, 0);
    f->avail->ring[SIZE] = 1; /* wants one after the second */
    offer(f, 0);
    virtqueue_push(pop(f), 0);
    virtqueue_notify(f->queue); /* the first decision after a start always interrupts */
    g_assert_true(interrupted(f));
    offer(f, 0);
    virtqueue_push(pop(f), 0);
    virtqueue_notify(f->queue);
    g_assert_true(interrupted(f));
    offer(f, 0);
    virtqueue_push(pop(f), 0);
    virtqueue_notify(f->queue);
    g_assert_false(interrupted(f));
}

static void stale_elements(struct fixture *f, gconstpointer data)
{
    struct virtqueue_element *e;
    char c;

    describe(&f->desc[0], DATA, 4, 0, 0);
    offer(f, 0);
    e = pop(f);
    g_assert_cmpuint(virtqueue_stop(f->queue), ==, 0);
    g_assert_true(virtqueue_element_is_stale(e));
    g_assert_cmpuint(virtqueue_read(e, 0, &c, 1), ==, 0);
    virtqueue_push(e, 0);
    g_assert_cmpuint(f->used->idx, ==, 0);
    f->setup.base = 0; /* started again from the base: the request comes again */
    g_assert_cmpint(virtqueue_start(f->queue, &f->setup, NULL), ==, 0);
    virtqueue_push(pop(f), 0);
    g_assert_cmpuint(f->used->idx, ==, 1);
}

/* More requests than descriptors cannot be: what one takes in memory is bounded. */
static void more_than_descriptors(struct fixture *f, gconstpointer data)
{
    struct virtqueue_element *e[SIZE + 1] = {NULL};

    describe(&f->desc[0], DATA, 4, 0, 0);
    for (unsigned i = 0; i < SIZE; i++) {
        offer(f, 0);
        e[i] = pop(f);
    }
    offer(f, 0);
    g_assert_cmpint(virtqueue_pop(f->queue, &e[SIZE], NULL), ==, -EINVAL);
    g_assert_false(virtqueue_is_running(f->queue));
    g_assert_true(virtqueue_is_started(f->queue));
    for (unsigned i = 0; i < SIZE; i++)
        virtqueue_push(e[i], 0);
    g_assert_cmpuint(f->used->idx, ==, SIZE);
}

/* Only what lies in the memory that goes is lost. */
static void memory_goes(struct fixture *f, gconstpointer data)
{
    struct virtqueue_element *first, *second;
    int fd = memfd_create("more", MFD_CLOEXEC);
    struct guest_region region;
    uint32_t id;
    char c;

    g_assert_cmpint(ftruncate(fd, 4096), ==, 0);
    g_assert_cmpint(guest_memory_add(&f->memory, 1 << 20, USER + (1 << 20), 4096, 0, fd, &id, NULL),
                    ==, 0);
    region = f->memory.regions[1];
    describe(&f->desc[0], DATA, 4, 0, 0);
    describe(&f->desc[1], DATA, 4, VRING_DESC_F_NEXT, 2);
    describe(&f->desc[2], (1 << 20) + 100, 4, VRING_DESC_F_WRITE, 0);
    offer(f, 0);
    offer(f, 1);
    first = pop(f);
    second = pop(f);
    g_assert_false(virtqueue_element_touches(first, region.map, region.size));
    g_assert_true(virtqueue_element_touches(second, region.map, region.size));
    virtqueue_forget_memory(f->queue, region.map, region.size);
    g_assert_cmpint(guest_memory_remove(&f->memory, 1 << 20, USER + (1 << 20), 4096, &id, NULL), ==,
                    0);
    g_assert_cmpuint(virtqueue_read(first, 0, &c, 1), ==, 1);
    g_assert_true(virtqueue_element_is_stale(second));
    virtqueue_push(second, 4);
    virtqueue_push(first, 0);
    g_assert_cmpuint(f->used->idx, ==, 1);
    g_assert_cmpuint(f->used->ring[0].id, ==, 0);
    /* and without the rings nothing is touched */
    virtqueue_forget_memory(f->queue, f->guest, MEMORY);
    offer(f, 0);
    g_assert_cmpint(virtqueue_pop(f->queue, &first, NULL), ==, 0);
    g_assert_cmpint(virtqueue_remap(f->queue, NULL), ==, 0);
    virtqueue_push(pop(f), 0);
    g_assert_cmpuint(f->used->idx, ==, 2);
}

static void bad_set_ups(struct fixture *f, gconstpointer data)
{
    static const uint16_t sizes[] = {0, 3, 2048, 65535};
    struct virtqueue_setup s = f->setup;

    for (size_t i = 0; i < G_N_ELEMENTS(sizes); i++) {
        s.size = sizes[i];
        g_assert_cmpint(virtqueue_start(f->queue, &s, NULL), ==, -EINVAL);
    }
    s = f->setup;
    s.desc = USER + 8; /* not aligned */
    g_assert_cmpint(virtqueue_start(f->queue, &s, NULL), ==, -EINVAL);
    s = f->setup;
    s.used = USER + MEMORY - 16;
    g_assert_cmpint(virtqueue_start(f->queue, &s, NULL), ==, -EINVAL);
    s = f->setup; /* aligned for the front-end, but not where it lies with us */
    f->memory.regions[0].user = USER - 3;
    s.used = USER + USED;
    g_assert_cmpint(virtqueue_start(f->queue, &s, NULL), ==, -EINVAL);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *path;
        void (*func)(struct fixture *, gconstpointer);
        bool event_idx;
    } tests[] = {
        {"/virtqueue/request", a_request_and_its_answer, false},
        {"/virtqueue/indirect", indirect, false},
        {"/virtqueue/malformed", malformed_requests, false},
        {"/virtqueue/broken-ring", a_broken_ring_stops, false},
        {"/virtqueue/event-index", interrupts_by_event_index, true},
        {"/virtqueue/stale", stale_elements, false},
        {"/virtqueue/more-than-descriptors", more_than_descriptors, false},
        {"/virtqueue/memory-goes", memory_goes, false},
        {"/virtqueue/bad-set-up", bad_set_ups, false},
    };

    g_test_init(&argc, &argv, NULL);
    for (size_t i = 0; i < G_N_ELEMENTS(tests); i++)
        g_test_add(tests[i].path, struct fixture, tests[i].event_idx ? "1" : NULL, set_up,
                   tests[i].func, tear_down);
    return g_test_run();
}
