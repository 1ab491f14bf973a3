/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/verbs.h"

#include "core/adapter.h"
#include "core/error.h"
#include "core/resolve.h"
#include "core/units.h"
#include "daemon/authority.h"
#include "daemon/preview.h"
#include "daemon/provisional.h"
#include "daemon/restart.h"
#include "fault/fault.h"

#include <errno.h>
#include <string.h>

/* Giving a VM an adapter, changing it, taking it away. */

struct assignment {
    char *vm;
    struct gpup_adapter *adapter;
    char *pin;                 /* the GPU it may only go to, by its short id, or NULL */
    struct gpup_device device; /* of the host, unless it is virtio */
    unsigned flags;
    bool restart; /* it runs, and is to be started again */
    bool live;    /* it runs, and what it holds is to be changed */
    struct gpup_vm *after;
};

static void assignment_free(void *data)
{
    struct assignment *a = data;

    g_free(a->vm);
    g_free(a->pin);
    gpup_adapter_free(a->adapter);
    gpup_vm_free(a->after);
    g_free(a);
}

/* The definition has a GPU's key; people know its short id. */
static char *with_short_id(const struct assignment *a, const char *line)
{
    GString *text = g_string_new(line);

    if (a->adapter && a->adapter->gpu && a->pin)
        g_string_replace(text, a->adapter->gpu, a->pin, 1);
    return g_string_free(text, FALSE);
}

static void take_lines(struct gpup_call *call, GStrv lines)
{
    for (char **line = lines; line && *line; line++)
        g_ptr_array_add(call->lines, with_short_id(call->data, *line));
    g_strfreev(lines);
}

static void name_pin(struct gpup_call *call, struct assignment *a)
{
    const struct gpup_gpu *gpu =
        a->adapter->gpu ? gpup_host_gpu_by_key(call->daemon->host, a->adapter->gpu) : NULL;

    if (gpu)
        a->pin = g_strdup(gpup_gpu_short_id(gpu));
}

static int set_pin(struct gpup_call *call, const char *word, struct gpup_adapter *adapter,
                   struct gpup_error **err)
{
    size_t n, index;
    struct gpup_gpu *const *gpus = gpup_host_gpus(call->daemon->host, &n);

    free(adapter->gpu);
    adapter->gpu = NULL;
    if (!*word)
        return 0;
    if (gpup_find_gpu(gpus, n, word, &index, err) < 0)
        return -ENOENT;
    adapter->gpu = strdup(gpus[index]->key);
    return 0;
}

/* One entry of the call's `adapter`: what it sets is changed, the rest stays. */
static int set_entry(struct gpup_call *call, const char *name, GVariant *value,
                     struct gpup_adapter *adapter, struct gpup_error **err)
{
    enum gpup_resource resource;
    const char *text;

    if (!g_variant_is_of_type(value, G_VARIANT_TYPE_STRING))
        return gpup_error_set(err, EINVAL, "adapter: '%s' is not a string", name);
    text = g_variant_get_string(value, NULL);
    if (strcmp(name, "gpu") == 0)
        return set_pin(call, text, adapter, err);
    if (strcmp(name, "kind") == 0) {
        if (gpup_kind_from_name(text, &adapter->kind) < 0)
            return gpup_error_set(err, EINVAL,
                                  "'%s' is not a kind: it is virtio, sriov or passthrough", text);
        return 0;
    }
    if (strcmp(name, "display") == 0) {
        if (gpup_display_from_name(text, &adapter->display) < 0)
            return gpup_error_set(err, EINVAL, "'%s' is not a display: it is off, pixels or dmabuf",
                                  text);
        return 0;
    }
    if (gpup_resource_from_name(name, &resource) < 0)
        return gpup_error_set(err, EINVAL, "an adapter has no '%s'", name);
    adapter->request[resource] = (struct gpup_request){0};
    return *text ? gpup_request_parse(resource, text, &adapter->request[resource], err) : 0;
}

/* The kind follows from the GPU it is pinned to, else from what the host has. */
static enum gpup_kind default_kind(struct gpup_call *call, const struct gpup_adapter *adapter)
{
    size_t n;
    struct gpup_gpu *const *gpus = gpup_host_gpus(call->daemon->host, &n);

    for (size_t i = 0; i < n; i++) {
        if (adapter->gpu ? strcmp(gpus[i]->key, adapter->gpu) == 0
                         : gpus[i]->mode != GPUP_MODE_UNUSABLE)
            return gpus[i]->kind;
    }
    return GPUP_KIND_VIRTIO;
}

