/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/values.h"

#include "cli/json.h"
#include "core/adapter.h"
#include "core/units.h"

#include <string.h>

#define NOT_SET  UINT64_MAX
#define TEXT_MAX (4 * GPUP_UNIT_BUF) /* three values and two colons */

static enum gpup_enforcement enforcement_from_name(const char *name)
{
    for (int e = GPUP_ENFORCE_NONE; e <= GPUP_ENFORCE_HARD; e++) {
        if (strcmp(gpup_enforcement_name((enum gpup_enforcement)e), name) == 0)
            return (enum gpup_enforcement)e;
    }
    return GPUP_ENFORCE_NONE;
}

void cli_read_resources(GVariant *value, struct cli_resource resource[GPUP_RESOURCES])
{
    GVariantIter iter;
    const char *name, *enforcement;
    guint64 total, available, each;

    memset(resource, 0, GPUP_RESOURCES * sizeof(resource[0]));
    if (!value)
        return;
    g_variant_iter_init(&iter, value);
    while (
        g_variant_iter_next(&iter, "(&s&sttt)", &name, &enforcement, &total, &available, &each)) {
        enum gpup_resource r;

        if (gpup_resource_from_name(name, &r) == 0)
            resource[r] =
                (struct cli_resource){total, available, each, enforcement_from_name(enforcement)};
    }
}

bool cli_read_grant(GVariant *value, struct gpup_grant *grant)
{
    GVariantIter iter;
    const char *name;
    guint64 min, weight, cap;
    bool found = false;

    *grant = (struct gpup_grant){0};
    if (!value)
        return false;
    g_variant_iter_init(&iter, value);
    while (g_variant_iter_next(&iter, "(&sttt)", &name, &min, &weight, &cap)) {
        enum gpup_resource r;

        if (gpup_resource_from_name(name, &r) != 0)
            continue;
        grant->share[r] = (struct gpup_share){min, weight, cap};
        found = true;
    }
    return found;
}

void cli_read_adapter(GVariant *value, struct cli_request *request)
{
    *request = (struct cli_request){"", "", "", "off", {{0}}};
    if (!value)
        return;
    g_variant_lookup(value, "id", "&s", &request->id);
    g_variant_lookup(value, "kind", "&s", &request->kind);
    g_variant_lookup(value, "gpu", "&s", &request->gpu);
    g_variant_lookup(value, "display", "&s", &request->display);
    for (int r = 0; r < GPUP_RESOURCES; r++) {
        struct gpup_request *q = &request->request[r];
        guint64 min, optimal, max;

        if (!g_variant_lookup(value, gpup_resource_name((enum gpup_resource)r), "(ttt)", &min,
                              &optimal, &max))
            continue;
        *q = (struct gpup_request){.has_min = min != NOT_SET,
                                   .has_optimal = optimal != NOT_SET,
                                   .has_max = max != NOT_SET,
                                   .min = min,
                                   .optimal = optimal,
                                   .max = max};
    }
}

char *cli_amount(enum gpup_resource r, uint64_t value)
{
    char buf[GPUP_UNIT_BUF];

    if (r == GPUP_VRAM)
        return g_strdup(gpup_format_size(value, buf, sizeof(buf)));
    return g_strdup(gpup_format_share((uint32_t)MIN(value, UINT32_MAX), buf, sizeof(buf)));
}

char *cli_part(enum gpup_resource r, const struct cli_resource *resource, uint64_t value)
{
    if (resource->total == 0)
        return g_strdup("");
    if (r != GPUP_VRAM && resource->enforcement == GPUP_ENFORCE_NONE)
        return g_strdup("shared");
    return cli_amount(r, value);
}

char *cli_granted(const struct gpup_grant *grant)
{
    const struct gpup_share *compute = &grant->share[GPUP_COMPUTE];
    g_autofree char *vram = cli_amount(GPUP_VRAM, grant->share[GPUP_VRAM].cap);
    g_autofree char *share = cli_amount(GPUP_COMPUTE, compute->min);

    if (compute->min == 0)
        return g_strdup(vram);
    return g_strdup_printf("%s, compute %s", vram, share);
}

static bool is_asked(const struct gpup_request *q)
{
    return q->has_min || q->has_optimal || q->has_max;
}

char *cli_asked_of(const struct cli_request *request, enum gpup_resource r)
{
    char buf[TEXT_MAX];

    return g_strdup(gpup_request_format(r, &request->request[r], buf, sizeof(buf)));
}

