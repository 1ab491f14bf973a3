/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gpu/change.h"

#include "core/error.h"
#include "gpu/task.h"

#include <errno.h>
#include <gio/gio.h>
#include <glib-unix.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* Changes to the hardware: begun and ended on the main thread, run on any. */

struct gpup_change {
    struct gpup_inventory *inventory; /* NULL once that has ended */
    struct gpup_system system;
    char *key; /* of the GPU; NULL: a rescan */
    char *address;
    enum gpup_op op;
    bool whole; /* given whole to VMs, or back */
    unsigned n, slot;
    struct gpup_job *job;  /* NULL: nothing to be done in hardware */
    GHashTable *no_answer; /* a rescan: GPUs that are not asked */
    gpup_inventory_done done;
    void *data;

    /* the outcome */
    bool ran;
    struct gpup_facts *facts;
    struct gpup_function function;
    GArray *fresh;
    int stuck;
    struct gpup_error *error;
};

static struct gpup_change *change_new(struct gpup_inventory *inventory, struct gpup_gpu *gpu,
                                      enum gpup_op op)
{
    struct gpup_change *c = g_new0(struct gpup_change, 1);

    c->inventory = inventory;
    c->system = inventory->system;
    c->key = gpu ? g_strdup(gpu->key) : NULL;
    c->address = gpu ? g_strdup(gpu->id) : NULL;
    c->op = op;
    c->stuck = -1;
    g_ptr_array_add(inventory->changes, c);
    return c;
}

static void change_free(struct gpup_change *c)
{
    if (c->inventory)
        g_ptr_array_remove_fast(c->inventory->changes, c);
    g_free(c->key);
    g_free(c->address);
    gpup_job_free(c->job);
    g_clear_pointer(&c->no_answer, g_hash_table_unref);
    gpup_facts_free(c->facts);
    g_clear_pointer(&c->fresh, g_array_unref);
    gpup_error_free(c->error);
    g_free(c);
}

bool gpup_inventory_is_busy(const struct gpup_inventory *inventory)
{
    return inventory->changes->len > 0;
}

void gpup_changes_orphan(struct gpup_inventory *inventory)
{
    for (guint i = 0; i < inventory->changes->len; i++)
        ((struct gpup_change *)inventory->changes->pdata[i])->inventory = NULL;
}

static void changed(struct gpup_inventory *inventory)
{
    if (inventory->changed)
        inventory->changed(inventory->data);
}

void gpup_change_run(struct gpup_change *c)
{
    c->ran = true;
    if (c->job)
        gpup_job_run(c->job, &c->facts, &c->function, &c->stuck, &c->error);
    if (c->no_answer)
        c->fresh = gpup_probe(&c->system, c->no_answer);
}

/* ---- the end of one ---- */

/* Partitions without hardware behind them. */
static void set_plain_slots(struct gpup_gpu *gpu, unsigned n)
{
    gpup_gpu_clear_slots(gpu);
    gpu->slots = g_new0(struct gpup_slot, n);
    gpu->n_slots = n;
    if (gpu->mode != GPUP_MODE_UNUSABLE)
        gpu->mode = n ? GPUP_MODE_PARTITIONED : GPUP_MODE_UNUSED;
}

static void end_partition(struct gpup_change *c, struct gpup_gpu *gpu)
{
    gpu->changing = false;
    if (!c->ran)
        return;
    if (c->facts)
        gpup_facts_apply(c->facts, gpu, true);
    else if (!c->error && !c->job && c->n != gpu->n_slots)
        set_plain_slots(gpu, c->n);
    if (!c->error)
        gpu->foreign = false;
}

static void end_slot(struct gpup_change *c, struct gpup_gpu *gpu)
{
    if (c->slot >= gpu->n_slots)
        return;
    if (!c->error)
        gpu->slots[c->slot].function = c->function;
    if (c->op == GPUP_OP_RELEASE)
        gpup_inventory_cleared(gpu, c->slot, c->error);
}

static void end_describe(struct gpup_change *c, struct gpup_gpu *gpu)
{
    bool same = c->facts && c->facts->functions->len == gpu->n_slots;

    if (c->facts && (same || gpup_gpu_free_slots(gpu) == gpu->n_slots))
        gpup_facts_apply(c->facts, gpu, !same);
    else if (c->error && c->error->code != ETIMEDOUT)
        gpup_gpu_set_problem(gpu, GPUP_MODE_UNUSABLE, gpup_error_message(c->error));
}

