/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/error.h"
#include "core/resolve.h"
#include "core/text.h"
#include "gpu/change.h"
#include "gpu/facts.h"

#include <errno.h>
#include <string.h>

/* The GPUs and who holds their slots; what touches hardware is in change.c. */

static void publish(struct gpup_inventory *inventory)
{
    g_ptr_array_set_size(inventory->gpus, 0);
    for (guint i = 0; i < inventory->entries->len; i++) {
        struct gpup_entry *entry = gpup_entry_at(inventory->entries, i);

        g_ptr_array_add(inventory->gpus, entry->gpu);
        if (entry->stuck >= 0)
            gpup_inventory_watch(inventory, entry->gpu->id, entry->stuck);
        entry->stuck = -1;
    }
}

struct gpup_inventory *gpup_inventory_new(const struct gpup_system *system, struct gpup_error **err)
{
    struct gpup_inventory *inventory = g_new0(struct gpup_inventory, 1);

    inventory->system = *system;
    inventory->gpus = g_ptr_array_new();
    inventory->changes = g_ptr_array_new();
    inventory->stuck = gpup_stuck_table();
    inventory->entries = gpup_probe(&inventory->system, NULL);
    publish(inventory);
    return inventory;
}

void gpup_inventory_free(struct gpup_inventory *inventory)
{
    if (!inventory)
        return;
    gpup_changes_orphan(inventory);
    g_hash_table_unref(inventory->stuck);
    g_array_unref(inventory->entries);
    g_ptr_array_unref(inventory->gpus);
    g_ptr_array_unref(inventory->changes);
    g_free(inventory);
}

void gpup_inventory_on_change(struct gpup_inventory *inventory, void (*changed)(void *data),
                              void *data)
{
    inventory->changed = changed;
    inventory->data = data;
}

struct gpup_gpu *const *gpup_inventory_gpus(struct gpup_inventory *inventory, size_t *n)
{
    *n = inventory->gpus->len;
    return (struct gpup_gpu *const *)inventory->gpus->pdata;
}

static struct gpup_entry *find_by_key(GArray *entries, const char *key)
{
    for (guint i = 0; i < entries->len; i++) {
        if (strcmp(gpup_entry_at(entries, i)->gpu->key, key) == 0)
            return gpup_entry_at(entries, i);
    }
    return NULL;
}

struct gpup_gpu *gpup_inventory_by_key(struct gpup_inventory *inventory, const char *key)
{
    struct gpup_entry *entry = find_by_key(inventory->entries, key);

    return entry ? entry->gpu : NULL;
}

struct gpup_entry *gpup_inventory_entry(struct gpup_inventory *inventory,
                                        const struct gpup_gpu *gpu)
{
    for (guint i = 0; i < inventory->entries->len; i++) {
        if (gpup_entry_at(inventory->entries, i)->gpu == gpu)
            return gpup_entry_at(inventory->entries, i);
    }
    return NULL;
}

static bool is_held(const struct gpup_gpu *gpu)
{
    return gpup_gpu_free_slots(gpu) < gpu->n_slots;
}

/* Slots of hardware are where the hardware says; of virtio they are what we say. */
static void keep_slots(struct gpup_gpu *from, struct gpup_gpu *to)
{
    bool hardware = to->form != GPUP_FORM_VIRTIO || to->kind == GPUP_KIND_SRIOV;

    to->changing = from->changing;
    to->foreign = to->foreign && from->foreign;
    if (hardware && to->n_slots != from->n_slots && is_held(from) && to->mode != GPUP_MODE_WEDGED)
        gpup_gpu_set_problem(to, GPUP_MODE_UNUSABLE,
                             "its VFs were changed by something else while VMs have partitions: "
                             "stop those VMs, then gpup rescan");
    else if (hardware && to->n_slots == from->n_slots)
        for (size_t i = 0; i < to->n_slots; i++)
            gpup_function_update(&from->slots[i].function, &to->slots[i].function);
    else if (hardware && !is_held(from) && to->mode != GPUP_MODE_WEDGED)
        return;
    gpup_gpu_clear_slots(to);
    to->slots = g_steal_pointer(&from->slots);
    to->n_slots = from->n_slots;
    if (!hardware || to->fixed_vram == 0)
        to->fixed_vram = from->fixed_vram;
    from->n_slots = 0;
    if (to->mode == GPUP_MODE_UNUSED && to->n_slots > 0)
        to->mode = GPUP_MODE_PARTITIONED;
}

