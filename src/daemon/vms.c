/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/vms.h"

#include "core/error.h"

#include <gio/gio.h>
#include <string.h>

struct gpup_vms {
    struct gpup_manager *manager;
    GPtrArray *list;
    bool connected, known;
    char *error;
    bool listing, again;
    void (*changed)(void *data);
    void *data;
};

static void list_in_thread(GTask *task, void *source, void *data, GCancellable *cancellable)
{
    GPUP_AUTO_ERROR err = NULL;
    GPtrArray *list = NULL;

    if (gpup_manager_list(data, &list, &err) < 0) {
        g_task_return_new_error(task, G_IO_ERROR, G_IO_ERROR_FAILED, "%s", gpup_error_message(err));
        return;
    }
    g_task_return_pointer(task, list, (GDestroyNotify)g_ptr_array_unref);
}

static void listed(GObject *source, GAsyncResult *result, void *data)
{
    struct gpup_vms *vms = data;
    g_autoptr(GError) error = NULL;
    GPtrArray *list = g_task_propagate_pointer(G_TASK(result), &error);

    vms->listing = false;
    if (list) {
        g_ptr_array_unref(vms->list);
        vms->list = list;
        vms->known = vms->connected;
    } else {
        g_message("listing the VMs: %s", error->message);
    }
    if (vms->again)
        gpup_vms_refresh(vms);
    vms->changed(vms->data);
}

void gpup_vms_refresh(struct gpup_vms *vms)
{
    g_autoptr(GTask) task = NULL;

    vms->again = vms->listing;
    if (vms->listing || !vms->manager)
        return;
    vms->listing = true;
    task = g_task_new(NULL, NULL, listed, vms);
    g_task_set_task_data(task, vms->manager, NULL);
    g_task_run_in_thread(task, list_in_thread);
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
    if (event != GPUP_MANAGER_LOST)
        gpup_vms_refresh(vms);
}

struct gpup_vms *gpup_vms_new(const char *uri, void (*changed)(void *data), void *data)
{
    struct gpup_vms *vms = g_new0(struct gpup_vms, 1);

    vms->changed = changed;
    vms->data = data;
    vms->list = g_ptr_array_new_with_free_func((GDestroyNotify)gpup_vm_free);
    vms->error = g_strdup("not connected yet");
    vms->manager = gpup_manager_new(uri, on_event, vms);
    return vms;
}

void gpup_vms_free(struct gpup_vms *vms)
{
    if (!vms)
        return;
    /* a listing under way uses the manager: its callback comes first */
    while (vms->listing)
        g_main_context_iteration(NULL, TRUE);
    gpup_manager_free(vms->manager);
    g_ptr_array_unref(vms->list);
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

const char *gpup_vms_error(struct gpup_vms *vms)
{
    return vms->error;
}

struct gpup_manager *gpup_vms_manager(struct gpup_vms *vms)
{
    return vms->manager;
}
