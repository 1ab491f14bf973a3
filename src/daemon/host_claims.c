/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/error.h"
#include "core/units.h"
#include "daemon/device.h"
#include "daemon/host_internal.h"
#include "daemon/store.h"
#include "daemon/underway.h"
#include "fault/fault.h"

#include <errno.h>
#include <string.h>

/* Who holds which partition. */

void gpup_host_is_sure(struct gpup_host *h)
{
    h->unsure = false;
}

gint64 gpup_host_settled(struct gpup_host *h)
{
    return h->settled;
}

GHashTable *gpup_host_claims(struct gpup_host *h)
{
    return h->claims;
}

struct gpup_claim *gpup_host_claim(struct gpup_host *h, const char *adapter)
{
    return g_hash_table_lookup(h->claims, adapter);
}

struct gpup_claim *gpup_host_claim_of_vm(struct gpup_host *h, const char *uuid)
{
    GHashTableIter iter;
    void *claim;

    g_hash_table_iter_init(&iter, h->claims);
    while (g_hash_table_iter_next(&iter, NULL, &claim)) {
        if (strcmp(((struct gpup_claim *)claim)->uuid, uuid) == 0)
            return claim;
    }
    return NULL;
}

void gpup_host_tell_claim(struct gpup_host *h, const struct gpup_claim *claim,
                          enum gpup_event_kind kind, const char *user)
{
    struct gpup_gpu *gpu = gpup_host_gpu_of(h, claim);
    const char *id = gpu ? gpup_gpu_short_id(gpu) : claim->gpu;
    char partition[64], size[GPUP_UNIT_BUF];

    gpup_host_partition_name(h, claim, partition, sizeof(partition));
    if (kind == GPUP_EVENT_START)
        gpup_events_add(h->events, kind, user, id, claim->vm, "%s: partition %s, %s", claim->vm,
                        partition,
                        gpup_format_size(claim->grant.share[GPUP_VRAM].min, size, sizeof(size)));
    else
        gpup_events_add(h->events, kind, user, id, claim->vm, "%s: partition %s is free again",
                        claim->vm, partition);
}

/* ---- clearing hardware after a VM ---- */

static bool is_clearing(struct gpup_host *h, const char *address)
{
    size_t n, gpu;
    unsigned slot;
    struct gpup_gpu *const *gpus = gpup_host_gpus(h, &n);

    return gpup_slot_find(gpus, n, address, &gpu, &slot) &&
           strcmp(gpus[gpu]->slots[slot].adapter, GPUP_CLEARING) == 0;
}

void gpup_host_note_cleared(struct gpup_host *h)
{
    GHashTableIter iter;
    void *address;

    g_hash_table_iter_init(&iter, h->clearing);
    while (g_hash_table_iter_next(&iter, &address, NULL)) {
        if (is_clearing(h, address))
            continue;
        GPUP_FAULT("gpupd.release.cleared");
        gpup_underway_end(h->folders->run, address);
        g_hash_table_iter_remove(&iter);
    }
}

/* Written down first: whoever comes after us finds no reservation any more. */
static int give_back(struct gpup_host *h, struct gpup_gpu *gpu, unsigned slot,
                     struct gpup_error **err)
{
    const struct gpup_slot *s = &gpu->slots[slot];
    g_autofree char *address = g_strdup(s->function.address);

    if (*address)
        gpup_underway_begin(h->folders->run, address, s->adapter);
    if (gpup_inventory_give_back(h->inventory, gpu, slot, err) < 0)
        return -EIO;
    if (*address)
        g_hash_table_add(h->clearing, g_steal_pointer(&address));
    gpup_host_note_cleared(h);
    return 0;
}

void gpup_host_clear_on(struct gpup_host *h)
{
    size_t n;
    struct gpup_gpu *const *gpus = gpup_host_gpus(h, &n);

    for (size_t i = 0; i < n; i++) {
        for (unsigned k = 0; k < gpus[i]->n_slots; k++) {
            const struct gpup_slot *s = &gpus[i]->slots[k];
            g_autofree char *adapter = gpup_underway_peek(h->folders->run, s->function.address);
            const struct gpup_grant none = {0};

            if (!adapter || !*adapter || !gpup_slot_is_free(s))
                continue;
            if (gpup_inventory_take(h->inventory, gpus[i], k, adapter, "a VM", &none, NULL) == 0)
                give_back(h, gpus[i], k, NULL);
        }
    }
}

