/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "sampler.h"

#include <glib.h>
#include <time.h>

#define EACH_MS 10u
#define AROUND  5u
/* /proc/stat counts in ticks of 10 ms: looking at it more often tells no more. */
#define LOAD_EACH 5u

struct sample {
    uint64_t ns;
    uint64_t charged[WORLD_MOST];
    struct load_sample load; /* as it was at the last one of each LOAD_EACH */
};

struct sampler {
    size_t n;
    clockid_t clock[WORLD_MOST];
    GArray *samples;
    struct load *load;
};

struct sampler *sampler_new(struct world *world, size_t n)
{
    struct sampler *s = g_new0(struct sampler, 1);

    s->n = n;
    s->load = load_new();
    s->samples = g_array_new(FALSE, TRUE, sizeof(struct sample));
    for (size_t i = 0; i < n; i++)
        g_assert_cmpint(clock_getcpuclockid(world_renderer(world, i), &s->clock[i]), ==, 0);
    return s;
}

void sampler_free(struct sampler *s)
{
    g_array_unref(s->samples);
    load_free(s->load);
    g_free(s);
}

static void take(struct sampler *s)
{
    struct sample sample = {.ns = world_now()};

    for (size_t i = 0; i < s->n; i++) {
        struct timespec t = {0};

        clock_gettime(s->clock[i], &t);
        sample.charged[i] = (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
    }
    if (s->samples->len % LOAD_EACH == 0)
        load_take(s->load, &sample.load);
    else
        sample.load = g_array_index(s->samples, struct sample, s->samples->len - 1).load;
    g_array_append_val(s->samples, sample);
}

void sampler_run(struct sampler *s, unsigned ms)
{
    take(s);
    for (unsigned k = 0; k < ms / EACH_MS; k++) {
        world_sleep_ms(EACH_MS);
        take(s);
    }
}

size_t sampler_count(const struct sampler *s)
{
    return s->samples->len;
}

uint64_t sampler_time(const struct sampler *s, size_t k)
{
    return g_array_index(s->samples, struct sample, k).ns;
}

/* The mean of the samples around: the clock of a process lags by up to a tick for each of its
 * threads that runs, more or less at each look. */
static double around(const struct sampler *s, size_t i, size_t k)
{
    size_t from = k > AROUND ? k - AROUND : 0, to = MIN(k + AROUND + 1, s->samples->len);
    size_t reach = MIN(k - from, to - 1 - k); /* as many on either side */
    double sum = 0;

    for (size_t at = k - reach; at <= k + reach; at++)
        sum += (double)g_array_index(s->samples, struct sample, at).charged[i];
    return sum / (double)(2 * reach + 1);
}

double sampler_charged(const struct sampler *s, size_t i, size_t from, size_t to)
{
    return around(s, i, to) - around(s, i, from);
}

double sampler_part(const struct sampler *s, size_t i, size_t from, size_t to)
{
    double all = 0;

    for (size_t k = 0; k < s->n; k++)
        all += sampler_charged(s, k, from, to);
    return all > 0 ? sampler_charged(s, i, from, to) / all : 0;
}

size_t sampler_at(const struct sampler *s, uint64_t ns)
{
    size_t k = 0;

    while (k + 1 < s->samples->len && sampler_time(s, k) < ns)
        k++;
    return k;
}

/* The sample with a fresh look at the load that is nearest. */
static const struct load_sample *load_at(const struct sampler *s, uint64_t ns)
{
    size_t k = (sampler_at(s, ns) + LOAD_EACH / 2) / LOAD_EACH * LOAD_EACH;
    size_t last = (s->samples->len - 1) / LOAD_EACH * LOAD_EACH;

    return &g_array_index(s->samples, struct sample, MIN(k, last)).load;
}

struct taken sampler_taken(const struct sampler *s, uint64_t from_ns, uint64_t to_ns)
{
    return load_taken(load_at(s, from_ns), load_at(s, to_ns));
}

bool sampler_is_clean(const struct sampler *s, uint64_t from_ns, uint64_t to_ns)
{
    return load_is_clean(load_at(s, from_ns), load_at(s, to_ns));
}
