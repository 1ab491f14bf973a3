/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/error.h"
#include "daemon/authority.h"
#include "daemon/verbs.h"
#include "fault/fault.h"
#include "gpu/inventory.h"

#include <errno.h>
#include <string.h>

/* Partitioning GPUs, and looking for them. */

static struct gpup_gpu *gpu_of(struct gpup_call *call)
{
    return gpup_host_gpu_by_key(call->daemon->host, call->gpu_key);
}

static guint32 count_of(struct gpup_call *call)
{
    guint32 count;

    g_variant_get_child(call->parameters, 0, "u", &count);
    return count;
}

static void partitioned_event(struct gpup_call *call)
{
    struct gpup_gpu *gpu = gpu_of(call);

    if (gpu)
        gpup_events_add(call->daemon->events, GPUP_EVENT_PARTITION, call->user,
                        gpup_gpu_short_id(gpu), NULL, "%s",
                        (const char *)call->lines->pdata[call->lines->len - 1]);
    gpup_call_finish(call);
}

static int change_work(struct gpup_call *call, struct gpup_error **err)
{
    gpup_change_run(call->data);
    return 0;
}

static void partitioned(struct gpup_call *call)
{
    struct gpup_error *error = NULL;

    if (gpup_host_end_partition(call->daemon->host, call->data, call->gpu_key, count_of(call),
                                call->lines, &error) < 0)
        gpup_call_fail(call, error);
    else
        partitioned_event(call);
}

static void partition(struct gpup_call *call)
{
    struct gpup_gpu *gpu = gpu_of(call);
    struct gpup_error *error = NULL;
    struct gpup_change *change = NULL;

    if (!gpu)
        gpup_error_set(&error, ENOENT, GPUP_GPU_GONE);
    else if (gpup_call_is_dry(call))
        gpup_host_partition(call->daemon->host, gpu, count_of(call), true, call->lines, &error);
    else
        change = gpup_host_begin_partition(call->daemon->host, gpu, count_of(call), &error);
    if (error) {
        gpup_call_fail(call, error);
        return;
    }
    if (!change) {
        gpup_call_finish(call);
        return;
    }
    if (call->data_free)
        call->data_free(call->data);
    call->data_free = NULL; /* gpup_host_end_partition() does */
    call->data = change;
    gpup_call_work(call, change_work, partitioned);
}

/* ---- VMs in the way ---- */

/* In a worker. What was done already is said where the rest fails. */
static int power_off_work(struct gpup_call *call, struct gpup_error **err)
{
    struct gpup_manager *manager = gpup_vms_manager(call->daemon->vms);
    g_autoptr(GString) done = g_string_new(NULL);
    GPtrArray *holders = call->data;

    for (guint i = 0; i < holders->len; i++) {
        const char *vm = holders->pdata[i];
        GPUP_AUTO_ERROR why = NULL;

        if (gpup_manager_stop(manager, vm, true, 0, &why) < 0 && why->code != EBUSY)
            return gpup_error_set(
                err, why->code, "%s cannot be powered off: %s%s%s; the partitions are as before",
                vm, gpup_error_message(why), done->len ? "; powered off already:" : "", done->str);
        g_string_append_printf(done, " %s", vm);
    }
    GPUP_FAULT("gpupd.partition.powered-off");
    return 0;
}

#define CLEARING_S 30

/* Hardware that a VM had is reset first. */
static bool try_partition(struct gpup_call *call)
{
    struct gpup_gpu *gpu = gpu_of(call);

    for (size_t i = 0; gpu && i < gpu->n_slots; i++) {
        if (strcmp(gpu->slots[i].adapter, GPUP_CLEARING) == 0 &&
            call->waited++ < CLEARING_S * 1000 / GPUP_CLEARING_LOOK_MS)
            return true;
    }
    partition(call);
    return false;
}

static void powered_off(struct gpup_call *call)
{
    GPtrArray *holders = call->data;

    for (guint i = 0; i < holders->len; i++) {
        gpup_events_add(call->daemon->events, GPUP_EVENT_POWER, call->user, NULL, holders->pdata[i],
                        "%s: powered off, for its GPU to be partitioned",
                        (const char *)holders->pdata[i]);
        gpup_call_line(call, "%s: powered off; it is not started again by itself",
                       (const char *)holders->pdata[i]);
    }
    gpup_call_repeat(call, GPUP_CLEARING_LOOK_MS, try_partition);
}

