/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/host_internal.h"

#include "core/error.h"
#include "core/units.h"
#include "daemon/store.h"
#include "fault/fault.h"
#include "vm/adapter_xml.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

void gpup_host_tell(struct gpup_host *h)
{
    if (h->changed)
        h->changed(h->data);
}

void gpup_host_record(struct gpup_host *h, struct gpup_events *events, struct gpup_health *health)
{
    h->events = events;
    h->health = health;
}

struct gpup_gpu *const *gpup_host_gpus(struct gpup_host *h, size_t *n)
{
    return gpup_inventory_gpus(h->inventory, n);
}

GPtrArray *gpup_host_problems(struct gpup_host *h)
{
    return h->problems;
}

const struct gpup_config *gpup_host_config(struct gpup_host *h)
{
    return h->config;
}

const char *gpup_host_sysfs(struct gpup_host *h)
{
    return h->system.sysfs;
}

static struct gpup_gpu *gpu_by_key(struct gpup_host *h, const char *key)
{
    size_t n;
    struct gpup_gpu *const *gpus = gpup_host_gpus(h, &n);

    for (size_t i = 0; i < n; i++) {
        if (strcmp(gpus[i]->key, key) == 0)
            return gpus[i];
    }
    return NULL;
}

struct gpup_gpu *gpup_host_gpu_of(struct gpup_host *h, const struct gpup_claim *claim)
{
    return gpu_by_key(h, claim->gpu);
}

void gpup_host_partition_name(struct gpup_host *h, const struct gpup_claim *claim, char *buf,
                              size_t size)
{
    struct gpup_gpu *gpu = gpup_host_gpu_of(h, claim);

    snprintf(buf, size, "%s/%u", gpu ? gpup_gpu_short_id(gpu) : claim->gpu, claim->slot);
}

/* ---- GPUs ---- */

static void problem(struct gpup_host *h, const char *text)
{
    g_warning("%s", text);
    g_ptr_array_add(h->problems, g_strdup(text));
}

static void add_problem(struct gpup_host *h, const char *fmt, ...) G_GNUC_PRINTF(2, 3);
static void add_problem(struct gpup_host *h, const char *fmt, ...)
{
    g_autofree char *text = NULL;
    va_list args;

    va_start(args, fmt);
    text = g_strdup_vprintf(fmt, args);
    va_end(args);
    problem(h, text);
}

/* VFs that something else made: reported, not fought over. */
static void report_foreign(struct gpup_host *h, const struct gpup_gpu *gpu, unsigned wanted)
{
    const char *id = gpup_gpu_short_id(gpu);

    if (wanted > 0)
        add_problem(h,
                    "%s has %zu VFs that something else made, and %u partitions were wanted: "
                    "gpup gpu partition %s %u makes them anew",
                    id, gpu->n_slots, wanted, id, wanted);
    else
        add_problem(h,
                    "%s has %zu VFs that something else made: gpup gpu partition %s %zu takes "
                    "them over, 0 removes them",
                    id, gpu->n_slots, id, gpu->n_slots);
}

/* A GPU that is given whole to VMs: what is stored is done, what somebody else did is said. */
static struct gpup_change *begin_whole(struct gpup_host *h, struct gpup_gpu *gpu)
{
    bool wanted = gpup_store_is_whole(h->folders->state, gpu->key);
    bool is = gpu->mode == GPUP_MODE_PASSTHROUGH;
    GPUP_AUTO_ERROR err = NULL;
    struct gpup_change *change = NULL;

    if (wanted && !is && !gpu->changing)
        change = gpup_inventory_begin_passthrough(h->inventory, gpu, true, &err);
    if (err)
        problem(h, gpup_error_message(err));
    if (is)
        gpu->foreign = !wanted;
    if (gpu->foreign)
        add_problem(h,
                    "%s was bound to VFIO by something else: gpup gpu passthrough %s on takes it "
                    "over, off gives it back to the host",
                    gpup_gpu_short_id(gpu), gpup_gpu_short_id(gpu));
    return change;
}

