/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_CLI_VALUES_H
#define GPUP_CLI_VALUES_H

#include "core/model.h"

#include <glib.h>
#include <json-glib/json-glib.h>

/* What gpupd says as D-Bus values, read, shown to people and written as JSON. NULL values are
 * those that gpupd did not say. */

struct cli_resource {
    uint64_t total, available, each;
    enum gpup_enforcement enforcement;
};

struct cli_request {
    const char *id, *kind, *gpu; /* "" where there is none; borrowed */
    const char *display;         /* "off", "pixels", "dmabuf" */
    struct gpup_request request[GPUP_RESOURCES];
};

/* Resources that are not named are all zero: the GPU has none of them. */
void cli_read_resources(GVariant *value, struct cli_resource resource[GPUP_RESOURCES]);
/* false while there is no grant. */
bool cli_read_grant(GVariant *value, struct gpup_grant *grant);
void cli_read_adapter(GVariant *value, struct cli_request *request);

/* "512 MiB", "25 %". */
char *cli_amount(enum gpup_resource r, uint64_t value);
/* The same for a part of a GPU: "" when the GPU has none of it, "shared" when nothing limits it. */
char *cli_part(enum gpup_resource r, const struct cli_resource *resource, uint64_t value);
/* "512 MiB, compute 25 %" */
char *cli_granted(const struct gpup_grant *grant);
/* "256 MiB:512 MiB:1 GiB, compute 25 %", or "default" */
char *cli_asked(const struct cli_request *request);
char *cli_asked_of(const struct cli_request *request, enum gpup_resource r);
/* A number of an a{sv}; false when it is not there. */
bool cli_read_number(GVariant *dictionary, const char *name, uint64_t *value);

void cli_json_resources(JsonBuilder *json, const struct cli_resource resource[GPUP_RESOURCES]);
void cli_json_grant(JsonBuilder *json, GVariant *value);
void cli_json_adapter(JsonBuilder *json, GVariant *value);
/* All numbers of an a{sv}; null when it is empty. */
void cli_json_numbers(JsonBuilder *json, const char *name, GVariant *numbers);

/* Microseconds since 1970 as local time, by strftime's letters; "" for what is no time. */
char *cli_time(uint64_t us, const char *format);

#endif
