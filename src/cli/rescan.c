/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/bus.h"
#include "cli/cli.h"
#include "cli/gpu.h"

#include <stdio.h>

static int rescan(cli_bus *bus, const char *forget)
{
    g_autoptr(GError) error = NULL;
    g_auto(GStrv) lines = NULL;
    gboolean done = forget ? gpup_manager_call_forget_sync(bus->manager, forget, CLI_CALL_FLAGS,
                                                           CLI_CALL_TIMEOUT, &lines, NULL, &error)
                           : gpup_manager_call_rescan_sync(bus->manager, CLI_CALL_FLAGS,
                                                           CLI_CALL_TIMEOUT, NULL, &error);

    if (!done)
        return cli_bus_error(error, "org.gpup1.partition");
    for (char **line = lines; line && *line; line++)
        puts(*line);
    return GPUP_EXIT_DONE;
}

int cli_rescan(struct cli_args *args)
{
    g_auto(cli_bus) before = {0};
    g_auto(cli_bus) bus = {0};
    g_autofree char *forget = NULL;
    const GOptionEntry entries[] = {
        {"forget", 0, 0, G_OPTION_ARG_STRING, &forget,
         "Drop what is stored for a GPU that is not here any more", "KEY"},
        {0},
    };
    int code = cli_parse(args, entries, 0, 0);

    if (code == CLI_GO_ON)
        code = cli_bus_connect(&before);
    if (code != GPUP_EXIT_DONE || !before.manager)
        return code;
    code = rescan(&before, forget);
    if (code == GPUP_EXIT_DONE)
        code = cli_bus_load(&bus);
    if (code == GPUP_EXIT_DONE)
        cli_gpu_table(&bus);
    return code;
}
