/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "world.h"

#include <glib.h>
#include <math.h>

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

/*
 * That the first of two gets this part. On a busy machine one of the stand-ins may not come to ask
 * for anything for a while; then the other one rightly gets more: it is measured again.
 */
static void assert_part(struct world *w, double want)
{
    double got = -1;

    for (int k = 0; k < 8 && fabs(got - want) > 0.05; k++)
        got = part_of_first(w, 2, 1000);
    if (fabs(got - want) > 0.05)
        g_error("got %.3f of the GPU, want %.3f", got, want);
}

/* Turns are charged by the clock, which other load on the CPUs distorts: that the first one gets
 * clearly more. */
static void assert_more(struct world *w)
{
    double got = -1;

    for (int k = 0; k < 8 && got < 0.6; k++)
        got = part_of_first(w, 2, 1000);
    g_assert_cmpfloat(got, >=, 0.6);
}

static void two_to_one_side(void)
{
    const struct world_setup setup = {
        .n = 2, .share = {{0, 75, 100}, {0, 25, 100}}, .work = small_work};
    struct world *w = world_new(&setup);

    world_set_mode(w, 0, WORLD_GREEDY);
    world_set_mode(w, 1, WORLD_GREEDY);
    world_sleep_ms(300);
    assert_part(w, 0.75);
    world_free(w);
}

/* A greedy one is given less while it runs, and gets less. */
static void changed_live(void)
{
    const struct world_setup setup = {
        .n = 2, .share = {{0, 50, 100}, {0, 50, 100}}, .work = small_work};
    const struct world_share more = {0, 75, 100}, less = {0, 25, 100};
    struct world *w = world_new(&setup);

    world_set_mode(w, 0, WORLD_GREEDY);
    world_set_mode(w, 1, WORLD_GREEDY);
    world_sleep_ms(300);
    assert_part(w, 0.5);
    world_change(w, 0, &more);
    world_change(w, 1, &less);
    world_sleep_ms(100);
    assert_part(w, 0.75);
    world_free(w);
}

/* Of all the machine's CPU time. */
static double part_of_machine(struct world *w, size_t i, unsigned ms)
{
    uint64_t began = world_now(), before = world_charged(w, i);

    world_sleep_ms(ms);
    return (double)(world_charged(w, i) - before) / (double)(world_now() - began) /
           (double)g_get_num_processors();
}

/* At most its cap though nobody else wants anything; and all of the GPU when the cap is gone. */
static void cap_alone(void)
{
    const struct world_setup setup = {
        .n = 2, .share = {{0, 25, 25}, {0, 25, 100}}, .work = small_work};
    const struct world_share uncapped = {0, 25, 100};
    double capped, all;
    struct world *w = world_new(&setup);

    world_set_mode(w, 0, WORLD_GREEDY);
    world_sleep_ms(200);
    capped = part_of_machine(w, 0, 1500);
    world_change(w, 0, &uncapped);
    world_sleep_ms(100);
    all = part_of_machine(w, 0, 1000);
    g_test_message("capped %.3f, uncapped %.3f", capped, all);
    g_assert_cmpfloat(capped, <=, 0.27);
    world_free(w);
}

/* By work that nobody waits for, by copying, by much of it queued beforehand. */
static void no_evasion(void)
{
    static const enum world_mode ways[] = {WORLD_UNFENCED, WORLD_TRANSFER};
    const struct world_setup setup = {
        .n = 2, .share = {{0, 25, 100}, {0, 75, 100}}, .work = small_work};
    struct world *w = world_new(&setup);

    world_client(w, 0)->queue = 24;
    world_set_mode(w, 1, WORLD_GREEDY);
    for (size_t k = 0; k < G_N_ELEMENTS(ways); k++) {
        world_set_mode(w, 0, ways[k]);
        world_sleep_ms(300);
        assert_part(w, 0.25);
        world_set_mode(w, 0, WORLD_IDLE);
    }
    world_free(w);
}

/* Without gpupd, ended however, everybody keeps to its own share; gpupd takes them up again. */
static void without_gpupd(void)
{
    const struct world_setup setup = {
        .n = 2, .share = {{0, 75, 100}, {0, 25, 100}}, .work = small_work};
    struct world *w = world_new(&setup);
    uint64_t done;

    world_set_mode(w, 0, WORLD_GREEDY);
    world_set_mode(w, 1, WORLD_GREEDY);
    for (int k = 0; k < 3; k++) {
        world_sleep_ms(200);
        world_kill_gpupd(w);
        world_sleep_ms(100);
        done = atomic_load(&world_client(w, 0)->n_done);
        g_assert_cmpfloat(part_of_machine(w, 1, 700), <=, 0.28);
        g_assert_cmpuint(atomic_load(&world_client(w, 0)->n_done), >,
                         done); /* none is left stopped */
        world_start_gpupd(w);
    }
    for (int k = 0; k < 100 && !world_is_connected(w, 2); k++)
        world_sleep_ms(100);
    world_sleep_ms(300);
    assert_part(w, 0.75);
    world_free(w);
}

/* That it gets on. */
static void await_work(struct world *w, size_t i)
{
    uint64_t done = atomic_load(&world_client(w, i)->n_done);

    for (int k = 0; k < 200 && atomic_load(&world_client(w, i)->n_done) == done; k++)
        world_sleep_ms(100);
    g_assert_cmpuint(atomic_load(&world_client(w, i)->n_done), >, done);
}

/* On a GPU partitions take turns: here by the same means, with the software renderer. */
static void in_turn(void)
{
    const struct world_setup setup = {.n = 3,
                                      .share = {{0, 75, 100}, {0, 25, 100}, {0, 25, 25}},
                                      .work = small_work,
                                      .in_turn = true};
    struct world *w = world_new(&setup);

    world_set_mode(w, 0, WORLD_GREEDY);
    world_set_mode(w, 1, WORLD_GREEDY);
    world_sleep_ms(300);
    assert_more(w);
    world_set_mode(w, 0, WORLD_IDLE); /* the other one goes on alone, then nobody, then this one */
    await_work(w, 1);
    world_set_mode(w, 1, WORLD_IDLE);
    world_set_mode(w, 0, WORLD_GREEDY);
    await_work(w, 0);
    world_set_mode(w, 0, WORLD_IDLE);
    world_set_mode(w, 2, WORLD_GREEDY); /* a cap, alone */
    await_work(w, 2);
    world_free(w);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/gpu-time/75-25", two_to_one_side);
    g_test_add_func("/gpu-time/live", changed_live);
    g_test_add_func("/gpu-time/cap", cap_alone);
    g_test_add_func("/gpu-time/no-evasion", no_evasion);
    g_test_add_func("/gpu-time/without-gpupd", without_gpupd);
    g_test_add_func("/gpu-time/in-turn", in_turn);
    return g_test_run();
}