/* What VFs can have together is less than the GPU has, and is told only when they are made. */
static void restore_memory(struct gpup_host *h, struct gpup_gpu *gpu)
{
    uint64_t memory = gpup_store_peek_memory(h->folders->state, gpu->key);

    if (memory == 0 ||
        (gpu->resource[GPUP_VRAM].total > 0 && memory > gpu->resource[GPUP_VRAM].total))
        return;
    gpu->resource[GPUP_VRAM].total = memory;
    for (size_t i = 0; gpu->count_vram && i < gpu->n_valid_counts; i++)
        gpu->count_vram[i] = memory / gpu->valid_counts[i];
}

/* NULL: there is nothing to do. */
static struct gpup_change *begin_stored(struct gpup_host *h, struct gpup_gpu *gpu)
{
    GPUP_AUTO_ERROR err = NULL;
    struct gpup_change *change = NULL;
    unsigned count = 0;

    if (gpu->mode == GPUP_MODE_PASSTHROUGH || gpup_store_is_whole(h->folders->state, gpu->key))
        return begin_whole(h, gpu);
    if (gpup_store_get_count(h->folders->state, gpu, &count, &err) == 0 && count > 0 &&
        gpu->n_slots == 0 && !gpu->changing)
        change = gpup_inventory_begin_partition(h->inventory, gpu, count, &err);
    if (err)
        problem(h, gpup_error_message(err));
    if (gpu->foreign && count == gpu->n_slots)
        gpu->foreign = false;
    if (count > 0 && count == gpu->n_slots && gpu->kind == GPUP_KIND_SRIOV && gpu->elastic)
        restore_memory(h, gpu);
    if (gpu->foreign)
        report_foreign(h, gpu, count);
    return change;
}

static void *run_change(void *change)
{
    gpup_change_run(change);
    return NULL;
}

static void stored_applied(const struct gpup_error *err, void *data)
{
    if (err)
        problem(data, gpup_error_message(err));
    gpup_host_tell(data);
}

/* All GPUs at once. wait: until it is done, so that VMs which start at boot find partitions. */
static void apply_counts(struct gpup_host *h, bool wait)
{
    size_t n;
    struct gpup_gpu *const *gpus = gpup_host_gpus(h, &n);
    g_autoptr(GPtrArray) changes = g_ptr_array_new();
    g_autoptr(GPtrArray) threads = g_ptr_array_new();

    for (size_t i = 0; i < n; i++) {
        struct gpup_change *change = begin_stored(h, gpus[i]);

        if (change)
            g_ptr_array_add(changes, change);
    }
    for (guint i = 0; i < changes->len; i++) {
        if (wait)
            g_ptr_array_add(threads, g_thread_new("gpu", run_change, changes->pdata[i]));
        else
            gpup_change_run_later(changes->pdata[i], stored_applied, h);
    }
    for (guint i = 0; i < threads->len; i++) {
        GPUP_AUTO_ERROR err = NULL;

        g_thread_join(threads->pdata[i]);
        if (gpup_change_end(changes->pdata[i], &err) < 0)
            problem(h, gpup_error_message(err));
    }
}

static struct gpup_gpu *gpu_at(struct gpup_host *h, const char *id)
{
    size_t n;
    struct gpup_gpu *const *gpus = gpup_host_gpus(h, &n);

    for (size_t i = 0; i < n; i++) {
        if (strcmp(gpus[i]->id, id) == 0)
            return gpus[i];
    }
    return NULL;
}

/* What is stored of a GPU that is not here is kept: it may come back. Another one in its place is
 * not set up by itself. */
static void report_missing(struct gpup_host *h, const struct gpup_store_entry *entry)
{
    struct gpup_gpu *other = gpu_at(h, entry->id);

    if (other)
        add_problem(h,
                    "in the place of %s (%s, key %s) there is another GPU, %s (key %s), which was "
                    "not touched: gpup gpu partition %s N sets that one up; gpup rescan --forget "
                    "%s drops what was set for the old one",
                    entry->name, entry->id, entry->key, other->name, other->key,
                    gpup_gpu_short_id(other), entry->key);
    else
        add_problem(h,
                    "a GPU that was set up is not here any more: %s (%s, key %s). What was set is "
                    "kept for when it comes back; gpup rescan --forget %s drops it",
                    entry->name, entry->id, entry->key, entry->key);
}

static void add_problems(struct gpup_host *h, GPtrArray *texts)
{
    for (guint i = 0; i < texts->len; i++)
        problem(h, texts->pdata[i]);
}

