/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/bus.h"
#include "cli/cli.h"
#include "cli/json.h"
#include "cli/table.h"
#include "cli/values.h"

#include <stdio.h>
#include <string.h>

/* What one partition of a count gets, in the order of enum gpup_resource. */
struct given {
    guint32 count;
    guint64 part[GPUP_RESOURCES];
};

static bool next_given(GVariantIter *iter, struct given *given)
{
    return g_variant_iter_next(iter, "(utttt)", &given->count, &given->part[GPUP_VRAM],
                               &given->part[GPUP_COMPUTE], &given->part[GPUP_ENCODE],
                               &given->part[GPUP_DECODE]);
}

static void counts_json(GpupGPU *gpu, GVariant *counts)
{
    g_autoptr(JsonBuilder) json = cli_json_new();
    struct given given;
    GVariantIter iter;

    cli_json_string(json, "gpu", gpup_gpu_get_id(gpu));
    cli_json_array(json, "counts");
    g_variant_iter_init(&iter, counts);
    while (next_given(&iter, &given)) {
        json_builder_begin_object(json);
        cli_json_number(json, "count", given.count);
        for (int r = 0; r < GPUP_RESOURCES; r++)
            cli_json_number(json, gpup_resource_name((enum gpup_resource)r), given.part[r]);
        json_builder_end_object(json);
    }
    json_builder_end_array(json);
    cli_json_print(json);
}

/* One cell for both when they are the same, as they mostly are. */
static char *codecs_text(const struct cli_resource *resource, const struct given *given)
{
    g_autofree char *encode =
        cli_part(GPUP_ENCODE, &resource[GPUP_ENCODE], given->part[GPUP_ENCODE]);
    g_autofree char *decode =
        cli_part(GPUP_DECODE, &resource[GPUP_DECODE], given->part[GPUP_DECODE]);

    if (strcmp(encode, decode) == 0)
        return g_steal_pointer(&encode);
    return g_strdup_printf("%s/%s", *encode ? encode : "-", *decode ? decode : "-");
}

static void counts_table(GpupGPU *gpu, GVariant *counts)
{
    static const struct cli_column columns[] = {
        {"COUNT"}, {"MEMORY"}, {"COMPUTE"}, {"ENCODE/DECODE"}, {0}};
    g_autoptr(cli_table) table = cli_table_new(columns);
    struct cli_resource resource[GPUP_RESOURCES];
    struct given given;
    GVariantIter iter;

    cli_read_resources(gpup_gpu_get_resources(gpu), resource);
    g_variant_iter_init(&iter, counts);
    while (next_given(&iter, &given)) {
        g_autofree char *count = g_strdup_printf("%u", given.count);
        g_autofree char *vram = cli_part(GPUP_VRAM, &resource[GPUP_VRAM], given.part[GPUP_VRAM]);
        g_autofree char *compute =
            cli_part(GPUP_COMPUTE, &resource[GPUP_COMPUTE], given.part[GPUP_COMPUTE]);
        g_autofree char *codecs = codecs_text(resource, &given);

        cli_table_add(table, (const char *const[]){count, vram, compute, codecs});
    }
    cli_table_print(table);
    if (g_variant_n_children(counts) == 0)
        cli_note("%s cannot be partitioned%s%s", cli_text(gpup_gpu_get_short_id(gpu)),
                 *cli_text(gpup_gpu_get_reason(gpu)) ? ": " : "",
                 cli_text(gpup_gpu_get_reason(gpu)));
}

static int list_counts(GpupGPU *gpu, gboolean as_json)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GVariant) counts = NULL;

    if (!gpup_gpu_call_describe_counts_sync(gpu, CLI_READ_FLAGS, CLI_READ_TIMEOUT, &counts, NULL,
                                            &error))
        return cli_bus_error(error, NULL);
    if (as_json)
        counts_json(gpu, counts);
    else
        counts_table(gpu, counts);
    return GPUP_EXIT_DONE;
}

static int set_count(GpupGPU *gpu, guint count, gboolean power_off_vms, gboolean dry_run)
{
    g_autoptr(GError) error = NULL;
    g_auto(GStrv) lines = NULL;
    GVariantBuilder options;
    gboolean done;

    g_variant_builder_init(&options, G_VARIANT_TYPE_VARDICT);
    cli_option_bool(&options, "dry-run", dry_run);
    cli_option_bool(&options, "power-off-vms", power_off_vms);
    done = gpup_gpu_call_set_partition_count_sync(gpu, count, g_variant_builder_end(&options),
                                                  CLI_CALL_FLAGS, CLI_CALL_TIMEOUT, &lines, NULL,
                                                  &error);
    return cli_bus_outcome(done, lines, dry_run, error, CLI_ACTION_PARTITION);
}

struct options {
    gboolean list, as_json, dry_run, power_off_vms;
};

/* CLI_GO_ON when they go together; the count where one is given. */
static int check_options(const struct cli_args *args, const struct options *o, guint *count)
{
    guint64 value;

    if (o->list && (args->argc > 2 || o->dry_run || o->power_off_vms))
        return cli_usage_error(args, "--list changes nothing: it goes with a GPU and --json only");
    if (o->list)
        return CLI_GO_ON;
    if (args->argc < 3)
        return cli_usage_error(args, "into how many? %s %s --list shows what each count gives",
                               args->path, args->argv[1]);
    if (o->as_json)
        return cli_usage_error(args, "--json goes with --list");
    if (!g_ascii_string_to_unsigned(args->argv[2], 10, 0, G_MAXUINT32, &value, NULL))
        return cli_usage_error(args, "'%s' is not a number of partitions", args->argv[2]);
    *count = (guint)value;
    return CLI_GO_ON;
}

int cli_gpu_partition(struct cli_args *args)
{
    g_auto(cli_bus) bus = {0};
    struct options o = {0};
    const GOptionEntry entries[] = {
        {"list", 0, 0, G_OPTION_ARG_NONE, &o.list, "Show what each count would give", NULL},
        {"json", 0, 0, G_OPTION_ARG_NONE, &o.as_json, "Print JSON (with --list)", NULL},
        {"power-off-vms", 0, 0, G_OPTION_ARG_NONE, &o.power_off_vms,
         "Power off the VMs that use its partitions first", NULL},
        CLI_OPTION_DRY_RUN(&o.dry_run),
        {0},
    };
    GpupGPU *gpu = NULL;
    guint count = 0;
    int code = cli_parse(args, entries, 1, 2);

    if (code == CLI_GO_ON)
        code = check_options(args, &o, &count);
    if (code == CLI_GO_ON)
        code = cli_bus_load(&bus);
    if (bus.gpus)
        code = cli_bus_find_gpu(&bus, args->argv[1], &gpu);
    if (!gpu)
        return code;
    return o.list ? list_counts(gpu, o.as_json) : set_count(gpu, count, o.power_off_vms, o.dry_run);
}
