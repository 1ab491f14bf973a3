/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/bus.h"
#include "cli/cli.h"
#include "cli/json.h"
#include "cli/table.h"
#include "cli/values.h"

#include <stdio.h>
#include <string.h>

static void add_row(struct cli_table *table, const struct cli_bus *bus, GpupVM *vm)
{
    g_autofree char *partition = cli_partition_short_name(bus, cli_text(gpup_vm_get_partition(vm)));
    g_autofree char *asked = NULL;
    g_autofree char *granted = NULL;
    struct cli_request request;
    struct gpup_grant grant;

    if (gpup_vm_get_has_adapter(vm)) {
        cli_read_adapter(gpup_vm_get_adapter(vm), &request);
        asked = cli_asked(&request);
    }
    if (cli_read_grant(gpup_vm_get_grant(vm), &grant))
        granted = cli_granted(&grant);
    cli_table_add(table, (const char *const[]){gpup_vm_get_name(vm), gpup_vm_get_state(vm), asked,
                                               granted, partition});
}

static void print_table(const struct cli_bus *bus)
{
    static const struct cli_column columns[] = {
        {"VM"}, {"STATE"}, {"ASKED", true}, {"GRANTED", true}, {"PARTITION"}, {0}};
    g_autoptr(cli_table) table = cli_table_new(columns);

    for (guint i = 0; i < bus->vms->len; i++)
        add_row(table, bus, bus->vms->pdata[i]);
    cli_table_print(table);
    for (guint i = 0; i < bus->vms->len; i++) {
        GpupVM *vm = bus->vms->pdata[i];

        if (*cli_text(gpup_vm_get_problem(vm)))
            cli_note("%s: %s", cli_text(gpup_vm_get_name(vm)), gpup_vm_get_problem(vm));
    }
    cli_bus_notes(bus);
}

static void vm_json(JsonBuilder *json, GpupVM *vm)
{
    cli_json_string(json, "name", gpup_vm_get_name(vm));
    cli_json_string(json, "uuid", gpup_vm_get_uuid(vm));
    cli_json_string(json, "state", gpup_vm_get_state(vm));
    if (gpup_vm_get_has_adapter(vm))
        cli_json_adapter(json, gpup_vm_get_adapter(vm));
    else
        cli_json_null(json, "adapter");
    cli_json_string(json, "partition", gpup_vm_get_partition(vm));
    cli_json_grant(json, gpup_vm_get_grant(vm));
    cli_json_string(json, "problem", gpup_vm_get_problem(vm));
}

static void print_json(const struct cli_bus *bus)
{
    g_autoptr(JsonBuilder) json = cli_json_new();

    cli_json_bool(json, "libvirt_connected", gpup_manager_get_libvirt_connected(bus->manager));
    cli_json_string(json, "libvirt_error", gpup_manager_get_libvirt_error(bus->manager));
    cli_json_array(json, "vms");
    for (guint i = 0; i < bus->vms->len; i++) {
        json_builder_begin_object(json);
        vm_json(json, bus->vms->pdata[i]);
        json_builder_end_object(json);
    }
    json_builder_end_array(json);
    cli_json_print(json);
}

static void print_names(const struct cli_bus *bus)
{
    for (guint i = 0; i < bus->vms->len; i++)
        puts(cli_text(gpup_vm_get_name(bus->vms->pdata[i])));
}

int cli_vm_list(struct cli_args *args)
{
    g_auto(cli_bus) bus = {0};
    struct cli_list_options o = {0};
    int code = cli_parse_list(args, "Print the names only, one a line", &o);

    if (code == CLI_GO_ON)
        code = cli_bus_load(&bus);
    if (!bus.gpus)
        return code;
    if (o.as_json)
        print_json(&bus);
    else if (o.names)
        print_names(&bus);
    else
        print_table(&bus);
    return GPUP_EXIT_DONE;
}

static GVariant *usage_of(const struct cli_bus *bus, GpupVM *vm)
{
    return cli_partition_usage(cli_bus_partition(bus, cli_text(gpup_vm_get_partition(vm))));
}

