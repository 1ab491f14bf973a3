/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/bus.h"
#include "cli/cli.h"
#include "cli/gpu.h"

int cli_rescan(struct cli_args *args)
{
    g_auto(cli_bus) before = {0};
    g_auto(cli_bus) bus = {0};
    g_autoptr(GError) error = NULL;
    int code = cli_parse(args, NULL, 0, 0);

    if (code == CLI_GO_ON)
        code = cli_bus_connect(&before);
    if (code != GPUP_EXIT_DONE || !before.manager)
        return code;
    if (!gpup_manager_call_rescan_sync(before.manager, CLI_CALL_FLAGS, CLI_CALL_TIMEOUT, NULL,
                                       &error))
        return cli_bus_error(error, "org.gpup1.partition");
    code = cli_bus_load(&bus);
    if (code == GPUP_EXIT_DONE)
        cli_gpu_table(&bus);
    return code;
}
