/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/gpu.h"

#include "cli/cli.h"
#include "cli/json.h"
#include "cli/table.h"
#include "cli/values.h"

#include <stdio.h>
#include <string.h>

static char *mode_text(GpupGPU *gpu)
{
    const char *mode = cli_text(gpup_gpu_get_mode(gpu));
    guint count = gpup_gpu_get_partition_count(gpu);

    if (strcmp(mode, gpup_mode_name(GPUP_MODE_PARTITIONED)) == 0)
        return g_strdup_printf("%u partition%s", count, count == 1 ? "" : "s");
    if (strcmp(mode, gpup_mode_name(GPUP_MODE_PASSTHROUGH)) == 0)
        return g_strdup("whole GPU");
    return g_strdup(mode);
}

static void add_row(struct cli_table *table, GpupGPU *gpu)
{
    struct cli_resource resource[GPUP_RESOURCES];
    guint count = gpup_gpu_get_partition_count(gpu);
    g_autofree char *mode = mode_text(gpu);
    g_autofree char *each = NULL;
    g_autofree char *free_of = NULL;

    cli_read_resources(gpup_gpu_get_resources(gpu), resource);
    if (count > 0) {
        free_of = g_strdup_printf("%u/%u", gpup_gpu_get_free_count(gpu), count);
        each = cli_part(GPUP_VRAM, &resource[GPUP_VRAM], resource[GPUP_VRAM].each);
    }
    cli_table_add(table, (const char *const[]){gpup_gpu_get_short_id(gpu), gpup_gpu_get_name(gpu),
                                               mode, free_of, each, gpup_gpu_get_isolation(gpu)});
}

/* Why it cannot be used and what weakens it. */
static void gpu_notes(GpupGPU *gpu)
{
    const char *const *degraded = gpup_gpu_get_degraded(gpu);
    const char *id = cli_text(gpup_gpu_get_short_id(gpu));

    if (*cli_text(gpup_gpu_get_reason(gpu)))
        cli_note("%s: %s", id, gpup_gpu_get_reason(gpu));
    for (; degraded && *degraded; degraded++)
        cli_note("%s: %s", id, *degraded);
}

void cli_gpu_table(const struct cli_bus *bus)
{
    static const struct cli_column columns[] = {{"GPU"},  {"NAME", true}, {"MODE"}, {"FREE"},
                                                {"EACH"}, {"ISOLATION"},  {0}};
    g_autoptr(cli_table) table = cli_table_new(columns);

    for (guint i = 0; i < bus->gpus->len; i++)
        add_row(table, bus->gpus->pdata[i]);
    cli_table_print(table);
    if (bus->gpus->len == 0)
        cli_note("there is no GPU; after adding one: gpup rescan");
    for (guint i = 0; i < bus->gpus->len; i++)
        gpu_notes(bus->gpus->pdata[i]);
}

void cli_gpu_json(JsonBuilder *json, GpupGPU *gpu)
{
    struct cli_resource resource[GPUP_RESOURCES];
    GVariant *counts = gpup_gpu_get_valid_counts(gpu);

    cli_read_resources(gpup_gpu_get_resources(gpu), resource);
    cli_json_string(json, "id", gpup_gpu_get_id(gpu));
    cli_json_string(json, "short_id", gpup_gpu_get_short_id(gpu));
    cli_json_string(json, "key", gpup_gpu_get_key(gpu));
    cli_json_string(json, "name", gpup_gpu_get_name(gpu));
    cli_json_string(json, "vendor", gpup_gpu_get_vendor(gpu));
    cli_json_string(json, "driver", gpup_gpu_get_driver(gpu));
    cli_json_string(json, "node", gpup_gpu_get_node(gpu));
    cli_json_string(json, "pci_id", gpup_gpu_get_pci_id(gpu));
    cli_json_string(json, "kind", gpup_gpu_get_kind(gpu));
    cli_json_string(json, "mode", gpup_gpu_get_mode(gpu));
    cli_json_string(json, "reason", gpup_gpu_get_reason(gpu));
    cli_json_string(json, "isolation", gpup_gpu_get_isolation(gpu));
    cli_json_strings(json, "degraded", gpup_gpu_get_degraded(gpu));
    cli_json_array(json, "valid_counts");
    for (gsize i = 0; counts && i < g_variant_n_children(counts); i++) {
        guint32 count;

        g_variant_get_child(counts, i, "u", &count);
        json_builder_add_int_value(json, count);
    }
    json_builder_end_array(json);
    cli_json_number(json, "partition_count", gpup_gpu_get_partition_count(gpu));
    cli_json_number(json, "free_count", gpup_gpu_get_free_count(gpu));
    cli_json_resources(json, resource);
}

void cli_gpus_json(JsonBuilder *json, const struct cli_bus *bus)
{
    cli_json_array(json, "gpus");
    for (guint i = 0; i < bus->gpus->len; i++) {
        json_builder_begin_object(json);
        cli_gpu_json(json, bus->gpus->pdata[i]);
        json_builder_end_object(json);
    }
    json_builder_end_array(json);
}

