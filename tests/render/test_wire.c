/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "wire/ring.h"
#include "wire/seqpacket.h"

#define DATA 1024u

struct pair {
    void *memory;
    uint64_t bytes;
    int to_consumer, to_producer;
    struct gpup_ring_end producer, consumer;
};

static void pair_setup(struct pair *pair, gconstpointer size)
{
    pair->bytes = gpup_ring_bytes(size ? GPOINTER_TO_UINT(size) : DATA);
    pair->memory =
        mmap(NULL, pair->bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    g_assert_true(pair->memory != MAP_FAILED);
    pair->to_consumer = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    pair->to_producer = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    g_assert_cmpint(
        gpup_ring_end_init(&pair->producer, pair->memory, pair->bytes, pair->to_consumer), ==, 0);
    g_assert_cmpint(
        gpup_ring_end_init(&pair->consumer, pair->memory, pair->bytes, pair->to_producer), ==, 0);
}

static void pair_teardown(struct pair *pair, gconstpointer size)
{
    munmap(pair->memory, pair->bytes);
    close(pair->to_consumer);
    close(pair->to_producer);
}

static bool woken(int fd)
{
    eventfd_t value;

    return eventfd_read(fd, &value) == 0;
}

union record {
    struct gpup_record header;
    unsigned char bytes[DATA];
};

static void test_order_and_pad(struct pair *pair, gconstpointer data)
{
    union record out;
    uint64_t seq = 0, expected = 1;

    /* Every size at every place of the ring, so that each kind of pad comes up. */
    for (unsigned int round = 0; round < 5000; round++) {
        uint32_t size = sizeof(struct gpup_record) + (round * 37) % (DATA / 2 - 15);
        unsigned char *place = gpup_ring_reserve(&pair->producer, 7, size, ++seq);

        g_assert_nonnull(place);
        memset(place + sizeof(struct gpup_record), (int)(seq & 0xff),
               size - sizeof(struct gpup_record));
        gpup_ring_commit(&pair->producer);
        g_assert_cmpint(gpup_ring_take(&pair->consumer, &out.header, sizeof(out)), ==, 1);
        g_assert_cmpuint(out.header.seq, ==, expected++);
        g_assert_cmpuint(out.header.size, ==, size);
        for (uint32_t i = sizeof(struct gpup_record); i < size; i++)
            g_assert_cmpuint(out.bytes[i], ==, seq & 0xff);
        g_assert_cmpint(gpup_ring_take(&pair->consumer, &out.header, sizeof(out)), ==, 0);
    }
}

static void test_full_and_wakes(struct pair *pair, gconstpointer data)
{
    struct gpup_record record = {.type = 1, .size = sizeof(record), .seq = 1};
    union record out;
    unsigned int n = 0;

    g_assert_cmpint(gpup_ring_put(&pair->producer, &record), ==, 0);
    g_assert_false(woken(pair->to_consumer)); /* nobody asked */
    g_assert_false(gpup_ring_may_sleep(&pair->consumer));
    g_assert_cmpint(gpup_ring_take(&pair->consumer, &out.header, sizeof(out)), ==, 1);
    g_assert_false(woken(pair->to_producer));
    g_assert_true(gpup_ring_may_sleep(&pair->consumer));
    while (gpup_ring_put(&pair->producer, &record) == 0)
        n++;
    g_assert_cmpuint(n, ==, DATA / sizeof(record));
    g_assert_true(woken(pair->to_consumer));
    g_assert_null(gpup_ring_reserve(&pair->producer, 1, sizeof(record), 1));
    g_assert_cmpint(errno, ==, ENOSPC);
    g_assert_cmpint(gpup_ring_take(&pair->consumer, &out.header, sizeof(out)), ==, 1);
    g_assert_true(woken(pair->to_producer));
    g_assert_cmpint(gpup_ring_put(&pair->producer, &record), ==, 0);
    g_assert_null(gpup_ring_reserve(&pair->producer, 1, DATA / 2 + 1, 1));
    g_assert_cmpint(errno, ==, EMSGSIZE);
}

static void test_hostile_producer(struct pair *pair, gconstpointer data)
{
    struct gpup_ring *ring = pair->memory;
    const struct {
        uint64_t head;
        uint32_t type, size;
    } bad[] = {
        {DATA + 8, 1, 16},
        {UINT64_MAX - 7, 1, 16},
        {12, 1, 16},
        {64, 1, 15},
        {64, 1, 0},
        {64, 1, UINT32_MAX},
        {64, 1, 65},
        {DATA, 1, DATA / 2 + 1},
        {64, GPUP_REC_PAD, 0},
        {64, GPUP_REC_PAD, 64},
        {64, GPUP_REC_PAD, DATA},
    };

    for (unsigned int i = 0; i < G_N_ELEMENTS(bad); i++) {
        struct gpup_ring_end end;
        union record out;
        uint32_t words[2] = {bad[i].type, bad[i].size};

        g_assert_cmpint(gpup_ring_end_init(&end, pair->memory, pair->bytes, -1), ==, 0);
        atomic_store(&ring->head, bad[i].head);
        memcpy(ring->data, words, sizeof(words));
        g_assert_cmpint(gpup_ring_take(&end, &out.header, sizeof(out)), ==, -EPROTO);
        /* and it stays so, even when the producer mends its ways */
        atomic_store(&ring->head, 0);
        g_assert_cmpint(gpup_ring_take(&end, &out.header, sizeof(out)), ==, -EPROTO);
        g_assert_false(gpup_ring_may_sleep(&end));
    }
}

static void test_hostile_consumer(struct pair *pair, gconstpointer data)
{
    struct gpup_ring *ring = pair->memory;
    const uint64_t bad[] = {8, 4, DATA + 8, UINT64_MAX - DATA - 7};

    for (unsigned int i = 0; i < G_N_ELEMENTS(bad); i++) {
        struct gpup_ring_end end;

        g_assert_cmpint(gpup_ring_end_init(&end, pair->memory, pair->bytes, -1), ==, 0);
        atomic_store(&ring->tail, bad[i]);
        g_assert_null(gpup_ring_reserve(&end, 1, 16, 1));
        g_assert_cmpint(errno, ==, EPROTO);
        atomic_store(&ring->tail, 0);
    }
}

static void test_init_refuses(struct pair *pair, gconstpointer data)
{
    struct gpup_ring_end end;
    char *memory = pair->memory;

    g_assert_cmpint(gpup_ring_end_init(&end, memory + 8, gpup_ring_bytes(512), -1), ==, -EINVAL);
    g_assert_cmpint(gpup_ring_end_init(&end, memory, gpup_ring_bytes(1000), -1), ==, -EINVAL);
    g_assert_cmpint(gpup_ring_end_init(&end, memory, gpup_ring_bytes(0), -1), ==, -EINVAL);
    g_assert_cmpint(gpup_ring_end_init(&end, memory, 3, -1), ==, -EINVAL);
    g_assert_cmpint(gpup_ring_end_init(&end, NULL, gpup_ring_bytes(1024), -1), ==, -EINVAL);
}

#define MANY 200000u

static void wait_for(int fd)
{
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN};

    /* A wake that was lost shows here: the peer sleeps too, and nothing comes any more. */
    g_assert_cmpint(poll(&poll_fd, 1, 20000), ==, 1);
    gpup_ring_wake_clear(fd);
}

