/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/bus.h"
#include "cli/cli.h"
#include "cli/json.h"
#include "cli/table.h"
#include "cli/values.h"
#include "core/text.h"
#include "core/units.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define DEFAULT_INTERVAL "2"
#define CLEAR_SCREEN     "\033[H\033[J"

/* What one VM had used of its partition at some moment. */
struct sample {
    char *vm, *partition;
    struct gpup_grant grant;
    bool measured;  /* false: a partition of hardware, of which nobody tells what is used */
    uint64_t at_ns; /* 0: nobody measures its GPU time */
    uint64_t gpu_time_ns, gpu_wait_ns;
    uint64_t frames, submits, commands, vram;
    gint64 read_us; /* when we asked */
};

static void sample_free(void *data)
{
    struct sample *s = data;

    g_free(s->vm);
    g_free(s->partition);
    g_free(s);
}

static uint64_t number(GVariant *usage, const char *name)
{
    uint64_t value;

    return cli_read_number(usage, name, &value) ? value : 0;
}

static struct sample *take(const struct cli_bus *bus, GpupPartition *partition)
{
    g_autoptr(GVariant) usage = cli_partition_usage(partition);
    GpupGPU *gpu = cli_bus_gpu(bus, cli_text(gpup_partition_get_gpu(partition)));
    struct sample *s;

    if (!usage || g_strcmp0(gpup_partition_get_state(partition), "used") != 0)
        return NULL;
    s = g_new0(struct sample, 1);
    s->measured = g_variant_n_children(usage) > 0;
    s->vm = g_strdup(cli_text(gpup_partition_get_vm(partition)));
    s->partition = g_strdup_printf("%s/%u", gpu ? cli_text(gpup_gpu_get_short_id(gpu)) : "?",
                                   gpup_partition_get_index(partition));
    cli_read_grant(gpup_partition_get_grant(partition), &s->grant);
    s->at_ns = number(usage, "at");
    s->gpu_time_ns = number(usage, "gpu-time");
    s->gpu_wait_ns = number(usage, "gpu-wait");
    s->frames = number(usage, "frames");
    s->submits = number(usage, "submits");
    s->commands = number(usage, "commands");
    s->vram = number(usage, "vram-used");
    s->read_us = g_get_monotonic_time();
    return s;
}

/* All VMs that use a partition now (struct sample *), or NULL with the exit code. */
static GPtrArray *take_all(int *code)
{
    g_auto(cli_bus) bus = {0};
    GPtrArray *samples;

    *code = cli_bus_load(&bus);
    if (*code != GPUP_EXIT_DONE)
        return NULL;
    samples = g_ptr_array_new_with_free_func(sample_free);
    for (guint i = 0; i < bus.partitions->len; i++) {
        struct sample *s = take(&bus, bus.partitions->pdata[i]);

        if (s)
            g_ptr_array_add(samples, s);
    }
    return samples;
}

/* The same VM's earlier one, if it is the same run of it: counts only grow. */
static const struct sample *before(const GPtrArray *earlier, const struct sample *s)
{
    for (guint i = 0; i < earlier->len; i++) {
        const struct sample *e = earlier->pdata[i];

        if (strcmp(e->vm, s->vm) == 0 && strcmp(e->partition, s->partition) == 0 &&
            e->gpu_time_ns <= s->gpu_time_ns && e->commands <= s->commands && e->at_ns <= s->at_ns)
            return e;
    }
    return NULL;
}

/* ---- what happened between two of them ---- */

struct rates {
    bool known, timed;
    uint64_t got, waiting;            /* parts per million */
    double frames, submits, commands; /* a second */
};

static double each_second(uint64_t from, uint64_t to, double seconds)
{
    return to > from ? (double)(to - from) / seconds : 0;
}

static struct rates compare(const struct sample *e, const struct sample *s)
{
    struct rates r = {0};
    double seconds, ns;

