/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/error.h"
#include "daemon/device.h"
#include "daemon/host_internal.h"
#include "fault/fault.h"

#include <errno.h>
#include <string.h>

/* VMs that start with hardware: where they go, readying it, and what their users gave them without
 * gpup. */

/* ---- where it goes ---- */

/* The GPUs whose partitions come in the form that the definition has. */
static GPtrArray *gpus_for(struct gpup_host *h, const struct gpup_domain_info *info)
{
    GPtrArray *some = g_ptr_array_new();
    size_t n;
    struct gpup_gpu *const *gpus = gpup_host_gpus(h, &n);

    for (size_t i = 0; i < n; i++) {
        bool mdev = gpus[i]->form == GPUP_FORM_MDEV;

        if (info->adapter->kind == GPUP_KIND_VIRTIO || mdev == (*info->address == '\0'))
            g_ptr_array_add(some, gpus[i]);
    }
    return some;
}

static size_t index_of(struct gpup_host *h, const struct gpup_gpu *gpu)
{
    size_t n, i;
    struct gpup_gpu *const *gpus = gpup_host_gpus(h, &n);

    for (i = 0; i < n && gpus[i] != gpu; i++)
        ;
    return i;
}

static int resolve_among(struct gpup_host *h, GPtrArray *some, const struct gpup_domain_info *info,
                         struct gpup_placement *placement, struct gpup_error **err)
{
    struct gpup_gpu *const *gpus = (struct gpup_gpu *const *)some->pdata;
    int ret = gpup_resolve(gpus, some->len, info->adapter, info->name, h->config->policy, placement,
                           NULL, err);

    if (ret == 0)
        placement->gpu = index_of(h, gpus[placement->gpu]);
    return ret;
}

/* The function that it names is none of a partition, or another VM's. The definition is changed as
 * soon as libvirt lets us, and cannot be for this start. */
static int refuse_place(struct gpup_host *h, const struct gpup_domain_info *info,
                        const struct gpup_slot *slot, struct gpup_error **err)
{
    g_autoptr(GPtrArray) some = gpus_for(h, info);
    struct gpup_placement placement;
    int ret = resolve_among(h, some, info, &placement, err);

    if (ret < 0)
        return ret;
    if (slot)
        return gpup_error_set(err, EBUSY,
                              "no partition for %s\n  the one that its definition names for now, "
                              "%s, is used by %s\nanother is free: start it again, its definition "
                              "is being changed; or gpup vm start %s",
                              info->name, info->address, slot->vm ? slot->vm : "(unknown)",
                              info->name);
    return gpup_error_set(err, EBUSY,
                          "no partition for %s\n  what its definition names for now, %s, is no "
                          "partition any more\nothers are free: start it again, its definition is "
                          "being changed; or gpup vm start %s",
                          info->name, info->address, info->name);
}

static int place_at(struct gpup_host *h, const struct gpup_domain_info *info,
                    struct gpup_placement *placement, struct gpup_error **err)
{
    g_autoptr(GPtrArray) only = g_ptr_array_new();
    size_t n, gpu;
    unsigned slot;
    struct gpup_gpu *const *gpus = gpup_host_gpus(h, &n);
    int ret;

    if (!gpup_slot_find(gpus, n, info->address, &gpu, &slot))
        return refuse_place(h, info, NULL, err);
    if (!gpup_slot_is_free(&gpus[gpu]->slots[slot]))
        return refuse_place(h, info, &gpus[gpu]->slots[slot], err);
    g_ptr_array_add(only, gpus[gpu]);
    ret = resolve_among(h, only, info, placement, err);
    if (ret == 0)
        placement->slot = slot;
    return ret;
}

int gpup_host_place(struct gpup_host *h, const struct gpup_domain_info *info,
                    struct gpup_placement *placement, struct gpup_error **err)
{
    g_autoptr(GPtrArray) some = NULL;

    if (info->adapter->kind != GPUP_KIND_VIRTIO && *info->address)
        return place_at(h, info, placement, err);
    some = gpus_for(h, info);
    return resolve_among(h, some, info, placement, err);
}

/* ---- reserving for a start of ours ---- */

int gpup_host_reserve(struct gpup_host *h, const struct gpup_adapter *adapter, const char *vm,
                      const char *uuid, struct gpup_device *device, char *nonce,
                      struct gpup_error **err)
{
    size_t n;
    struct gpup_gpu *const *gpus = gpup_host_gpus(h, &n);
    struct gpup_placement placement;
    struct gpup_claim *claim;
    int ret;

    if (gpup_host_claim(h, adapter->id))
        return gpup_error_set(err, EBUSY, "%s is starting or running already: see gpup vm list",
                              vm);
    ret = gpup_resolve(gpus, n, adapter, vm, h->config->policy, &placement, NULL, err);
    if (ret < 0)
        return ret;
    claim = gpup_claim_new(adapter->id, vm, uuid, -1);
    claim->gpu = g_strdup(gpus[placement.gpu]->key);
    claim->slot = placement.slot;
    claim->grant = placement.grant;
    claim->reserved = true;
    g_strlcpy(nonce, claim->nonce, sizeof(claim->nonce));
    gpup_slot_device(h->system.sysfs, gpus[placement.gpu], placement.slot, device);
    return gpup_host_take(h, claim, gpus[placement.gpu], err);
}

