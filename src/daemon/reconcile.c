/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/reconcile.h"

/* From `prepare` to the device process: a start takes less, or libvirt has given up on it. */
#define STARTING_US (20 * G_USEC_PER_SEC)

static bool is_stale(struct gpup_daemon *d, const struct gpup_claim *claim)
{
    struct gpup_vm *vm = gpup_vms_find(d->vms, claim->uuid);

    if (vm && vm->active)
        return false;
    if (gpup_server_is_alive(claim->adapter, d->server))
        return false;
    /* the list may be from before the start: only an old claim says something */
    return g_get_monotonic_time() - claim->since > STARTING_US;
}

void gpup_reconcile(struct gpup_daemon *d)
{
    g_autoptr(GPtrArray) stale = g_ptr_array_new_with_free_func(g_free);
    GHashTableIter iter;
    void *value;

    if (!gpup_vms_known(d->vms))
        return; /* without libvirt nobody can tell */
    g_hash_table_iter_init(&iter, gpup_host_claims(d->host));
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        const struct gpup_claim *claim = value;

        if (is_stale(d, claim))
            g_ptr_array_add(stale, g_strdup(claim->adapter));
    }
    for (guint i = 0; i < stale->len; i++) {
        struct gpup_claim *claim = gpup_host_claim(d->host, stale->pdata[i]);

        g_message("%s is not running", claim->vm);
        gpup_host_free_adapter(d->host, stale->pdata[i]);
        gpup_server_drop(d->server, stale->pdata[i]);
    }
}
