/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bench.h"
#include "cpus.h"
#include "fairness.h"
#include "plain.h"
#include "sampler.h"
#include "simulation.h"

#include <errno.h>
#include <glib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*
 * GPU time: what partitions get of what they asked for. Guests' stand-ins send real command streams
 * to gpup-vgpu and gpup-render (software GPU); the arbiter is gpupd's. Where there is a baseline it
 * is the same without the arbiter, in turn.
 */

static const struct work usual = {.size = 512, .loops = 8, .draws = 1};

static bool wanted(const struct bench *b, const char *group)
{
    return !b->only || g_str_has_prefix(group, b->only);
}

/* ---- equal ones ---- */

static const char *left_out(char *text, size_t size, size_t n, size_t of)
{
    snprintf(text, size, "%zu of %zu windows left out: CPUs were taken away", n, of);
    return n > 0 ? text : NULL;
}

/* The same work with QEMU's own back-end, one process for each VM and no arbiter; and what the
 * machine itself makes of plain processes. */
static void compare_equal(struct bench *b, size_t n)
{
    struct plain_result plain = {0};
    struct fairness theirs = {0};
    struct world *w;
    char name[80];

    plain_processes(n, b->seconds, PLAIN_FREE, &plain);
    snprintf(name, sizeof(name), "  %zu plain processes: work per CPU time, median", n);
    bench_result(b, name, plain.median, "", NAN, NULL, false);
    snprintf(name, sizeof(name), "  %zu plain processes: work per CPU time, worst", n);
    bench_result(b, name, plain.worst, "", NAN, NULL, false);
    if (!b->reference[0])
        return;
    w = bench_equal_world(n, true, b->reference);
    snprintf(name, sizeof(name), "%zu equal of QEMU's", n);
    fairness_measure(b, name, w, n, &theirs);
    snprintf(name, sizeof(name), "  %zu of QEMU's back-end: charged", n);
    bench_result(b, name, theirs.charged, "", NAN, NULL, false);
    snprintf(name, sizeof(name), "  %zu of QEMU's back-end: work, median", n);
    bench_result(b, name, theirs.median, "", NAN, NULL, false);
    snprintf(name, sizeof(name), "  %zu of QEMU's back-end: work, worst", n);
    bench_result(b, name, theirs.worst, "", NAN, NULL, false);
    world_free(w);
}

static void report_fairness(struct bench *b, size_t n, const struct fairness *ours,
                            const struct fairness *theirs)
{
    char name[80], out[80], note[160];
    double goal = n == 2 ? 0.97 : 0.95;

    snprintf(name, sizeof(name), "%zu equal: charged, slowest/fastest", n);
    bench_result(b, name, ours->charged, "", theirs->charged, ">= 0.99", ours->charged >= 0.99);
    snprintf(name, sizeof(name), "%zu equal: work in 1 s windows, median", n);
    left_out(out, sizeof(out), ours->n_windows - ours->n_clean, ours->n_windows);
    snprintf(note, sizeof(note), "%s; median of all %.3f, worst of all %.3f", out, ours->all_median,
             ours->all_worst);
    bench_noted(b, name, ours->median, "", theirs->median, n == 2 ? ">= 0.97" : ">= 0.95",
                ours->median >= goal, ours->n_clean < ours->n_windows ? note : NULL);
    snprintf(name, sizeof(name), "%zu equal: work in 1 s windows, worst", n);
    bench_result(b, name, ours->worst, "", theirs->worst, ">= 0.90", ours->worst >= 0.9);
}

static void equal_ones(struct bench *b, size_t n)
{
    struct world *with = bench_equal_world(n, false, NULL),
                 *without = bench_equal_world(n, true, NULL);
    struct fairness ours = {0}, theirs = {0};
    char name[80];

    snprintf(name, sizeof(name), "%zu equal, no arbiter", n);
    fairness_measure(b, name, without, n, &theirs);
    snprintf(name, sizeof(name), "%zu equal", n);
    fairness_measure(b, name, with, n, &ours);
    report_fairness(b, n, &ours, &theirs);
    world_free(with);
    world_free(without);
    compare_equal(b, n);
}

