/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/verbs.h"

#include "core/error.h"
#include "core/units.h"
#include "daemon/preview.h"
#include "fault/fault.h"

#include <errno.h>
#include <string.h>

/* Starting and stopping VMs, and explaining. */

static const char *vm_of(struct gpup_call *call)
{
    const char *vm;

    g_variant_get_child(call->parameters, 0, "&s", &vm);
    return vm;
}

/* ---- where a VM is, or would be ---- */

static char *describe_grant(const char *vm, const char *partition, const struct gpup_grant *grant,
                            const char *verb)
{
    char size[GPUP_UNIT_BUF], share[GPUP_UNIT_BUF];
    const struct gpup_share *compute = &grant->share[GPUP_COMPUTE];

    gpup_format_size(grant->share[GPUP_VRAM].min, size, sizeof(size));
    gpup_format_share((uint32_t)compute->min, share, sizeof(share));
    return compute->min > 0
               ? g_strdup_printf("%s: %s %s, %s, compute %s", vm, verb, partition, size, share)
               : g_strdup_printf("%s: %s %s, %s", vm, verb, partition, size);
}

static char *describe_claim(struct gpup_daemon *d, const struct gpup_claim *claim)
{
    char partition[64];

    gpup_host_partition_name(d->host, claim, partition, sizeof(partition));
    return describe_grant(claim->vm, partition, &claim->grant, "partition");
}

static struct gpup_vm *known_vm(struct gpup_daemon *d, const char *word, struct gpup_error **err)
{
    struct gpup_vm *vm = gpup_vms_find(d->vms, word);

    if (vm)
        return vm;
    if (gpup_vms_connected(d->vms))
        gpup_error_set(err, ENOENT, "no VM '%s': virsh list --all shows the VMs there are", word);
    else
        gpup_error_set(err, EIO, "libvirt cannot be reached (%s): is libvirtd running?",
                       gpup_vms_error(d->vms));
    return NULL;
}

/* Where it would go if it started now. */
static int try_resolve(struct gpup_daemon *d, const struct gpup_vm *vm,
                       struct gpup_placement *placement, struct gpup_verdict *verdicts,
                       struct gpup_error **err)
{
    return gpup_preview_resolve(d, vm->adapter, vm->name, placement, verdicts, err);
}

static char *describe_placement(struct gpup_daemon *d, const struct gpup_vm *vm,
                                const struct gpup_placement *placement)
{
    size_t n;
    struct gpup_gpu *const *gpus = gpup_host_gpus(d->host, &n);
    g_autofree char *partition =
        g_strdup_printf("%s/%u", gpup_gpu_short_id(gpus[placement->gpu]), placement->slot);

    return describe_grant(vm->name, partition, &placement->grant, "would get partition");
}

/* ---- start and stop ---- */

/* A start whose device of the host is chosen and taken beforehand: it cannot lose it to another. */
struct launch {
    struct gpup_host *host;
    char adapter[37], nonce[37];
    struct gpup_device device;
};

static void launch_free(void *data)
{
    struct launch *launch = data;

    gpup_host_unreserve(launch->host, launch->adapter, launch->nonce);
    g_free(launch);
}

static int start_work(struct gpup_call *call, struct gpup_error **err)
{
    struct launch *launch = call->data;
    int ret;

    GPUP_FAULT("gpupd.start.asked");
    ret = gpup_manager_start(gpup_vms_manager(call->daemon->vms), vm_of(call),
                             launch ? &launch->device : NULL, err);
    GPUP_FAULT("gpupd.start.done");
    return ret;
}

static void tell_power(struct gpup_call *call, const char *what)
{
    const struct gpup_vm *vm = gpup_vms_find(call->daemon->vms, vm_of(call));
    const char *name = vm ? vm->name : vm_of(call);

    gpup_events_add(call->daemon->events, GPUP_EVENT_POWER, call->user, NULL, name, "%s: %s", name,
                    what);
}

static void start_worked(struct gpup_call *call)
{
    struct gpup_vm *vm = gpup_vms_find(call->daemon->vms, vm_of(call));
    struct gpup_claim *claim = vm ? gpup_host_claim_of_vm(call->daemon->host, vm->uuid) : NULL;

    tell_power(call, "started");
    if (claim) {
        g_ptr_array_add(call->lines, describe_claim(call->daemon, claim));
        gpup_call_finish(call);
        return;
    }
    gpup_call_line(call, "%s: started, without a partition (it has no adapter)", vm_of(call));
    gpup_call_finish(call);
}

