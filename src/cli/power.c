/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/bus.h"
#include "cli/cli.h"

int cli_vm_start(struct cli_args *args)
{
    g_auto(cli_bus) bus = {0};
    g_autoptr(GError) error = NULL;
    g_auto(GStrv) lines = NULL;
    gboolean dry_run = FALSE, done;
    const GOptionEntry entries[] = {
        CLI_OPTION_DRY_RUN(&dry_run),
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
    done =
        gpup_manager_call_start_vm_sync(bus.manager, args->argv[1], g_variant_builder_end(&options),
                                        CLI_CALL_FLAGS, CLI_CALL_TIMEOUT, &lines, NULL, &error);
    return cli_bus_outcome(done, lines, dry_run, error, CLI_ACTION_START);
}

struct stop_options {
    gboolean power_off, dry_run;
    char *timeout;
    guint32 seconds;
};

static int check_stop(const struct cli_args *args, struct stop_options *o)
{
    if (o->timeout && o->power_off)
        return cli_usage_error(args, "--power-off does not wait: it does not go with --timeout");
    return cli_parse_seconds(args, o->timeout, &o->seconds);
}

static int stop(struct cli_args *args, struct stop_options *o)
{
    g_auto(cli_bus) bus = {0};
    g_autoptr(GError) error = NULL;
    g_auto(GStrv) lines = NULL;
    gboolean done;
    GVariantBuilder options;
    int code = check_stop(args, o);

    if (code == CLI_GO_ON)
        code = cli_bus_connect(&bus);
    if (code != GPUP_EXIT_DONE)
        return code;
    g_variant_builder_init(&options, G_VARIANT_TYPE_VARDICT);
    cli_option_bool(&options, "dry-run", o->dry_run);
    cli_option_bool(&options, "power-off", o->power_off);
    cli_option_number(&options, "timeout", o->seconds);
    done =
        gpup_manager_call_stop_vm_sync(bus.manager, args->argv[1], g_variant_builder_end(&options),
                                       CLI_CALL_FLAGS, CLI_CALL_TIMEOUT, &lines, NULL, &error);
    return cli_bus_outcome(done, lines, o->dry_run, error, CLI_ACTION_START);
}

int cli_vm_stop(struct cli_args *args)
{
    struct stop_options o = {0};
    const GOptionEntry entries[] = {
        {"power-off", 0, 0, G_OPTION_ARG_NONE, &o.power_off,
         "Pull the plug instead of asking the guest", NULL},
        {"timeout", 0, 0, G_OPTION_ARG_FILENAME, &o.timeout,
         "How long to wait for the guest (default: 60)", "SECONDS"},
        CLI_OPTION_DRY_RUN(&o.dry_run),
        {0},
    };
    int code = cli_parse(args, entries, 1, 1);

    if (code == CLI_GO_ON)
        code = stop(args, &o);
    g_free(o.timeout);
    return code;
}
