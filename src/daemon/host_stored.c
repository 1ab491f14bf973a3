/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/error.h"
#include "daemon/host_internal.h"
#include "daemon/store.h"
#include "daemon/underway.h"
#include "gpu/change.h"
#include "gpu/pci.h"
#include "gpu/provider.h"
#include "gpu/vfio.h"

#include <errno.h>
#include <string.h>

/* What is stored of the GPUs is made so: at the start, and when they are looked for again. */

/* VFs that something else made: reported, not fought over. */
static void report_foreign(struct gpup_host *h, const struct gpup_gpu *gpu, unsigned wanted)
{
    const char *id = gpup_gpu_short_id(gpu);

    if (wanted > 0)
        gpup_host_add_problem(
            h,
            "%s has %zu VFs that something else made, and %u partitions were wanted: "
            "gpup gpu partition %s %u makes them anew",
            id, gpu->n_slots, wanted, id, wanted);
    else
        gpup_host_add_problem(
            h,
            "%s has %zu VFs that something else made: gpup gpu partition %s %zu takes "
            "them over, 0 removes them",
            id, gpu->n_slots, id, gpu->n_slots);
}

/* A gpupd that was killed was changing it: how it is now is no one else's doing. */
static bool was_changing(struct gpup_host *h, const struct gpup_gpu *gpu)
{
    g_autofree char *text = gpup_underway_peek(h->folders->run, gpu->id);

    return text && !*text;
}

/* A GPU that is given whole to VMs: what is stored is done, what somebody else did is said. */
static struct gpup_change *begin_whole(struct gpup_host *h, struct gpup_gpu *gpu)
{
    bool wanted = gpup_store_is_whole(h->folders->state, gpu->key);
    bool is = gpu->mode == GPUP_MODE_PASSTHROUGH;
    GPUP_AUTO_ERROR err = NULL;
    struct gpup_change *change = NULL;

