/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/provisional.h"

#include "core/error.h"
#include "daemon/device.h"

#include <errno.h>
#include <gio/gio.h>
#include <string.h>

static bool uses_hardware(const struct gpup_vm *vm)
{
    return vm->adapter && !vm->problem && vm->adapter->kind != GPUP_KIND_VIRTIO;
}

static GArray *users_of(struct gpup_daemon *d)
{
    GPtrArray *vms = gpup_vms_list(d->vms);
    GArray *users = g_array_new(FALSE, FALSE, sizeof(struct gpup_user));

    for (guint i = 0; i < vms->len; i++) {
        const struct gpup_vm *vm = vms->pdata[i];
        const struct gpup_user user = {vm->uuid, vm->address};

        if (uses_hardware(vm))
            g_array_append_val(users, user);
    }
    return users;
}

static int choose(struct gpup_daemon *d, const struct gpup_adapter *adapter, const char *name,
                  const char *uuid, struct gpup_device *device, struct gpup_error **err)
{
    g_autoptr(GArray) users = users_of(d);
    size_t n, gpu;
    unsigned slot;
    struct gpup_gpu *const *gpus = gpup_host_gpus(d->host, &n);
    int ret =
        gpup_slot_choose(gpus, n, adapter, name, uuid, users, d->config.policy, &gpu, &slot, err);

    if (ret == 0)
        gpup_slot_device(gpup_host_sysfs(d->host), gpus[gpu], slot, device);
    return ret;
}

int gpup_provisional_device(struct gpup_daemon *d, const char *word,
                            const struct gpup_adapter *adapter, struct gpup_device *device,
                            struct gpup_error **err)
{
    const struct gpup_vm *vm = gpup_vms_find(d->vms, word);
    struct gpup_error *why = NULL;

    if (adapter->kind == GPUP_KIND_VIRTIO)
        return 0;
    if (choose(d, adapter, vm ? vm->name : word, vm ? vm->uuid : NULL, device, &why) == 0)
        return 0;
    if (vm && uses_hardware(vm)) { /* it has one: only its values change */
        gpup_error_free(why);
        return 0;
    }
    if (why->code != ENOENT || adapter->gpu)
        return gpup_error_move(err, why);
    gpup_error_free(why);
    return gpup_error_set(err, ENOENT,
                          "this host has no GPU for %s partitions: leave --kind out, or say "
                          "--kind virtio",
                          gpup_kind_name(adapter->kind));
}

/* ---- moving on ---- */

struct move {
    struct gpup_daemon *daemon;
    char *vm, *uuid, *from;
    struct gpup_device device;
};

static void move_free(void *data)
{
    struct move *move = data;

    g_free(move->vm);
    g_free(move->uuid);
    g_free(move->from);
    g_free(move);
}

/* A claim of the VM means that it is starting: then its definition is not asked any more. */
static bool may_move(struct gpup_daemon *d, const struct gpup_vm *vm)
{
    return uses_hardware(vm) && !vm->active && !gpup_host_claim(d->host, vm->adapter->id);
}

/* The next one that is due, or NULL. */
static struct move *next_move(struct gpup_daemon *d)
{
    GPtrArray *vms = gpup_vms_list(d->vms);

    for (guint i = 0; i < vms->len; i++) {
        const struct gpup_vm *vm = vms->pdata[i];
        struct gpup_device device = {0};
        struct move *move;

        if (!may_move(d, vm) || choose(d, vm->adapter, vm->name, vm->uuid, &device, NULL) < 0 ||
            device.form == GPUP_FORM_MDEV || strcmp(device.address, vm->address) == 0 ||
            g_strcmp0(g_hash_table_lookup(d->unmovable, vm->uuid), device.address) == 0)
            continue;
        move = g_new0(struct move, 1);
        *move =
            (struct move){d, g_strdup(vm->name), g_strdup(vm->uuid), g_strdup(vm->address), device};
        return move;
    }
    return NULL;
}

static void move_in_thread(GTask *task, void *source, void *data, GCancellable *cancellable)
{
    struct move *move = data;
    GPUP_AUTO_ERROR err = NULL;

    if (gpup_manager_move(gpup_vms_manager(move->daemon->vms), move->uuid, &move->device, &err) < 0)
        g_task_return_new_error(task, G_IO_ERROR, G_IO_ERROR_FAILED, "%s", gpup_error_message(err));
    else
        g_task_return_boolean(task, TRUE);
}

static void moved(GObject *source, GAsyncResult *result, void *data)
{
    struct gpup_daemon *d = data;
    struct move *move = g_task_get_task_data(G_TASK(result));
    struct gpup_vm *vm = gpup_vms_find(d->vms, move->uuid);
    g_autoptr(GError) error = NULL;

    d->moving = false;
    if (g_task_propagate_boolean(G_TASK(result), &error)) {
        g_message("%s: its definition names %s from now on, since another VM has or names %s",
                  move->vm, move->device.address, move->from);
        if (vm) /* until it is listed anew */
            g_strlcpy(vm->address, move->device.address, sizeof(vm->address));
    } else {
        g_message("%s: its definition cannot be changed: %s", move->vm, error->message);
        g_hash_table_replace(d->unmovable, g_strdup(move->uuid), g_strdup(move->device.address));
    }
    gpup_provisional_check(d);
}

static gboolean check(void *data)
{
    struct gpup_daemon *d = data;
    g_autoptr(GTask) task = NULL;
    struct move *move;

    d->checking = 0;
    if (d->moving || d->ending || !d->vms || !gpup_vms_known(d->vms))
        return G_SOURCE_REMOVE;
    move = next_move(d);
    if (!move)
        return G_SOURCE_REMOVE;
    d->moving = true;
    task = g_task_new(NULL, NULL, moved, d);
    g_task_set_task_data(task, move, move_free);
    g_task_run_in_thread(task, move_in_thread);
    return G_SOURCE_REMOVE;
}

void gpup_provisional_check(struct gpup_daemon *d)
{
    if (!d->checking)
        d->checking = g_idle_add(check, d);
}

void gpup_provisional_end(struct gpup_daemon *d)
{
    g_clear_handle_id(&d->checking, g_source_remove);
    g_clear_pointer(&d->unmovable, g_hash_table_unref);
}