/* A GPU that was just given whole to VMs has lost the driver that knew its key. */
void gpup_inventory_keep_keys(struct gpup_inventory *inventory, GArray *fresh)
{
    for (guint i = 0; i < fresh->len; i++) {
        struct gpup_gpu *gpu = gpup_entry_at(fresh, i)->gpu;

        for (guint k = 0; gpu->kind == GPUP_KIND_PASSTHROUGH && k < inventory->entries->len; k++) {
            struct gpup_gpu *old = gpup_entry_at(inventory->entries, k)->gpu;

            if (strcmp(old->id, gpu->id) == 0 && g_strcmp0(old->pci_id, gpu->pci_id) == 0) {
                free(gpu->key);
                gpu->key = strdup(old->key);
            }
        }
    }
}

bool gpup_inventory_is_done_with_gone(const struct gpup_inventory *inventory)
{
    for (guint i = 0; i < inventory->entries->len; i++) {
        const struct gpup_entry *entry = gpup_entry_at(inventory->entries, i);

        if (entry->gone && !is_held(entry->gpu))
            return true;
    }
    return false;
}

void gpup_inventory_adopt(struct gpup_inventory *inventory, GArray *fresh)
{
    gpup_inventory_keep_keys(inventory, fresh);
    for (guint i = 0; i < inventory->entries->len; i++) {
        struct gpup_entry *old = gpup_entry_at(inventory->entries, i);
        struct gpup_entry *now = find_by_key(fresh, old->gpu->key);

        if (now && now->gpu->kind == old->gpu->kind) {
            keep_slots(old->gpu, now->gpu);
        } else if (!now && is_held(old->gpu)) {
            struct gpup_entry kept = {g_steal_pointer(&old->gpu), old->provider, -1, true};

            gpup_gpu_set_problem(kept.gpu, GPUP_MODE_UNUSABLE,
                                 "it is no longer in this host, but a VM still holds a partition "
                                 "of it");
            g_array_append_val(fresh, kept);
        }
    }
    g_array_sort(fresh, gpup_compare_entries);
    g_array_unref(inventory->entries);
    inventory->entries = fresh;
    publish(inventory);
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

    if (gpu->changing)
        return gpup_error_set(err, EBUSY, "%s is being partitioned at this moment; try again",
                              gpup_gpu_short_id(gpu));
    if (gpu->mode == GPUP_MODE_WEDGED || (gpu->mode == GPUP_MODE_UNUSABLE && n > 0))
        return gpup_error_set(err, EINVAL, "%s cannot be partitioned: %s", gpup_gpu_short_id(gpu),
                              gpu->reason ? gpu->reason : "it is not usable");
    if (gpu->mode == GPUP_MODE_PASSTHROUGH)
        return gpup_error_set(err, EINVAL,
                              "%s cannot be partitioned: it is given whole to VMs; gpup gpu "
                              "passthrough %s off ends that",
                              gpup_gpu_short_id(gpu), gpup_gpu_short_id(gpu));
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

int gpup_inventory_may_pass_through(const struct gpup_gpu *gpu, bool on, struct gpup_error **err)
{
    const char *id = gpup_gpu_short_id(gpu);

    if (gpu->changing)
        return gpup_error_set(err, EBUSY, "%s is being changed at this moment; try again", id);
    if (!gpup_pci_is_address(gpu->id))
        return gpup_error_set(err, EINVAL, "%s is no hardware that a VM could get", id);
    if (gpu->mode == GPUP_MODE_WEDGED)
        return gpup_error_set(err, EINVAL, "%s cannot be given whole to a VM: %s", id, gpu->reason);
    if (gpu->mode != GPUP_MODE_PASSTHROUGH && on && gpu->n_slots > 0)
        return gpup_error_set(err, EBUSY,
                              "%s is cut into %zu partitions, so it cannot be given whole to a VM: "
                              "gpup gpu partition %s 0 first",
                              id, gpu->n_slots, id);
    if (gpu->mode == GPUP_MODE_PASSTHROUGH && !on && gpup_gpu_free_slots(gpu) == 0)
        return gpup_error_set(err, EBUSY, "%s is given whole to %s; stop that VM first", id,
                              gpu->slots && gpu->slots[0].vm ? gpu->slots[0].vm : "a VM");
    return 0;
}

int gpup_inventory_take(struct gpup_inventory *inventory, struct gpup_gpu *gpu, unsigned slot,
                        const char *adapter, const char *vm, const struct gpup_grant *grant,
                        struct gpup_error **err)
{
    struct gpup_slot *s;

    if (slot >= gpu->n_slots)
        return gpup_error_set(err, EINVAL, "%s has no partition %u", gpup_gpu_short_id(gpu), slot);
    s = &gpu->slots[slot];
    if (!gpup_slot_is_free(s))
        return gpup_error_set(err, EBUSY, "partition %s/%u is used by %s", gpup_gpu_short_id(gpu),
                              slot, s->vm ? s->vm : "(unknown)");
    if (*adapter == '\0' || strlen(adapter) >= sizeof(s->adapter))
        return gpup_error_set(err, EINVAL, "'%s' is not an adapter's id", adapter);
    g_strlcpy(s->adapter, adapter, sizeof(s->adapter));
    s->vm = strdup(vm);
    s->grant = *grant;
    return 0;
}

void gpup_inventory_prepare(struct gpup_inventory *inventory, struct gpup_gpu *gpu, unsigned slot,
                            gpup_inventory_done done, void *data)
{
    if (gpup_inventory_entry(inventory, gpu)->provider->prepare)
        gpup_change_start(inventory, gpu, GPUP_OP_PREPARE, slot, done, data);
    else
        done(NULL, data);
}

#define BEING_CLEARED "(being cleared"

static void free_slot(struct gpup_slot *slot)
{
    free(slot->vm);
    *slot = (struct gpup_slot){.function = slot->function};
}

/* A slot that could not be cleared is not given to the next VM; it says why. */
void gpup_inventory_cleared(struct gpup_gpu *gpu, unsigned slot, const struct gpup_error *err)
{
    struct gpup_slot *s = &gpu->slots[slot];
    g_autofree char *text = NULL;

    if (!err) {
        free_slot(s);
        return;
    }
    text = g_strdup_printf("(%s)", gpup_error_message(err));
    free(s->vm);
    s->vm = strdup(text);
}

void gpup_inventory_clear_again(struct gpup_inventory *inventory)
{
    for (guint i = 0; i < inventory->gpus->len; i++) {
        struct gpup_gpu *gpu = inventory->gpus->pdata[i];

        for (unsigned k = 0; k < gpu->n_slots; k++) {
            struct gpup_slot *s = &gpu->slots[k];

            if (strcmp(s->adapter, GPUP_CLEARING) != 0 ||
                (s->vm && g_str_has_prefix(s->vm, BEING_CLEARED)))
                continue;
            if (gpup_inventory_entry(inventory, gpu)->gone) {
                free_slot(s);
                continue;
            }
            free(s->vm);
            s->vm = strdup(BEING_CLEARED ")");
            gpup_change_start(inventory, gpu, GPUP_OP_RELEASE, k, gpup_change_ignore, NULL);
        }
    }
}

int gpup_inventory_give_back(struct gpup_inventory *inventory, struct gpup_gpu *gpu, unsigned slot,
                             struct gpup_error **err)
{
    struct gpup_slot *s;
    g_autofree char *text = NULL;

    if (slot >= gpu->n_slots || gpup_slot_is_free(&gpu->slots[slot]) ||
        strcmp(gpu->slots[slot].adapter, GPUP_CLEARING) == 0)
        return 0;
    s = &gpu->slots[slot];
    if (gpup_inventory_entry(inventory, gpu)->gone ||
        !gpup_inventory_entry(inventory, gpu)->provider->release ||
        !gpup_pci_is_address(s->function.address)) {
        free_slot(s);
        return 0;
    }
    /* it has the adapter's UUID: the slot forgets the adapter before it is removed */
    if (gpu->form == GPUP_FORM_MDEV && !*s->function.mdev)
        g_strlcpy(s->function.mdev, s->adapter, sizeof(s->function.mdev));
    text = g_strdup_printf(BEING_CLEARED " after %s)", s->vm ? s->vm : "a VM");
    gpup_change_start(inventory, gpu, GPUP_OP_RELEASE, slot, NULL, NULL);
    g_strlcpy(s->adapter, GPUP_CLEARING, sizeof(s->adapter));
    free(s->vm);
    s->vm = strdup(text);
    return 0;
}