static void start_dry_run(struct gpup_call *call)
{
    struct gpup_placement placement;
    struct gpup_error *error = NULL;
    struct gpup_vm *vm = known_vm(call->daemon, vm_of(call), &error);

    if (vm && vm->active)
        gpup_error_set(&error, EBUSY, "%s is %s", vm->name, vm->state);
    else if (vm && vm->problem)
        gpup_error_set(&error, EINVAL, "%s", vm->problem);
    else if (vm && !vm->adapter)
        gpup_call_line(call, "%s: would start without a partition (it has no adapter)", vm->name);
    else if (vm && try_resolve(call->daemon, vm, &placement, NULL, &error) == 0)
        g_ptr_array_add(call->lines, describe_placement(call->daemon, vm, &placement));
    if (error)
        gpup_call_fail(call, error);
    else
        gpup_call_finish(call);
}

static int reserve(struct gpup_call *call, const struct gpup_vm *vm, struct gpup_error **err)
{
    struct launch *launch = g_new0(struct launch, 1);
    int ret = gpup_host_reserve(call->daemon->host, vm->adapter, vm->name, vm->uuid,
                                &launch->device, launch->nonce, err);

    launch->host = call->daemon->host;
    g_strlcpy(launch->adapter, vm->adapter->id, sizeof(launch->adapter));
    if (ret < 0) {
        g_free(launch);
        return ret;
    }
    call->data = launch;
    call->data_free = launch_free;
    return 0;
}

/* What another VM had a moment ago is free in another. */
static bool try_start(struct gpup_call *call)
{
    struct gpup_vm *vm = gpup_vms_find(call->daemon->vms, vm_of(call));
    struct gpup_error *error = NULL;
    int ret = 0;

    if (vm && !vm->active && !vm->problem && vm->adapter && vm->adapter->kind != GPUP_KIND_VIRTIO)
        ret = reserve(call, vm, &error);
    if (ret == -EBUSY && gpup_host_is_clearing(call->daemon->host) &&
        call->waited++ < GPUP_CLEARING_MS / GPUP_CLEARING_LOOK_MS) {
        gpup_error_free(error);
        return true;
    }
    if (ret < 0)
        gpup_call_fail(call, error);
    else
        gpup_call_work(call, start_work, start_worked);
    return false;
}

void gpup_verb_start_vm(struct gpup_call *call)
{
    if (gpup_call_is_dry(call))
        start_dry_run(call);
    else
        gpup_call_repeat(call, GPUP_CLEARING_LOOK_MS, try_start);
}

static int stop_work(struct gpup_call *call, struct gpup_error **err)
{
    return gpup_manager_stop(gpup_vms_manager(call->daemon->vms), vm_of(call),
                             gpup_call_flag(call, "power-off"), gpup_call_timeout(call), err);
}

static void stop_worked(struct gpup_call *call)
{
    const char *how = gpup_call_flag(call, "power-off") ? "powered off" : "shut down";

    tell_power(call, how);
    gpup_call_line(call, "%s: %s", vm_of(call), how);
    gpup_call_finish(call);
}

void gpup_verb_stop_vm(struct gpup_call *call)
{
    struct gpup_error *error = NULL;
    struct gpup_vm *vm;

    if (!gpup_call_is_dry(call)) {
        gpup_call_work(call, stop_work, stop_worked);
        return;
    }
    vm = known_vm(call->daemon, vm_of(call), &error);
    if (error) {
        gpup_call_fail(call, error);
        return;
    }
    gpup_call_line(call, vm->active ? "%s: would be stopped" : "%s: is not running", vm->name);
    gpup_call_finish(call);
}

/* ---- explain ---- */

static void add_verdicts(struct gpup_daemon *d, struct gpup_verdict *verdicts,
                         GVariantBuilder *builder)
{
    size_t n;
    struct gpup_gpu *const *gpus = gpup_host_gpus(d->host, &n);

    for (size_t i = 0; i < n; i++) {
        if (verdicts[i].text)
            g_variant_builder_add(builder, "(sbbss)", gpus[i]->id, verdicts[i].fits,
                                  verdicts[i].chosen, verdicts[i].text,
                                  verdicts[i].way_out ? verdicts[i].way_out : "");
        gpup_verdict_clear(&verdicts[i]);
    }
}

