/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bench.h"
#include "cpus.h"
#include "fairness.h"
#include "plain.h"

#include <glib.h>
#include <math.h>

/*
 * Why goals are missed on the software GPU, and what reaches them: the same partitions in other
 * ways, in turn, several times each. Nothing here has a goal.
 */

#define ROUNDS 3u

struct variant {
    const char *name;
    bool no_arbiter, stay; /* world.h */
    unsigned slice_ms;     /* of turns; 0: all run at the same time */
};

static void report_evenness(struct bench *b, const char *name, const double *clean,
                            const double *all, const char *what)
{
    char text[120], note[120];

    for (int k = 0; k < 2; k++) {
        snprintf(text, sizeof(text), "%s: %s, %s", name, what, k == 0 ? "median" : "worst");
        snprintf(note, sizeof(note), "%.3f of all windows", all[k]);
        bench_noted(b, text, clean[k], "", NAN, NULL, false, note);
    }
}

/* ---- the CPUs ---- */

void bench_explain_cpus(struct bench *b)
{
    size_t cpus = MIN(cpus_count(), WORLD_MOST), twice = MIN(2 * cpus, WORLD_MOST);
    const struct {
        const char *name;
        size_t n;
        enum plain_way way;
    } ways[] = {
        {"a process on each CPU", cpus, PLAIN_PINNED},
        {"twice as many, anywhere", twice, PLAIN_FREE},
        {"twice as many, moved each 20 ms", twice, PLAIN_MOVED},
    };
    struct plain_result *results = g_new0(struct plain_result, G_N_ELEMENTS(ways));

    for (unsigned k = 0; k < ROUNDS; k++) {
        for (size_t i = 0; i < G_N_ELEMENTS(ways); i++)
            plain_processes(ways[i].n, b->seconds, ways[i].way, &results[i]);
    }
    for (size_t i = 0; i < G_N_ELEMENTS(ways); i++) {
        const double clean[] = {results[i].median, results[i].worst};
        const double all[] = {results[i].all_median, results[i].all_worst};

        report_evenness(b, ways[i].name, clean, all, "work per CPU time");
    }
    g_free(results);
}

/* ---- partitions ---- */

static struct world *variant_world(size_t n, const struct variant *v)
{
    struct world_setup setup = bench_equal_setup(n);

    setup.no_arbiter = v->no_arbiter;
    setup.in_turn = v->slice_ms > 0;
    setup.slice_ms = v->slice_ms;
    setup.stay = v->stay;
    return world_new(&setup);
}

static void measure(const struct bench *b, const struct variant *v, struct world *w, size_t n,
                    struct fairness *f)
{
    char name[80];

    snprintf(name, sizeof(name), "%zu equal, %s", n, v->name);
    fairness_measure(b, name, w, n, f);
}

static void report_variant(struct bench *b, const struct variant *v, size_t n,
                           const struct fairness *f, const struct fairness *first)
{
    const double clean[] = {f->median, f->worst}, all[] = {f->all_median, f->all_worst};
    char name[80], text[120], note[120];

    snprintf(name, sizeof(name), "%zu equal, %s", n, v->name);
    report_evenness(b, name, clean, all, "work");
    snprintf(text, sizeof(text), "%s: streams/s", name);
    snprintf(note, sizeof(note), "%.1f streams in 1 s of CPU time, %.1f %% of the CPUs idle",
             f->work / f->cpu_s, f->idle_s / f->s * 100);
    bench_noted(b, text, f->work / f->s, "", first->work / first->s, NULL, false, note);
}

static void compare(struct bench *b, size_t n, const struct variant *variants, size_t count)
{
    struct fairness *f = g_new0(struct fairness, count);
    struct world **w = g_new0(struct world *, count);

    for (size_t i = 0; i < count; i++)
        w[i] = variant_world(n, &variants[i]);
    for (unsigned k = 0; k < ROUNDS; k++) {
        for (size_t i = 0; i < count; i++)
            measure(b, &variants[i], w[i], n, &f[i]);
    }
    for (size_t i = 0; i < count; i++) {
        report_variant(b, &variants[i], n, &f[i], &f[0]);
        world_free(w[i]);
    }
    g_free(f);
    g_free(w);
}

/* As on a GPU: whose turn it is has all the CPUs, so that they cannot differ. */
void bench_explain_turns(struct bench *b)
{
    static const struct variant variants[] = {
        {.name = "together"},
        {.name = "in turns of 4 ms", .slice_ms = 4},
        {.name = "in turns of 20 ms", .slice_ms = 20},
    };

    for (size_t n = 2; n <= 8; n *= 2)
        compare(b, n, variants, G_N_ELEMENTS(variants));
}

/* What it is good for that the arbiter moves renderers between CPUs. */
void bench_explain_moved(struct bench *b)
{
    static const struct variant variants[] = {
        {.name = "no arbiter", .no_arbiter = true},
        {.name = "not moved", .stay = true},
        {.name = "moved"},
    };

    for (size_t n = 2; n <= 8; n *= 2)
        compare(b, n, variants, G_N_ELEMENTS(variants));
}