static void apply_stored(struct gpup_host *h, bool wait)
{
    g_autoptr(GPtrArray) entries = NULL;
    g_autoptr(GPtrArray) damaged = g_ptr_array_new_with_free_func(g_free);

    apply_counts(h, wait);
    entries = gpup_store_entries(h->folders->state, damaged);
    add_problems(h, damaged);
    for (guint i = 0; i < entries->len; i++) {
        const struct gpup_store_entry *entry = entries->pdata[i];

        if (!gpu_by_key(h, entry->key))
            report_missing(h, entry);
    }
}

int gpup_host_forget(struct gpup_host *h, const char *key, struct gpup_error **err)
{
    g_autoptr(GPtrArray) damaged = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GPtrArray) entries = gpup_store_entries(h->folders->state, damaged);
    bool known = false;

    add_problems(h, damaged);
    for (guint i = 0; i < entries->len; i++)
        known |= strcmp(((struct gpup_store_entry *)entries->pdata[i])->key, key) == 0;
    if (gpu_by_key(h, key))
        return gpup_error_set(err, EINVAL,
                              "%s is a GPU of this host: gpup gpu partition %s 0 takes its "
                              "partitions away",
                              key, gpup_gpu_short_id(gpu_by_key(h, key)));
    if (!known)
        return gpup_error_set(err, ENOENT,
                              "nothing is stored for a GPU with the key '%s': gpup status lists "
                              "those that are missing",
                              key);
    return gpup_store_forget(h->folders->state, key, err);
}

struct gpup_change *gpup_host_begin_rescan(struct gpup_host *h)
{
    return gpup_inventory_begin_rescan(h->inventory);
}

int gpup_host_end_rescan(struct gpup_host *h, struct gpup_change *change, struct gpup_error **err)
{
    int ret = gpup_change_end(change, err);

    g_ptr_array_set_size(h->problems, 0);
    apply_stored(h, false);
    gpup_host_tell(h);
    return ret;
}

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

struct gpup_change *gpup_host_begin_passthrough(struct gpup_host *h, struct gpup_gpu *gpu, bool on,
                                                struct gpup_error **err)
{
    struct gpup_change *change = gpup_inventory_begin_passthrough(h->inventory, gpu, on, err);

    gpup_host_tell(h);
    return change;
}

int gpup_host_end_passthrough(struct gpup_host *h, struct gpup_change *change, const char *key,
                              bool on, GPtrArray *lines, struct gpup_error **err)
{
    int ret = gpup_change_end(change, err);
    struct gpup_gpu *gpu = gpu_by_key(h, key);

    if (ret == 0 && !gpu)
        ret = gpup_error_set(err, ENODEV, "the GPU is gone");
    if (ret == 0)
        ret = gpup_store_set_whole(h->folders->state, gpu, on, err);
    if (ret == 0)
        g_ptr_array_add(lines, gpup_host_describe_passthrough(gpu, on));
    gpup_host_tell(h);
    return ret;
}

struct gpup_change *gpup_host_begin_partition(struct gpup_host *h, struct gpup_gpu *gpu,
                                              unsigned count, struct gpup_error **err)
{
    struct gpup_change *change = gpup_inventory_begin_partition(h->inventory, gpu, count, err);

    gpup_host_tell(h);
    return change;
}

int gpup_host_end_partition(struct gpup_host *h, struct gpup_change *change, const char *key,
                            unsigned count, GPtrArray *lines, struct gpup_error **err)
{
    struct gpup_gpu *gpu = gpu_by_key(h, key);
    unsigned before = gpu ? (unsigned)gpu->n_slots : 0;
    int ret = gpup_change_end(change, err);

    GPUP_FAULT("gpupd.partition.made");
    gpu = gpu_by_key(h, key);
    if (ret == 0 && !gpu)
        ret = gpup_error_set(err, ENODEV, "the GPU is gone");
    if (ret == 0) {
        ret = gpup_store_set_count(h->folders->state, gpu, count, err);
        if (ret < 0) /* what would not outlive a reboot is not done at all */
            gpup_inventory_partition(h->inventory, gpu, before, NULL);
    }
    GPUP_FAULT("gpupd.partition.stored");
    if (ret == 0)
        g_ptr_array_add(lines, gpup_host_describe(gpu, count));
    gpup_host_tell(h);
    return ret;
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

/* ---- claims ---- */

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
        gpup_inventory_give_back(h->inventory, gpu, claim->slot, &err) < 0)
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
        return gpup_error_set(err, ENODEV, "the partition of %s or its GPU is gone", claim->vm);
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