static void dry_power_off(struct gpup_call *call, const struct gpup_gpu *gpu)
{
    GPtrArray *holders = call->data;

    for (guint i = 0; i < holders->len; i++)
        gpup_call_line(call, "%s: would be powered off", (const char *)holders->pdata[i]);
    g_ptr_array_add(call->lines, gpup_host_describe(gpu, count_of(call)));
    gpup_call_finish(call);
}

static void power_off(struct gpup_call *call)
{
    gpup_call_work(call, power_off_work, powered_off);
}

/* Only where the count may be had and VMs stand in the way are they touched. */
static bool stand_in_the_way(struct gpup_call *call, struct gpup_gpu *gpu)
{
    guint32 count = count_of(call);
    GPtrArray *holders = gpup_host_holders(call->daemon->host, gpu);

    call->data = holders;
    call->data_free = (GDestroyNotify)g_ptr_array_unref;
    return holders->len > 0 && count != gpu->n_slots &&
           (count == 0 || gpup_gpu_count_is_valid(gpu, count));
}

void gpup_verb_set_count(struct gpup_call *call)
{
    struct gpup_gpu *gpu = gpu_of(call);

    if (!gpu || !gpup_call_flag(call, "power-off-vms") || !stand_in_the_way(call, gpu))
        partition(call);
    else if (gpup_call_is_dry(call))
        dry_power_off(call, gpu);
    else /* who may partition may not for that reason stop VMs */
        gpup_call_also(call, GPUP_ACTION_START, power_off);
}

/* ---- whole GPUs ---- */

static bool passthrough_of(struct gpup_call *call)
{
    gboolean on;

    g_variant_get_child(call->parameters, 0, "b", &on);
    return on;
}

static void passed_through(struct gpup_call *call)
{
    struct gpup_error *error = NULL;

    if (gpup_host_end_passthrough(call->daemon->host, call->data, call->gpu_key,
                                  passthrough_of(call), call->lines, &error) < 0)
        gpup_call_fail(call, error);
    else
        partitioned_event(call);
}

void gpup_verb_set_passthrough(struct gpup_call *call)
{
    struct gpup_gpu *gpu = gpu_of(call);
    struct gpup_error *error = NULL;
    bool on = passthrough_of(call);

    if (!gpu)
        gpup_error_set(&error, ENOENT, GPUP_GPU_GONE);
    else if (!gpup_call_is_dry(call))
        call->data = gpup_host_begin_passthrough(call->daemon->host, gpu, on, &error);
    else if (gpup_inventory_may_pass_through(gpu, on, &error) == 0)
        g_ptr_array_add(call->lines, gpup_host_describe_passthrough(gpu, on));
    if (error)
        gpup_call_fail(call, error);
    else if (gpup_call_is_dry(call))
        gpup_call_finish(call);
    else
        gpup_call_work(call, change_work, passed_through);
}

static void rescanned(struct gpup_call *call)
{
    struct gpup_error *error = NULL;

    if (gpup_call_is_dry(call))
        gpup_host_preview_rescan(call->daemon->host, call->data, call->lines);
    else
        gpup_host_end_rescan(call->daemon->host, call->data, &error);
    if (error)
        gpup_call_fail(call, error);
    else
        gpup_call_finish(call);
}

void gpup_verb_forget(struct gpup_call *call)
{
    struct gpup_error *error = NULL;
    g_autofree char *key = NULL;

    g_variant_get_child(call->parameters, 0, "s", &key);
    if (gpup_host_forget(call->daemon->host, key, gpup_call_is_dry(call), &error) < 0) {
        gpup_call_fail(call, error);
        return;
    }
    if (gpup_call_is_dry(call)) {
        gpup_call_line(call, "%s: would be forgotten", key);
        gpup_call_finish(call);
        return;
    }
    gpup_call_line(call, "%s: forgotten", key);
    gpup_events_add(call->daemon->events, GPUP_EVENT_PARTITION, call->user, key, NULL,
                    "%s: what was set for it was dropped", key);
    gpup_verb_rescan(call);
}

void gpup_verb_rescan(struct gpup_call *call)
{
    call->data = gpup_host_begin_rescan(call->daemon->host);
    gpup_call_work(call, change_work, rescanned);
}
