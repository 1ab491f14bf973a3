/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/bus.h"
#include "cli/cli.h"
#include "cli/json.h"

#include <stdio.h>

struct verdict {
    const char *gpu, *text, *way_out;
    gboolean fits, chosen;
};

static gboolean next_verdict(GVariantIter *iter, struct verdict *v)
{
    return g_variant_iter_next(iter, "(&sbb&s&s)", &v->gpu, &v->fits, &v->chosen, &v->text,
                               &v->way_out);
}

static void print_json(const char *vm, const char *summary, GVariant *verdicts)
{
    g_autoptr(JsonBuilder) json = cli_json_new();
    struct verdict v;
    GVariantIter iter;

    cli_json_string(json, "vm", vm);
    cli_json_string(json, "summary", summary);
    cli_json_array(json, "verdicts");
    g_variant_iter_init(&iter, verdicts);
    while (next_verdict(&iter, &v)) {
        json_builder_begin_object(json);
        cli_json_string(json, "gpu", v.gpu);
        cli_json_bool(json, "fits", v.fits);
        cli_json_bool(json, "chosen", v.chosen);
        cli_json_string(json, "text", v.text);
        cli_json_string(json, "way_out", v.way_out);
        json_builder_end_object(json);
    }
    json_builder_end_array(json);
    cli_json_print(json);
}

static void print_text(const struct cli_bus *bus, const char *summary, GVariant *verdicts)
{
    g_autofree char *clean = cli_clean(summary);
    struct verdict v;
    GVariantIter iter;

    puts(clean);
    g_variant_iter_init(&iter, verdicts);
    while (next_verdict(&iter, &v)) {
        GpupGPU *gpu = cli_bus_gpu(bus, v.gpu);
        g_autofree char *text = cli_clean(v.text);
        g_autofree char *way_out = cli_clean(v.way_out);

        printf("  %s %s: %s%s\n", gpu ? cli_text(gpup_gpu_get_short_id(gpu)) : v.gpu,
               gpu ? cli_text(gpup_gpu_get_name(gpu)) : "", text, v.chosen ? " (chosen)" : "");
        if (*v.way_out)
            printf("    way out: %s\n", way_out);
    }
}

int cli_explain(struct cli_args *args)
{
    g_auto(cli_bus) bus = {0};
    g_autoptr(GError) error = NULL;
    g_autoptr(GVariant) verdicts = NULL;
    g_autofree char *summary = NULL;
    gboolean as_json = FALSE;
    const GOptionEntry entries[] = {
        CLI_OPTION_JSON(&as_json),
        {0},
    };
    int code = cli_parse(args, entries, 1, 1);

    if (code == CLI_GO_ON)
        code = cli_bus_load(&bus);
    if (!bus.gpus)
        return code;
    if (!gpup_manager_call_explain_sync(bus.manager, args->argv[1], CLI_READ_FLAGS,
                                        CLI_CALL_TIMEOUT, &summary, &verdicts, NULL, &error))
        return cli_bus_error(error, NULL);
    if (as_json)
        print_json(args->argv[1], summary, verdicts);
    else
        print_text(&bus, summary, verdicts);
    return GPUP_EXIT_DONE;
}