void gpup_host_drop_claim(struct gpup_host *h, const char *adapter, const char *user)
{
    struct gpup_claim *claim = gpup_host_claim(h, adapter);
    struct gpup_gpu *gpu = claim ? gpup_host_gpu_of(h, claim) : NULL;
    GPUP_AUTO_ERROR err = NULL;

    if (!claim)
        return;
    if (claim->preparing) { /* clearing waits for what is being set */
        claim->dropped = true;
        return;
    }
    if (gpu && claim->slot < gpu->n_slots &&
        strcmp(gpu->slots[claim->slot].adapter, claim->adapter) == 0 &&
        give_back(h, gpu, claim->slot, &err) < 0)
        g_warning("freeing %s's partition: %s", claim->vm, gpup_error_message(err));
    gpup_host_tell_claim(h, claim, GPUP_EVENT_STOP, user);
    GPUP_FAULT("gpupd.release.given-back");
    gpup_claim_forget(h->folders->run, claim->adapter);
    g_hash_table_remove(h->claims, claim->adapter);
    h->settled = g_get_monotonic_time();
    gpup_host_tell(h);
}

void gpup_host_free_adapter(struct gpup_host *h, const char *adapter)
{
    gpup_host_drop_claim(h, adapter, GPUP_BY_GPUPD);
}

/* What the adapter would be granted in the slot that it has. */
static int resolve_in_place(struct gpup_host *h, const struct gpup_claim *claim,
                            struct gpup_gpu *gpu, const struct gpup_adapter *wanted,
                            struct gpup_grant *grant, struct gpup_error **err)
{
    g_autofree struct gpup_slot *slots = g_memdup2(gpu->slots, gpu->n_slots * sizeof(*slots));
    struct gpup_gpu copy = *gpu; /* borrows all but its slots */
    struct gpup_gpu *const only[] = {&copy};
    struct gpup_placement placement;
    int ret;

    copy.slots = slots;
    slots[claim->slot].adapter[0] = '\0';
    ret = gpup_resolve(only, 1, wanted, claim->vm, h->config->policy, &placement, NULL, err);
    if (ret == 0)
        *grant = placement.grant;
    return ret;
}

static int check_regrant(struct gpup_host *h, const struct gpup_claim *claim,
                         const struct gpup_gpu *gpu, const struct gpup_adapter *wanted,
                         struct gpup_error **err)
{
    if (!gpu || claim->slot >= gpu->n_slots ||
        strcmp(gpu->slots[claim->slot].adapter, claim->adapter) != 0)
        return gpup_error_set(err, ENODEV,
                              "%s has no partition any more, or its GPU is gone: stop it, and gpup "
                              "explain %s says where it can go",
                              claim->vm, claim->vm);
    if (!gpu->elastic)
        return gpup_error_set(err, EINVAL,
                              "%s is running on a partition of fixed size: its change takes effect "
                              "at the next start (--restart instead of --live)",
                              claim->vm);
    if (wanted->kind != gpu->kind || (wanted->gpu && strcmp(wanted->gpu, gpu->key) != 0))
        return gpup_error_set(err, EINVAL,
                              "%s cannot be moved to another GPU while it runs: --restart instead "
                              "of --live",
                              claim->vm);
    return 0;
}

static int check_memory(const struct gpup_claim *claim, const struct gpup_grant *grant,
                        uint64_t used, struct gpup_error **err)
{
    char has[GPUP_UNIT_BUF], wants[GPUP_UNIT_BUF];

    if (grant->share[GPUP_VRAM].cap >= used)
        return 0;
    return gpup_error_set(err, EBUSY,
                          "%s uses %s of GPU memory now: it cannot be limited to %s. Close "
                          "programs in the guest, or use --restart",
                          claim->vm, gpup_format_size(used, has, sizeof(has)),
                          gpup_format_size(grant->share[GPUP_VRAM].cap, wants, sizeof(wants)));
}