static void print_json(const struct cli_bus *bus)
{
    g_autoptr(JsonBuilder) json = cli_json_new();

    cli_gpus_json(json, bus);
    cli_json_print(json);
}

static void print_names(const struct cli_bus *bus)
{
    for (guint i = 0; i < bus->gpus->len; i++)
        puts(cli_text(gpup_gpu_get_short_id(bus->gpus->pdata[i])));
}

int cli_gpu_list(struct cli_args *args)
{
    g_auto(cli_bus) bus = {0};
    struct cli_list_options o = {0};
    int code = cli_parse_list(args, "Print the short ids only, one a line", &o);

    if (code == CLI_GO_ON)
        code = cli_bus_load(&bus);
    if (!bus.gpus)
        return code;
    if (o.as_json)
        print_json(&bus);
    else if (o.names)
        print_names(&bus);
    else
        cli_gpu_table(&bus);
    return GPUP_EXIT_DONE;
}

static void partitions_json(JsonBuilder *json, const struct cli_bus *bus, GpupGPU *gpu)
{
    cli_json_array(json, "partitions");
    for (guint i = 0; i < bus->partitions->len; i++) {
        GpupPartition *partition = bus->partitions->pdata[i];
        g_autoptr(GVariant) usage = NULL;

        if (!cli_partition_is_of(partition, gpu))
            continue;
        usage = cli_partition_usage(partition);
        json_builder_begin_object(json);
        cli_json_number(json, "index", gpup_partition_get_index(partition));
        cli_json_string(json, "state", gpup_partition_get_state(partition));
        cli_json_string(json, "vm", gpup_partition_get_vm(partition));
        cli_json_grant(json, gpup_partition_get_grant(partition));
        cli_json_numbers(json, "usage", usage);
        json_builder_end_object(json);
    }
    json_builder_end_array(json);
}

static void add_partition(struct cli_table *table, GpupPartition *partition, GpupGPU *gpu)
{
    g_autoptr(GVariant) usage = cli_partition_usage(partition);
    g_autofree char *name = g_strdup_printf("%s/%u", cli_text(gpup_gpu_get_short_id(gpu)),
                                            gpup_partition_get_index(partition));
    g_autofree char *granted = NULL;
    g_autofree char *used = NULL;
    struct gpup_grant grant;
    uint64_t vram;

    if (cli_read_grant(gpup_partition_get_grant(partition), &grant))
        granted = cli_granted(&grant);
    if (cli_read_number(usage, "vram-used", &vram))
        used = cli_amount(GPUP_VRAM, vram);
    cli_table_add(table, (const char *const[]){name, gpup_partition_get_state(partition),
                                               gpup_partition_get_vm(partition), granted, used});
}

static void show_partitions(const struct cli_bus *bus, GpupGPU *gpu)
{
    static const struct cli_column columns[] = {{"PARTITION"},     {"STATE"}, {"VM"},
                                                {"GRANTED", true}, {"USED"},  {0}};
    g_autoptr(cli_table) table = NULL;

    if (gpup_gpu_get_partition_count(gpu) == 0)
        return;
    table = cli_table_new(columns);
    for (guint i = 0; i < bus->partitions->len; i++) {
        if (cli_partition_is_of(bus->partitions->pdata[i], gpu))
            add_partition(table, bus->partitions->pdata[i], gpu);
    }
    putchar('\n');
    cli_table_print(table);
}

static const char *limit_text(enum gpup_enforcement enforcement)
{
    switch (enforcement) {
    case GPUP_ENFORCE_HARD:
        return "hard limit";
    case GPUP_ENFORCE_SHARE:
        return "time share";
    case GPUP_ENFORCE_NONE:
        break;
    }
    return "shared, unlimited";
}

static void show_resources(GpupGPU *gpu)
{
    static const struct cli_column columns[] = {{"RESOURCE"}, {"TOTAL"}, {"AVAILABLE"},
                                                {"EACH"},     {"LIMIT"}, {0}};
    g_autoptr(cli_table) table = cli_table_new(columns);
    struct cli_resource resource[GPUP_RESOURCES];

    cli_read_resources(gpup_gpu_get_resources(gpu), resource);
    for (int i = 0; i < GPUP_RESOURCES; i++) {
        enum gpup_resource r = (enum gpup_resource)i;
        g_autofree char *total = cli_amount(r, resource[r].total);
        g_autofree char *available = cli_part(r, &resource[r], resource[r].available);
        g_autofree char *each = cli_part(r, &resource[r], resource[r].each);
        bool cut = gpup_gpu_get_partition_count(gpu) > 0;

        if (resource[r].total == 0)
            cli_table_add(table,
                          (const char *const[]){gpup_resource_name(r), "none", NULL, NULL, NULL});
        else
            cli_table_add(table, (const char *const[]){gpup_resource_name(r), total, available,
                                                       cut ? each : NULL,
                                                       limit_text(resource[r].enforcement)});
    }
    cli_table_print(table);
}