/* A minimum of what no GPU at hand has, and a maximum that lets nothing be done. */
static int check_shares(struct gpup_call *call, const struct gpup_adapter *adapter,
                        struct gpup_error **err)
{
    size_t n;
    struct gpup_gpu *const *gpus = gpup_host_gpus(call->daemon->host, &n);

    if (adapter->request[GPUP_COMPUTE].has_max && adapter->request[GPUP_COMPUTE].max == 0)
        return gpup_error_set(err, EINVAL,
                              "compute: with 0 %% at most nothing could be drawn; write a share "
                              "such as 5%%, or 0%%:: for one that has no minimum");
    for (int r = GPUP_COMPUTE; r < GPUP_RESOURCES; r++) {
        bool candidates = false, possible = false;

        for (size_t i = 0; i < n; i++) {
            if (gpus[i]->kind != adapter->kind ||
                (adapter->gpu && strcmp(gpus[i]->key, adapter->gpu) != 0))
                continue;
            candidates = true;
            possible |= gpus[i]->resource[r].total > 0 || gpus[i]->mode == GPUP_MODE_UNUSABLE;
        }
        if (candidates && !possible && adapter->request[r].has_min && adapter->request[r].min > 0)
            return gpup_error_set(
                err, EINVAL, "%s: %s, so no minimum can be asked for: leave it out, or write 0%%",
                gpup_resource_name((enum gpup_resource)r),
                adapter->gpu ? "that GPU has none" : "no GPU of this host has any");
    }
    return 0;
}

/* What no GPU of this host could ever give is refused now, not at the VM's start. */
static int check_against_host(struct gpup_call *call, const struct gpup_adapter *adapter,
                              struct gpup_error **err)
{
    size_t n;
    struct gpup_gpu *const *gpus = gpup_host_gpus(call->daemon->host, &n);
    const struct gpup_request *vram = &adapter->request[GPUP_VRAM];
    uint64_t most = 0;
    char asked[GPUP_UNIT_BUF], has[GPUP_UNIT_BUF];

    for (size_t i = 0; i < n; i++) {
        if (gpus[i]->kind == adapter->kind && gpus[i]->resource[GPUP_VRAM].total > most &&
            (!adapter->gpu || strcmp(gpus[i]->key, adapter->gpu) == 0))
            most = gpus[i]->resource[GPUP_VRAM].total;
    }
    if (!vram->has_min || vram->min <= most)
        return 0;
    return gpup_error_set(err, EINVAL,
                          "%s of memory is more than %s has: at most %s can be asked for",
                          gpup_format_size(vram->min, asked, sizeof(asked)),
                          adapter->gpu ? "that GPU" : "any GPU of this host",
                          gpup_format_size(most, has, sizeof(has)));
}

static int build_adapter(struct gpup_call *call, const char *vm, GVariant *entries,
                         struct gpup_adapter **out, struct gpup_error **err)
{
    struct gpup_vm *known = gpup_vms_find(call->daemon->vms, vm);
    struct gpup_adapter *adapter =
        known && known->adapter ? gpup_adapter_copy(known->adapter) : calloc(1, sizeof(*adapter));
    bool is_new = !known || !known->adapter, has_kind = false;
    GVariantIter iter;
    const char *name;
    GVariant *value;
    int ret = 0;

    *out = NULL;
    if (!adapter)
        return gpup_error_set(err, ENOMEM, "out of memory");
    g_variant_iter_init(&iter, entries);
    while (ret == 0 && g_variant_iter_next(&iter, "{&sv}", &name, &value)) {
        has_kind |= strcmp(name, "kind") == 0;
        ret = set_entry(call, name, value, adapter, err);
        g_variant_unref(value);
    }
    if (ret == 0 && is_new && !has_kind)
        adapter->kind = default_kind(call, adapter);
    if (ret == 0)
        ret = gpup_adapter_check(adapter, err);
    if (ret == 0)
        ret = check_against_host(call, adapter, err);
    if (ret == 0)
        ret = check_shares(call, adapter, err);
    if (ret < 0)
        g_clear_pointer(&adapter, gpup_adapter_free);
    *out = adapter;
    return ret;
}