static void equal_2(struct bench *b)
{
    equal_ones(b, 2);
}

static void equal_4(struct bench *b)
{
    equal_ones(b, 4);
}

static void equal_8(struct bench *b)
{
    equal_ones(b, 8);
}

/* ---- weights ---- */

struct errors {
    double charged, work; /* the largest of any partition, parts of the GPU */
    struct taken stretch; /* while it was measured */
};

static void measure_errors(const struct bench *b, const char *name, struct world *w, size_t n,
                           const unsigned *percent, struct errors *e)
{
    struct sampler *s = sampler_new(w, n);
    double work[WORLD_MOST], sum = 0;
    struct fairness f = {0};
    size_t first, last;

    bench_set_all(w, n, WORLD_GREEDY);
    world_sleep_ms(SETTLE_MS);
    fairness_run(b, s);
    world_sleep_ms(100);
    bench_set_all(w, n, WORLD_IDLE);
    fairness_look(b, name, s, w, n, &f);
    fairness_quietest(s, b->seconds * SECOND - SECOND / 10, &first, &last);
    for (size_t i = 0; i < n; i++) {
        work[i] = world_work(w, i, sampler_time(s, first), sampler_time(s, last));
        sum += work[i];
    }
    *e =
        (struct errors){.stretch = sampler_taken(s, sampler_time(s, first), sampler_time(s, last))};
    for (size_t i = 0; i < n; i++) {
        double want = percent[i] / 100.0;

        e->charged = MAX(e->charged, fabs(sampler_part(s, i, first, last) - want));
        e->work = MAX(e->work, fabs(work[i] / sum - want));
    }
    sampler_free(s);
}

static void weights(struct bench *b)
{
    static const struct {
        const char *name;
        size_t n;
        unsigned percent[4];
    } cases[] = {
        {"10/90", 2, {10, 90}},
        {"25/75", 2, {25, 75}},
        {"10/20/30/40", 4, {10, 20, 30, 40}},
    };

    for (size_t k = 0; k < G_N_ELEMENTS(cases); k++) {
        struct world_setup setup = {.n = cases[k].n, .work = usual, .quiet = true};
        struct errors ours, theirs;
        struct world *with, *without;
        char name[80], note[80];

        for (size_t i = 0; i < setup.n; i++)
            setup.share[i] = (struct world_share){0, cases[k].percent[i], 100};
        with = world_new(&setup);
        setup.no_arbiter = true;
        without = world_new(&setup);
        snprintf(name, sizeof(name), "%s, no arbiter", cases[k].name);
        measure_errors(b, name, without, setup.n, cases[k].percent, &theirs);
        measure_errors(b, cases[k].name, with, setup.n, cases[k].percent, &ours);
        snprintf(name, sizeof(name), "%s: error of charged time", cases[k].name);
        snprintf(note, sizeof(note), "%.1f %% of the CPUs' time stolen, %.1f %% others'",
                 ours.stretch.stolen * 100, ours.stretch.foreign * 100);
        bench_noted(b, name, ours.charged * 100, "%", theirs.charged * 100, "<= 0.5",
                    ours.charged <= 0.005, note);
        snprintf(name, sizeof(name), "%s: error of work", cases[k].name);
        bench_result(b, name, ours.work * 100, "%", theirs.work * 100, "<= 1", ours.work <= 0.01);
        world_free(with);
        world_free(without);
    }
}

/* ---- bounds ---- */

/* In clean windows, and in all. */
static void least_window(const struct sampler *s, size_t i, double *least, double *of_all)
{
    size_t last = sampler_count(s) - 1;

    *least = NAN;
    *of_all = 1;
    for (size_t from = 0; sampler_time(s, from) + SECOND <= sampler_time(s, last); from += 5) {
        uint64_t start = sampler_time(s, from);
        double part = sampler_part(s, i, from, sampler_at(s, start + SECOND));

        *of_all = MIN(*of_all, part);
        if (sampler_is_clean(s, start, start + SECOND))
            *least = fmin(*least, part);
    }
}

