/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gpu/inventory.h"

#include "core/error.h"
#include "core/resolve.h"
#include "core/text.h"

#include <errno.h>
#include <string.h>

static const struct gpup_provider *const providers[] = {
    &gpup_provider_rendernode,
    &gpup_provider_software,
};

struct entry {
    struct gpup_gpu *gpu;
    const struct gpup_provider *provider;
};

struct gpup_inventory {
    struct gpup_system system;
    GArray *entries; /* struct entry */
    GPtrArray *gpus; /* the same GPUs, borrowed, for the caller */
};

static void clear_entry(void *data)
{
    gpup_gpu_free(((struct entry *)data)->gpu);
}

/* By id, the software GPU last. */
static int compare_entries(const void *a, const void *b)
{
    const struct gpup_gpu *x = ((const struct entry *)a)->gpu;
    const struct gpup_gpu *y = ((const struct entry *)b)->gpu;
    bool x_software = strcmp(x->id, "software") == 0;
    bool y_software = strcmp(y->id, "software") == 0;

    return x_software != y_software ? x_software - y_software : strcmp(x->id, y->id);
}

static GArray *probe_all(const struct gpup_system *system)
{
    GArray *entries = g_array_new(FALSE, TRUE, sizeof(struct entry));

    g_array_set_clear_func(entries, clear_entry);
    for (size_t i = 0; i < G_N_ELEMENTS(providers); i++) {
        g_autoptr(GPtrArray) found = g_ptr_array_new();
        GPUP_AUTO_ERROR err = NULL;

        if (providers[i]->probe(system, found, &err) < 0)
            g_warning("looking for %s GPUs: %s", providers[i]->name, gpup_error_message(err));
        for (guint k = 0; k < found->len; k++) {
            struct entry entry = {found->pdata[k], providers[i]};

            g_array_append_val(entries, entry);
        }
    }
    g_array_sort(entries, compare_entries);
    return entries;
}

static struct entry *entry_at(GArray *entries, guint i)
{
    return &g_array_index(entries, struct entry, i);
}

static void publish(struct gpup_inventory *inventory)
{
    g_ptr_array_set_size(inventory->gpus, 0);
    for (guint i = 0; i < inventory->entries->len; i++)
        g_ptr_array_add(inventory->gpus, entry_at(inventory->entries, i)->gpu);
}

struct gpup_inventory *gpup_inventory_new(const struct gpup_system *system, struct gpup_error **err)
{
    struct gpup_inventory *inventory = g_new0(struct gpup_inventory, 1);

    inventory->system = *system;
    inventory->gpus = g_ptr_array_new();
    inventory->entries = probe_all(&inventory->system);
    publish(inventory);
    return inventory;
}

void gpup_inventory_free(struct gpup_inventory *inventory)
{
    if (!inventory)
        return;
    g_array_unref(inventory->entries);
    g_ptr_array_unref(inventory->gpus);
    g_free(inventory);
}

struct gpup_gpu *const *gpup_inventory_gpus(struct gpup_inventory *inventory, size_t *n)
{
    *n = inventory->gpus->len;
    return (struct gpup_gpu *const *)inventory->gpus->pdata;
}

static struct entry *find_by_key(GArray *entries, const char *key)
{
    for (guint i = 0; i < entries->len; i++) {
        if (strcmp(entry_at(entries, i)->gpu->key, key) == 0)
            return entry_at(entries, i);
    }
    return NULL;
}

static void move_slots(struct gpup_gpu *from, struct gpup_gpu *to)
{
    to->slots = g_steal_pointer(&from->slots);
    to->n_slots = from->n_slots;
    to->fixed_vram = from->fixed_vram;
    from->n_slots = 0;
    if (to->mode == GPUP_MODE_UNUSED && to->n_slots > 0)
        to->mode = GPUP_MODE_PARTITIONED;
}

static void mark_gone(struct gpup_gpu *gpu)
{
    gpu->mode = GPUP_MODE_UNUSABLE;
    free(gpu->reason);
    gpu->reason = strdup("it is no longer in this host, but a VM still holds a partition of it");
}

int gpup_inventory_rescan(struct gpup_inventory *inventory, struct gpup_error **err)
{
    GArray *fresh = probe_all(&inventory->system);

    for (guint i = 0; i < inventory->entries->len; i++) {
        struct entry *old = entry_at(inventory->entries, i);
        struct entry *now = find_by_key(fresh, old->gpu->key);

        if (now) {
            move_slots(old->gpu, now->gpu);
        } else if (gpup_gpu_free_slots(old->gpu) < old->gpu->n_slots) {
            struct entry kept = {g_steal_pointer(&old->gpu), old->provider};

            mark_gone(kept.gpu);
            g_array_append_val(fresh, kept);
        }
    }
    g_array_sort(fresh, compare_entries);
    g_array_unref(inventory->entries);
    inventory->entries = fresh;
    publish(inventory);
    return 0;
}

static const struct gpup_provider *provider_of(struct gpup_inventory *inventory,
                                               const struct gpup_gpu *gpu)
{
    for (guint i = 0; i < inventory->entries->len; i++) {
        if (entry_at(inventory->entries, i)->gpu == gpu)
            return entry_at(inventory->entries, i)->provider;
    }
    return NULL;
}

/* "1 to 32", or the counts one by one where there are gaps. */
static void add_valid_counts(struct gpup_text *t, const struct gpup_gpu *gpu)
{
    size_t n = gpu->n_valid_counts;

    if (n > 2 && gpu->valid_counts[n - 1] - gpu->valid_counts[0] == n - 1) {
        gpup_text_add(t, "%u to %u", gpu->valid_counts[0], gpu->valid_counts[n - 1]);
        return;
    }
    for (size_t i = 0; i < n; i++)
        gpup_text_add(t, "%s%u", i ? ", " : "", gpu->valid_counts[i]);
}

