/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/json.h"

#include <stdio.h>

#define FORMAT_VERSION 1

JsonBuilder *cli_json_new(void)
{
    JsonBuilder *json = json_builder_new();

    json_builder_begin_object(json);
    cli_json_number(json, "version", FORMAT_VERSION);
    return json;
}

static void print(JsonBuilder *json, gboolean pretty)
{
    g_autoptr(JsonGenerator) generator = json_generator_new();
    g_autoptr(JsonNode) root = NULL;
    g_autofree char *text = NULL;

    json_builder_end_object(json);
    root = json_builder_get_root(json);
    json_generator_set_root(generator, root);
    json_generator_set_pretty(generator, pretty);
    text = json_generator_to_data(generator, NULL);
    puts(text);
}

void cli_json_print(JsonBuilder *json)
{
    print(json, TRUE);
}

void cli_json_print_line(JsonBuilder *json)
{
    print(json, FALSE);
}

void cli_json_string(JsonBuilder *json, const char *name, const char *value)
{
    json_builder_set_member_name(json, name);
    if (value && *value)
        json_builder_add_string_value(json, value);
    else
        json_builder_add_null_value(json);
}

void cli_json_number(JsonBuilder *json, const char *name, uint64_t value)
{
    json_builder_set_member_name(json, name);
    if (value <= INT64_MAX)
        json_builder_add_int_value(json, (gint64)value);
    else
        json_builder_add_null_value(json);
}

void cli_json_bool(JsonBuilder *json, const char *name, gboolean value)
{
    json_builder_set_member_name(json, name);
    json_builder_add_boolean_value(json, value);
}

void cli_json_strings(JsonBuilder *json, const char *name, const char *const *values)
{
    cli_json_array(json, name);
    for (; values && *values; values++)
        json_builder_add_string_value(json, *values);
    json_builder_end_array(json);
}

void cli_json_object(JsonBuilder *json, const char *name)
{
    json_builder_set_member_name(json, name);
    json_builder_begin_object(json);
}

void cli_json_array(JsonBuilder *json, const char *name)
{
    json_builder_set_member_name(json, name);
    json_builder_begin_array(json);
}

void cli_json_null(JsonBuilder *json, const char *name)
{
    json_builder_set_member_name(json, name);
    json_builder_add_null_value(json);
}
