/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/arbiter.h"
#include "wire/gpu_time.h"

#include <fcntl.h>
#include <glib.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

/* What a device process that was taken over can do to the arbiter by what they share. */

#define WAIT_MS 20000

struct partition {
    int number, fds[GPUP_GPU_TIME_FDS]; /* the page, kick, wake, guard */
    struct gpup_gpu_time *page;
};

struct fixture {
    struct gpup_arbiter *arbiter;
    struct partition bad, good;
};

static void add(struct fixture *f, struct partition *p)
{
    const struct gpup_share_request half = {.min = 0, .weight = 1, .cap = 1000000};

    p->number = gpup_arbiter_add(f->arbiter, &half, p->fds, NULL);
    g_assert_cmpint(p->number, >=, 0);
    p->page = mmap(NULL, sizeof(*p->page), PROT_READ | PROT_WRITE, MAP_SHARED, p->fds[0], 0);
    g_assert_true(p->page != MAP_FAILED);
}

static void set_up(struct fixture *f, gconstpointer data)
{
    const struct gpup_arbiter_setup in_turn = {.capacity = 1, .in_turn = true};

    f->arbiter = gpup_arbiter_new(&in_turn, NULL);
    g_assert_nonnull(f->arbiter);
    add(f, &f->bad);
    add(f, &f->good);
}

static void drop(struct partition *p)
{
    munmap(p->page, sizeof(*p->page));
    for (unsigned i = 0; i < GPUP_GPU_TIME_FDS; i++)
        close(p->fds[i]);
}

static void tear_down(struct fixture *f, gconstpointer data)
{
    gpup_arbiter_free(f->arbiter);
    drop(&f->bad);
    drop(&f->good);
}

/* Comes, and waits to be woken, which is done at its turn only; that may be over a moment later. */
static void ask(struct partition *p)
{
    atomic_store(&p->page->busy, 1);
    atomic_store(&p->page->waiting, 1);
    g_assert_cmpint(eventfd_write(p->fds[1], 1), ==, 0);
}

static void assert_gets_its_turn(struct partition *p)
{
    struct pollfd woken = {.fd = p->fds[2], .events = POLLIN};

    ask(p);
    g_assert_cmpint(poll(&woken, 1, WAIT_MS), ==, 1);
}

static void turn(struct fixture *f, gconstpointer data)
{
    eventfd_t value;

    assert_gets_its_turn(&f->bad);
    g_assert_cmpint(eventfd_read(f->bad.fds[2], &value), ==, 0);
    assert_gets_its_turn(&f->good); /* the other one's slice ends */
}

/* Whoever writes to a full one that blocks waits for ever. */
static void full(struct fixture *f, gconstpointer data)
{
    const uint64_t most = UINT64_MAX - 1;

    (void)!write(f->bad.fds[2], &most, sizeof(most));
    g_assert_cmpint(fcntl(f->bad.fds[2], F_SETFL, 0), ==, 0);
    ask(&f->bad);
    assert_gets_its_turn(&f->good);
}

/* A VM ends while its turn does, and nobody else wants one: the next one that comes gets it. */
static void removed_while_leaving(struct fixture *f, gconstpointer data)
{
    gint64 until = g_get_monotonic_time() + WAIT_MS * 1000;

    assert_gets_its_turn(&f->bad);
    atomic_store(&f->bad.page->unfinished, 1);
    ask(&f->good);
    while (atomic_load(&f->bad.page->hold) == 0) { /* its slice is over, its work is not */
        g_assert_cmpint(g_get_monotonic_time(), <, until);
        g_usleep(1000);
    }
    atomic_store(&f->good.page->busy, 0);
    gpup_arbiter_remove(f->arbiter, f->bad.number);
    g_usleep(10000); /* it looks at once */
    assert_gets_its_turn(&f->good);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    alarm(2 * WAIT_MS / 1000);
    g_test_add("/arbiter/turn", struct fixture, NULL, set_up, turn, tear_down);
    g_test_add("/arbiter/full", struct fixture, NULL, set_up, full, tear_down);
    g_test_add("/arbiter/removed", struct fixture, NULL, set_up, removed_while_leaving, tear_down);
    return g_test_run();
}
