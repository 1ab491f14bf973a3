/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/reconcile.h"

#include "core/error.h"

#include <gio/gio.h>
#include <string.h>

/* A start that was refused, or a VM that ends, may still be listed as running for so long. */
#define ENDING_US (2 * G_USEC_PER_SEC)

/* From the reservation of our own start to its `prepare`. */
#define STARTING_US (20 * G_USEC_PER_SEC)

enum verdict {
    HOLDS,
    STALE,
    CANNOT_TELL
};

/*
 * libvirt numbers a domain before it calls the hook, and says that it is active from then on: what
 * it says of a VM after its claim was made tells. A claim of our own start comes earlier than that.
 */
static enum verdict judge(struct gpup_daemon *d, const struct gpup_claim *claim)
{
    struct gpup_vm *vm = gpup_vms_find(d->vms, claim->uuid);

    if ((vm && vm->active) || gpup_server_is_alive(claim->adapter, d->server))
        return HOLDS;
    if (claim->reserved && g_get_monotonic_time() - claim->since < STARTING_US)
        return HOLDS;
    return claim->since < gpup_vms_asked(d->vms, claim->uuid) ? STALE : CANNOT_TELL;
}

static void free_claim(struct gpup_daemon *d, const char *adapter)
{
    struct gpup_claim *claim = gpup_host_claim(d->host, adapter);

    g_message("%s is not running", claim->vm);
    gpup_host_free_adapter(d->host, adapter);
    gpup_server_drop(d->server, adapter);
}

/* ---- what runs without a claim ---- */

struct adoption {
    struct gpup_daemon *daemon;
    char *uuid;
};

static void adoption_free(void *data)
{
    struct adoption *a = data;

    g_free(a->uuid);
    g_free(a);
}

static void fetch(GTask *task, void *source, void *data, GCancellable *cancellable)
{
    struct adoption *a = data;
    GPUP_AUTO_ERROR err = NULL;
    char *xml = gpup_manager_live_xml(gpup_vms_manager(a->daemon->vms), a->uuid, &err);

    g_task_return_pointer(task, xml, g_free);
}

static void adopt(struct gpup_daemon *d);

static void fetched(GObject *source, GAsyncResult *result, void *data)
{
    struct adoption *a = data;
    g_autofree char *xml = g_task_propagate_pointer(G_TASK(result), NULL);
    struct gpup_daemon *d = a->daemon;
    GPUP_AUTO_ERROR err = NULL;
    struct gpup_vm *vm = gpup_vms_find(d->vms, a->uuid);

    d->adopting = false;
    if (xml && vm && gpup_host_reconnect(d->host, xml, strlen(xml), &err) < 0)
        g_warning("%s runs without a reservation, and none can be made: %s", vm->name,
                  gpup_error_message(err));
    adoption_free(a);
    adopt(d);
}

/* Each answer of libvirt is looked at once. */
static bool is_to_be_adopted(struct gpup_daemon *d, const struct gpup_vm *vm)
{
    const gint64 *asked = g_hash_table_lookup(d->adopted, vm->uuid);

    return vm->active &&
           ((vm->adapter && !gpup_host_claim(d->host, vm->adapter->id)) ||
            gpup_host_misses(d->host, vm->uuid, vm->others)) &&
           gpup_vms_known(d->vms) && vm->asked >= gpup_host_settled(d->host) + ENDING_US &&
           (!asked || *asked != vm->asked);
}

/* One at a time: the definition it runs with decides, not the one it will have. */
static void adopt(struct gpup_daemon *d)
{
    GPtrArray *vms = gpup_vms_list(d->vms);

    for (guint i = 0; !d->adopting && !d->ending && i < vms->len; i++) {
        const struct gpup_vm *vm = vms->pdata[i];
        g_autoptr(GTask) task = NULL;
        struct adoption *a;

        if (!is_to_be_adopted(d, vm))
            continue;
        g_hash_table_insert(d->adopted, g_strdup(vm->uuid),
                            g_memdup2(&vm->asked, sizeof(vm->asked)));
        a = g_new0(struct adoption, 1);
        a->daemon = d;
        a->uuid = g_strdup(vm->uuid);
        d->adopting = true;
        task = g_task_new(NULL, NULL, fetched, a);
        g_task_set_task_data(task, a, NULL);
        g_task_run_in_thread(task, fetch);
    }
    if (!d->adopting && gpup_vms_known(d->vms))
        gpup_host_is_sure(d->host);
}

static bool has_claim(const char *adapter, void *data)
{
    return gpup_host_claim(data, adapter) != NULL;
}

void gpup_sweep(struct gpup_daemon *d)
{
    gpup_cgroups_sweep(d->cgroups, has_claim, d->host);
}

bool gpup_reconcile(struct gpup_daemon *d)
{
    g_autoptr(GPtrArray) stale = g_ptr_array_new_with_free_func(g_free);
    bool cannot_tell = false;
    GHashTableIter iter;
    void *value;

    if (!gpup_vms_known(d->vms))
        return false; /* without libvirt nobody can tell */
    g_hash_table_iter_init(&iter, gpup_host_claims(d->host));
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        const struct gpup_claim *claim = value;
        enum verdict verdict = judge(d, claim);

        if (verdict == STALE)
            g_ptr_array_add(stale, g_strdup(claim->adapter));
        cannot_tell |= verdict == CANNOT_TELL;
    }
    for (guint i = 0; i < stale->len; i++)
        free_claim(d, stale->pdata[i]);
    adopt(d);
    return cannot_tell;
}