char *cli_asked(const struct cli_request *request)
{
    GString *text = g_string_new(NULL);

    for (int i = 0; i < GPUP_RESOURCES; i++) {
        enum gpup_resource r = (enum gpup_resource)i;
        g_autofree char *asked = NULL;

        if (!is_asked(&request->request[r]))
            continue;
        asked = cli_asked_of(request, r);
        if (text->len > 0)
            g_string_append(text, ", ");
        if (r != GPUP_VRAM)
            g_string_append_printf(text, "%s ", gpup_resource_name(r));
        g_string_append(text, asked);
    }
    if (text->len == 0)
        g_string_append(text, "default");
    return g_string_free(text, FALSE);
}

static bool number(GVariant *value, uint64_t *n)
{
    if (g_variant_is_of_type(value, G_VARIANT_TYPE_UINT64))
        *n = g_variant_get_uint64(value);
    else if (g_variant_is_of_type(value, G_VARIANT_TYPE_UINT32))
        *n = g_variant_get_uint32(value);
    else
        return false;
    return true;
}

bool cli_read_number(GVariant *dictionary, const char *name, uint64_t *value)
{
    g_autoptr(GVariant) v = dictionary ? g_variant_lookup_value(dictionary, name, NULL) : NULL;

    return v && number(v, value);
}

void cli_json_resources(JsonBuilder *json, const struct cli_resource resource[GPUP_RESOURCES])
{
    cli_json_object(json, "resources");
    for (int r = 0; r < GPUP_RESOURCES; r++) {
        cli_json_object(json, gpup_resource_name((enum gpup_resource)r));
        cli_json_string(json, "enforcement", gpup_enforcement_name(resource[r].enforcement));
        cli_json_number(json, "total", resource[r].total);
        cli_json_number(json, "available", resource[r].available);
        cli_json_number(json, "each", resource[r].each);
        json_builder_end_object(json);
    }
    json_builder_end_object(json);
}

void cli_json_grant(JsonBuilder *json, GVariant *value)
{
    struct gpup_grant grant;

    if (!cli_read_grant(value, &grant)) {
        cli_json_null(json, "grant");
        return;
    }
    cli_json_object(json, "grant");
    for (int r = 0; r < GPUP_RESOURCES; r++) {
        cli_json_object(json, gpup_resource_name((enum gpup_resource)r));
        cli_json_number(json, "min", grant.share[r].min);
        cli_json_number(json, "weight", grant.share[r].weight);
        cli_json_number(json, "cap", grant.share[r].cap);
        json_builder_end_object(json);
    }
    json_builder_end_object(json);
}

void cli_json_adapter(JsonBuilder *json, GVariant *value)
{
    struct cli_request request;

    cli_read_adapter(value, &request);
    cli_json_object(json, "adapter");
    cli_json_string(json, "id", request.id);
    cli_json_string(json, "kind", request.kind);
    cli_json_string(json, "gpu", request.gpu);
    cli_json_string(json, "display", request.display);
    for (int r = 0; r < GPUP_RESOURCES; r++) {
        const struct gpup_request *q = &request.request[r];

        cli_json_object(json, gpup_resource_name((enum gpup_resource)r));
        cli_json_number(json, "min", q->has_min ? q->min : NOT_SET);
        cli_json_number(json, "optimal", q->has_optimal ? q->optimal : NOT_SET);
        cli_json_number(json, "max", q->has_max ? q->max : NOT_SET);
        json_builder_end_object(json);
    }
    json_builder_end_object(json);
}

char *cli_time(uint64_t us, const char *format)
{
    g_autoptr(GDateTime) time =
        us <= INT64_MAX ? g_date_time_new_from_unix_local((gint64)(us / G_USEC_PER_SEC)) : NULL;

    return time ? g_date_time_format(time, format) : g_strdup("");
}

void cli_json_numbers(JsonBuilder *json, const char *member_name, GVariant *usage)
{
    GVariantIter iter;
    const char *name;
    GVariant *value;

    if (!usage || g_variant_n_children(usage) == 0) {
        cli_json_null(json, member_name);
        return;
    }
    cli_json_object(json, member_name);
    g_variant_iter_init(&iter, usage);
    while (g_variant_iter_loop(&iter, "{&sv}", &name, &value)) {
        g_autofree char *member = g_strdelimit(g_strdup(name), "-", '_');
        uint64_t n;

        if (number(value, &n))
            cli_json_number(json, member, n);
    }
    json_builder_end_object(json);
}