/* In a worker; adapter NULL: takes it away. */
static int change_work(struct gpup_call *call, struct gpup_error **err)
{
    struct gpup_manager *manager = gpup_vms_manager(call->daemon->vms);
    struct assignment *a = call->data;
    GStrv lines = NULL;
    const struct gpup_device *device = a->device.form != GPUP_FORM_VIRTIO ? &a->device : NULL;
    int ret = a->adapter
                  ? gpup_manager_assign(manager, a->vm, a->adapter, device, a->flags, &lines, err)
                  : gpup_manager_unassign(manager, a->vm, a->flags, &lines, err);

    if (ret < 0)
        return ret;
    take_lines(call, lines);
    if (a->restart) /* the guest is asked: what it has open is its own to save */
        ret = gpup_restart(call->daemon->restarts, a->vm, call->user, gpup_call_timeout(call), err);
    gpup_manager_get(manager, a->vm, &a->after, NULL); /* whoever is answered sees it changed */
    return ret;
}

/* A minimum that nothing on this host holds is accepted where it is what a VM gets on average: that
 * it is no promise is said. */
static void warn_of_minima(struct gpup_call *call, const struct gpup_adapter *adapter)
{
    size_t n;
    struct gpup_gpu *const *gpus = gpup_host_gpus(call->daemon->host, &n);

    for (int r = GPUP_COMPUTE; r < GPUP_RESOURCES; r++) {
        bool held = false;

        for (size_t i = 0; i < n; i++)
            held |= gpus[i]->kind == adapter->kind &&
                    (!adapter->gpu || strcmp(gpus[i]->key, adapter->gpu) == 0) &&
                    gpus[i]->resource[r].enforcement != GPUP_ENFORCE_NONE;
        if (adapter->request[r].has_min && adapter->request[r].min > 0 && !held)
            gpup_call_line(call,
                           "Warning: the minimum of %s is not guaranteed: nothing on this host "
                           "holds such a share",
                           gpup_resource_name((enum gpup_resource)r));
    }
}

/* ---- live ---- */

/* What a running VM holds, or NULL with the reason. */
static struct gpup_claim *claim_of(struct gpup_call *call, struct gpup_error **err)
{
    struct assignment *a = call->data;
    struct gpup_claim *claim = gpup_host_claim(call->daemon->host, a->adapter->id);

    if (!claim)
        gpup_error_set(err, EINVAL,
                       "%s runs without a partition: one can be given to it by its next start only "
                       "(--restart instead of --live)",
                       a->vm);
    return claim;
}

static int change_live(struct gpup_call *call, bool dry_run, struct gpup_grant *grant,
                       struct gpup_error **err)
{
    struct gpup_daemon *d = call->daemon;
    struct assignment *a = call->data;
    struct gpup_claim *claim = claim_of(call, err);
    struct gpup_msg_usage usage = {0};
    pid_t pid;
    int ret;

    if (!claim)
        return -EINVAL;
    gpup_server_usage(d->server, claim->adapter, &usage, &pid);
    ret = gpup_host_regrant(d->host, claim, a->adapter, usage.vram_used, dry_run, grant, err);
    if (ret == 0 && !dry_run) {
        gpup_server_regrant(d->server, claim->adapter);
        GPUP_FAULT("gpupd.live.told");
    }
    return ret;
}

/* Nothing is written down that could not be done. */
static int check_live(struct gpup_call *call, struct assignment *a, struct gpup_error **err)
{
    struct gpup_vm *vm = gpup_vms_find(call->daemon->vms, a->vm);

    if (!gpup_call_flag(call, "live"))
        return 0;
    if (gpup_call_flag(call, "restart"))
        return gpup_error_set(err, EINVAL, "live and restart exclude each other");
    if (!vm || !vm->active)
        return 0;
    a->live = true;
    a->flags |= GPUP_ASSIGN_LIVE;
    if (change_live(call, true, NULL, err) < 0)
        return gpup_error_wrap(err, "nothing was changed");
    return 0;
}