static void minimum(struct bench *b)
{
    const struct world_setup setup = {
        .n = 2, .share = {{40, 40, 100}, {0, 95, 100}}, .work = usual, .quiet = true};
    struct world *w = world_new(&setup);
    struct sampler *s = sampler_new(w, 2);
    double least, of_all;
    char note[120], out[80];
    struct fairness f = {0};
    size_t n;

    bench_set_all(w, 2, WORLD_GREEDY);
    world_sleep_ms(SETTLE_MS);
    fairness_run(b, s);
    least_window(s, 0, &least, &of_all);
    fairness_look(b, "min 40 %", s, w, 2, &f);
    n = fairness_count_windows(s, false);
    left_out(out, sizeof(out), n - fairness_count_windows(s, true), n);
    snprintf(note, sizeof(note), "%s; worst of all %.2f %%", out, of_all * 100);
    bench_noted(b, "min 40 % beside a weight of 95: worst second", least * 100, "%", NAN, ">= 40",
                least >= 0.4, fairness_count_windows(s, true) < n ? note : NULL);
    sampler_free(s);
    world_free(w);
}

static void maximum(struct bench *b)
{
    const struct world_setup setup = {
        .n = 2, .share = {{0, 30, 30}, {0, 50, 100}}, .work = usual, .quiet = true};
    struct world *w = world_new(&setup);
    struct sampler *s = sampler_new(w, 2);
    size_t last;
    double got;

    world_set_mode(w, 0, WORLD_GREEDY);
    world_sleep_ms(SETTLE_MS);
    sampler_run(s, b->seconds * 1000);
    last = sampler_count(s) - 1;
    got = sampler_charged(s, 0, 0, last) * 100 /
          (double)(sampler_time(s, last) - sampler_time(s, 0)) / (double)cpus_count();
    bench_result(b, "max 30 % alone", got, "%", NAN, "30 +- 1", fabs(got - 30) <= 1);
    sampler_free(s);
    world_free(w);
}

/* ---- cost ---- */

/* Work units a second of the first n, all greedy. */
static double throughput_once(struct world *w, size_t n, unsigned ms, bool *clean)
{
    struct load *load = load_new();
    struct load_sample before, after;
    double sum = 0;

    bench_set_all(w, n, WORLD_GREEDY);
    world_sleep_ms(SETTLE_MS);
    load_take(load, &before);
    world_sleep_ms(ms);
    load_take(load, &after);
    world_sleep_ms(100);
    bench_set_all(w, n, WORLD_IDLE);
    for (size_t i = 0; i < n; i++)
        sum += world_work(w, i, before.ns, after.ns);
    *clean = load_is_clean(&before, &after);
    load_free(load);
    return sum * 1e9 / (double)(after.ns - before.ns);
}

/* Again while CPUs are taken away. */
static double throughput(struct world *w, size_t n, unsigned ms, struct bench_tries *tries)
{
    bool clean = false;
    double got = 0;

    for (unsigned k = 0; k < MOST_TIMES && !clean; k++) {
        got = throughput_once(w, n, ms, &clean);
        tries->all++;
        tries->unclean += !clean;
        if (tries->given_up > 1) /* it is always so */
            break;
    }
    tries->given_up += !clean;
    return got;
}

static void alone(struct bench *b)
{
    struct world *with = bench_equal_world(4, false, NULL),
                 *without = bench_equal_world(4, true, NULL);
    double ratios[7], ours[7], theirs[7], cpu = 0;
    unsigned ms = b->seconds * 1000 / 5;
    struct bench_tries tries = {0};
    char note[120];

    for (size_t k = 0; k < 7; k++) {
        uint64_t before, began;

        theirs[k] = throughput(without, 1, ms, &tries);
        before = world_gpupd_cpu(with);
        began = world_now();
        ours[k] = throughput(with, 1, ms, &tries);
        cpu = MAX(cpu, (double)(world_gpupd_cpu(with) - before) / (double)(world_now() - began));
        ratios[k] = ours[k] / theirs[k];
    }
    cpu = cpu * 100 / (double)cpus_count();
    bench_noted(b, "one greedy, 3 idle: streams/s with/without arbiter", bench_median(ratios, 7),
                "", 1, ">= 0.98", bench_median(ratios, 7) >= 0.98,
                bench_tell_tries(note, sizeof(note), &tries));
    bench_result(b, "one greedy, 3 idle: gpupd's CPU time", cpu, "%", NAN, "<= 0.1", cpu <= 0.1);
    world_free(with);
    world_free(without);
}