static void count_refusal(struct gpup_host *h, const struct gpup_adapter *adapter)
{
    size_t n;
    struct gpup_gpu *const *gpus = gpup_host_gpus(h, &n);

    for (size_t i = 0; h->health && i < n; i++) {
        if (gpus[i]->kind == adapter->kind &&
            (!adapter->gpu || strcmp(adapter->gpu, gpus[i]->key) == 0))
            gpup_health_add(h->health, gpus[i]->key, GPUP_TROUBLE_START);
    }
}

static int resolve_and_take(struct gpup_host *h, const struct gpup_domain_info *info,
                            struct gpup_error **err)
{
    size_t n;
    struct gpup_gpu *const *gpus = gpup_host_gpus(h, &n);
    struct gpup_placement placement;
    struct gpup_claim *claim;
    int ret = gpup_host_place(h, info, &placement, err);

    if (ret < 0) {
        count_refusal(h, info->adapter);
        h->settled = g_get_monotonic_time();
        return ret;
    }
    GPUP_FAULT("gpupd.prepare.resolved");
    claim = gpup_claim_new(info->adapter->id, info->name, info->uuid, info->id);
    claim->gpu = g_strdup(gpus[placement.gpu]->key);
    claim->slot = placement.slot;
    claim->grant = placement.grant;
    claim->display = info->adapter->display;
    ret = gpup_host_take(h, claim, gpus[placement.gpu], err);
    if (ret == 0)
        gpup_host_tell_claim(h, claim, GPUP_EVENT_START, GPUP_BY_LIBVIRT);
    return ret;
}

static int check_definition(const struct gpup_domain_info *info, struct gpup_error **err)
{
    if (!gpup_domain_has_device(info, info->adapter))
        return gpup_error_set(err, EINVAL,
                              "%s has an adapter, but its partition's device is not in the "
                              "definition any more: gpup unassign %s, then gpup assign %s",
                              info->name, info->name, info->name);
    return 0;
}

/* A start that was cut off leaves its claim behind; another VM's claim is not ours to take. */
static int settle_old_claim(struct gpup_host *h, const struct gpup_domain_info *info,
                            bool (*is_alive)(const char *adapter, void *data), void *data,
                            struct gpup_error **err)
{
    struct gpup_claim *old = gpup_host_claim(h, info->adapter->id);

    if (!old)
        return 0;
    if (strcmp(old->uuid, info->uuid ? info->uuid : "") != 0)
        return gpup_error_set(err, EBUSY,
                              "%s carries the adapter of %s, which is running: its definition was "
                              "copied. Give it its own: gpup unassign %s, then gpup assign %s",
                              info->name, old->vm, info->name, info->name);
    if (is_alive && is_alive(old->adapter, data))
        return gpup_error_set(err, EBUSY, "%s is still running with its partition", info->name);
    if (gpup_host_use_reservation(h, old, info))
        return 0;
    gpup_host_free_adapter(h, old->adapter);
    if (gpup_host_claim(h, info->adapter->id))
        return gpup_error_set(err, EBUSY,
                              "the last start of %s is still being undone: try again in a few "
                              "seconds",
                              info->name);
    return 0;
}

/* A running VM whose reservation was lost is found by asking libvirt: until then its partition may
 * look free. */
static int check_sure(struct gpup_host *h, const struct gpup_domain_info *info,
                      struct gpup_error **err)
{
    if (!h->unsure)
        return 0;
    return gpup_error_set(err, EBUSY,
                          "%s: a reservation was damaged, and libvirt is still being asked which "
                          "VMs run: start it again in a few seconds",
                          info->name);
}

static int claim_for(struct gpup_host *h, const struct gpup_domain_info *info,
                     bool (*is_alive)(const char *adapter, void *data), void *data,
                     struct gpup_error **err)
{
    int ret = check_definition(info, err);

    if (ret == 0)
        ret = check_sure(h, info, err);
    if (ret == 0)
        ret = settle_old_claim(h, info, is_alive, data, err);
    if (ret == 0 && !gpup_host_claim(h, info->adapter->id))
        ret = resolve_and_take(h, info, err);
    return ret;
}