int gpup_host_regrant(struct gpup_host *h, struct gpup_claim *claim,
                      const struct gpup_adapter *wanted, uint64_t used, bool dry_run,
                      struct gpup_grant *out, struct gpup_error **err)
{
    struct gpup_gpu *gpu = gpup_host_gpu_of(h, claim);
    struct gpup_grant grant, before = claim->grant;
    int ret = check_regrant(h, claim, gpu, wanted, err);

    if (ret == 0)
        ret = resolve_in_place(h, claim, gpu, wanted, &grant, err);
    if (ret == 0)
        ret = check_memory(claim, &grant, used, err);
    if (ret == 0 && !dry_run) {
        claim->grant = grant;
        ret = gpup_claim_save(h->folders->run, claim, err);
        GPUP_FAULT("gpupd.live.saved");
        if (ret < 0)
            claim->grant = before;
        else
            gpu->slots[claim->slot].grant = grant;
        gpup_host_tell(h);
    }
    if (ret == 0 && out)
        *out = grant;
    return ret;
}

int gpup_host_take(struct gpup_host *h, struct gpup_claim *claim, struct gpup_gpu *gpu,
                   struct gpup_error **err)
{
    int ret;

    claim->count = (unsigned)gpu->n_slots;
    ret = gpup_inventory_take(h->inventory, gpu, claim->slot, claim->adapter, claim->vm,
                              &claim->grant, err);
    GPUP_FAULT("gpupd.prepare.taken");
    if (ret == 0) {
        ret = gpup_claim_save(h->folders->run, claim, err);
        if (ret < 0) {
            gpup_inventory_give_back(h->inventory, gpu, claim->slot, NULL);
            gpup_claim_forget(h->folders->run, claim->adapter);
        }
    }
    if (ret < 0) {
        gpup_claim_free(claim);
        return ret;
    }
    g_hash_table_insert(h->claims, claim->adapter, claim);
    gpup_host_tell(h);
    return 0;
}

/* ---- after a restart ---- */

/* What was set for this GPU was lost (its file was damaged), and its partitions are in use. */
static void restore_count(struct gpup_host *h, const struct gpup_claim *claim, struct gpup_gpu *gpu)
{
    GPUP_AUTO_ERROR err = NULL;

    if (!gpu->elastic || gpu->n_slots > 0 || claim->count == 0 || gpu->mode != GPUP_MODE_UNUSED)
        return;
    if (gpup_inventory_partition(h->inventory, gpu, claim->count, &err) == 0)
        gpup_store_set_count(h->folders->state, gpu, claim->count, &err);
    if (err)
        gpup_host_problem(h, gpup_error_message(err));
    else
        gpup_host_add_problem(
            h,
            "%s: how many partitions it is to have was lost; %s runs on one of %u, so it "
            "has %u again, also after reboot",
            gpup_gpu_short_id(gpu), claim->vm, claim->count, claim->count);
}

void gpup_host_adopt_claims(struct gpup_host *h)
{
    g_autoptr(GPtrArray) damaged = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GPtrArray) claims = gpup_claim_load_all(h->folders->run, damaged);

    gpup_host_add_problems(h, damaged);
    h->unsure = damaged->len > 0;
    while (claims->len > 0) {
        struct gpup_claim *claim = g_ptr_array_steal_index_fast(claims, claims->len - 1);
        struct gpup_gpu *gpu = gpup_host_gpu_of(h, claim);
        g_autofree char *vm = g_strdup(claim->vm);
        GPUP_AUTO_ERROR err = NULL;

        if (gpu)
            restore_count(h, claim, gpu);
        if (gpu && gpup_host_take(h, claim, gpu, &err) == 0)
            continue;
        gpup_host_add_problem(h, "%s's partition cannot be taken up again: %s", vm,
                              gpu ? gpup_error_message(err) : "its GPU is gone");
        if (!gpu)
            gpup_claim_free(claim);
    }
}