static char *explain_placed(struct gpup_daemon *d, const struct gpup_claim *claim)
{
    g_autofree char *line = describe_claim(d, claim);

    return g_strdup_printf("%s (it has it now; below: where it would go if it started again)",
                           line);
}

void gpup_verb_explain(struct gpup_daemon *d, GDBusMethodInvocation *invocation, const char *word)
{
    GPUP_AUTO_ERROR error = NULL;
    struct gpup_vm *vm = known_vm(d, word, &error);
    g_autofree struct gpup_verdict *verdicts = NULL;
    g_autofree char *summary = NULL;
    struct gpup_placement placement;
    struct gpup_claim *claim;
    GVariantBuilder builder;
    size_t n;

    if (vm && vm->problem)
        gpup_error_set(&error, EINVAL, "%s", vm->problem);
    else if (vm && !vm->adapter)
        gpup_error_set(&error, EINVAL, "%s has no adapter: gpup assign %s", vm->name, vm->name);
    if (error) {
        gpup_return_error(invocation, error);
        return;
    }
    gpup_host_gpus(d->host, &n);
    verdicts = g_new0(struct gpup_verdict, n + 1);
    claim = gpup_host_claim_of_vm(d->host, vm->uuid);
    if (try_resolve(d, vm, &placement, verdicts, &error) == 0)
        summary = claim ? explain_placed(d, claim) : describe_placement(d, vm, &placement);
    else
        summary = claim ? explain_placed(d, claim)
                        : g_strndup(error->message, strcspn(error->message, "\n"));
    g_variant_builder_init(&builder, G_VARIANT_TYPE("a(sbbss)"));
    add_verdicts(d, verdicts, &builder);
    g_dbus_method_invocation_return_value(invocation,
                                          g_variant_new("(sa(sbbss))", summary, &builder));
}

/* ---- events ---- */

struct filter {
    const char *gpu, *vm;
    guint32 limit;
    guint64 after;
};

static int read_option(struct gpup_daemon *d, const char *name, GVariant *value, struct filter *f,
                       struct gpup_error **err)
{
    size_t n, index;
    struct gpup_gpu *const *gpus = gpup_host_gpus(d->host, &n);

    if (strcmp(name, "limit") == 0 && g_variant_is_of_type(value, G_VARIANT_TYPE_UINT32)) {
        f->limit = g_variant_get_uint32(value);
    } else if (strcmp(name, "after") == 0 && g_variant_is_of_type(value, G_VARIANT_TYPE_UINT64)) {
        f->after = g_variant_get_uint64(value);
    } else if (strcmp(name, "vm") == 0 && g_variant_is_of_type(value, G_VARIANT_TYPE_STRING)) {
        f->vm = g_variant_get_string(value, NULL);
    } else if (strcmp(name, "gpu") == 0 && g_variant_is_of_type(value, G_VARIANT_TYPE_STRING)) {
        f->gpu = g_variant_get_string(value, NULL); /* one that is gone has a past too */
        if (gpup_find_gpu(gpus, n, f->gpu, &index, NULL) == 0)
            f->gpu = gpup_gpu_short_id(gpus[index]);
    } else {
        return gpup_error_set(err, EINVAL, "there is no option '%s' of type %s", name,
                              g_variant_get_type_string(value));
    }
    return 0;
}

void gpup_verb_get_events(struct gpup_daemon *d, GDBusMethodInvocation *invocation,
                          GVariant *options)
{
    struct filter f = {.limit = GPUP_EVENTS_KEPT};
    GPUP_AUTO_ERROR error = NULL;
    GVariantIter iter;
    const char *name;
    GVariant *value;

    /* strings are borrowed from the options, which outlive this */
    g_variant_iter_init(&iter, options);
    while (!error && g_variant_iter_next(&iter, "{&sv}", &name, &value)) {
        read_option(d, name, value, &f, &error);
        g_variant_unref(value);
    }
    if (error)
        gpup_return_error(invocation, error);
    else
        g_dbus_method_invocation_return_value(
            invocation,
            g_variant_new("(@aa{sv})", gpup_events_list(d->events, f.limit, f.after, f.gpu, f.vm)));
}
