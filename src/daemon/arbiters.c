/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/arbiters.h"

#include "core/error.h"
#include "core/units.h"

#include <string.h>

struct gpup_arbiters {
    const struct gpup_config *config;
    GHashTable *by_key; /* of the GPU -> struct gpup_arbiter *, owned */
};

static void free_arbiter(void *arbiter)
{
    gpup_arbiter_free(arbiter);
}

struct gpup_arbiters *gpup_arbiters_new(const struct gpup_config *config)
{
    struct gpup_arbiters *a = g_new0(struct gpup_arbiters, 1);

    a->config = config;
    a->by_key = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, free_arbiter);
    return a;
}

void gpup_arbiters_free(struct gpup_arbiters *a)
{
    if (!a)
        return;
    g_hash_table_unref(a->by_key);
    g_free(a);
}

struct gpup_arbiter *gpup_arbiters_get(struct gpup_arbiters *a, const struct gpup_gpu *gpu,
                                       struct gpup_error **err)
{
    struct gpup_arbiter *arbiter = g_hash_table_lookup(a->by_key, gpu->key);
    const struct gpup_config *c = a->config;
    struct gpup_arbiter_setup setup = {
        .policy = c->gpu_time, .slice_ns = c->slice_ms * UINT64_C(1000000), .capacity = 1};

    if (arbiter)
        return arbiter;
    setup.in_turn = gpu->node != NULL;
    setup.bdf = gpu->node ? gpu->id : NULL;
    if (!gpu->node)
        setup.capacity = c->software_cpus > 0 ? c->software_cpus : g_get_num_processors();
    arbiter = gpup_arbiter_new(&setup, err);
    if (arbiter)
        g_hash_table_insert(a->by_key, g_strdup(gpu->key), arbiter);
    return arbiter;
}

void gpup_arbiters_put(struct gpup_arbiters *a, const char *key, struct gpup_arbiter *arbiter)
{
    g_hash_table_insert(a->by_key, g_strdup(key), arbiter);
}

struct gpup_share_request gpup_arbiters_request(const struct gpup_grant *grant)
{
    const struct gpup_share *compute = &grant->share[GPUP_COMPUTE];

    return (struct gpup_share_request){.min = (uint32_t)MIN(compute->min, GPUP_PPM_FULL),
                                       .weight = (uint32_t)MIN(compute->weight, GPUP_PPM_FULL),
                                       .cap = (uint32_t)MIN(compute->cap, GPUP_PPM_FULL)};
}
