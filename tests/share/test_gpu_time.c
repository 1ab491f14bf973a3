/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "world.h"

#include "daemon/release.h"

#include <glib.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/*
 * GPU time as partitions get it: guests' stand-ins with the real device and renderer processes, and
 * gpupd's arbiter. Bounds are loose: ./benchmark share measures.
 */

#define TRIES_S 20

static const struct work small_work = {.size = 256, .loops = 64, .draws = 1};

/* What two greedy ones were charged since the beginning of a measurement. */
struct measured {
    uint64_t from[2];
};

static void measure_from_now(struct world *w, struct measured *m)
{
    for (size_t i = 0; i < 2; i++)
        m->from[i] = world_charged(w, i);
}

/* The first one's part of it; -1: nobody was charged anything. */
static double part_of_first(struct world *w, const struct measured *m)
{
    double first = (double)(world_charged(w, 0) - m->from[0]);
    double second = (double)(world_charged(w, 1) - m->from[1]);

    return first + second > 0 ? first / (first + second) : -1;
}

/*
 * That the first of two gets this part: of the last second, or of all the time since now. On a busy
 * machine one of the stand-ins may not come to ask for anything for a while; then the other one
 * rightly gets more, and it is measured again.
 */
static void assert_part(struct world *w, double least, double most)
{
    struct measured all, last;
    double of_all = -1, of_last = -1;

    measure_from_now(w, &all);
    for (int k = 0; k < TRIES_S; k++) {
        measure_from_now(w, &last);
        world_sleep_ms(1000);
        of_last = part_of_first(w, &last);
        of_all = part_of_first(w, &all);
        g_test_message("%.3f, since the beginning %.3f", of_last, of_all);
        if ((of_last >= least && of_last <= most) || (of_all >= least && of_all <= most))
            return;
    }
    g_error("got %.3f of the GPU in %d s, %.3f in the last one: want %.2f to %.2f", of_all, TRIES_S,
            of_last, least, most);
}

/* Of all the machine's CPU time; at most, since what delays us counts as more time here. */
static double part_of_machine(struct world *w, size_t i, unsigned ms)
{
    uint64_t before = world_charged(w, i), began = world_now(), ended, after;

    world_sleep_ms(ms);
    ended = world_now();
    after = world_charged(w, i);
    return (double)(after - before) / (double)(ended - began) / (double)g_get_num_processors();
}

/* That it gets no more than that; it is delays between reading the one clock and the other that
 * it is measured again for. */
static void assert_at_most(struct world *w, size_t i, double most)
{
    double got = 1;

    for (int k = 0; k < TRIES_S && got > most; k++)
        got = part_of_machine(w, i, 1000);
    g_test_message("%.3f of the machine", got);
    if (got > most)
        g_error("got %.3f of the machine, want at most %.2f", got, most);
}

/* That it gets on. */
static void await_work(struct world *w, size_t i)
{
    uint64_t done = atomic_load(&world_client(w, i)->n_done);

    for (int k = 0; k < 600 && atomic_load(&world_client(w, i)->n_done) == done; k++)
        world_sleep_ms(50);
    g_assert_cmpuint(atomic_load(&world_client(w, i)->n_done), >, done);
}

static void two_to_one_side(void)
{
    const struct world_setup setup = {
        .n = 2, .share = {{0, 75, 100}, {0, 25, 100}}, .work = small_work};
    struct world *w = world_new(&setup);

    world_set_mode(w, 0, WORLD_GREEDY);
    world_set_mode(w, 1, WORLD_GREEDY);
    world_sleep_ms(300);
    assert_part(w, 0.70, 0.80);
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
    assert_part(w, 0.45, 0.55);
    world_change(w, 0, &more);
    world_change(w, 1, &less);
    world_sleep_ms(100);
    assert_part(w, 0.70, 0.80);
    world_free(w);
}