static void *produce(void *user)
{
    struct pair *pair = user;
    union record record = {.header = {.type = 3}};

    for (uint64_t seq = 1; seq <= MANY; seq++) {
        record.header.seq = seq;
        record.header.size = (uint32_t)(sizeof(struct gpup_record) + seq % 100);
        while (gpup_ring_put(&pair->producer, &record.header) < 0)
            wait_for(pair->to_producer);
    }
    return NULL;
}

static void test_threads(struct pair *pair, gconstpointer data)
{
    pthread_t thread;
    union record out;

    g_assert_cmpint(pthread_create(&thread, NULL, produce, pair), ==, 0);
    for (uint64_t seq = 1; seq <= MANY; seq++) {
        int r;

        while ((r = gpup_ring_take(&pair->consumer, &out.header, sizeof(out))) == 0)
            if (gpup_ring_may_sleep(&pair->consumer))
                wait_for(pair->to_consumer);
        g_assert_cmpint(r, ==, 1);
        g_assert_cmpuint(out.header.seq, ==, seq);
    }
    pthread_join(thread, NULL);
}

static unsigned int open_descriptors(void)
{
    DIR *dir = opendir("/proc/self/fd");
    unsigned int n = 0;

    while (readdir(dir))
        n++;
    closedir(dir);
    return n;
}

static void test_seqpacket(void)
{
    int socks[2], fds[2], sent[3] = {0, 1, 2};
    unsigned int n, before;
    char buffer[8];

    g_assert_cmpint(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, socks), ==, 0);
    before = open_descriptors();

    g_assert_cmpint(gpup_seqpacket_send(socks[0], "hello", 6, sent, 2, 0), ==, 0);
    g_assert_cmpint(gpup_seqpacket_receive(socks[1], buffer, 8, fds, 2, &n, 0), ==, 6);
    g_assert_cmpstr(buffer, ==, "hello");
    g_assert_cmpuint(n, ==, 2);
    g_assert_cmpint(fcntl(fds[0], F_GETFD) & FD_CLOEXEC, ==, FD_CLOEXEC);
    close(fds[0]);
    close(fds[1]);

    g_assert_cmpint(gpup_seqpacket_send(socks[0], "x", 1, sent, 3, 0), ==, 0);
    g_assert_cmpint(gpup_seqpacket_receive(socks[1], buffer, 8, fds, 2, &n, 0), ==, -EPROTO);
    g_assert_cmpint(fds[0], ==, -1);
    g_assert_cmpint(gpup_seqpacket_send(socks[0], "too long for it", 16, sent, 1, 0), ==, 0);
    g_assert_cmpint(gpup_seqpacket_receive(socks[1], buffer, 8, fds, 2, &n, 0), ==, -EMSGSIZE);
    g_assert_cmpint(gpup_seqpacket_receive(socks[1], buffer, 8, fds, 2, &n, MSG_DONTWAIT), ==,
                    -EAGAIN);
    g_assert_cmpuint(open_descriptors(), ==, before);
    close(socks[0]);
    g_assert_cmpint(gpup_seqpacket_receive(socks[1], buffer, 8, NULL, 0, NULL, 0), ==, 0);
    g_assert_cmpint(gpup_seqpacket_send(socks[1], "x", 1, NULL, 0, 0), ==, -EPIPE);
    close(socks[1]);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define RING(name, function)                                                                       \
    g_test_add("/wire/ring/" name, struct pair, NULL, pair_setup, function, pair_teardown)
    RING("order-and-pad", test_order_and_pad);
    RING("full-and-wakes", test_full_and_wakes);
    RING("hostile-producer", test_hostile_producer);
    RING("hostile-consumer", test_hostile_consumer);
    RING("init-refuses", test_init_refuses);
    RING("threads", test_threads);
    g_test_add_func("/wire/seqpacket", test_seqpacket);
    return g_test_run();
}
