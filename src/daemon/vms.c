/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/vms.h"

#include "core/error.h"

#include <errno.h>
#include <gio/gio.h>
#include <string.h>

#define RETRY_MS 1000

struct gpup_vms {
    struct gpup_manager *manager;
    GPtrArray *list; /* by name */
    bool connected, known;
    char *error;
    bool working;
    bool all;          /* every VM is to be asked for, */
    GHashTable *dirty; /* or these (by UUID) */
    gint64 seen;       /* when all were asked for last (monotonic, us) */
    guint retry;
    bool ending;
    void (*changed)(void *data);
    void *data;
};

/* What a worker asks libvirt. */
struct question {
    struct gpup_manager *manager;
    GStrv uuids;     /* NULL: all */
    GPtrArray *list; /* of all; or for each UUID a VM or NULL, where it is gone */
    gint64 began;
};

static void question_free(void *data)
{
    struct question *q = data;

    g_strfreev(q->uuids);
    g_clear_pointer(&q->list, g_ptr_array_unref);
    g_free(q);
}

static void work(struct gpup_vms *vms);

static gboolean on_retry(void *data)
{
    struct gpup_vms *vms = data;

    vms->retry = 0;
    work(vms);
    return G_SOURCE_REMOVE;
}

static int ask_for_some(struct question *q, struct gpup_error **err)
{
    q->list = g_ptr_array_new_with_free_func((GDestroyNotify)gpup_vm_free);
    for (char **uuid = q->uuids; *uuid; uuid++) {
        struct gpup_vm *vm = NULL;
        GPUP_AUTO_ERROR why = NULL;

        if (gpup_manager_get(q->manager, *uuid, &vm, &why) < 0 && why->code != ENOENT)
            return gpup_error_move(err, g_steal_pointer(&why));
        g_ptr_array_add(q->list, vm);
    }
    return 0;
}

static void ask_in_thread(GTask *task, void *source, void *data, GCancellable *cancellable)
{
    struct question *q = data;
    GPUP_AUTO_ERROR err = NULL;
    int ret = q->uuids ? ask_for_some(q, &err) : gpup_manager_list(q->manager, &q->list, &err);

    if (ret < 0)
        g_task_return_new_error(task, G_IO_ERROR, G_IO_ERROR_FAILED, "%s", gpup_error_message(err));
    else
        g_task_return_boolean(task, TRUE);
}

static void remove_vm(struct gpup_vms *vms, const char *uuid)
{
    for (guint i = 0; i < vms->list->len; i++) {
        if (strcmp(((struct gpup_vm *)vms->list->pdata[i])->uuid, uuid) != 0)
            continue;
        g_ptr_array_remove_index(vms->list, i);
        return;
    }
}

static void insert_vm(struct gpup_vms *vms, struct gpup_vm *vm)
{
    guint i = 0;

    remove_vm(vms, vm->uuid);
    while (i < vms->list->len &&
           strcmp(((struct gpup_vm *)vms->list->pdata[i])->name, vm->name) < 0)
        i++;
    g_ptr_array_insert(vms->list, (gint)i, vm);
}

static void take_answer(struct gpup_vms *vms, struct question *q)
{
    for (guint i = 0; i < q->list->len; i++) {
        if (q->list->pdata[i])
            ((struct gpup_vm *)q->list->pdata[i])->asked = q->began;
    }
    if (!q->uuids) {
        vms->seen = q->began;
        g_ptr_array_unref(vms->list);
        vms->list = g_steal_pointer(&q->list);
        vms->known = vms->connected;
        return;
    }
    for (guint i = 0; i < q->list->len; i++) {
        if (q->list->pdata[i])
            insert_vm(vms, g_steal_pointer(&q->list->pdata[i]));
        else
            remove_vm(vms, q->uuids[i]);
    }
}

static void answered(GObject *source, GAsyncResult *result, void *data)
{
    struct gpup_vms *vms = data;
    g_autoptr(GError) error = NULL;

    vms->working = false;
    if (g_task_propagate_boolean(G_TASK(result), &error)) {
        take_answer(vms, g_task_get_task_data(G_TASK(result)));
    } else {
        g_message("libvirt does not say which VMs there are: %s", error->message);
        vms->all = true; /* what was asked for is not known now */
        vms->known = false;
        if (vms->connected && vms->retry == 0 && !vms->ending)
            vms->retry = g_timeout_add(RETRY_MS, on_retry, vms);
        vms->changed(vms->data);
        return;
    }
    work(vms);
    vms->changed(vms->data);
}