static int claim_all(struct gpup_host *h, const struct gpup_domain_info *info,
                     const struct gpup_start *start, struct gpup_error **err)
{
    int ret = gpup_host_claim_others(h, info, err);

    if (ret == 0 && info->adapter)
        ret = claim_for(h, info, start->is_alive, start->alive_data, err);
    if (ret < 0)
        gpup_host_release_others(h, info);
    return ret;
}

/* Frees the start, unless it waits. */
static void try_start(struct gpup_host *h, struct gpup_start *start, bool may_wait)
{
    struct gpup_domain_info info;
    GPUP_AUTO_ERROR err = NULL;
    int ret = gpup_domain_info_read(start->xml, start->length, &info, &err);

    if (ret == 0)
        ret = claim_all(h, &info, start, &err);
    if (ret == -EBUSY && may_wait && gpup_host_is_clearing(h)) {
        gpup_host_when_cleared(h, start);
    } else {
        if (ret == 0 && info.adapter)
            gpup_host_ready(h, gpup_host_claim(h, info.adapter->id), start->done, start->data);
        else
            start->done(err, start->data);
        gpup_start_free(start);
    }
    gpup_domain_info_clear(&info);
}

void gpup_host_retry(struct gpup_host *h, struct gpup_start *start)
{
    try_start(h, start, false);
}

void gpup_host_prepare(struct gpup_host *h, const char *xml, size_t length,
                       bool (*is_alive)(const char *adapter, void *data), void *alive_data,
                       gpup_host_done done, void *data)
{
    struct gpup_start *start = g_new0(struct gpup_start, 1);

    *start = (struct gpup_start){.host = h,
                                 .xml = g_memdup2(xml, length + 1),
                                 .length = length,
                                 .is_alive = is_alive,
                                 .alive_data = alive_data,
                                 .done = done,
                                 .data = data};
    try_start(h, start, true);
}

void gpup_host_started(struct gpup_host *h, const char *xml, size_t length)
{
    struct gpup_domain_info info;
    struct gpup_claim *claim = NULL;

    if (gpup_domain_info_read(xml, length, &info, NULL) < 0)
        return;
    if (info.adapter)
        claim = gpup_host_claim(h, info.adapter->id);
    if (claim && !claim->started) {
        claim->started = true;
        claim->domain = info.id;
        gpup_claim_save(h->folders->run, claim, NULL);
        gpup_host_tell(h);
    }
    gpup_domain_info_clear(&info);
}

int gpup_host_reconnect(struct gpup_host *h, const char *xml, size_t length,
                        struct gpup_error **err)
{
    struct gpup_domain_info info;
    int ret = gpup_domain_info_read(xml, length, &info, err);

    if (ret < 0)
        return ret;
    /* what is lost is resolved anew: the VM runs, so it is better counted than not */
    ret = gpup_host_claim_others(h, &info, err);
    if (ret == 0 && info.adapter && !gpup_host_claim(h, info.adapter->id))
        ret = resolve_and_take(h, &info, err);
    gpup_domain_info_clear(&info);
    if (ret == 0)
        gpup_host_started(h, xml, length);
    return ret;
}

void gpup_host_release(struct gpup_host *h, const char *xml, size_t length, char *adapter_out)
{
    struct gpup_domain_info info;
    struct gpup_claim *claim = NULL;

    *adapter_out = '\0';
    if (gpup_domain_info_read(xml, length, &info, NULL) < 0)
        return;
    gpup_host_release_others(h, &info);
    if (info.adapter)
        claim = gpup_host_claim(h, info.adapter->id);
    /* the release of a copy whose start was refused does not free the original's */
    if (claim && strcmp(claim->uuid, info.uuid ? info.uuid : "") == 0) {
        g_strlcpy(adapter_out, claim->adapter, sizeof(claim->adapter));
        gpup_host_drop_claim(h, adapter_out, GPUP_BY_LIBVIRT);
    }
    gpup_domain_info_clear(&info);
}

/* ---- life ---- */