void gpup_host_unreserve(struct gpup_host *h, const char *adapter, const char *nonce)
{
    struct gpup_claim *claim = gpup_host_claim(h, adapter);

    if (claim && claim->reserved && strcmp(claim->nonce, nonce) == 0)
        gpup_host_drop_claim(h, adapter, GPUP_BY_GPUPD);
}

bool gpup_host_use_reservation(struct gpup_host *h, struct gpup_claim *claim,
                               const struct gpup_domain_info *info)
{
    struct gpup_gpu *gpu = gpup_host_gpu_of(h, claim);

    if (!claim->reserved || !gpu || claim->slot >= gpu->n_slots)
        return false;
    if (*info->address && strcmp(gpu->slots[claim->slot].function.address, info->address) != 0)
        return false;
    claim->reserved = false;
    claim->domain = info->id;
    claim->since = g_get_monotonic_time(); /* from now on libvirt says that it is active */
    gpup_claim_save(h->folders->run, claim, NULL);
    gpup_host_tell_claim(h, claim, GPUP_EVENT_START, GPUP_BY_LIBVIRT);
    return true;
}

/* ---- waiting for what others had ---- */

#define ASK_WEDGED_US (30 * G_USEC_PER_SEC)

bool gpup_host_is_clearing(struct gpup_host *h)
{
    size_t n;
    struct gpup_gpu *const *gpus = gpup_host_gpus(h, &n);

    for (size_t i = 0; i < n; i++) {
        for (size_t k = 0; k < gpus[i]->n_slots; k++) {
            if (strcmp(gpus[i]->slots[k].adapter, GPUP_CLEARING) == 0)
                return true;
        }
    }
    return false;
}

void gpup_host_try_again(struct gpup_host *h)
{
    gint64 now = g_get_monotonic_time();

    gpup_inventory_clear_again(h->inventory);
    gpup_host_drop_gone(h);
    if (now - h->asked < ASK_WEDGED_US)
        return;
    h->asked = now;
    gpup_inventory_ask_wedged(h->inventory);
}

void gpup_start_free(struct gpup_start *start)
{
    g_clear_handle_id(&start->timer, g_source_remove);
    g_free(start->xml);
    g_free(start);
}

static void give_up_waiting(struct gpup_start *start)
{
    GPUP_AUTO_ERROR err = NULL;

    g_ptr_array_remove(start->host->waiting, start);
    gpup_error_set(&err, ECANCELED, "gpupd is ending: try again");
    start->done(err, start->data);
    gpup_start_free(start);
}

static gboolean waited_enough(void *data)
{
    struct gpup_start *start = data;

    start->timer = 0;
    g_ptr_array_remove(start->host->waiting, start);
    gpup_host_retry(start->host, start);
    return G_SOURCE_REMOVE;
}

void gpup_host_when_cleared(struct gpup_host *h, struct gpup_start *start)
{
    start->timer = g_timeout_add(GPUP_CLEARING_MS, waited_enough, start);
    g_ptr_array_add(h->waiting, start);
}

/* In the order in which they came. */
void gpup_host_check_cleared(struct gpup_host *h)
{
    while (h->waiting->len > 0 && !gpup_host_is_clearing(h)) {
        struct gpup_start *start = g_ptr_array_steal_index(h->waiting, 0);

        g_clear_handle_id(&start->timer, g_source_remove);
        gpup_host_retry(h, start);
    }
}

/* ---- readying ---- */

struct pending {
    struct gpup_host *host; /* NULL: it has ended */
    char adapter[37];
    gpup_host_done done;
    void *data;
};

void gpup_host_orphan_pending(struct gpup_host *h)
{
    while (h->waiting->len > 0)
        give_up_waiting(h->waiting->pdata[0]);
    g_clear_pointer(&h->waiting, g_ptr_array_unref);
    for (guint i = 0; i < h->pending->len; i++)
        ((struct pending *)h->pending->pdata[i])->host = NULL;
    g_clear_pointer(&h->pending, g_ptr_array_unref);
}

/* The VM is not there any more, or its partition could not be readied. */
static void settle(struct gpup_host *h, const char *adapter, const struct gpup_error *err,
                   struct gpup_error **gone)
{
    struct gpup_claim *claim = gpup_host_claim(h, adapter);

    if (!claim)
        return;
    claim->preparing = false;
    if (claim->dropped)
        gpup_error_set(gone, ECANCELED, "%s was given up while its partition was being readied",
                       claim->vm);
    if (claim->dropped || err)
        gpup_host_drop_claim(h, adapter, GPUP_BY_GPUPD);
}