/* Of QEMU's own back-end: 8 to one alone. */
static void compare_total(struct bench *b)
{
    struct bench_tries tries = {0};
    double ratios[5];
    struct world *w;

    if (!b->reference[0])
        return;
    w = bench_equal_world(8, true, b->reference);
    for (size_t k = 0; k < 5; k++) {
        double one = throughput(w, 1, b->seconds * 300, &tries);

        ratios[k] = throughput(w, 8, b->seconds * 300, &tries) / one;
    }
    bench_result(b, "  8 of QEMU's back-end: streams/s, to one alone", bench_median(ratios, 5), "",
                 1, NULL, false);
    world_free(w);
}

static void total(struct bench *b)
{
    struct world *with = bench_equal_world(8, false, NULL),
                 *without = bench_equal_world(8, true, NULL);
    double to_one[5], to_none[5], none_to_one[5];
    struct bench_tries tries = {0};
    char note[120];

    for (size_t k = 0; k < 5; k++) {
        double one = throughput(with, 1, b->seconds * 300, &tries);
        double eight = throughput(with, 8, b->seconds * 300, &tries);
        double none = throughput(without, 8, b->seconds * 300, &tries);

        to_one[k] = eight / one;
        to_none[k] = eight / none;
        none_to_one[k] = none / one;
    }
    bench_noted(b, "8 greedy: streams/s of all, to one alone", bench_median(to_one, 5), "",
                bench_median(none_to_one, 5), ">= 1.00", bench_median(to_one, 5) >= 1,
                bench_tell_tries(note, sizeof(note), &tries));
    bench_result(b, "8 greedy: streams/s of all, to no arbiter", bench_median(to_none, 5), "", 1,
                 ">= 0.90", bench_median(to_none, 5) >= 0.9);
    world_free(with);
    world_free(without);
    compare_total(b);
}

/* ---- coming and going ---- */

static double off_by(struct world *w, size_t n, double want, bool *clean)
{
    struct sampler *s = sampler_new(w, n);
    size_t last;
    double most = 0;

    world_sleep_ms(200);
    sampler_run(s, 500);
    last = sampler_count(s) - 1;
    for (size_t i = 0; i < 3; i++)
        most = MAX(most, fabs(sampler_part(s, i, 0, last) - want));
    *clean &= sampler_is_clean(s, sampler_time(s, 0), sampler_time(s, last));
    sampler_free(s);
    return most;
}

static void changes(struct bench *b)
{
    struct world *w = bench_equal_world(4, false, NULL);
    double came[5], left[5];

    bench_set_all(w, 3, WORLD_GREEDY);
    world_sleep_ms(SETTLE_MS);
    for (size_t k = 0, tries = 0; k < 5; tries++) {
        bool clean = true;

        world_set_mode(w, 3, WORLD_GREEDY);
        came[k] = off_by(w, 4, 0.25, &clean) * 100;
        world_set_mode(w, 3, WORLD_IDLE);
        left[k] = off_by(w, 3, 1 / 3.0, &clean) * 100;
        k += clean || tries >= 5 * MOST_TIMES; /* in the end what there is */
    }
    bench_result(b, "a 4th came: others' error 200 ms later", bench_median(came, 5), "%", NAN,
                 "<= 2", bench_median(came, 5) <= 2);
    bench_result(b, "the 4th left: others' error 200 ms later", bench_median(left, 5), "%", NAN,
                 "<= 2", bench_median(left, 5) <= 2);
    world_free(w);
}

/* ---- the rule alone ---- */

