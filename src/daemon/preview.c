/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/preview.h"

#include <string.h>

int gpup_preview_resolve(struct gpup_daemon *d, const struct gpup_adapter *adapter, const char *vm,
                         struct gpup_placement *placement, struct gpup_verdict *verdicts,
                         struct gpup_error **err)
{
    struct gpup_claim *claim = gpup_host_claim(d->host, adapter->id);
    struct gpup_gpu *own = claim ? gpup_host_gpu_of(d->host, claim) : NULL;
    g_autofree struct gpup_gpu **gpus = NULL;
    g_autofree struct gpup_slot *slots = NULL;
    struct gpup_gpu copy;
    size_t n;
    struct gpup_gpu *const *now = gpup_host_gpus(d->host, &n);

    gpus = g_memdup2(now, n * sizeof(*now));
    for (size_t i = 0; own && i < n; i++) {
        if (gpus[i] != own || claim->slot >= own->n_slots)
            continue;
        copy = *own; /* borrows all but its slots */
        copy.slots = slots = g_memdup2(own->slots, own->n_slots * sizeof(*slots));
        slots[claim->slot].adapter[0] = '\0';
        gpus[i] = &copy;
    }
    return gpup_resolve(gpus, n, adapter, vm, d->config.policy, placement, verdicts, err);
}
