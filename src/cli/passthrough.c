/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/bus.h"
#include "cli/cli.h"

#include <string.h>

static int set(GpupGPU *gpu, gboolean on, gboolean dry_run)
{
    g_autoptr(GError) error = NULL;
    g_auto(GStrv) lines = NULL;
    GVariantBuilder options;
    gboolean done;

    g_variant_builder_init(&options, G_VARIANT_TYPE_VARDICT);
    cli_option_bool(&options, "dry-run", dry_run);
    done =
        gpup_gpu_call_set_passthrough_sync(gpu, on, g_variant_builder_end(&options), CLI_CALL_FLAGS,
                                           CLI_CALL_TIMEOUT, &lines, NULL, &error);
    return cli_bus_outcome(done, lines, dry_run, error, CLI_ACTION_PARTITION);
}

int cli_gpu_passthrough(struct cli_args *args)
{
    g_auto(cli_bus) bus = {0};
    gboolean dry_run = FALSE;
    const GOptionEntry entries[] = {
        CLI_OPTION_DRY_RUN(&dry_run),
        {0},
    };
    GpupGPU *gpu = NULL;
    int code = cli_parse(args, entries, 2, 2);

    if (code == CLI_GO_ON && strcmp(args->argv[2], "on") != 0 && strcmp(args->argv[2], "off") != 0)
        code = cli_usage_error(args, "'%s' is neither on nor off", args->argv[2]);
    if (code == CLI_GO_ON)
        code = cli_bus_load(&bus);
    if (bus.gpus)
        code = cli_bus_find_gpu(&bus, args->argv[1], &gpu);
    return gpu ? set(gpu, strcmp(args->argv[2], "on") == 0, dry_run) : code;
}
