/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/bus.h"
#include "cli/cli.h"
#include "cli/json.h"
#include "cli/table.h"
#include "cli/values.h"

#include <stdio.h>

#define DEFAULT_LIMIT 20u /* with the header, what fits on a screen */

struct event {
    guint64 id, time, last, count;
    const char *kind, *user, *gpu, *vm, *text;
};

static void read_event(GVariant *v, struct event *e)
{
    *e = (struct event){.kind = "", .user = "", .gpu = "", .vm = "", .text = ""};
    g_variant_lookup(v, "id", "t", &e->id);
    g_variant_lookup(v, "time", "t", &e->time);
    g_variant_lookup(v, "last", "t", &e->last);
    g_variant_lookup(v, "count", "t", &e->count);
    g_variant_lookup(v, "kind", "&s", &e->kind);
    g_variant_lookup(v, "user", "&s", &e->user);
    g_variant_lookup(v, "gpu", "&s", &e->gpu);
    g_variant_lookup(v, "vm", "&s", &e->vm);
    g_variant_lookup(v, "text", "&s", &e->text);
}

/* In one line: "no partition for x; software: all 4 used by ...". */
static char *one_line(const struct event *e)
{
    GString *text = g_string_new(NULL);
    g_auto(GStrv) lines = g_strsplit(e->text, "\n", -1);

    for (char **line = lines; *line; line++)
        g_string_append_printf(text, "%s%s", line == lines ? "" : "; ", g_strstrip(*line));
    if (e->count > 1) {
        g_autofree char *last = cli_time(e->last, "%T");

        g_string_append_printf(text, " (%" G_GUINT64_FORMAT " times, last at %s)", e->count, last);
    }
    return g_string_free(text, FALSE);
}

static void print_table(GVariant *events)
{
    static const struct cli_column columns[] = {{"TIME"}, {"WHO"}, {"EVENT"}, {"WHAT", true}, {0}};
    g_autoptr(cli_table) table = cli_table_new(columns);

    for (gsize i = 0; i < g_variant_n_children(events); i++) {
        g_autoptr(GVariant) v = g_variant_get_child_value(events, i);
        g_autofree char *time = NULL;
        g_autofree char *text = NULL;
        struct event e;

        read_event(v, &e);
        time = cli_time(e.time, "%F %T");
        text = one_line(&e);
        cli_table_add(table, (const char *const[]){time, e.user, e.kind, text});
    }
    cli_table_print(table);
}

static void print_json(GVariant *events)
{
    g_autoptr(JsonBuilder) json = cli_json_new();

    cli_json_array(json, "events");
    for (gsize i = 0; i < g_variant_n_children(events); i++) {
        g_autoptr(GVariant) v = g_variant_get_child_value(events, i);
        struct event e;

        read_event(v, &e);
        json_builder_begin_object(json);
        cli_json_number(json, "id", e.id);
        cli_json_number(json, "time_us", e.time);
        cli_json_number(json, "last_us", e.last);
        cli_json_number(json, "count", e.count);
        cli_json_string(json, "kind", e.kind);
        cli_json_string(json, "user", e.user);
        cli_json_string(json, "gpu", e.gpu);
        cli_json_string(json, "vm", e.vm);
        cli_json_string(json, "text", e.text);
        json_builder_end_object(json);
    }
    json_builder_end_array(json);
    cli_json_print(json);
}

struct options {
    char *vm, *gpu, *lines;
    gboolean as_json;
};

static int get(const struct options *o, guint limit)
{
    g_auto(cli_bus) bus = {0};
    g_autoptr(GError) error = NULL;
    g_autoptr(GVariant) events = NULL;
    GVariantBuilder options;
    int code = cli_bus_connect(&bus);

    if (code != GPUP_EXIT_DONE)
        return code;
    g_variant_builder_init(&options, G_VARIANT_TYPE_VARDICT);
    g_variant_builder_add(&options, "{sv}", "limit", g_variant_new_uint32(limit));
    if (o->vm)
        g_variant_builder_add(&options, "{sv}", "vm", g_variant_new_string(o->vm));
    if (o->gpu)
        g_variant_builder_add(&options, "{sv}", "gpu", g_variant_new_string(o->gpu));
    if (!gpup_manager_call_get_events_sync(bus.manager, g_variant_builder_end(&options),
                                           CLI_READ_FLAGS, CLI_READ_TIMEOUT, &events, NULL, &error))
        return cli_bus_error(error, NULL);
    if (o->as_json)
        print_json(events);
    else if (g_variant_n_children(events) == 0)
        cli_note("no events%s%s", o->vm || o->gpu ? " about " : "",
                 o->vm ? o->vm : cli_text(o->gpu));
    else
        print_table(events);
    return GPUP_EXIT_DONE;
}

int cli_events(struct cli_args *args)
{
    struct options o = {0};
    const GOptionEntry entries[] = {
        {"vm", 0, 0, G_OPTION_ARG_FILENAME, &o.vm, "Only about this VM", "VM"},
        {"gpu", 0, 0, G_OPTION_ARG_FILENAME, &o.gpu, "Only about this GPU", "GPU"},
        {"lines", 'n', 0, G_OPTION_ARG_FILENAME, &o.lines,
         "The last so many (default: 20; at most 1000 are kept)", "N"},
        CLI_OPTION_JSON(&o.as_json),
        {0},
    };
    guint64 limit = DEFAULT_LIMIT;
    int code = cli_parse(args, entries, 0, 0);

    if (code == CLI_GO_ON && o.lines &&
        !g_ascii_string_to_unsigned(o.lines, 10, 1, G_MAXUINT32, &limit, NULL))
        code = cli_usage_error(args, "'%s' is not a number of lines", o.lines);
    if (code == CLI_GO_ON)
        code = get(&o, (guint)limit);
    g_free(o.vm);
    g_free(o.gpu);
    g_free(o.lines);
    return code;
}