GVariant *cli_gpu_health(GpupGPU *gpu)
{
    GVariant *health = NULL;

    gpup_gpu_call_get_health_sync(gpu, CLI_READ_FLAGS, CLI_READ_TIMEOUT, &health, NULL, NULL);
    return health;
}

/* "2 renderer deaths, 1 hang since 2026-03-01 10:00", or that there was no trouble. */
static char *health_text(GVariant *health)
{
    static const struct {
        const char *name, *one, *more;
    } troubles[] = {
        {"renderer-deaths", "renderer death", "renderer deaths"},
        {"hangs", "hang", "hangs"},
        {"resets", "reset", "resets"},
        {"refused-memory", "refusal of memory", "refusals of memory"},
        {"refused-commands", "invalid command stream", "invalid command streams"},
        {"refused-starts", "refused start", "refused starts"},
    };
    GString *text = g_string_new(NULL);
    g_autofree char *when = NULL;
    uint64_t n, since = 0;

    for (size_t i = 0; i < G_N_ELEMENTS(troubles); i++) {
        if (!cli_read_number(health, troubles[i].name, &n) || n == 0)
            continue;
        g_string_append_printf(text, "%s%" G_GUINT64_FORMAT " %s", text->len ? ", " : "", n,
                               n == 1 ? troubles[i].one : troubles[i].more);
    }
    if (text->len == 0)
        g_string_append(text, "no trouble");
    if (cli_read_number(health, "since", &since))
        when = cli_time(since, "%F %H:%M");
    if (when)
        g_string_append_printf(text, " since %s", when);
    return g_string_free(text, FALSE);
}

static void print_fact(const char *name, const char *value)
{
    if (value && *value)
        printf("%-10s %s\n", name, value);
}

/* "1 to 32", or "2, 4, 8" */
static char *counts_text(GpupGPU *gpu)
{
    GVariant *value = gpup_gpu_get_valid_counts(gpu);
    GString *text = g_string_new(NULL);
    gsize n = 0;
    const guint32 *counts = value ? g_variant_get_fixed_array(value, &n, sizeof(*counts)) : NULL;

    if (n > 2 && counts[n - 1] - counts[0] == n - 1)
        g_string_printf(text, "%u to %u", counts[0], counts[n - 1]);
    else
        for (gsize i = 0; i < n; i++)
            g_string_append_printf(text, "%s%u", i ? ", " : "", counts[i]);
    return g_string_free(text, FALSE);
}

static void show(const struct cli_bus *bus, GpupGPU *gpu)
{
    g_autofree char *mode = mode_text(gpu);
    g_autofree char *counts = counts_text(gpu);
    g_autoptr(GVariant) health = cli_gpu_health(gpu);
    g_autofree char *trouble = health ? health_text(health) : NULL;

    printf("%s  %s  %s  %s isolation\n", cli_text(gpup_gpu_get_short_id(gpu)),
           cli_text(gpup_gpu_get_name(gpu)), mode, cli_text(gpup_gpu_get_isolation(gpu)));
    print_fact("id", gpup_gpu_get_id(gpu));
    print_fact("key", gpup_gpu_get_key(gpu));
    print_fact("vendor", gpup_gpu_get_vendor(gpu));
    print_fact("driver", gpup_gpu_get_driver(gpu));
    print_fact("node", gpup_gpu_get_node(gpu));
    print_fact("PCI id", gpup_gpu_get_pci_id(gpu));
    print_fact("kind", gpup_gpu_get_kind(gpu));
    print_fact("counts", counts);
    print_fact("health", trouble);
    putchar('\n');
    show_resources(gpu);
    show_partitions(bus, gpu);
    gpu_notes(gpu);
}

int cli_gpu_show(struct cli_args *args)
{
    g_auto(cli_bus) bus = {0};
    gboolean as_json = FALSE;
    const GOptionEntry entries[] = {
        CLI_OPTION_JSON(&as_json),
        {0},
    };
    GpupGPU *gpu = NULL;
    int code = cli_parse(args, entries, 1, 1);

    if (code == CLI_GO_ON)
        code = cli_bus_load(&bus);
    if (bus.gpus)
        code = cli_bus_find_gpu(&bus, args->argv[1], &gpu);
    if (!gpu)
        return code;
    if (as_json) {
        g_autoptr(JsonBuilder) json = cli_json_new();
        g_autoptr(GVariant) health = cli_gpu_health(gpu);

        cli_json_object(json, "gpu");
        cli_gpu_json(json, gpu);
        cli_json_numbers(json, "health", health);
        partitions_json(json, &bus, gpu);
        json_builder_end_object(json);
        cli_json_print(json);
    } else {
        show(&bus, gpu);
    }
    return GPUP_EXIT_DONE;
}
