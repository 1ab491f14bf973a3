/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "world.h"

#include <glib.h>

/*
 * GPU time as partitions get it: guests' stand-ins with the real device and renderer processes, and
 * gpupd's arbiter. Bounds are loose: ./benchmark share measures.
 */

static const struct work small_work = {.size = 256, .loops = 64, .draws = 1};

/* The part of all charged time that the first of `n` greedy ones gets, over `ms`. */
static double part_of_first(struct world *w, size_t n, unsigned ms)
{
    uint64_t before[WORLD_MOST], all = 0, first = 0;

    for (size_t i = 0; i < n; i++)
        before[i] = world_charged(w, i);
    world_sleep_ms(ms);
    for (size_t i = 0; i < n; i++) {
        uint64_t used = world_charged(w, i) - before[i];

        g_test_message("%zu: %.1f ms", i, (double)used / 1e6);
        all += used;
        if (i == 0)
            first = used;
    }
    g_assert_cmpuint(all, >, 0);
    return (double)first / (double)all;
}

static void assert_near(double got, double want, double tolerance)
{
    if (got < want - tolerance || got > want + tolerance)
        g_error("got %.3f, want %.3f +- %.3f", got, want, tolerance);
}

static void two_to_one_side(void)
{
    const struct world_setup setup = {
        .n = 2, .share = {{0, 75, 100}, {0, 25, 100}}, .work = small_work};
    struct world *w = world_new(&setup);

    world_set_mode(w, 0, WORLD_GREEDY);
    world_set_mode(w, 1, WORLD_GREEDY);
    world_sleep_ms(300);
    assert_near(part_of_first(w, 2, 2000), 0.75, 0.04);
    world_free(w);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/gpu-time/75-25", two_to_one_side);
    return g_test_run();
}
