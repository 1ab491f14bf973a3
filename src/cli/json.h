/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_CLI_JSON_H
#define GPUP_CLI_JSON_H

#include <json-glib/json-glib.h>
#include <stdint.h>

/* The output of --json: one object with "version": 1. Sizes are bytes, shares parts per million. */
JsonBuilder *cli_json_new(void);
/* Closes the object and writes it to stdout. */
void cli_json_print(JsonBuilder *json);
void cli_json_print_line(JsonBuilder *json); /* on one line */

/* NULL and "" are null. */
void cli_json_string(JsonBuilder *json, const char *name, const char *value);
/* What no JSON reader could hold is a marker for "not set": null. */
void cli_json_number(JsonBuilder *json, const char *name, uint64_t value);
void cli_json_bool(JsonBuilder *json, const char *name, gboolean value);
void cli_json_strings(JsonBuilder *json, const char *name, const char *const *values);
void cli_json_object(JsonBuilder *json, const char *name);
void cli_json_array(JsonBuilder *json, const char *name);
void cli_json_null(JsonBuilder *json, const char *name);

#endif