static void work(struct gpup_vms *vms)
{
    g_autoptr(GTask) task = NULL;
    struct question *q;

    if (vms->working || vms->ending || !vms->manager ||
        (!vms->all && g_hash_table_size(vms->dirty) == 0))
        return;
    vms->working = true;
    q = g_new0(struct question, 1);
    q->manager = vms->manager;
    q->began = g_get_monotonic_time();
    if (!vms->all) {
        q->uuids = (GStrv)g_hash_table_get_keys_as_array(vms->dirty, NULL);
        g_hash_table_steal_all(vms->dirty); /* the keys are the question's */
    }
    g_hash_table_remove_all(vms->dirty);
    vms->all = false;
    task = g_task_new(NULL, NULL, answered, vms);
    g_task_set_task_data(task, q, question_free);
    g_task_run_in_thread(task, ask_in_thread);
}

void gpup_vms_refresh(struct gpup_vms *vms)
{
    vms->all = true;
    work(vms);
}

void gpup_vms_put(struct gpup_vms *vms, struct gpup_vm *vm)
{
    struct gpup_vm *old = gpup_vms_find(vms, vm->uuid);

    vm->asked = old ? old->asked : 0; /* nobody knows when this one was */
    insert_vm(vms, vm);
    vms->changed(vms->data);
}

static void on_event(enum gpup_vm_event event, const char *uuid, const char *text, void *data)
{
    struct gpup_vms *vms = data;

    if (event == GPUP_MANAGER_LOST || event == GPUP_MANAGER_CONNECTED) {
        vms->connected = event == GPUP_MANAGER_CONNECTED;
        vms->known = false;
        g_free(vms->error);
        vms->error = g_strdup(vms->connected || !text ? "" : text);
        vms->changed(vms->data);
    }
    if (event == GPUP_MANAGER_CONNECTED)
        vms->all = true;
    else if (event != GPUP_MANAGER_LOST)
        g_hash_table_add(vms->dirty, g_strdup(uuid));
    work(vms);
}

struct gpup_vms *gpup_vms_new(const char *uri, void (*changed)(void *data), void *data)
{
    struct gpup_vms *vms = g_new0(struct gpup_vms, 1);

    vms->changed = changed;
    vms->data = data;
    vms->list = g_ptr_array_new_with_free_func((GDestroyNotify)gpup_vm_free);
    vms->error = g_strdup("not connected yet");
    vms->dirty = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    vms->manager = gpup_manager_new(uri, on_event, vms);
    return vms;
}

void gpup_vms_end(struct gpup_vms *vms)
{
    vms->ending = true;
    gpup_manager_end(vms->manager);
}

bool gpup_vms_are_busy(struct gpup_vms *vms)
{
    return vms->working || !gpup_manager_has_ended(vms->manager);
}

void gpup_vms_free(struct gpup_vms *vms)
{
    if (!vms)
        return;
    g_clear_handle_id(&vms->retry, g_source_remove);
    gpup_manager_free(vms->manager);
    g_ptr_array_unref(vms->list);
    g_hash_table_unref(vms->dirty);
    g_free(vms->error);
    g_free(vms);
}

GPtrArray *gpup_vms_list(struct gpup_vms *vms)
{
    return vms->list;
}

struct gpup_vm *gpup_vms_find(struct gpup_vms *vms, const char *word)
{
    for (guint i = 0; i < vms->list->len; i++) {
        struct gpup_vm *vm = vms->list->pdata[i];

        if (strcmp(vm->name, word) == 0 || strcmp(vm->uuid, word) == 0)
            return vm;
    }
    return NULL;
}

bool gpup_vms_connected(struct gpup_vms *vms)
{
    return vms->connected;
}

bool gpup_vms_known(struct gpup_vms *vms)
{
    return vms->known;
}

gint64 gpup_vms_asked(struct gpup_vms *vms, const char *uuid)
{
    struct gpup_vm *vm = gpup_vms_find(vms, uuid);

    if (!vms->known)
        return 0;
    return vm ? vm->asked : vms->seen;
}

const char *gpup_vms_error(struct gpup_vms *vms)
{
    return vms->error;
}

struct gpup_manager *gpup_vms_manager(struct gpup_vms *vms)
{
    return vms->manager;
}