static void readied(const struct gpup_error *err, void *data)
{
    struct pending *p = data;
    GPUP_AUTO_ERROR gone = NULL;

    GPUP_FAULT("gpupd.ready.done");
    if (p->host) {
        g_ptr_array_remove_fast(p->host->pending, p);
        settle(p->host, p->adapter, err, &gone);
    }
    p->done(err ? err : gone, p->data);
    g_free(p);
}

void gpup_host_ready(struct gpup_host *h, struct gpup_claim *claim, gpup_host_done done, void *data)
{
    struct pending *p = g_new0(struct pending, 1);

    p->host = h;
    p->done = done;
    p->data = data;
    g_strlcpy(p->adapter, claim->adapter, sizeof(p->adapter));
    g_ptr_array_add(h->pending, p);
    claim->preparing = true;
    GPUP_FAULT("gpupd.ready.begun");
    gpup_inventory_prepare(h->inventory, gpup_host_gpu_of(h, claim), claim->slot, readied, p);
}

/* ---- what its user gave a VM by hand ---- */

/* A claim is found by its adapter's id: of these, one made of the VM and the function. */
static char *id_by_hand(const struct gpup_domain_info *info, const char *address)
{
    g_autofree char *text = g_strconcat(info->uuid ? info->uuid : info->name, address, NULL);
    g_autofree char *sum = g_compute_checksum_for_string(G_CHECKSUM_SHA256, text, -1);

    /* version 8: of one's own making (RFC 9562) */
    return g_strdup_printf("%.8s-%.4s-8%.3s-8%.3s-%.12s", sum, sum + 8, sum + 12, sum + 15,
                           sum + 18);
}

static int take_by_hand(struct gpup_host *h, const struct gpup_domain_info *info,
                        const char *address, struct gpup_gpu *gpu, unsigned slot,
                        struct gpup_error **err)
{
    const struct gpup_slot *s = &gpu->slots[slot];
    g_autofree char *id = id_by_hand(info, address);
    struct gpup_claim *claim;

    if (strcmp(s->adapter, id) == 0)
        return 0;
    if (!gpup_slot_is_free(s))
        return gpup_error_set(err, EBUSY,
                              "%s has a <hostdev> of %s by hand, which is partition %s/%u, used "
                              "by %s: take it out (virsh edit %s), and gpup assign %s gives it "
                              "one that is free",
                              info->name, address, gpup_gpu_short_id(gpu), slot,
                              s->vm ? s->vm : "(unknown)", info->name, info->name);
    claim = gpup_claim_new(id, info->name, info->uuid, info->id);
    claim->gpu = g_strdup(gpu->key);
    claim->slot = slot;
    claim->by_hand = true;
    claim->grant.share[GPUP_VRAM] =
        (struct gpup_share){gpu->fixed_vram, gpu->fixed_vram, gpu->fixed_vram};
    return gpup_host_take(h, claim, gpu, err);
}

/* The GPU itself: nothing of it may be in use by others. */
static int check_whole(struct gpup_host *h, const struct gpup_domain_info *info,
                       const char *address, struct gpup_error **err)
{
    size_t n;
    struct gpup_gpu *const *gpus = gpup_host_gpus(h, &n);

    for (size_t i = 0; i < n; i++) {
        if (strcmp(gpus[i]->id, address) == 0 && gpus[i]->n_slots > 0)
            return gpup_error_set(err, EBUSY,
                                  "%s has a <hostdev> of the GPU %s itself, which is cut into %zu "
                                  "partitions: gpup gpu partition %s 0 first",
                                  info->name, address, gpus[i]->n_slots,
                                  gpup_gpu_short_id(gpus[i]));
    }
    return 0;
}

int gpup_host_claim_others(struct gpup_host *h, const struct gpup_domain_info *info,
                           struct gpup_error **err)
{
    size_t n, gpu;
    unsigned slot;
    struct gpup_gpu *const *gpus = gpup_host_gpus(h, &n);
    int ret = 0;

    for (char **address = info->others; ret == 0 && address && *address; address++) {
        if (gpup_slot_find(gpus, n, *address, &gpu, &slot))
            ret = take_by_hand(h, info, *address, gpus[gpu], slot, err);
        else
            ret = check_whole(h, info, *address, err);
    }
    return ret;
}

bool gpup_host_misses(struct gpup_host *h, const char *uuid, char *const *others)
{
    const struct gpup_domain_info info = {.uuid = (char *)uuid};
    size_t n, gpu;
    unsigned slot;
    struct gpup_gpu *const *gpus = gpup_host_gpus(h, &n);

    for (char *const *address = others; address && *address; address++) {
        g_autofree char *id = id_by_hand(&info, *address);

        if (gpup_slot_find(gpus, n, *address, &gpu, &slot) && !gpup_host_claim(h, id))
            return true;
    }
    return false;
}

void gpup_host_release_others(struct gpup_host *h, const struct gpup_domain_info *info)
{
    for (char **address = info->others; address && *address; address++) {
        g_autofree char *id = id_by_hand(info, *address);

        gpup_host_drop_claim(h, id, GPUP_BY_LIBVIRT);
    }
}
