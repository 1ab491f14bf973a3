/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plain.h"

#include "bench.h"
#include "cpus.h"
#include "load.h"
#include "world.h"

#include <glib.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MOST         8u
#define EACH_MS      250u
#define WINDOW_STEPS (1000u / EACH_MS)
#define MOST_STEPS   512u
#define MOVED_NS     (20 * UINT64_C(1000000))
/* Like a small picture and its shader: it fits a core's own cache. */
#define FLOATS 16384u
#define PASSES 8u

struct shared {
    _Atomic uint64_t done[MOST];
};

struct step {
    double done[MOST], cpu[MOST];
    struct load_sample load;
};

static void compute_once(void)
{
    static float picture[FLOATS];

    for (unsigned k = 0; k < PASSES; k++) {
        for (size_t i = 0; i < FLOATS; i++)
            picture[i] = picture[i] * 0.5f + 0.25f * (float)(k + 1);
    }
    __asm__ volatile("" : : "r"(picture) : "memory");
}

_Noreturn static void compute(_Atomic uint64_t *done, size_t number, enum plain_way way)
{
    uint64_t moved = 0;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    world_own_session();
    if (way == PLAIN_PINNED)
        cpus_keep_to(number);
    for (;;) {
        compute_once();
        atomic_fetch_add(done, 1);
        if (way != PLAIN_MOVED || world_now() - moved < MOVED_NS)
            continue;
        cpus_keep_to(number++);
        moved = world_now();
    }
}

static double cpu_seconds(pid_t pid)
{
    struct timespec t = {0};
    clockid_t clock;

    if (clock_getcpuclockid(pid, &clock) == 0)
        clock_gettime(clock, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static double evenness(const struct step *from, const struct step *to, size_t n)
{
    double least = G_MAXDOUBLE, most = 0;

    for (size_t i = 0; i < n; i++) {
        double speed = (to->done[i] - from->done[i]) / (to->cpu[i] - from->cpu[i]);

        least = MIN(least, speed);
        most = MAX(most, speed);
    }
    return least / most;
}

static void sample(const struct shared *shared, const pid_t *pid, size_t n, struct step *steps,
                   size_t n_steps)
{
    struct load *load = load_new();

    world_sleep_ms(EACH_MS);
    for (size_t k = 0; k < n_steps; k++) {
        load_take(load, &steps[k].load);
        for (size_t i = 0; i < n; i++) {
            steps[k].done[i] = (double)atomic_load(&shared->done[i]);
            steps[k].cpu[i] = cpu_seconds(pid[i]);
        }
        world_sleep_ms(EACH_MS);
    }
    load_free(load);
}

static void look_at_windows(struct plain_result *result, const struct step *steps, size_t n_steps,
                            size_t n)
{
    for (size_t k = 0; k + WINDOW_STEPS < n_steps && result->n_windows < PLAIN_MOST; k++) {
        double even = evenness(&steps[k], &steps[k + WINDOW_STEPS], n);

        result->all[result->n_windows++] = even;
        if (load_is_clean(&steps[k].load, &steps[k + WINDOW_STEPS].load))
            result->clean[result->n_clean++] = even;
    }
    result->median = result->worst = NAN;
    result->all_median = bench_median(result->all, result->n_windows);
    result->all_worst = result->all[0];
    if (result->n_clean == 0)
        return;
    result->median = bench_median(result->clean, result->n_clean);
    result->worst = result->clean[0];
}

void plain_processes(size_t n, unsigned seconds, enum plain_way way, struct plain_result *result)
{
    size_t n_steps = MIN(seconds * 1000 / EACH_MS + 1, MOST_STEPS);
    struct shared *shared =
        mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    g_autofree struct step *steps = g_new0(struct step, n_steps);
    pid_t pid[MOST];

    g_assert_true(shared != MAP_FAILED);
    g_assert_cmpuint(n, <=, MOST);
    for (size_t i = 0; i < n; i++) {
        pid[i] = fork();
        g_assert_cmpint(pid[i], >=, 0);
        if (pid[i] == 0)
            compute(&shared->done[i], i, way);
    }
    sample(shared, pid, n, steps, n_steps);
    for (size_t i = 0; i < n; i++) {
        kill(pid[i], SIGKILL);
        waitpid(pid[i], NULL, 0);
    }
    munmap(shared, sizeof(*shared));
    look_at_windows(result, steps, n_steps, n);
}