static void show_resources(GpupVM *vm, GVariant *usage)
{
    static const struct cli_column columns[] = {
        {"RESOURCE"}, {"ASKED", true}, {"AT LEAST"}, {"WEIGHT"}, {"AT MOST"}, {"IN USE"}, {0}};
    g_autoptr(cli_table) table = cli_table_new(columns);
    struct cli_request request;
    struct gpup_grant grant;
    bool granted = cli_read_grant(gpup_vm_get_grant(vm), &grant);

    cli_read_adapter(gpup_vm_get_adapter(vm), &request);
    for (int i = 0; i < GPUP_RESOURCES; i++) {
        enum gpup_resource r = (enum gpup_resource)i;
        const struct gpup_share *share = &grant.share[r];
        g_autofree char *asked = cli_asked_of(&request, r);
        g_autofree char *min = granted && share->cap ? cli_amount(r, share->min) : NULL;
        g_autofree char *weight =
            granted && share->cap && r != GPUP_VRAM ? cli_amount(r, share->weight) : NULL;
        g_autofree char *cap = granted && share->cap ? cli_amount(r, share->cap) : NULL;
        g_autofree char *used = NULL;
        uint64_t bytes;

        if (r == GPUP_VRAM && cli_read_number(usage, "vram-used", &bytes))
            used = cli_amount(r, bytes);
        cli_table_add(table,
                      (const char *const[]){gpup_resource_name(r), asked, min, weight, cap, used});
    }
    cli_table_print(table);
}

/* Only figures that say something: a partition that nothing went wrong with is not worth a line. */
static void show_counters(GVariant *usage)
{
    static const struct {
        const char *name, *once, *often;
    } counters[] = {
        {"refused", "1 request beyond its memory was refused",
         " requests beyond its memory were refused"},
        {"stream-errors", "1 command of the guest was not valid",
         " commands of the guest were not valid"},
        {"renderer-deaths", "1 time its renderer ended and was started again",
         " times its renderer ended and was started again"},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(counters); i++) {
        uint64_t n;

        if (!cli_read_number(usage, counters[i].name, &n) || n == 0)
            continue;
        if (n == 1)
            puts(counters[i].once);
        else
            printf("%" G_GUINT64_FORMAT "%s\n", n, counters[i].often);
    }
}

/* "03:00.0 Arc B50", or the key of a GPU that is not there. */
static char *pin_text(const struct cli_bus *bus, const char *key)
{
    GpupGPU *gpu = cli_bus_gpu(bus, key);

    if (!gpu)
        return g_strdup_printf("%s, which is not in this host", key);
    return g_strdup_printf("%s %s", cli_text(gpup_gpu_get_short_id(gpu)),
                           cli_text(gpup_gpu_get_name(gpu)));
}

static void show_adapter(const struct cli_bus *bus, GpupVM *vm)
{
    g_autoptr(GVariant) usage = usage_of(bus, vm);
    struct cli_request request;

    cli_read_adapter(gpup_vm_get_adapter(vm), &request);
    printf("%-10s %s\n", "adapter", request.id);
    printf("%-10s %s\n", "kind", request.kind);
    if (*request.gpu) {
        g_autofree char *pin = pin_text(bus, request.gpu);

        printf("%-10s %s\n", "only on", pin);
    }
    if (strcmp(request.display, "off") != 0)
        printf("%-10s %s\n", "display", request.display);
    putchar('\n');
    show_resources(vm, usage);
    show_counters(usage);
}

static void show(const struct cli_bus *bus, GpupVM *vm)
{
    g_autofree char *partition = cli_partition_short_name(bus, cli_text(gpup_vm_get_partition(vm)));
    g_autofree char *name = cli_clean(cli_text(gpup_vm_get_name(vm)));
    const char *where = partition;

    if (!*partition)
        where = gpup_vm_get_has_adapter(vm) ? "no partition now" : "no adapter";
    printf("%s  %s  %s\n", name, cli_text(gpup_vm_get_state(vm)), where);
    printf("%-10s %s\n", "uuid", cli_text(gpup_vm_get_uuid(vm)));
    if (gpup_vm_get_has_adapter(vm))
        show_adapter(bus, vm);
    if (*cli_text(gpup_vm_get_problem(vm)))
        cli_note("%s: %s", name, gpup_vm_get_problem(vm));
}

static void show_json(const struct cli_bus *bus, GpupVM *vm)
{
    g_autoptr(JsonBuilder) json = cli_json_new();
    g_autoptr(GVariant) usage = usage_of(bus, vm);

    cli_json_object(json, "vm");
    vm_json(json, vm);
    cli_json_numbers(json, "usage", usage);
    json_builder_end_object(json);
    cli_json_print(json);
}

int cli_vm_show(struct cli_args *args)
{
    g_auto(cli_bus) bus = {0};
    gboolean as_json = FALSE;
    const GOptionEntry entries[] = {
        CLI_OPTION_JSON(&as_json),
        {0},
    };
    GpupVM *vm = NULL;
    int code = cli_parse(args, entries, 1, 1);

    if (code == CLI_GO_ON)
        code = cli_bus_load(&bus);
    if (!bus.gpus)
        return code;
    code = cli_bus_find_vm(&bus, args->argv[1], &vm);
    if (code != GPUP_EXIT_DONE)
        return code;
    if (as_json)
        show_json(&bus, vm);
    else
        show(&bus, vm);
    return GPUP_EXIT_DONE;
}