static void simulation(struct bench *b)
{
    struct simulation_result any = simulate_any(4000000, 100);
    double bound = any.bound;

    for (unsigned n = 2; n <= 8; n *= 2) {
        struct simulation_result equal = simulate_equal(n, 250000, 20);
        char name[80];

        snprintf(name, sizeof(name), "simulation, %u equal: worst second", n);
        bench_result(b, name, equal.fairness, "", NAN, ">= 0.99", equal.fairness >= 0.99);
        bound = MAX(bound, equal.bound);
    }
    bench_result(b, "simulation, 100 random sets: part of the bound used", bound, "", NAN, "<= 1",
                 bound <= 1);
}

/* `preload`: bench/surfaceless.c, which has it run where there is no render node. */
static void find_reference(struct bench *b, char *preload)
{
    const char *const argv[] = {
        "/usr/bin/env", preload, "LIBGL_ALWAYS_SOFTWARE=1", g_getenv("GPUP_BENCH_REFERENCE"),
        "--virgl",      NULL};

    if (argv[3])
        memcpy(b->reference, argv, sizeof(argv));
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*run)(struct bench *b);
        bool when_asked; /* by its whole name */
    } groups[] = {
        {"equal-2", equal_2},
        {"equal-4", equal_4},
        {"equal-8", equal_8},
        {"weights", weights},
        {"minimum", minimum},
        {"maximum", maximum},
        {"alone", alone},
        {"total", total},
        {"latency", bench_latency},
        {"changes", changes},
        {"simulation", simulation},
        {"cpus", bench_explain_cpus, true},
        {"turns", bench_explain_turns, true},
        {"moved", bench_explain_moved, true},
        {"guests", bench_explain_guests, true},
    };
    g_autofree char *json = NULL, *only = NULL, *windows = NULL;
    g_autofree char *preload = g_strdup_printf("LD_PRELOAD=%s", g_getenv("GPUP_BENCH_PRELOAD"));
    int seconds = 10;
    const GOptionEntry entries[] = {
        {"json", 0, 0, G_OPTION_ARG_FILENAME, &json, "Write the results as JSON", "FILE"},
        {"seconds", 0, 0, G_OPTION_ARG_INT, &seconds, "Of one measurement (10)", "N"},
        {"only", 0, 0, G_OPTION_ARG_STRING, &only,
         "Those that begin so, of equal-2, equal-4, equal-8, weights, minimum, maximum, alone, total, latency, changes, simulation; or one that explains: cpus, moved, turns, guests",
         "GROUP"},
        {"windows", 0, 0, G_OPTION_ARG_FILENAME, &windows,
         "Write what each window of 1 s held: work and CPU time of each partition, CPU time taken "
         "away",
         "FILE"},
        {0},
    };
    g_autoptr(GOptionContext) context = g_option_context_new(NULL);
    g_autoptr(GError) error = NULL;
    struct bench b;

    g_set_prgname("./benchmark share");
    g_option_context_set_summary(context, "What partitions get of the GPU time they asked for, on "
                                          "the software GPU. Takes some minutes.");
    g_option_context_add_main_entries(context, entries, NULL);
    if (!g_option_context_parse(context, &argc, &argv, &error) || argc > 1 || seconds < 2 ||
        seconds > 60) {
        fprintf(stderr, "./benchmark share: %s\n",
                error ? error->message : "no such argument, or seconds not from 2 to 60");
        return 2;
    }
    b = (struct bench){.seconds = (unsigned)seconds, .only = only};
    if (windows && !(b.windows = fopen(windows, "we"))) {
        fprintf(stderr, "./benchmark share: %s: %s\n", windows, g_strerror(errno));
        return 2;
    }
    b.report = report_new(json);
    find_reference(&b, preload);
    for (size_t i = 0; i < G_N_ELEMENTS(groups); i++) {
        if (groups[i].when_asked ? g_strcmp0(only, groups[i].name) == 0
                                 : wanted(&b, groups[i].name))
            groups[i].run(&b);
    }
    if (b.windows)
        fclose(b.windows);
    return report_end(b.report);
}