/* At most its cap though nobody else wants anything. */
static void cap_alone(void)
{
    const struct world_setup setup = {
        .n = 2, .share = {{0, 25, 25}, {0, 25, 100}}, .work = small_work};
    const struct world_share uncapped = {0, 25, 100};
    struct world *w = world_new(&setup);

    world_set_mode(w, 0, WORLD_GREEDY);
    world_sleep_ms(200);
    assert_at_most(w, 0, 0.27);
    await_work(w, 0);
    world_change(w, 0, &uncapped);
    await_work(w, 0);
    world_free(w);
}

/* By work that nobody waits for, by copying, by many contexts, by much of it queued beforehand. */
static void no_evasion(void)
{
    static const enum world_mode ways[] = {WORLD_UNFENCED, WORLD_TRANSFER, WORLD_CONTEXTS};
    const struct world_setup setup = {
        .n = 2, .share = {{0, 25, 100}, {0, 75, 100}}, .work = small_work};
    struct world *w = world_new(&setup);

    world_client(w, 0)->queue = 24;
    world_set_mode(w, 1, WORLD_GREEDY);
    for (size_t k = 0; k < G_N_ELEMENTS(ways); k++) {
        world_set_mode(w, 0, ways[k]);
        world_sleep_ms(300);
        assert_part(w, 0.20, 0.30);
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

    world_set_mode(w, 0, WORLD_GREEDY);
    world_set_mode(w, 1, WORLD_GREEDY);
    for (int k = 0; k < 3; k++) {
        world_sleep_ms(200);
        world_kill_gpupd(w);
        world_sleep_ms(100);
        await_work(w, 0); /* none is left stopped */
        await_work(w, 1);
        assert_at_most(w, 1, 0.28);
        world_start_gpupd(w);
    }
    for (int k = 0; k < 300 && !world_is_connected(w, 2); k++)
        world_sleep_ms(100);
    g_assert_true(world_is_connected(w, 2));
    world_sleep_ms(300);
    assert_part(w, 0.70, 0.80);
    world_free(w);
}

/* ---- moved between CPUs ---- */

static int cpus_here(void)
{
    cpu_set_t all;

    g_assert_cmpint(sched_getaffinity(0, sizeof(all), &all), ==, 0);
    return CPU_COUNT(&all);
}

/* Whom the machine has no CPU left for: all of them are busy. */
static GArray *keep_busy(void)
{
    GArray *pids = g_array_new(FALSE, FALSE, sizeof(pid_t));

    for (int i = 0; i < cpus_here(); i++) {
        pid_t pid = fork();

        g_assert_cmpint(pid, >=, 0);
        if (pid == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            for (;;)
                continue;
        }
        g_array_append_val(pids, pid);
    }
    return pids;
}

static void let_rest(GArray *pids)
{
    for (guint i = 0; i < pids->len; i++) {
        kill(g_array_index(pids, pid_t, i), SIGKILL);
        waitpid(g_array_index(pids, pid_t, i), NULL, 0);
    }
    g_array_unref(pids);
}

/* A renderer's threads, each; the sum of what they say. */
static int of_threads(struct world *w, size_t i, int (*say)(pid_t tid), int *n)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/task", (int)world_renderer(w, i));
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    const char *name;
    int sum = 0;

    *n = 0;
    while (dir && (name = g_dir_read_name(dir))) {
        int said = say((pid_t)strtol(name, NULL, 10));

        if (said < 0) /* it has ended */
            continue;
        sum += said;
        ++*n;
    }
    return sum;
}

static int cpus_of_thread(pid_t tid)
{
    cpu_set_t set;

    return sched_getaffinity(tid, sizeof(set), &set) < 0 ? -1 : CPU_COUNT(&set);
}

static int is_realtime(pid_t tid)
{
    int policy = sched_getscheduler(tid);

    return policy < 0 ? -1 : (policy & ~SCHED_RESET_ON_FORK) == SCHED_RR;
}

