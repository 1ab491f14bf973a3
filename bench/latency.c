/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bench.h"
#include "sampler.h"

#include <glib.h>
#include <math.h>
#include <stdio.h>

/* The frame times of a light VM beside greedy ones. */

static const struct work small_frame = {.size = 256, .loops = 4, .draws = 1};

/* The times of the light one's frames in ms, of those with clean time around, while there are any.
 * Returns how many there are. */
static unsigned clean_frames(struct world_client *c, const struct sampler *s, uint64_t first,
                             uint64_t end, unsigned wanted_frames, double *times)
{
    unsigned n = 0;

    for (uint64_t k = first; k < end && n < wanted_frames; k++) {
        uint64_t start = c->done[k % WORLD_LOG].start_ns, ended = c->done[k % WORLD_LOG].end_ns;

        if (sampler_is_clean(s, start - SECOND / 4, ended + SECOND / 4))
            times[n++] = (double)(ended - start) / 1e6;
    }
    return n;
}

/* The 99th percentile of the light one's frame times, ms. */
static double frame_time(struct world *w, size_t light, unsigned frames, struct bench_tries *tries)
{
    struct world_client *c = world_client(w, light);
    struct sampler *s = sampler_new(w, light + 1);
    g_autofree double *times = g_new(double, frames);
    uint64_t first, end;
    unsigned n = 0;

    c->work = small_frame;
    c->period_us = 16000;
    first = atomic_load(&c->n_done);
    world_set_mode(w, light, WORLD_LIGHT);
    for (unsigned k = 0; k < MOST_TIMES && n < frames; k++) {
        sampler_run(s, frames * 16 + SETTLE_MS);
        n = clean_frames(c, s, first, atomic_load(&c->n_done), frames, times);
        if (n < frames / 10) /* it is always so */
            break;
    }
    world_set_mode(w, light, WORLD_IDLE);
    end = atomic_load(&c->n_done);
    tries->all += end - first;
    tries->unclean += n < frames ? end - first : end - first - n;
    if (n < frames) { /* then all */
        tries->given_up += end - first;
        for (n = 0; n < frames && first + n < end; n++)
            times[n] = (double)(c->done[(first + n) % WORLD_LOG].end_ns -
                                c->done[(first + n) % WORLD_LOG].start_ns) /
                       1e6;
    }
    sampler_free(s);
    bench_sort(times, n);
    return times[n * 99 / 100];
}

/* Of QEMU's own back-end. */
static void compare_latency(struct bench *b)
{
    struct bench_tries tries = {0};
    struct world *w;

    if (!b->reference[0])
        return;
    w = bench_equal_world(4, true, b->reference);
    bench_set_all(w, 3, WORLD_GREEDY);
    world_sleep_ms(SETTLE_MS);
    bench_result(b, "  the same of QEMU's back-end: p99",
                 frame_time(w, 3, b->seconds * 100, &tries), "ms", NAN, NULL, false);
    world_free(w);
}

void bench_latency(struct bench *b)
{
    struct world *with = bench_equal_world(4, false, NULL),
                 *without = bench_equal_world(4, true, NULL);
    double quiet[5], ours[5], theirs[5], value, baseline;
    unsigned frames = b->seconds * 100;
    struct bench_tries tries = {0};
    char goal[32], note[120];

    for (size_t k = 0; k < 5; k++) {
        quiet[k] = frame_time(with, 3, frames, &tries);
        bench_set_all(without, 3, WORLD_GREEDY);
        world_sleep_ms(SETTLE_MS);
        theirs[k] = frame_time(without, 3, frames, &tries);
        bench_set_all(without, 3, WORLD_IDLE);
        bench_set_all(with, 3, WORLD_GREEDY);
        world_sleep_ms(SETTLE_MS);
        ours[k] = frame_time(with, 3, frames, &tries);
        bench_set_all(with, 3, WORLD_IDLE);
    }
    value = bench_median(ours, 5);
    baseline = bench_median(quiet, 5);
    snprintf(goal, sizeof(goal), "<= %.1f", baseline + 5);
    bench_noted(b, "light beside 3 greedy: p99 frame time, to alone", value, "ms", baseline, goal,
                value <= baseline + 5, bench_tell_tries(note, sizeof(note), &tries));
    baseline = bench_median(theirs, 5);
    bench_result(b, "light beside 3 greedy: p99, to no arbiter", value, "ms", baseline, "<= 0.33 x",
                 value * 3 <= baseline);
    world_free(with);
    world_free(without);
    compare_latency(b);
}

/* How much of it is the time that the guest's own threads, which are QEMU's, wait for a CPU. */
void bench_explain_guests(struct bench *b)
{
    static const char *const names[] = {"light beside 3 greedy: p99",
                                        "the same, guests' threads first: p99"};
    struct bench_tries tries = {0};
    struct world *w[G_N_ELEMENTS(names)];
    double times[G_N_ELEMENTS(names)][3];

    for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
        struct world_setup setup = bench_equal_setup(4);

        setup.guests_first = i == 1;
        w[i] = world_new(&setup);
    }
    for (size_t k = 0; k < G_N_ELEMENTS(times[0]); k++) {
        for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
            bench_set_all(w[i], 3, WORLD_GREEDY);
            world_sleep_ms(SETTLE_MS);
            times[i][k] = frame_time(w[i], 3, b->seconds * 100, &tries);
            bench_set_all(w[i], 3, WORLD_IDLE);
        }
    }
    for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
        bench_result(b, names[i], bench_median(times[i], G_N_ELEMENTS(times[i])), "ms", NAN, NULL,
                     false);
        world_free(w[i]);
    }
}