static void put_in(struct gpup_change *c)
{
    struct gpup_gpu *gpu = c->key ? gpup_inventory_by_key(c->inventory, c->key) : NULL;

    if (gpu && c->whole) /* of which kind it is now, only looking at it tells */
        gpu->changing = false;
    if (c->fresh) {
        gpup_inventory_adopt(c->inventory, g_steal_pointer(&c->fresh));
        gpu = c->key ? gpup_inventory_by_key(c->inventory, c->key) : NULL;
    }
    if (!gpu)
        return;
    if (c->whole)
        gpu->foreign = gpu->foreign && c->error;
    else if (c->op == GPUP_OP_CREATE || c->op == GPUP_OP_DESTROY)
        end_partition(c, gpu);
    else if (c->op == GPUP_OP_DESCRIBE)
        end_describe(c, gpu);
    else
        end_slot(c, gpu);
    if (c->error && c->error->code == ETIMEDOUT)
        gpup_gpu_set_problem(gpu, GPUP_MODE_WEDGED, gpup_error_message(c->error));
}

int gpup_change_end(struct gpup_change *c, struct gpup_error **err)
{
    int ret = 0;

    if (c->inventory)
        put_in(c);
    if (c->stuck >= 0 && c->inventory)
        gpup_inventory_watch(c->inventory, c->address, c->stuck);
    else if (c->stuck >= 0)
        close(c->stuck);
    if (c->inventory && c->key)
        changed(c->inventory);
    if (c->error)
        ret = gpup_error_move(err, g_steal_pointer(&c->error));
    change_free(c);
    return ret;
}

/* ---- by a thread of its own ---- */

static void run_in_thread(GTask *task, void *source, void *data, GCancellable *cancellable)
{
    gpup_change_run(data);
    g_task_return_boolean(task, TRUE);
}

static void ran(GObject *source, GAsyncResult *result, void *data)
{
    struct gpup_change *c = data;
    gpup_inventory_done done = c->inventory ? c->done : NULL;
    void *done_data = c->data;
    GPUP_AUTO_ERROR err = NULL;

    gpup_change_end(c, &err);
    if (done)
        done(err, done_data);
    else if (err)
        g_warning("%s", gpup_error_message(err));
}

void gpup_change_run_later(struct gpup_change *c, gpup_inventory_done done, void *data)
{
    g_autoptr(GTask) task = g_task_new(NULL, NULL, ran, c);

    c->done = done;
    c->data = data;
    g_task_set_task_data(task, c, NULL);
    gpup_task_run(task, run_in_thread);
}

void gpup_change_ignore(const struct gpup_error *err, void *data)
{
}

void gpup_change_start(struct gpup_inventory *inventory, struct gpup_gpu *gpu, enum gpup_op op,
                       unsigned slot, gpup_inventory_done done, void *data)
{
    struct gpup_change *c = change_new(inventory, gpu, op);
    struct gpup_work work = {.slot = slot, .n_slots = (unsigned)gpu->n_slots};

    if (slot < gpu->n_slots) {
        work.adapter = gpu->slots[slot].adapter;
        work.grant = gpu->slots[slot].grant;
        work.function = gpu->slots[slot].function;
    }
    c->slot = slot;
    c->job = gpup_job_new(&inventory->system, gpup_inventory_entry(inventory, gpu)->provider, gpu,
                          op, 0, op == GPUP_OP_DESCRIBE ? NULL : &work);
    gpup_change_run_later(c, done, data);
}

/* ---- helpers that hang ---- */

struct gpup_stuck {
    struct gpup_inventory *inventory;
    char *address;
    int pidfd;
    guint source;
};

static void stuck_free(void *data)
{
    struct gpup_stuck *s = data;

    g_clear_handle_id(&s->source, g_source_remove);
    close(s->pidfd);
    g_free(s->address);
    g_free(s);
}

GHashTable *gpup_stuck_table(void)
{
    return g_hash_table_new_full(g_str_hash, g_str_equal, NULL, stuck_free);
}

/* It has ended after all: the driver may answer again. */
static gboolean on_unstuck(int fd, GIOCondition condition, void *data)
{
    struct gpup_stuck *s = data;
    struct gpup_inventory *inventory = s->inventory;
    g_autofree char *address = g_strdup(s->address);
    siginfo_t info;

    s->source = 0;
    waitid(P_PIDFD, (id_t)fd, &info, WEXITED);
    g_hash_table_remove(inventory->stuck, address);
    for (guint i = 0; i < inventory->gpus->len; i++) {
        struct gpup_gpu *gpu = inventory->gpus->pdata[i];

        if (strcmp(gpu->id, address) == 0)
            gpup_change_start(inventory, gpu, GPUP_OP_DESCRIBE, 0, NULL, NULL);
    }
    return G_SOURCE_REMOVE;
}

void gpup_inventory_watch(struct gpup_inventory *inventory, const char *address, int pidfd)
{
    struct gpup_stuck *s = g_new0(struct gpup_stuck, 1);

    s->inventory = inventory;
    s->address = g_strdup(address);
    s->pidfd = pidfd;
    s->source = g_unix_fd_add(pidfd, G_IO_IN, on_unstuck, s);
    g_hash_table_replace(inventory->stuck, s->address, s);
}

