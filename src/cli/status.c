/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/bus.h"
#include "cli/cli.h"
#include "cli/gpu.h"
#include "cli/json.h"

static void print_json(const struct cli_bus *bus)
{
    g_autoptr(JsonBuilder) json = cli_json_new();

    cli_json_string(json, "gpupd", gpup_manager_get_version(bus->manager));
    cli_json_string(json, "host", gpup_manager_get_host(bus->manager));
    cli_json_string(json, "policy", gpup_manager_get_policy(bus->manager));
    cli_json_strings(json, "degraded", gpup_manager_get_degraded(bus->manager));
    cli_json_bool(json, "libvirt_connected", gpup_manager_get_libvirt_connected(bus->manager));
    cli_json_string(json, "libvirt_error", gpup_manager_get_libvirt_error(bus->manager));
    cli_gpus_json(json, bus);
    cli_json_print(json);
}

int cli_status(struct cli_args *args)
{
    g_auto(cli_bus) bus = {0};
    gboolean as_json = FALSE;
    const GOptionEntry entries[] = {
        CLI_OPTION_JSON(&as_json),
        {0},
    };
    int code = cli_parse(args, entries, 0, 0);

    if (code == CLI_GO_ON)
        code = cli_bus_load(&bus);
    if (!bus.gpus)
        return code;
    if (as_json) {
        print_json(&bus);
    } else {
        cli_gpu_table(&bus);
        cli_bus_notes(&bus);
    }
    return GPUP_EXIT_DONE;
}
