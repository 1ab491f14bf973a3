/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "vgpu/loop.h"

#include <glib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct fixture {
    struct vgpu_loop *loop;
    struct vgpu_source *a, *b, *timer;
    int fd_a, fd_b;
    int calls;
};

static void set_up(struct fixture *f, gconstpointer data)
{
    f->loop = vgpu_loop_new(NULL);
    g_assert_nonnull(f->loop);
    f->fd_a = eventfd(1, EFD_CLOEXEC);
    f->fd_b = eventfd(1, EFD_CLOEXEC);
}

static void tear_down(struct fixture *f, gconstpointer data)
{
    vgpu_loop_free(f->loop);
    close(f->fd_a);
    close(f->fd_b);
}

static void remove_both(uint32_t events, void *data)
{
    struct fixture *f = data;

    f->calls++;
    vgpu_source_remove(f->a);
    vgpu_source_remove(f->b);
    vgpu_timer_arm(f->timer, 0);
}

static void quit(void *data)
{
    vgpu_loop_quit(((struct fixture *)data)->loop, 42);
}

/* Both are ready in the same turn; whichever comes first removes the other: it must not be called.
 */
static void removed_ones_are_not_called(struct fixture *f, gconstpointer data)
{
    f->timer = vgpu_loop_add_timer(f->loop, quit, f, NULL);
    f->a = vgpu_loop_add(f->loop, f->fd_a, EPOLLIN, remove_both, f, NULL);
    f->b = vgpu_loop_add(f->loop, f->fd_b, EPOLLIN, remove_both, f, NULL);
    g_assert_true(f->timer && f->a && f->b);
    g_assert_cmpint(vgpu_loop_run(f->loop), ==, 42);
    g_assert_cmpint(f->calls, ==, 1);
}

static void count_and_rearm(void *data)
{
    struct fixture *f = data;

    if (++f->calls == 3)
        vgpu_loop_quit(f->loop, 0);
    else
        vgpu_timer_arm(f->timer, 1);
}

static void timers_repeat_when_armed(struct fixture *f, gconstpointer data)
{
    uint64_t start = vgpu_loop_now_ms();

    f->timer = vgpu_loop_add_timer(f->loop, count_and_rearm, f, NULL);
    vgpu_timer_arm(f->timer, 20);
    g_assert_cmpint(vgpu_loop_run(f->loop), ==, 0);
    g_assert_cmpuint(vgpu_loop_now_ms() - start, >=, 20);
}

static void bad_descriptor(struct fixture *f, gconstpointer data)
{
    g_assert_null(vgpu_loop_add(f->loop, -1, EPOLLIN, remove_both, f, NULL));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add("/loop/removed", struct fixture, NULL, set_up, removed_ones_are_not_called,
               tear_down);
    g_test_add("/loop/timer", struct fixture, NULL, set_up, timers_repeat_when_armed, tear_down);
    g_test_add("/loop/bad-descriptor", struct fixture, NULL, set_up, bad_descriptor, tear_down);
    return g_test_run();
}
