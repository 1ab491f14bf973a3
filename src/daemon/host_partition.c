/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/error.h"
#include "core/units.h"
#include "daemon/host_internal.h"
#include "daemon/store.h"
#include "daemon/underway.h"
#include "fault/fault.h"
#include "gpu/change.h"
#include "gpu/provider.h"

#include <errno.h>

/* Cutting a GPU into partitions, giving it away whole, and taking both back. */

GPtrArray *gpup_host_holders(struct gpup_host *h, const struct gpup_gpu *gpu)
{
    GPtrArray *names = g_ptr_array_new_with_free_func(g_free);

    for (size_t i = 0; i < gpu->n_slots; i++) {
        if (!gpup_slot_is_free(&gpu->slots[i]))
            g_ptr_array_add(names, g_strdup(gpu->slots[i].vm));
    }
    return names;
}

char *gpup_host_describe(const struct gpup_gpu *gpu, unsigned count)
{
    char size[GPUP_UNIT_BUF];
    bool made = count == gpu->n_slots && !gpu->elastic && gpu->fixed_vram > 0;
    uint64_t each = made ? gpu->fixed_vram : gpup_gpu_equal_part(gpu, GPUP_VRAM, count);

    if (count == 0)
        return g_strdup_printf("%s: no partitions, also after reboot", gpup_gpu_short_id(gpu));
    gpup_format_size(each, size, sizeof(size));
    return g_strdup_printf("%s: %u partition%s%s%s, also after reboot", gpup_gpu_short_id(gpu),
                           count, count == 1 ? "" : "s", each ? " of " : "", each ? size : "");
}

char *gpup_host_describe_passthrough(const struct gpup_gpu *gpu, bool on)
{
    return g_strdup_printf(on ? "%s: given whole to VMs (no partitions), also after reboot"
                              : "%s: given back to the host",
                           gpup_gpu_short_id(gpu));
}

/* What would not outlive a reboot is not done at all. */
static int cannot_store(const struct gpup_gpu *gpu, struct gpup_error **err)
{
    return gpup_error_wrap(err,
                           "%s stays as it was, since what is wanted of it cannot be stored (is "
                           "the disk full, or read-only?)",
                           gpup_gpu_short_id(gpu));
}

/* It went away while it was changed. */
static int has_gone(struct gpup_host *h, const char *address, struct gpup_error **err)
{
    gpup_host_change_ended(h, address);
    gpup_host_tell(h);
    return gpup_error_set(err, ENODEV, GPUP_GPU_GONE);
}

/* The end of a change that worked (ret 0) or failed, half way perhaps. Returns ret. */
static int settle(struct gpup_host *h, const char *address, int ret)
{
    if (ret < 0)
        gpup_host_repair(h, address);
    else
        gpup_host_change_ended(h, address);
    gpup_host_tell(h);
    return ret;
}

struct gpup_change *gpup_host_begin_passthrough(struct gpup_host *h, struct gpup_gpu *gpu, bool on,
                                                struct gpup_error **err)
{
    struct gpup_change *change = gpup_inventory_begin_passthrough(h->inventory, gpu, on, err);

    if (change)
        gpup_underway_begin(h->folders->run, gpu->id, "");
    GPUP_FAULT("gpupd.passthrough.begun");
    gpup_host_tell(h);
    return change;
}

int gpup_host_end_passthrough(struct gpup_host *h, struct gpup_change *change, const char *key,
                              bool on, GPtrArray *lines, struct gpup_error **err)
{
    struct gpup_gpu *gpu = gpup_host_gpu_by_key(h, key);
    g_autofree char *address = g_strdup(gpu ? gpu->id : "");
    int ret = gpup_change_end(change, err);

    GPUP_FAULT("gpupd.passthrough.made");
    gpu = gpup_host_gpu_by_key(h, key);
    if (ret == 0 && !gpu)
        return has_gone(h, address, err);
    if (ret == 0 && gpup_store_set_whole(h->folders->state, gpu, on, err) < 0)
        ret = cannot_store(gpu, err);
    GPUP_FAULT("gpupd.passthrough.stored");
    if (ret == 0)
        g_ptr_array_add(lines, gpup_host_describe_passthrough(gpu, on));
    return settle(h, address, ret);
}

struct gpup_change *gpup_host_begin_partition(struct gpup_host *h, struct gpup_gpu *gpu,
                                              unsigned count, struct gpup_error **err)
{
    struct gpup_change *change = gpup_inventory_begin_partition(h->inventory, gpu, count, err);

    if (change)
        gpup_underway_begin(h->folders->run, gpu->id, "");
    GPUP_FAULT("gpupd.partition.begun");
    gpup_host_tell(h);
    return change;
}

int gpup_host_end_partition(struct gpup_host *h, struct gpup_change *change, const char *key,
                            unsigned count, GPtrArray *lines, struct gpup_error **err)
{
    struct gpup_gpu *gpu = gpup_host_gpu_by_key(h, key);
    unsigned before = gpu ? (unsigned)gpu->n_slots : 0;
    g_autofree char *address = g_strdup(gpu ? gpu->id : "");
    int ret = gpup_change_end(change, err);

    GPUP_FAULT("gpupd.partition.made");
    gpu = gpup_host_gpu_by_key(h, key);
    if (ret == 0 && !gpu)
        return has_gone(h, address, err);
    if (ret == 0) {
        if (gpup_store_set_count(h->folders->state, gpu, count, err) < 0)
            ret = cannot_store(gpu, err);
        /* hardware takes its time: by repair */
        if (ret < 0 && !gpup_inventory_entry(h->inventory, gpu)->provider->create)
            gpup_inventory_partition(h->inventory, gpu, before, NULL);
    }
    GPUP_FAULT("gpupd.partition.stored");
    if (ret == 0) {
        gpup_host_is_made(h, address);
        g_ptr_array_add(lines, gpup_host_describe(gpu, count));
    }
    return settle(h, address, ret);
}

int gpup_host_partition(struct gpup_host *h, struct gpup_gpu *gpu, unsigned count, bool dry_run,
                        GPtrArray *lines, struct gpup_error **err)
{
    g_autofree char *key = g_strdup(gpu->key);
    struct gpup_error *refused = NULL;
    struct gpup_change *change;

    if (dry_run) {
        int ret = gpup_inventory_may_partition(gpu, count, err);

        if (ret == 0)
            g_ptr_array_add(lines, gpup_host_describe(gpu, count));
        return ret;
    }
    change = gpup_host_begin_partition(h, gpu, count, &refused);
    if (!change)
        return gpup_error_move(err, refused);
    gpup_change_run(change);
    return gpup_host_end_partition(h, change, key, count, lines, err);
}