    if (!gpu->changing && ((wanted && !is) || (is && !wanted && was_changing(h, gpu))))
        change = gpup_inventory_begin_passthrough(h->inventory, gpu, wanted, &err);
    if (err)
        gpup_host_problem(h, gpup_error_message(err));
    if (is)
        gpu->foreign = !wanted && !change;
    if (gpu->foreign)
        gpup_host_add_problem(
            h,
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

/* A driver that hangs is asked again when it answers; what no driver makes fails for good. */
static void failed(struct gpup_host *h, const char *address, const struct gpup_error *err)
{
    const struct gpup_gpu *gpu = gpup_host_gpu_at(h, address);

    if (gpu && gpu->kind == GPUP_KIND_SRIOV && gpu->mode != GPUP_MODE_WEDGED &&
        err->code != ETIMEDOUT)
        gpup_host_make_again(h, address, err);
    else
        gpup_host_problem(h, gpup_error_message(err));
}

static struct gpup_change *begin_count(struct gpup_host *h, struct gpup_gpu *gpu)
{
    GPUP_AUTO_ERROR unreadable = NULL;
    GPUP_AUTO_ERROR refused = NULL;
    struct gpup_change *change = NULL;
    unsigned count = 0;

    if (gpu->mode == GPUP_MODE_PASSTHROUGH || gpup_store_is_whole(h->folders->state, gpu->key)) {
        gpup_host_is_made(h, gpu->id);
        return begin_whole(h, gpu);
    }
    if (gpup_store_get_count(h->folders->state, gpu, &count, &unreadable) < 0)
        gpup_host_problem(h, gpup_error_message(unreadable));
    else if (count != gpu->n_slots && !gpu->changing && (gpu->n_slots == 0 || was_changing(h, gpu)))
        change = gpup_inventory_begin_partition(h->inventory, gpu, count, &refused);
    if (refused)
        failed(h, gpu->id, refused);
    else if (!change && !gpu->changing)
        gpup_host_is_made(h, gpu->id);
    if (gpu->foreign && (change || count == gpu->n_slots))
        gpu->foreign = false;
    if (count > 0 && count == gpu->n_slots && gpu->kind == GPUP_KIND_SRIOV && gpu->elastic)
        restore_memory(h, gpu);
    if (gpu->foreign)
        report_foreign(h, gpu, count);
    return change;
}

static bool is_half(struct gpup_host *h, const char *address);
static void undo(struct gpup_host *h, const char *address);

/* NULL: there is nothing to do. */
static struct gpup_change *begin_stored(struct gpup_host *h, struct gpup_gpu *gpu)
{
    struct gpup_change *change = begin_count(h, gpu);

    if (change)
        gpup_underway_begin(h->folders->run, gpu->id, "");
    else if (gpu->changing || gpu->mode == GPUP_MODE_WEDGED || !was_changing(h, gpu))
        return NULL;
    else if (is_half(h, gpu->id))
        undo(h, gpu->id);
    else
        gpup_underway_end(h->folders->run, gpu->id);
    return change;
}

void gpup_host_change_ended(struct gpup_host *h, const char *address)
{
    const struct gpup_gpu *gpu = gpup_host_gpu_at(h, address);

    if (!gpu || gpu->mode != GPUP_MODE_WEDGED)
        gpup_underway_end(h->folders->run, address);
}

struct applied {
    struct gpup_host *host;
    char *address;
};

static struct applied *applied_new(struct gpup_host *h, const char *address)
{
    struct applied *a = g_new0(struct applied, 1);

    a->host = h;
    a->address = g_strdup(address);
    return a;
}

static void applied_free(struct applied *a)
{
    g_free(a->address);
    g_free(a);
}

static void stored_applied(const struct gpup_error *err, void *data)
{
    struct applied *a = data;

    gpup_host_change_ended(a->host, a->address);
    if (err)
        failed(a->host, a->address, err);
    else
        gpup_host_is_made(a->host, a->address);
    gpup_host_tell(a->host);
    applied_free(a);
}

static void apply_later(struct gpup_host *h, const struct gpup_gpu *gpu, struct gpup_change *change)
{
    gpup_change_run_later(change, stored_applied, applied_new(h, gpu->id));
}

static void looked(const struct gpup_error *err, void *data)
{
    struct applied *a = data;
    struct gpup_gpu *gpu = gpup_host_gpu_at(a->host, a->address);
    struct gpup_change *change = gpu && !err ? begin_stored(a->host, gpu) : NULL;

    if (gpu && err && err->code != ETIMEDOUT &&
        gpup_store_peek_count(a->host->folders->state, gpu->key) > 0)
        failed(a->host, a->address, err);
    if (change)
        apply_later(a->host, gpu, change);
    gpup_host_tell(a->host);
    applied_free(a);
}

/* Taken from the host's driver, and not given to another. */
static bool is_half(struct gpup_host *h, const char *address)
{
    g_autoptr(gpup_pci) pci = gpup_pci_read(&h->system, address);
    const struct gpup_gpu *gpu = gpup_host_gpu_at(h, address);

    return pci && !pci->driver && !(gpu && gpup_store_is_whole(h->folders->state, gpu->key));
}

static void undo(struct gpup_host *h, const char *address)
{
    struct gpup_change *change = gpup_inventory_begin_undo(h->inventory, address);

    if (change)
        gpup_change_run_later(change, stored_applied, applied_new(h, address));
    else
        gpup_host_change_ended(h, address);
}

void gpup_host_repair(struct gpup_host *h, const char *address)
{
    struct gpup_gpu *gpu = gpup_host_gpu_at(h, address);

    if (is_half(h, address) && !(gpu && gpu->mode == GPUP_MODE_WEDGED))
        undo(h, address);
    else if (gpu && gpu->mode != GPUP_MODE_WEDGED &&
             gpup_inventory_entry(h->inventory, gpu)->provider->describe)
        gpup_change_start(h->inventory, gpu, GPUP_OP_DESCRIBE, 0, looked, applied_new(h, address));
    else
        gpup_host_change_ended(h, address);
}

bool gpup_host_make_stored(struct gpup_host *h, const char *address)
{
    struct gpup_gpu *gpu = gpup_host_gpu_at(h, address);

    if (!gpu || gpu->changing || gpu->mode == GPUP_MODE_WEDGED ||
        !gpup_inventory_entry(h->inventory, gpu)->provider->describe)
        return false;
    gpup_change_start(h->inventory, gpu, GPUP_OP_DESCRIBE, 0, looked, applied_new(h, address));
    return true;
}

static void *run_change(void *change)
{
    gpup_change_run(change);
    return NULL;
}

/* All GPUs at once. wait: until it is done, so that VMs which start at boot find partitions. */
static void apply_counts(struct gpup_host *h, bool wait)
{
    size_t n;
    struct gpup_gpu *const *gpus = gpup_host_gpus(h, &n);
    g_autoptr(GPtrArray) changes = g_ptr_array_new();
    g_autoptr(GPtrArray) threads = g_ptr_array_new();
    g_autoptr(GPtrArray) addresses = g_ptr_array_new_with_free_func(g_free);

    for (size_t i = 0; i < n; i++) {
        struct gpup_change *change = begin_stored(h, gpus[i]);

        if (change && wait) {
            g_ptr_array_add(changes, change);
            g_ptr_array_add(addresses, g_strdup(gpus[i]->id));
        } else if (change) {
            apply_later(h, gpus[i], change);
        }
    }
    for (guint i = 0; i < changes->len; i++)
        g_ptr_array_add(threads, g_thread_new("gpu", run_change, changes->pdata[i]));
    for (guint i = 0; i < threads->len; i++) {
        GPUP_AUTO_ERROR err = NULL;

        g_thread_join(threads->pdata[i]);
        if (gpup_change_end(changes->pdata[i], &err) < 0)
            failed(h, addresses->pdata[i], err);
        gpup_host_change_ended(h, addresses->pdata[i]);
    }
}

/* True: it was wedged, and answers now. */
static bool has_recovered(struct gpup_host *h, struct gpup_gpu *gpu)
{
    if (gpu->mode != GPUP_MODE_WEDGED)
        return g_hash_table_remove(h->wedged, gpu->key);
    g_hash_table_add(h->wedged, g_strdup(gpu->key));
    return false;
}

void gpup_host_apply_to_recovered(struct gpup_host *h)
{
    size_t n;
    struct gpup_gpu *const *gpus = gpup_host_gpus(h, &n);

    for (size_t i = 0; i < n; i++) {
        struct gpup_change *change = has_recovered(h, gpus[i]) ? begin_stored(h, gpus[i]) : NULL;

        if (change)
            apply_later(h, gpus[i], change);
    }
}

/* What is stored of a GPU that is not here is kept: it may come back. Another one in its place is
 * not set up by itself. */
static void report_missing(struct gpup_host *h, const struct gpup_store_entry *entry)
{
    struct gpup_gpu *other = gpup_host_gpu_at(h, entry->id);

    if (other)
        gpup_host_add_problem(
            h,
            "in the place of %s (%s, key %s) there is another GPU, %s (key %s), which was "
            "not touched: gpup gpu partition %s N sets that one up; gpup rescan --forget "
            "%s drops what was set for the old one",
            entry->name, entry->id, entry->key, other->name, other->key, gpup_gpu_short_id(other),
            entry->key);
    else
        gpup_host_add_problem(
            h,
            "a GPU that was set up is not here any more: %s (%s, key %s). What was set is "
            "kept for when it comes back; gpup rescan --forget %s drops it",
            entry->name, entry->id, entry->key, entry->key);
}

/* Half way, a GPU may not be found as one. */
static void undo_unknown(struct gpup_host *h)
{
    g_autofree char *folder = g_build_filename(h->folders->run, "underway", NULL);
    g_autoptr(GDir) dir = g_dir_open(folder, 0, NULL);
    const char *name;

    while (dir && (name = g_dir_read_name(dir))) {
        g_autofree char *text = gpup_underway_peek(h->folders->run, name);

        if (text && !*text && !gpup_host_gpu_at(h, name))
            undo(h, name);
    }
}

void gpup_host_apply_stored(struct gpup_host *h, bool wait)
{
    g_autoptr(GPtrArray) entries = NULL;
    g_autoptr(GPtrArray) damaged = g_ptr_array_new_with_free_func(g_free);

    apply_counts(h, wait);
    if (wait)
        undo_unknown(h);
    entries = gpup_store_entries(h->folders->state, damaged);
    gpup_host_add_problems(h, damaged);
    for (guint i = 0; i < entries->len; i++) {
        const struct gpup_store_entry *entry = entries->pdata[i];

        if (!gpup_host_gpu_by_key(h, entry->key))
            report_missing(h, entry);
    }
}

int gpup_host_forget(struct gpup_host *h, const char *key, bool dry_run, struct gpup_error **err)
{
    g_autoptr(GPtrArray) damaged = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GPtrArray) entries = gpup_store_entries(h->folders->state, damaged);
    bool known = false;

    gpup_host_add_problems(h, damaged);
    for (guint i = 0; i < entries->len; i++)
        known |= strcmp(((struct gpup_store_entry *)entries->pdata[i])->key, key) == 0;
    if (gpup_host_gpu_by_key(h, key))
        return gpup_error_set(err, EINVAL,
                              "%s is a GPU of this host: gpup gpu partition %s 0 takes its "
                              "partitions away",
                              key, gpup_gpu_short_id(gpup_host_gpu_by_key(h, key)));
    if (!known)
        return gpup_error_set(err, ENOENT,
                              "nothing is stored for a GPU with the key '%s': gpup status lists "
                              "those that are missing",
                              key);
    return dry_run ? 0 : gpup_store_forget(h->folders->state, key, err);
}

struct gpup_change *gpup_host_begin_rescan(struct gpup_host *h)
{
    return gpup_inventory_begin_rescan(h->inventory);
}

static const struct gpup_gpu *with_key(GPtrArray *gpus, const char *key)
{
    for (guint i = 0; i < gpus->len; i++) {
        if (strcmp(((struct gpup_gpu *)gpus->pdata[i])->key, key) == 0)
            return gpus->pdata[i];
    }
    return NULL;
}

static void say(GPtrArray *lines, const char *fmt, ...) G_GNUC_PRINTF(2, 3);
static void say(GPtrArray *lines, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    g_ptr_array_add(lines, g_strdup_vprintf(fmt, args));
    va_end(args);
}

static void preview_found(struct gpup_host *h, const struct gpup_gpu *gpu, GPtrArray *lines)
{
    unsigned wanted = gpup_store_peek_count(h->folders->state, gpu->key);

    if (!gpup_host_gpu_by_key(h, gpu->key))
        say(lines, "%s %s: would be found", gpup_gpu_short_id(gpu), gpu->name);
    if (wanted > 0 && gpu->n_slots == 0 && gpu->kind == GPUP_KIND_SRIOV)
        say(lines, "%s: would get the %u partitions that are stored for it", gpup_gpu_short_id(gpu),
            wanted);
}

static void preview_gone(struct gpup_host *h, const struct gpup_gpu *gpu, GPtrArray *lines)
{
    g_autoptr(GPtrArray) holders = gpup_host_holders(h, gpu);
    g_autofree char *names = NULL;

    g_ptr_array_add(holders, NULL);
    names = g_strjoinv(" ", (char **)holders->pdata);
    if (*names)
        say(lines, "%s %s: is not here any more; it would stay, unusable, until its VMs stop: %s",
            gpup_gpu_short_id(gpu), gpu->name, names);
    else
        say(lines, "%s %s: is not here any more, and would go; what is stored for it is kept",
            gpup_gpu_short_id(gpu), gpu->name);
}

void gpup_host_preview_rescan(struct gpup_host *h, struct gpup_change *change, GPtrArray *lines)
{
    g_autoptr(GPtrArray) found = gpup_change_found(change);
    size_t n;
    struct gpup_gpu *const *gpus = gpup_host_gpus(h, &n);

    for (guint i = 0; found && i < found->len; i++)
        preview_found(h, found->pdata[i], lines);
    for (size_t i = 0; found && i < n; i++) {
        if (!with_key(found, gpus[i]->key))
            preview_gone(h, gpus[i], lines);
    }
    if (lines->len == 0)
        say(lines, "the GPUs are those that gpup shows");
    gpup_change_discard(change);
}

static void rescanned(struct gpup_host *h)
{
    g_ptr_array_set_size(h->problems, 0);
    gpup_host_apply_stored(h, false);
    gpup_host_tell(h);
}

int gpup_host_end_rescan(struct gpup_host *h, struct gpup_change *change, struct gpup_error **err)
{
    int ret = gpup_change_end(change, err);

    rescanned(h);
    return ret;
}

static void look(struct gpup_host *h);

static void looked_again(const struct gpup_error *err, void *data)
{
    struct gpup_host *h = data;
    bool again = h->look_again;

    h->looking = h->look_again = false;
    rescanned(h);
    if (again)
        look(h);
}

static void look(struct gpup_host *h)
{
    h->look_again = h->looking;
    if (h->looking)
        return;
    h->looking = true;
    gpup_change_run_later(gpup_inventory_begin_rescan(h->inventory), looked_again, h);
}

void gpup_host_drop_gone(struct gpup_host *h)
{
    if (!h->looking && gpup_inventory_is_done_with_gone(h->inventory))
        look(h);
}

/* ---- drivers that come ---- */

/* It had no driver when it was looked for last: what it can be, and often its key, its driver
 * tells. */
static bool is_late(const struct gpup_pci *pci, const struct gpup_gpu *gpu)
{
    return !pci->is_vf && !gpup_vfio_is_driver(pci->driver) &&
           (gpu ? g_strcmp0(gpu->driver, GPUP_NO_DRIVER) == 0 : gpup_pci_is_gpu(pci));
}

void gpup_host_driver_bound(struct gpup_host *h, const char *address)
{
    const struct gpup_gpu *gpu = gpup_host_gpu_at(h, address);
    g_autoptr(gpup_pci) pci = gpup_pci_read(&h->system, address);

    if (!pci || !pci->driver || (gpu && gpu->changing))
        return;
    if (is_late(pci, gpu)) {
        g_message("%s: the driver %s has taken it", gpup_short_id(address), pci->driver);
        look(h);
    } else if (gpu && g_strcmp0(pci->driver, gpu->driver) == 0) {
        g_message("%s: its driver %s has taken it again", gpup_gpu_short_id(gpu), gpu->driver);
        gpup_host_repair(h, address);
    } /* of another driver only gpup rescan makes something */
}