void gpup_inventory_ask_wedged(struct gpup_inventory *inventory)
{
    for (guint i = 0; i < inventory->gpus->len; i++) {
        struct gpup_gpu *gpu = inventory->gpus->pdata[i];

        if (gpu->mode == GPUP_MODE_WEDGED && !gpu->changing &&
            !g_hash_table_contains(inventory->stuck, gpu->id))
            gpup_change_start(inventory, gpu, GPUP_OP_DESCRIBE, 0, gpup_change_ignore, NULL);
    }
}

/* ---- partitioning and looking again ---- */

struct gpup_change *gpup_inventory_begin_partition(struct gpup_inventory *inventory,
                                                   struct gpup_gpu *gpu, unsigned n,
                                                   struct gpup_error **err)
{
    const struct gpup_provider *provider = gpup_inventory_entry(inventory, gpu)->provider;
    struct gpup_change *c;

    if (gpup_inventory_may_partition(gpu, n, err) < 0)
        return NULL;
    c = change_new(inventory, gpu, n ? GPUP_OP_CREATE : GPUP_OP_DESTROY);
    c->n = n;
    if (n != gpu->n_slots && provider->create)
        c->job = gpup_job_new(&inventory->system, provider, gpu, c->op, n, NULL);
    gpu->changing = true;
    return c;
}

/* The hardware is looked at, too. */
static void look_again(struct gpup_change *c)
{
    GHashTableIter iter;
    void *address;

    c->no_answer = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    g_hash_table_iter_init(&iter, c->inventory->stuck);
    while (g_hash_table_iter_next(&iter, &address, NULL))
        g_hash_table_add(c->no_answer, g_strdup(address));
}

struct gpup_change *gpup_inventory_begin_rescan(struct gpup_inventory *inventory)
{
    struct gpup_change *c = change_new(inventory, NULL, GPUP_OP_DESCRIBE);

    look_again(c);
    return c;
}

GPtrArray *gpup_change_found(struct gpup_change *c)
{
    GPtrArray *gpus;

    if (!c->inventory || !c->fresh)
        return NULL;
    gpus = g_ptr_array_new();
    gpup_inventory_keep_keys(c->inventory, c->fresh);
    for (guint i = 0; i < c->fresh->len; i++)
        g_ptr_array_add(gpus, gpup_entry_at(c->fresh, i)->gpu);
    return gpus;
}

void gpup_change_discard(struct gpup_change *c)
{
    for (guint i = 0; c->fresh && i < c->fresh->len; i++) {
        struct gpup_entry *entry = gpup_entry_at(c->fresh, i);

        if (entry->stuck < 0)
            continue;
        if (c->inventory)
            gpup_inventory_watch(c->inventory, entry->gpu->id, entry->stuck);
        else
            close(entry->stuck);
    }
    change_free(c);
}

struct gpup_change *gpup_inventory_begin_passthrough(struct gpup_inventory *inventory,
                                                     struct gpup_gpu *gpu, bool on,
                                                     struct gpup_error **err)
{
    bool is = gpu->mode == GPUP_MODE_PASSTHROUGH;
    struct gpup_change *c;

    if (gpup_inventory_may_pass_through(gpu, on, err) < 0)
        return NULL;
    c = change_new(inventory, gpu, on ? GPUP_OP_CREATE : GPUP_OP_DESTROY);
    c->whole = true;
    if (is != on)
        c->job = gpup_job_new(&inventory->system, &gpup_provider_whole, gpu, c->op, 1, NULL);
    look_again(c);
    gpu->changing = true;
    return c;
}

struct gpup_change *gpup_inventory_begin_undo(struct gpup_inventory *inventory, const char *address)
{
    g_autoptr(gpup_pci) pci = gpup_pci_read(&inventory->system, address);
    struct gpup_gpu *gpu = pci ? gpup_pci_gpu(&inventory->system, pci) : NULL;
    struct gpup_change *c;

    if (!gpu)
        return NULL;
    c = change_new(inventory, NULL, GPUP_OP_DESTROY);
    c->whole = true;
    c->job = gpup_job_new(&inventory->system, &gpup_provider_whole, gpu, c->op, 0, NULL);
    look_again(c);
    gpup_gpu_free(gpu);
    return c;
}

int gpup_inventory_partition(struct gpup_inventory *inventory, struct gpup_gpu *gpu, unsigned n,
                             struct gpup_error **err)
{
    struct gpup_error *refused = NULL;
    struct gpup_change *c = gpup_inventory_begin_partition(inventory, gpu, n, &refused);

    if (!c)
        return gpup_error_move(err, refused);
    gpup_change_run(c);
    return gpup_change_end(c, err);
}

int gpup_inventory_rescan(struct gpup_inventory *inventory, struct gpup_error **err)
{
    struct gpup_change *c = gpup_inventory_begin_rescan(inventory);

    gpup_change_run(c);
    return gpup_change_end(c, err);
}