/* What was set for this GPU was lost (its file was damaged), and its partitions are in use. */
static void restore_count(struct gpup_host *h, const struct gpup_claim *claim, struct gpup_gpu *gpu)
{
    GPUP_AUTO_ERROR err = NULL;

    if (!gpu->elastic || gpu->n_slots > 0 || claim->count == 0 || gpu->mode != GPUP_MODE_UNUSED)
        return;
    if (gpup_inventory_partition(h->inventory, gpu, claim->count, &err) == 0)
        gpup_store_set_count(h->folders->state, gpu, claim->count, &err);
    if (err)
        problem(h, gpup_error_message(err));
    else
        add_problem(h,
                    "%s: how many partitions it is to have was lost; %s runs on one of %u, so it "
                    "has %u again, also after reboot",
                    gpup_gpu_short_id(gpu), claim->vm, claim->count, claim->count);
}

static void adopt_claims(struct gpup_host *h)
{
    g_autoptr(GPtrArray) damaged = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GPtrArray) claims = gpup_claim_load_all(h->folders->run, damaged);

    add_problems(h, damaged);
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
        add_problem(h, "%s's partition cannot be taken up again: %s", vm,
                    gpu ? gpup_error_message(err) : "its GPU is gone");
        if (!gpu)
            gpup_claim_free(claim);
    }
}

static unsigned wanted_count(const char *key, void *data)
{
    return gpup_store_peek_count(((const struct gpup_folders *)data)->state, key);
}

static char *whole_key(const char *address, const char *pci_id, void *data)
{
    return gpup_store_whole_key(((const struct gpup_folders *)data)->state, address, pci_id);
}

static void inventory_changed(void *data)
{
    gpup_host_check_cleared(data);
    gpup_host_tell(data);
}

static int make_folders(const struct gpup_folders *folders, struct gpup_error **err)
{
    static const char *const below[] = {"reservations", "vm"};

    if (g_mkdir_with_parents(folders->run, 0755) < 0 ||
        g_mkdir_with_parents(folders->state, 0700) < 0)
        return gpup_error_set(err, errno, "%s or %s: %s", folders->run, folders->state,
                              g_strerror(errno));
    for (size_t i = 0; i < G_N_ELEMENTS(below); i++) {
        g_autofree char *path = g_build_filename(folders->run, below[i], NULL);

        /* libvirt looks at vm/ADAPTER; reservations are nobody's business */
        if (g_mkdir_with_parents(path, 0755) < 0 || chmod(path, i == 0 ? 0700 : 0755) < 0)
            return gpup_error_set(err, errno, "%s: %s", path, g_strerror(errno));
    }
    return 0;
}

struct gpup_host *gpup_host_new(const struct gpup_config *config,
                                const struct gpup_folders *folders, gpup_host_changed changed,
                                void *data, struct gpup_error **err)
{
    struct gpup_host *h;

    if (make_folders(folders, err) < 0)
        return NULL;
    h = g_new0(struct gpup_host, 1);
    h->config = config;
    h->folders = folders;
    h->system = (struct gpup_system){.sysfs = folders->sysfs ? folders->sysfs : "/sys",
                                     .dev = folders->dev ? folders->dev : "/dev",
                                     .proc = folders->proc ? folders->proc : "/proc",
                                     .helper = folders->gpu_helper,
                                     .pci_ids = (const char *const *)config->pci_ids,
                                     .settings_by_gpu = config->settings_by_gpu,
                                     .wanted = wanted_count,
                                     .whole_key = whole_key,
                                     .data = (void *)folders,
                                     .software = config->software,
                                     .software_memory = config->software_memory,
                                     .software_cpus = config->software_cpus,
                                     .memory_by_gpu = config->memory_by_gpu};
    h->claims =
        g_hash_table_new_full(g_str_hash, g_str_equal, NULL, (GDestroyNotify)gpup_claim_free);
    h->problems = g_ptr_array_new_with_free_func(g_free);
    h->pending = g_ptr_array_new();
    h->waiting = g_ptr_array_new();
    h->inventory = gpup_inventory_new(&h->system, err);
    if (!h->inventory) {
        gpup_host_free(h);
        return NULL;
    }
    apply_stored(h, true);
    adopt_claims(h);
    gpup_inventory_on_change(h->inventory, inventory_changed, h);
    h->changed = changed;
    h->data = data;
    return h;
}

void gpup_host_free(struct gpup_host *h)
{
    if (!h)
        return;
    gpup_host_orphan_pending(h);
    g_hash_table_unref(h->claims);
    g_ptr_array_unref(h->problems);
    gpup_inventory_free(h->inventory);
    g_free(h);
}
