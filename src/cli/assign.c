/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/bus.h"
#include "cli/cli.h"
#include "core/adapter.h"

#define ACTION "org.gpup1.adapter"

/* What to ask for, as typed. Options that are no words stay as the shell gave them: their names
 * need no conversion from the locale, hence G_OPTION_ARG_FILENAME. */
struct options {
    char *request[GPUP_RESOURCES];
    char *gpu, *kind;
    gboolean force, dry_run;
};

static void clear_options(struct options *o)
{
    for (int r = 0; r < GPUP_RESOURCES; r++)
        g_free(o->request[r]);
    g_free(o->gpu);
    g_free(o->kind);
}

/* Wrong values are refused here: nobody needs to run for that. CLI_GO_ON when there are none. */
static int check_options(const struct cli_args *args, const struct options *o)
{
    struct gpup_request request;
    enum gpup_kind kind;

    for (int r = 0; r < GPUP_RESOURCES; r++) {
        GPUP_AUTO_ERROR err = NULL;

        if (o->request[r] &&
            gpup_request_parse((enum gpup_resource)r, o->request[r], &request, &err) < 0)
            return cli_error(err);
    }
    if (o->kind && gpup_kind_from_name(o->kind, &kind) < 0)
        return cli_usage_error(args, "'%s' is not a kind of partition: virtio or sriov", o->kind);
    return CLI_GO_ON;
}

static void add_text(GVariantBuilder *builder, const char *name, const char *value)
{
    if (value)
        g_variant_builder_add(builder, "{sv}", name, g_variant_new_string(value));
}

static int assign(const struct cli_bus *bus, const char *vm, const struct options *o,
                  const char *gpu)
{
    g_autoptr(GError) error = NULL;
    g_auto(GStrv) lines = NULL;
    GVariantBuilder adapter, options;

    g_variant_builder_init(&adapter, G_VARIANT_TYPE_VARDICT);
    add_text(&adapter, "kind", o->kind);
    add_text(&adapter, "gpu", gpu);
    for (int r = 0; r < GPUP_RESOURCES; r++)
        add_text(&adapter, gpup_resource_name((enum gpup_resource)r), o->request[r]);
    g_variant_builder_init(&options, G_VARIANT_TYPE_VARDICT);
    cli_option_bool(&options, "dry-run", o->dry_run);
    cli_option_bool(&options, "force", o->force);
    if (!gpup_manager_call_assign_sync(bus->manager, vm, g_variant_builder_end(&adapter),
                                       g_variant_builder_end(&options), CLI_CALL_FLAGS,
                                       CLI_CALL_TIMEOUT, &lines, NULL, &error))
        return cli_bus_error(error, ACTION);
    cli_print_lines(lines, o->dry_run);
    return GPUP_EXIT_DONE;
}

static int run(struct cli_args *args, const struct options *o)
{
    g_auto(cli_bus) bus = {0};
    const char *id = o->gpu; /* "" removes the pin */
    int code = check_options(args, o);

    if (code == CLI_GO_ON)
        code = cli_bus_load(&bus);
    if (code != GPUP_EXIT_DONE)
        return code;
    if (o->gpu && *o->gpu) {
        GpupGPU *gpu = NULL;

        code = cli_bus_find_gpu(&bus, o->gpu, &gpu);
        if (code != GPUP_EXIT_DONE)
            return code;
        id = gpup_gpu_get_id(gpu);
    }
    return assign(&bus, args->argv[1], o, id);
}

int cli_assign(struct cli_args *args)
{
    struct options o = {0};
    const GOptionEntry entries[] = {
        {"vram", 0, 0, G_OPTION_ARG_FILENAME, &o.request[GPUP_VRAM],
         "GPU memory, such as 512M or 256M:512M:1G", "MIN:OPTIMAL:MAX"},
        {"compute", 0, 0, G_OPTION_ARG_FILENAME, &o.request[GPUP_COMPUTE],
         "GPU time, such as 25% or 10%:25%:50%", "MIN:OPTIMAL:MAX"},
        {"encode", 0, 0, G_OPTION_ARG_FILENAME, &o.request[GPUP_ENCODE],
         "Time of the video encoder", "MIN:OPTIMAL:MAX"},
        {"decode", 0, 0, G_OPTION_ARG_FILENAME, &o.request[GPUP_DECODE],
         "Time of the video decoder", "MIN:OPTIMAL:MAX"},
        {"gpu", 0, 0, G_OPTION_ARG_FILENAME, &o.gpu, "Only on this GPU ('': on any)", "GPU"},
        {"kind", 0, 0, G_OPTION_ARG_FILENAME, &o.kind,
         "What the VM sees (default: what this host has)", "virtio|sriov"},
        {"force", 0, 0, G_OPTION_ARG_NONE, &o.force,
         "Also a Windows guest on a virtio partition, where it has no 3D", NULL},
        {"dry-run", 0, 0, G_OPTION_ARG_NONE, &o.dry_run, "Say what would be done, change nothing",
         NULL},
        {0},
    };
    int code = cli_parse(args, entries, 1, 1);

    if (code == CLI_GO_ON)
        code = run(args, &o);
    clear_options(&o);
    return code;
}

int cli_unassign(struct cli_args *args)
{
    g_auto(cli_bus) bus = {0};
    g_autoptr(GError) error = NULL;
    g_auto(GStrv) lines = NULL;
    gboolean dry_run = FALSE;
    const GOptionEntry entries[] = {
        {"dry-run", 0, 0, G_OPTION_ARG_NONE, &dry_run, "Say what would be done, change nothing",
         NULL},
        {0},
    };
    GVariantBuilder options;
    int code = cli_parse(args, entries, 1, 1);

    if (code == CLI_GO_ON)
        code = cli_bus_connect(&bus);
    if (code != GPUP_EXIT_DONE || !bus.manager)
        return code;
    g_variant_builder_init(&options, G_VARIANT_TYPE_VARDICT);
    cli_option_bool(&options, "dry-run", dry_run);
    if (!gpup_manager_call_unassign_sync(bus.manager, args->argv[1],
                                         g_variant_builder_end(&options), CLI_CALL_FLAGS,
                                         CLI_CALL_TIMEOUT, &lines, NULL, &error))
        return cli_bus_error(error, ACTION);
    cli_print_lines(lines, dry_run);
    return GPUP_EXIT_DONE;
}