/* That each of its threads says this. */
static void await_threads(struct world *w, size_t i, int (*say)(pid_t tid), int each)
{
    int n, sum = of_threads(w, i, say, &n);

    for (int k = 0; k < 1200 && (n == 0 || sum != n * each); k++) {
        world_sleep_ms(50);
        sum = of_threads(w, i, say, &n);
    }
    g_assert_cmpint(n, >, 0);
    g_assert_cmpint(sum, ==, n * each);
}

static void await_cpus(struct world *w, size_t i, int n)
{
    await_threads(w, i, cpus_of_thread, n);
}

/* While all CPUs are busy their threads are kept to CPUs by turns; whatever happens, not for good.
 * Their own shares are small, so that they are beyond them however little the machine leaves. */
static void moved(void)
{
    const struct world_setup setup = {
        .n = 3, .share = {{0, 2, 100}, {0, 2, 100}, {0, 96, 100}}, .work = small_work};
    int all = cpus_here();
    struct world *w = world_new(&setup);
    GArray *others = keep_busy();

    for (int round = 0; round < 2; round++) {
        world_set_mode(w, 0, WORLD_GREEDY);
        world_set_mode(w, 1, WORLD_GREEDY);
        await_cpus(w, 0, 1);
        await_cpus(w, 1, 1);
        if (round == 1) {
            world_kill_gpupd(w);
            await_work(w, 0);
            await_work(w, 1);
            world_start_gpupd(w);
        }
        world_set_mode(w, 0, WORLD_IDLE);
        world_set_mode(w, 1, WORLD_IDLE);
        await_cpus(w, 0, all);
        await_cpus(w, 1, all);
    }
    let_rest(others);
    world_free(w);
}

/* Who uses little beside one that uses much runs at once, its new threads too, and not when it uses
 * much itself; if gpupd is killed, whoever cleans up after it has it run like others. */
static void light_first(void)
{
    const struct world_setup setup = {
        .n = 3, .share = {{0, 20, 100}, {0, 20, 100}, {0, 60, 100}}, .work = small_work};
    const struct work frame = {.size = 16, .loops = 1, .draws = 1};
    const struct sched_param lowest = {.sched_priority = 1};
    int all = cpus_here();
    struct world *w;

    if (sched_setscheduler(0, SCHED_RR, &lowest) < 0) {
        g_test_skip("this user may not have real-time priorities");
        return;
    }
    g_assert_cmpint(sched_setscheduler(0, SCHED_OTHER, &(struct sched_param){0}), ==, 0);
    w = world_new(&setup);
    world_client(w, 1)->work = frame;
    world_client(w, 1)->period_us = 16000;
    world_set_mode(w, 0, WORLD_GREEDY);
    world_set_mode(w, 1, WORLD_LIGHT);
    await_threads(w, 1, is_realtime, 1);
    await_threads(w, 0, is_realtime, 0);
    world_client(w, 1)->work = small_work;
    world_set_mode(w, 1, WORLD_GREEDY);
    await_threads(w, 1, is_realtime, 0);
    world_set_mode(w, 0, WORLD_IDLE);
    await_threads(w, 2, is_realtime, 0); /* nobody looks on at one that is alone */
    world_client(w, 0)->work = frame;
    world_client(w, 0)->period_us = 16000;
    world_set_mode(w, 0, WORLD_LIGHT);
    await_threads(w, 0, is_realtime, 1);
    world_kill_gpupd(w);
    await_threads(w, 0, is_realtime, 1); /* nobody has told it otherwise */
    g_assert_cmpint(gpup_release_renderers(g_getenv("GPUP_TEST_RENDER")), >=, 3);
    for (size_t i = 0; i < 3; i++) {
        await_threads(w, i, is_realtime, 0);
        await_cpus(w, i, all);
    }
    world_start_gpupd(w);
    await_threads(w, 0, is_realtime, 1);
    world_free(w);
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
    /* turns are charged by the clock, which other load on the CPUs distorts */
    assert_part(w, 0.60, 0.90);
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
    g_test_add_func("/gpu-time/moved", moved);
    g_test_add_func("/gpu-time/light-first", light_first);
    g_test_add_func("/gpu-time/in-turn", in_turn);
    return g_test_run();
}