    if (!e || !e->measured || !s->measured || s->read_us <= e->read_us)
        return r;
    seconds = (double)(s->read_us - e->read_us) / 1e6;
    ns = (double)(s->at_ns - e->at_ns);
    r.known = true;
    r.timed = s->at_ns > 0 && ns > 0;
    if (r.timed) {
        r.got = (uint64_t)((double)(s->gpu_time_ns - e->gpu_time_ns) * 1e6 / ns + 0.5);
        r.waiting = s->gpu_wait_ns > e->gpu_wait_ns
                        ? (uint64_t)((double)(s->gpu_wait_ns - e->gpu_wait_ns) * 1e6 / ns + 0.5)
                        : 0;
        r.waiting = MIN(r.waiting, GPUP_PPM_FULL);
    }
    r.frames = each_second(e->frames, s->frames, seconds);
    r.submits = each_second(e->submits, s->submits, seconds);
    r.commands = each_second(e->commands, s->commands, seconds);
    return r;
}

/* ---- shown ---- */

#define CELLS 8 /* of a VM: as many as the table has columns */

static char *share_text(bool known, uint64_t ppm)
{
    return known ? g_strdup_printf("%.1f %%", (double)ppm / 10000) : g_strdup("-");
}

static char *rate_text(bool known, double rate)
{
    return known ? g_strdup_printf("%.0f", rate) : g_strdup("-");
}

/* "25 %", and the bounds where they are not what everybody has. */
static char *asked_text(const struct sample *s)
{
    const struct gpup_share *c = &s->grant.share[GPUP_COMPUTE];
    g_autofree char *weight = cli_amount(GPUP_COMPUTE, c->weight);
    g_autofree char *min = cli_amount(GPUP_COMPUTE, c->min);
    g_autofree char *cap = cli_amount(GPUP_COMPUTE, c->cap);

    if (c->min == c->weight && c->cap >= GPUP_PPM_FULL)
        return g_steal_pointer(&weight);
    return g_strdup_printf("%s (%s to %s)", weight, min, cap);
}

static void fill_row(const struct sample *s, const struct rates *r, char *cells[CELLS])
{
    g_autofree char *used = s->measured ? cli_amount(GPUP_VRAM, s->vram) : g_strdup("-");
    g_autofree char *granted = cli_amount(GPUP_VRAM, s->grant.share[GPUP_VRAM].cap);

    cells[0] = g_strdup(s->vm);
    cells[1] = g_strdup(s->partition);
    cells[2] = asked_text(s);
    cells[3] = share_text(r->timed, r->got);
    cells[4] = share_text(r->timed, r->waiting);
    cells[5] = g_strdup_printf("%s of %s", used, granted);
    cells[6] = rate_text(r->known, r->submits);
    cells[7] = rate_text(r->known, r->frames);
}

static void show_table(const GPtrArray *earlier, const GPtrArray *now)
{
    static const struct cli_column columns[] = {{"VM"},      {"PARTITION"}, {"ASKED"},
                                                {"GOT"},     {"WAITING"},   {"MEMORY"},
                                                {"DRAWS/S"}, {"FRAMES/S"},  {0}};
    g_autoptr(cli_table) table = cli_table_new(columns);

    for (guint i = 0; i < now->len; i++) {
        const struct rates r = compare(before(earlier, now->pdata[i]), now->pdata[i]);
        char *cells[CELLS];

        fill_row(now->pdata[i], &r, cells);
        cli_table_add(table, (const char *const *)cells);
        for (int k = 0; k < CELLS; k++)
            g_free(cells[k]);
    }
    fputs(CLEAR_SCREEN, stdout);
    if (now->len == 0)
        puts("No VM uses a partition.");
    else
        cli_table_print(table);
}

/* For logs and pipes: one line for each VM, which stands for itself. */
static void show_lines(const GPtrArray *earlier, const GPtrArray *now)
{
    g_autofree char *time = cli_time((uint64_t)g_get_real_time(), "%H:%M:%S");

    if (now->len == 0)
        printf("%s no VM uses a partition\n", time);
    for (guint i = 0; i < now->len; i++) {
        const struct rates r = compare(before(earlier, now->pdata[i]), now->pdata[i]);
        char *c[CELLS];

        fill_row(now->pdata[i], &r, c);
        gpup_text_clean(c[0], false);
        printf("%s %s %s asked %s, got %s, waiting %s, memory %s, %s draws/s, %s frames/s\n", time,
               c[0], c[1], c[2], c[3], c[4], c[5], c[6], c[7]);
        for (int k = 0; k < CELLS; k++)
            g_free(c[k]);
    }
}

static void json_rate(JsonBuilder *json, const char *name, bool known, double rate)
{
    json_builder_set_member_name(json, name);
    if (known)
        json_builder_add_double_value(json, rate);
    else
        json_builder_add_null_value(json);
}

