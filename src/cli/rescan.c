/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/bus.h"
#include "cli/cli.h"
#include "cli/gpu.h"

static int rescan(cli_bus *bus, const char *forget, gboolean dry_run)
{
    g_autoptr(GError) error = NULL;
    g_auto(GStrv) lines = NULL;
    GVariantBuilder builder;
    GVariant *options;
    gboolean done;

    g_variant_builder_init(&builder, G_VARIANT_TYPE_VARDICT);
    cli_option_bool(&builder, "dry-run", dry_run);
    options = g_variant_builder_end(&builder);
    if (forget)
        done = gpup_manager_call_forget_sync(bus->manager, forget, options, CLI_CALL_FLAGS,
                                             CLI_CALL_TIMEOUT, &lines, NULL, &error);
    else
        done = gpup_manager_call_rescan_sync(bus->manager, options, CLI_CALL_FLAGS,
                                             CLI_CALL_TIMEOUT, &lines, NULL, &error);
    return cli_bus_outcome(done, lines, dry_run, error, CLI_ACTION_PARTITION);
}

int cli_rescan(struct cli_args *args)
{
    g_auto(cli_bus) before = {0};
    g_auto(cli_bus) bus = {0};
    g_autofree char *forget = NULL;
    gboolean dry_run = FALSE;
    const GOptionEntry entries[] = {
        {"forget", 0, 0, G_OPTION_ARG_FILENAME, &forget,
         "Drop what is stored for a GPU that is not here any more", "KEY"},
        CLI_OPTION_DRY_RUN(&dry_run),
        {0},
    };
    int code = cli_parse(args, entries, 0, 0);

    if (code == CLI_GO_ON)
        code = cli_bus_connect(&before);
    if (code != GPUP_EXIT_DONE || !before.manager)
        return code;
    code = rescan(&before, forget, dry_run);
    if (code == GPUP_EXIT_DONE && !dry_run)
        code = cli_bus_load(&bus);
    if (bus.gpus)
        cli_gpu_table(&bus);
    return code;
}