static int check_count(const struct gpup_gpu *gpu, unsigned n, struct gpup_error **err)
{
    GPUP_AUTO_TEXT text = {0};

    if (gpu->mode == GPUP_MODE_UNUSABLE && n > 0)
        return gpup_error_set(err, EINVAL, "%s cannot be partitioned: %s", gpup_gpu_short_id(gpu),
                              gpu->reason ? gpu->reason : "it is not usable");
    if (gpu->mode == GPUP_MODE_PASSTHROUGH)
        return gpup_error_set(err, EINVAL, "%s cannot be partitioned: it is given whole to a VM",
                              gpup_gpu_short_id(gpu));
    if (n > 0 && !gpup_gpu_count_is_valid(gpu, n)) {
        add_valid_counts(&text, gpu);
        return gpup_error_set(err, EINVAL,
                              "%s cannot have %u partitions: valid counts are %s, and 0 for none",
                              gpup_gpu_short_id(gpu), n, text.text ? text.text : "none");
    }
    return 0;
}

static int check_free(const struct gpup_gpu *gpu, unsigned n, struct gpup_error **err)
{
    GPUP_AUTO_TEXT holders = {0};

    for (size_t i = 0; i < gpu->n_slots; i++) {
        if (!gpup_slot_is_free(&gpu->slots[i]))
            gpup_text_add(&holders, " %s", gpu->slots[i].vm ? gpu->slots[i].vm : "(unknown)");
    }
    if (!holders.text)
        return 0;
    return gpup_error_set(err, EBUSY,
                          "%s: partitions are in use by%s\nStop them, or: gpup gpu partition %s %u "
                          "--power-off-vms   (powers off%s)",
                          gpup_gpu_short_id(gpu), holders.text, gpup_gpu_short_id(gpu), n,
                          holders.text);
}

int gpup_inventory_may_partition(const struct gpup_gpu *gpu, unsigned n, struct gpup_error **err)
{
    int ret = check_count(gpu, n, err);

    return ret < 0 || n == gpu->n_slots ? ret : check_free(gpu, n, err);
}

static void drop_slots(struct gpup_gpu *gpu)
{
    for (size_t i = 0; i < gpu->n_slots; i++)
        free(gpu->slots[i].vm);
    free(gpu->slots);
    gpu->slots = NULL;
    gpu->n_slots = 0;
}

int gpup_inventory_partition(struct gpup_inventory *inventory, struct gpup_gpu *gpu, unsigned n,
                             struct gpup_error **err)
{
    const struct gpup_provider *provider = provider_of(inventory, gpu);
    struct gpup_slot *slots = NULL;
    int ret = gpup_inventory_may_partition(gpu, n, err);

    if (ret < 0 || n == gpu->n_slots)
        return ret;
    if (gpu->n_slots > 0 && provider->destroy) {
        ret = provider->destroy(&inventory->system, gpu, err);
        if (ret < 0)
            return ret;
    }
    if (n > 0) {
        slots = calloc(n, sizeof(*slots));
        if (!slots)
            return gpup_error_set(err, ENOMEM, "out of memory");
    }
    drop_slots(gpu);
    gpu->slots = slots;
    gpu->n_slots = n;
    if (n > 0 && provider->create) {
        ret = provider->create(&inventory->system, gpu, n, err);
        if (ret < 0)
            drop_slots(gpu);
    }
    if (gpu->mode != GPUP_MODE_UNUSABLE)
        gpu->mode = gpu->n_slots ? GPUP_MODE_PARTITIONED : GPUP_MODE_UNUSED;
    return ret;
}

int gpup_inventory_take(struct gpup_inventory *inventory, struct gpup_gpu *gpu, unsigned slot,
                        const char *adapter, const char *vm, const struct gpup_grant *grant,
                        struct gpup_error **err)
{
    const struct gpup_provider *provider = provider_of(inventory, gpu);
    struct gpup_slot *s;
    int ret = 0;

    if (slot >= gpu->n_slots)
        return gpup_error_set(err, EINVAL, "%s has no partition %u", gpup_gpu_short_id(gpu), slot);
    s = &gpu->slots[slot];
    if (!gpup_slot_is_free(s))
        return gpup_error_set(err, EBUSY, "partition %s/%u is used by %s", gpup_gpu_short_id(gpu),
                              slot, s->vm ? s->vm : "(unknown)");
    if (*adapter == '\0' || strlen(adapter) >= sizeof(s->adapter))
        return gpup_error_set(err, EINVAL, "'%s' is not an adapter's id", adapter);
    if (provider->prepare)
        ret = provider->prepare(&inventory->system, gpu, slot, grant, err);
    if (ret < 0)
        return ret;
    g_strlcpy(s->adapter, adapter, sizeof(s->adapter));
    s->vm = strdup(vm);
    s->grant = *grant;
    return 0;
}

int gpup_inventory_give_back(struct gpup_inventory *inventory, struct gpup_gpu *gpu, unsigned slot,
                             struct gpup_error **err)
{
    const struct gpup_provider *provider = provider_of(inventory, gpu);
    struct gpup_slot *s;
    int ret = 0;

    if (slot >= gpu->n_slots || gpup_slot_is_free(&gpu->slots[slot]))
        return 0;
    s = &gpu->slots[slot];
    if (provider->release)
        ret = provider->release(&inventory->system, gpu, slot, err);
    if (ret < 0)
        return ret;
    free(s->vm);
    *s = (struct gpup_slot){0};
    return 0;
}
