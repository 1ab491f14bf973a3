/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/device.h"

#include "core/error.h"
#include "gpu/bars.h"
#include "gpu/pci.h"

#include <errno.h>
#include <string.h>

/* A slot that a VM holds is worse than one that any number of definitions name. */
#define HELD 1000u

bool gpup_slot_find(struct gpup_gpu *const *gpus, size_t n, const char *address, size_t *gpu,
                    unsigned *slot)
{
    for (size_t i = 0; *address && i < n; i++) {
        for (size_t k = 0; k < gpus[i]->n_slots; k++) {
            if (strcmp(gpus[i]->slots[k].function.address, address) == 0) {
                *gpu = i;
                *slot = (unsigned)k;
                return true;
            }
        }
    }
    return false;
}

static void add_companions(const char *sysfs, struct gpup_device *device)
{
    g_autoptr(GPtrArray) found = gpup_pci_companions(sysfs, device->address);

    for (guint i = 0; i < found->len && device->n_companions < GPUP_MOST_COMPANIONS; i++)
        g_strlcpy(device->companions[device->n_companions++], found->pdata[i], GPUP_ADDRESS_SIZE);
}

void gpup_slot_device(const char *sysfs, const struct gpup_gpu *gpu, unsigned slot,
                      struct gpup_device *device)
{
    const char *address = gpu->slots[slot].function.address;

    *device = (struct gpup_device){.form = gpu->form};
    g_strlcpy(device->address, address, sizeof(device->address));
    if (gpu->form != GPUP_FORM_MDEV)
        device->memory = gpup_pci_large_bars(sysfs, address);
    if (gpu->kind == GPUP_KIND_PASSTHROUGH)
        add_companions(sysfs, device);
}

/* ---- choosing one ---- */

struct choice {
    struct gpup_gpu *const *gpus;
    GHashTable *named; /* address -> how many definitions name it, but for the VM's own */
    const char *own;   /* what the VM's names, or NULL */
    enum gpup_policy policy;
};

static void count_users(struct choice *c, const char *uuid, const GArray *users)
{
    c->named = g_hash_table_new(g_str_hash, g_str_equal);
    for (guint i = 0; i < users->len; i++) {
        const struct gpup_user *user = &g_array_index(users, struct gpup_user, i);
        guint count = GPOINTER_TO_UINT(g_hash_table_lookup(c->named, user->address));

        if (g_strcmp0(user->uuid, uuid) == 0)
            c->own = user->address;
        else
            g_hash_table_insert(c->named, (char *)user->address, GUINT_TO_POINTER(count + 1));
    }
}

static bool is_own(const struct choice *c, const char *address)
{
    return g_strcmp0(c->own, address) == 0;
}

static unsigned score(const struct choice *c, const struct gpup_slot *slot)
{
    guint named = GPOINTER_TO_UINT(g_hash_table_lookup(c->named, slot->function.address));

    /* one that is being cleared is free in a moment */
    return named +
           (gpup_slot_is_free(slot) || strcmp(slot->adapter, GPUP_CLEARING) == 0 ? 0 : HELD);
}

/* All slots of a GPU that are named or held. */
static uint64_t load_of(const struct choice *c, const struct gpup_gpu *gpu)
{
    uint64_t load = 0;

    for (size_t i = 0; i < gpu->n_slots; i++)
        load += score(c, &gpu->slots[i]) > 0;
    return load;
}

/* By how much is used: pack fills one GPU after the other. */
static bool better_gpu(const struct choice *c, const struct gpup_gpu *a, const struct gpup_gpu *b)
{
    uint64_t x = load_of(c, a) * b->n_slots;
    uint64_t y = load_of(c, b) * a->n_slots;

    return c->policy == GPUP_POLICY_PACK ? x > y : x < y;
}

static bool better_slot(const struct choice *c, size_t gpu, unsigned slot, size_t than_gpu,
                        unsigned than_slot)
{
    const struct gpup_slot *a = &c->gpus[gpu]->slots[slot];
    const struct gpup_slot *b = &c->gpus[than_gpu]->slots[than_slot];
    unsigned x = score(c, a), y = score(c, b);

    if (x != y)
        return x < y;
    if (is_own(c, b->function.address))
        return false; /* no move without a reason */
    if (is_own(c, a->function.address))
        return true;
    return gpu != than_gpu && better_gpu(c, c->gpus[gpu], c->gpus[than_gpu]);
}

/* Whether it suits the adapter, though it may be full now. */
static bool suits(const struct gpup_gpu *gpu, const struct gpup_adapter *adapter, const char *vm,
                  enum gpup_policy policy)
{
    struct gpup_gpu *const only[] = {(struct gpup_gpu *)gpu};
    struct gpup_placement placement;
    int ret;

    if (gpu->form == GPUP_FORM_VIRTIO || gpu->n_slots == 0 || gpu->foreign)
        return false;
    ret = gpup_resolve(only, 1, adapter, vm, policy, &placement, NULL, NULL);
    return ret == 0 || ret == -EBUSY || ret == -ENOSPC;
}

int gpup_slot_choose(struct gpup_gpu *const *gpus, size_t n, const struct gpup_adapter *adapter,
                     const char *vm, const char *uuid, const GArray *users, enum gpup_policy policy,
                     size_t *gpu, unsigned *slot, struct gpup_error **err)
{
    struct choice c = {.gpus = gpus, .policy = policy};
    struct gpup_placement placement;
    bool found = false;
    int ret;

    count_users(&c, uuid, users);
    for (size_t i = 0; i < n; i++) {
        if (!suits(gpus[i], adapter, vm, policy))
            continue;
        for (unsigned k = 0; k < gpus[i]->n_slots; k++) {
            if (found && !better_slot(&c, i, k, *gpu, *slot))
                continue;
            *gpu = i;
            *slot = k;
            found = true;
        }
    }
    g_hash_table_unref(c.named);
    if (found)
        return 0;
    ret = gpup_resolve(gpus, n, adapter, vm, policy, &placement, NULL, err);
    if (ret < 0)
        return ret;
    return gpup_error_set(err, EINVAL,
                          "%s: no GPU that it may go to has a device for its definition to name: "
                          "gpup gpu partition GPU N makes some",
                          vm);
}