static void tell_live(struct gpup_call *call)
{
    struct assignment *a = call->data;
    bool dry_run = gpup_call_is_dry(call);
    const struct gpup_share *compute;
    char vram[GPUP_UNIT_BUF], min[GPUP_UNIT_BUF], weight[GPUP_UNIT_BUF], cap[GPUP_UNIT_BUF];
    struct gpup_grant grant;
    GPUP_AUTO_ERROR err = NULL;

    if (!a->live)
        return;
    if (change_live(call, dry_run, &grant, &err) < 0) {
        gpup_call_line(call, "Warning: it takes effect at the next start only: %s",
                       gpup_error_message(err));
        return;
    }
    compute = &grant.share[GPUP_COMPUTE];
    gpup_call_line(call, "%s: %s %s, compute %s (at least %s, at most %s)", a->vm,
                   dry_run ? "would have" : "has now",
                   gpup_format_size(grant.share[GPUP_VRAM].cap, vram, sizeof(vram)),
                   gpup_format_share((uint32_t)compute->weight, weight, sizeof(weight)),
                   gpup_format_share((uint32_t)compute->min, min, sizeof(min)),
                   gpup_format_share((uint32_t)compute->cap, cap, sizeof(cap)));
}

static bool wants_restart(struct gpup_call *call)
{
    return gpup_call_flag(call, "restart");
}

static void tell_restart(struct gpup_call *call)
{
    struct assignment *a = call->data;
    struct gpup_vm *vm = gpup_vms_find(call->daemon->vms, a->vm);

    if (!wants_restart(call))
        return;
    if (a->restart) {
        gpup_events_add(call->daemon->events, GPUP_EVENT_POWER, call->user, NULL, a->vm,
                        "%s: shut down and started again", a->vm);
        gpup_call_line(call, "%s: shut down and started again", a->vm);
    } else if (vm && vm->active) {
        gpup_call_line(call, "%s: would be shut down and started again", a->vm);
    } else {
        gpup_call_line(call, "%s: is not running, so it is not restarted", a->vm);
    }
}

static void assigned(struct gpup_call *call)
{
    struct assignment *a = call->data;

    if (!gpup_call_is_dry(call))
        gpup_events_add(call->daemon->events, GPUP_EVENT_ADAPTER, call->user, NULL, a->vm, "%s",
                        call->lines->len > 0 ? (const char *)call->lines->pdata[0] : a->vm);
    if (a->adapter)
        warn_of_minima(call, a->adapter);
    tell_live(call);
    tell_restart(call);
    if (a->after)
        gpup_vms_put(call->daemon->vms, g_steal_pointer(&a->after));
    gpup_call_finish(call);
}

static struct assignment *new_assignment(struct gpup_call *call)
{
    struct assignment *a = g_new0(struct assignment, 1);

    g_variant_get_child(call->parameters, 0, "s", &a->vm);
    a->flags = (gpup_call_is_dry(call) ? GPUP_ASSIGN_DRY_RUN : 0) |
               (gpup_call_flag(call, "force") ? GPUP_ASSIGN_FORCE : 0);
    call->data = a;
    call->data_free = assignment_free;
    return a;
}

/* Not shut down for nothing: it has to fit afterwards. */
static int check_restart(struct gpup_call *call, struct assignment *a, struct gpup_error **err)
{
    struct gpup_vm *vm = gpup_vms_find(call->daemon->vms, a->vm);
    struct gpup_placement placement;

    if (!wants_restart(call) || !vm || !vm->active)
        return 0;
    a->restart = !gpup_call_is_dry(call);
    if (!a->adapter ||
        gpup_preview_resolve(call->daemon, a->adapter, vm->name, &placement, NULL, err) == 0)
        return 0;
    return gpup_error_wrap(err, "nothing was changed: %s would not start again", vm->name);
}

static void work(struct gpup_call *call)
{
    gpup_call_work(call, change_work, assigned);
}

static void go_on(struct gpup_call *call)
{
    struct assignment *a = call->data;

    if (a->restart)
        gpup_call_also(call, GPUP_ACTION_START, work);
    else
        work(call);
}

void gpup_verb_assign(struct gpup_call *call)
{
    struct assignment *a = new_assignment(call);
    g_autoptr(GVariant) entries = g_variant_get_child_value(call->parameters, 1);
    struct gpup_error *error = NULL;

    if (build_adapter(call, a->vm, entries, &a->adapter, &error) < 0 ||
        check_live(call, a, &error) < 0 ||
        gpup_provisional_device(call->daemon, a->vm, a->adapter, &a->device, &error) < 0 ||
        check_restart(call, a, &error) < 0) {
        gpup_call_fail(call, error);
        return;
    }
    name_pin(call, a);
    go_on(call);
}

void gpup_verb_unassign(struct gpup_call *call)
{
    struct assignment *a = new_assignment(call);
    struct gpup_error *error = NULL;

    if (check_restart(call, a, &error) < 0)
        gpup_call_fail(call, error);
    else
        go_on(call);
}