static void json_part(JsonBuilder *json, const char *name, bool known, uint64_t ppm)
{
    if (known)
        cli_json_number(json, name, ppm);
    else
        cli_json_null(json, name);
}

static void add_vm(JsonBuilder *json, const struct sample *s, const struct rates *r)
{
    const struct gpup_share *compute = &s->grant.share[GPUP_COMPUTE];

    json_builder_begin_object(json);
    cli_json_string(json, "vm", s->vm);
    cli_json_string(json, "partition", s->partition);
    cli_json_object(json, "asked");
    cli_json_number(json, "min", compute->min);
    cli_json_number(json, "weight", compute->weight);
    cli_json_number(json, "cap", compute->cap);
    json_builder_end_object(json);
    json_part(json, "got", r->timed, r->got);
    json_part(json, "waiting", r->timed, r->waiting);
    json_part(json, "vram_used", s->measured, s->vram);
    cli_json_number(json, "vram", s->grant.share[GPUP_VRAM].cap);
    json_rate(json, "draws_per_second", r->known, r->submits);
    json_rate(json, "frames_per_second", r->known, r->frames);
    json_rate(json, "commands_per_second", r->known, r->commands);
    json_builder_end_object(json);
}

static void show_json(const GPtrArray *earlier, const GPtrArray *now)
{
    g_autoptr(JsonBuilder) json = cli_json_new();

    cli_json_number(json, "time_us", (uint64_t)g_get_real_time());
    cli_json_array(json, "vms");
    for (guint i = 0; i < now->len; i++) {
        const struct rates r = compare(before(earlier, now->pdata[i]), now->pdata[i]);

        add_vm(json, now->pdata[i], &r);
    }
    json_builder_end_array(json);
    cli_json_print_line(json);
}

struct options {
    gboolean as_json;
    char *interval, *count;
    guint64 interval_ms, n; /* n 0: for ever */
};

static int check(const struct cli_args *args, struct options *o)
{
    const char *text = o->interval ? o->interval : DEFAULT_INTERVAL;
    char *end;
    double seconds = g_ascii_strtod(text, &end);

    if (end == text || *end || !(seconds >= 0.1 && seconds <= 3600))
        return cli_usage_error(args, "'%s' is not a number of seconds from 0.1 to 3600", text);
    o->interval_ms = (guint64)(seconds * 1000);
    if (o->count && !g_ascii_string_to_unsigned(o->count, 10, 1, G_MAXUINT32, &o->n, NULL))
        return cli_usage_error(args, "'%s' is not a number of times", o->count);
    return CLI_GO_ON;
}

static int watch(const struct options *o)
{
    bool terminal = isatty(STDOUT_FILENO) && g_strcmp0(g_getenv("TERM"), "dumb") != 0;
    int code;
    GPtrArray *earlier = take_all(&code);

    for (guint64 k = 0; earlier && (o->n == 0 || k < o->n); k++) {
        GPtrArray *now;

        g_usleep(o->interval_ms * 1000);
        now = take_all(&code);
        if (now && o->as_json)
            show_json(earlier, now);
        else if (now && terminal)
            show_table(earlier, now);
        else if (now)
            show_lines(earlier, now);
        g_ptr_array_unref(earlier);
        earlier = now;
        if (fflush(stdout) != 0)
            break; /* nobody reads it any more */
    }
    if (earlier)
        g_ptr_array_unref(earlier);
    return code;
}

int cli_top(struct cli_args *args)
{
    struct options o = {0};
    const GOptionEntry entries[] = {
        {"interval", 0, 0, G_OPTION_ARG_FILENAME, &o.interval,
         "Time between two looks (default: 2)", "SECONDS"},
        {"count", 0, 0, G_OPTION_ARG_FILENAME, &o.count, "Stop after so many looks", "N"},
        {"json", 0, 0, G_OPTION_ARG_NONE, &o.as_json, "Print JSON, one line for each look", NULL},
        {0},
    };
    int code = cli_parse(args, entries, 0, 0);

    if (code == CLI_GO_ON)
        code = check(args, &o);
    if (code == CLI_GO_ON)
        code = watch(&o);
    g_free(o.interval);
    g_free(o.count);
    return code;
}
