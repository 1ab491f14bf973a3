/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/bus.h"

#include "core/error.h"
#include "daemon/authority.h"
#include "daemon/present.h"
#include "daemon/verbs.h"
#include "gpup-dbus.h"

#include <errno.h>
#include <string.h>

#define ROOT "/org/gpup1"

struct gpup_bus {
    struct gpup_daemon *daemon;
    GDBusConnection *connection; /* borrowed: the process has it */
    GDBusObjectManagerServer *objects;
    GpupManager *manager;
    GHashTable *exported; /* path -> GpupObjectSkeleton *, owned */
    guint refresh;
};

/* ---- methods ---- */

static gboolean on_assign(GpupManager *m, GDBusMethodInvocation *invocation, const char *vm,
                          GVariant *adapter, GVariant *options, struct gpup_bus *bus)
{
    static const char *const allowed[] = {"dry-run:b", "force:b",   "live:b",
                                          "restart:b", "timeout:u", NULL};

    gpup_call_start(bus->daemon, invocation, GPUP_ACTION_ADAPTER, NULL, allowed, gpup_verb_assign);
    return TRUE;
}

static gboolean on_unassign(GpupManager *m, GDBusMethodInvocation *invocation, const char *vm,
                            GVariant *options, struct gpup_bus *bus)
{
    static const char *const allowed[] = {"dry-run:b", "restart:b", "timeout:u", NULL};

    gpup_call_start(bus->daemon, invocation, GPUP_ACTION_ADAPTER, NULL, allowed,
                    gpup_verb_unassign);
    return TRUE;
}

static gboolean on_start_vm(GpupManager *m, GDBusMethodInvocation *invocation, const char *vm,
                            GVariant *options, struct gpup_bus *bus)
{
    static const char *const allowed[] = {"dry-run:b", NULL};

    gpup_call_start(bus->daemon, invocation, GPUP_ACTION_START, NULL, allowed, gpup_verb_start_vm);
    return TRUE;
}

static gboolean on_stop_vm(GpupManager *m, GDBusMethodInvocation *invocation, const char *vm,
                           GVariant *options, struct gpup_bus *bus)
{
    static const char *const allowed[] = {"dry-run:b", "power-off:b", "timeout:u", NULL};

    gpup_call_start(bus->daemon, invocation, GPUP_ACTION_START, NULL, allowed, gpup_verb_stop_vm);
    return TRUE;
}

static gboolean on_explain(GpupManager *m, GDBusMethodInvocation *invocation, const char *vm,
                           struct gpup_bus *bus)
{
    gpup_verb_explain(bus->daemon, invocation, vm);
    return TRUE;
}

static gboolean on_get_guest(GpupManager *m, GDBusMethodInvocation *invocation, const char *vm,
                             guint vendor, struct gpup_bus *bus)
{
    static const char *const allowed[] = {NULL};

    gpup_call_start(bus->daemon, invocation, GPUP_ACTION_START, NULL, allowed, gpup_verb_get_guest);
    return TRUE;
}

static gboolean on_get_events(GpupManager *m, GDBusMethodInvocation *invocation, GVariant *options,
                              struct gpup_bus *bus)
{
    gpup_verb_get_events(bus->daemon, invocation, options);
    return TRUE;
}

static gboolean on_rescan(GpupManager *m, GDBusMethodInvocation *invocation, GVariant *options,
                          struct gpup_bus *bus)
{
    static const char *const allowed[] = {"dry-run:b", NULL};

    gpup_call_start(bus->daemon, invocation, GPUP_ACTION_PARTITION, NULL, allowed,
                    gpup_verb_rescan);
    return TRUE;
}

static gboolean on_forget(GpupManager *m, GDBusMethodInvocation *invocation, const char *key,
                          GVariant *options, struct gpup_bus *bus)
{
    static const char *const allowed[] = {"dry-run:b", NULL};

    gpup_call_start(bus->daemon, invocation, GPUP_ACTION_PARTITION, NULL, allowed,
                    gpup_verb_forget);
    return TRUE;
}

static gboolean on_set_count(GpupGPU *gpu, GDBusMethodInvocation *invocation, guint count,
                             GVariant *options, struct gpup_bus *bus)
{
    static const char *const allowed[] = {"dry-run:b", "power-off-vms:b", NULL};

    gpup_call_start(bus->daemon, invocation, GPUP_ACTION_PARTITION, gpup_gpu_get_key(gpu), allowed,
                    gpup_verb_set_count);
    return TRUE;
}

static gboolean on_set_passthrough(GpupGPU *gpu, GDBusMethodInvocation *invocation, gboolean on,
                                   GVariant *options, struct gpup_bus *bus)
{
    static const char *const allowed[] = {"dry-run:b", NULL};

    gpup_call_start(bus->daemon, invocation, GPUP_ACTION_PARTITION, gpup_gpu_get_key(gpu), allowed,
                    gpup_verb_set_passthrough);
    return TRUE;
}

static gboolean on_describe_counts(GpupGPU *gpu, GDBusMethodInvocation *invocation,
                                   struct gpup_bus *bus)
{
    gpup_gpu_complete_describe_counts(gpu, invocation,
                                      gpup_present_counts(bus->daemon, gpup_gpu_get_key(gpu)));
    return TRUE;
}

static gboolean on_get_health(GpupGPU *gpu, GDBusMethodInvocation *invocation, struct gpup_bus *bus)
{
    gpup_gpu_complete_get_health(gpu, invocation,
                                 gpup_present_health(bus->daemon, gpup_gpu_get_key(gpu)));
    return TRUE;
}

static gboolean on_get_usage(GpupPartition *partition, GDBusMethodInvocation *invocation,
                             struct gpup_bus *bus)
{
    gpup_partition_complete_get_usage(partition, invocation,
                                      gpup_present_usage(bus->daemon,
                                                         gpup_partition_get_gpu(partition),
                                                         gpup_partition_get_index(partition)));
    return TRUE;
}

/* ---- objects ---- */

/* What is neither letter nor digit becomes _XX. */
static char *escape(const char *text)
{
    GString *s = g_string_new(NULL);

    for (; *text; text++) {
        if (g_ascii_isalnum(*text))
            g_string_append_c(s, *text);
        else
            g_string_append_printf(s, "_%02x", (unsigned char)*text);
    }
    return g_string_free(s, FALSE);
}

/* The object at `path`, made where there is none, and marked as still wanted. */
static GpupObjectSkeleton *object_at(struct gpup_bus *bus, GHashTable *wanted, const char *path,
                                     bool *is_new)
{
    GpupObjectSkeleton *object = g_hash_table_lookup(bus->exported, path);

    *is_new = !object;
    if (!object) {
        object = gpup_object_skeleton_new(path);
        g_hash_table_insert(bus->exported, g_strdup(path), object);
    }
    g_hash_table_add(wanted, g_strdup(path));
    return object;
}

static void export(struct gpup_bus *bus, GpupObjectSkeleton *object, bool is_new)
{
    if (is_new)
        g_dbus_object_manager_server_export(bus->objects, G_DBUS_OBJECT_SKELETON(object));
}

static void refresh_gpu(struct gpup_bus *bus, GHashTable *wanted, struct gpup_gpu *gpu)
{
    g_autofree char *name = escape(gpu->id);
    g_autofree char *path = g_strdup_printf(ROOT "/gpu/%s", name);
    bool is_new;
    GpupObjectSkeleton *object = object_at(bus, wanted, path, &is_new);
    g_autoptr(GpupGPU) interface = NULL;

    if (is_new) {
        interface = gpup_gpu_skeleton_new();
        g_signal_connect(interface, "handle-set-partition-count", G_CALLBACK(on_set_count), bus);
        g_signal_connect(interface, "handle-set-passthrough", G_CALLBACK(on_set_passthrough), bus);
        g_signal_connect(interface, "handle-describe-counts", G_CALLBACK(on_describe_counts), bus);
        g_signal_connect(interface, "handle-get-health", G_CALLBACK(on_get_health), bus);
        gpup_object_skeleton_set_gpu(object, interface);
    } else {
        interface = gpup_object_get_gpu(GPUP_OBJECT(object));
    }
    gpup_present_gpu(bus->daemon, gpu, interface);
    export(bus, object, is_new);
}

static void refresh_partition(struct gpup_bus *bus, GHashTable *wanted, struct gpup_gpu *gpu,
                              unsigned index)
{
    g_autofree char *name = escape(gpu->id);
    g_autofree char *path = g_strdup_printf(ROOT "/partition/%s/%u", name, index);
    bool is_new;
    GpupObjectSkeleton *object = object_at(bus, wanted, path, &is_new);
    g_autoptr(GpupPartition) interface = NULL;

    if (is_new) {
        interface = gpup_partition_skeleton_new();
        g_signal_connect(interface, "handle-get-usage", G_CALLBACK(on_get_usage), bus);
        gpup_object_skeleton_set_partition(object, interface);
    } else {
        interface = gpup_object_get_partition(GPUP_OBJECT(object));
    }
    gpup_present_partition(bus->daemon, gpu, index, interface);
    export(bus, object, is_new);
}

static void refresh_vm(struct gpup_bus *bus, GHashTable *wanted, struct gpup_vm *vm)
{
    g_autofree char *name = g_strdelimit(g_strdup(vm->uuid), "-", '_');
    g_autofree char *path = g_strdup_printf(ROOT "/vm/%s", name);
    bool is_new;
    GpupObjectSkeleton *object = object_at(bus, wanted, path, &is_new);
    g_autoptr(GpupVM) interface = NULL;

    if (is_new) {
        interface = gpup_vm_skeleton_new();
        gpup_object_skeleton_set_vm(object, interface);
    } else {
        interface = gpup_object_get_vm(GPUP_OBJECT(object));
    }
    gpup_present_vm(bus->daemon, vm, interface);
    export(bus, object, is_new);
}

static void remove_unwanted(struct gpup_bus *bus, GHashTable *wanted)
{
    GHashTableIter iter;
    void *path;

    g_hash_table_iter_init(&iter, bus->exported);
    while (g_hash_table_iter_next(&iter, &path, NULL)) {
        if (g_hash_table_contains(wanted, path))
            continue;
        g_dbus_object_manager_server_unexport(bus->objects, path);
        g_hash_table_iter_remove(&iter);
    }
}

static gboolean refresh_now(void *data)
{
    struct gpup_bus *bus = data;
    g_autoptr(GHashTable) wanted = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    GPtrArray *vms = gpup_vms_list(bus->daemon->vms);
    size_t n;
    struct gpup_gpu *const *gpus = gpup_host_gpus(bus->daemon->host, &n);

    bus->refresh = 0;
    gpup_present_manager(bus->daemon, bus->manager);
    for (size_t i = 0; i < n; i++) {
        refresh_gpu(bus, wanted, gpus[i]);
        for (unsigned k = 0; k < gpus[i]->n_slots; k++)
            refresh_partition(bus, wanted, gpus[i], k);
    }
    for (guint i = 0; i < vms->len; i++)
        refresh_vm(bus, wanted, vms->pdata[i]);
    remove_unwanted(bus, wanted);
    return G_SOURCE_REMOVE;
}

/* Ahead of what comes in from the bus: whoever was answered sees the new state. */
void gpup_bus_refresh(struct gpup_bus *bus)
{
    if (bus->refresh == 0)
        bus->refresh = g_idle_add_full(G_PRIORITY_HIGH, refresh_now, bus, NULL);
}

/* ---- life ---- */

static void connect_methods(struct gpup_bus *bus)
{
    static const struct {
        const char *signal;
        GCallback handler;
    } methods[] = {
        {"handle-assign", G_CALLBACK(on_assign)},
        {"handle-unassign", G_CALLBACK(on_unassign)},
        {"handle-start-vm", G_CALLBACK(on_start_vm)},
        {"handle-stop-vm", G_CALLBACK(on_stop_vm)},
        {"handle-explain", G_CALLBACK(on_explain)},
        {"handle-rescan", G_CALLBACK(on_rescan)},
        {"handle-forget", G_CALLBACK(on_forget)},
        {"handle-get-guest", G_CALLBACK(on_get_guest)},
        {"handle-get-events", G_CALLBACK(on_get_events)},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(methods); i++)
        g_signal_connect(bus->manager, methods[i].signal, methods[i].handler, bus);
}

struct gpup_bus *gpup_bus_new(struct gpup_daemon *daemon, GDBusConnection *connection,
                              struct gpup_error **err)
{
    struct gpup_bus *bus = g_new0(struct gpup_bus, 1);
    g_autoptr(GError) error = NULL;

    bus->daemon = daemon;
    bus->connection = connection;
    bus->exported = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_object_unref);
    bus->objects = g_dbus_object_manager_server_new(ROOT);
    bus->manager = gpup_manager_skeleton_new();
    connect_methods(bus);
    refresh_now(bus);
    if (!g_dbus_interface_skeleton_export(G_DBUS_INTERFACE_SKELETON(bus->manager), connection, ROOT,
                                          &error)) {
        gpup_error_set(err, EIO, "%s", error->message);
        gpup_bus_free(bus);
        return NULL;
    }
    g_dbus_object_manager_server_set_connection(bus->objects, connection);
    return bus;
}

GDBusConnection *gpup_bus_connection(struct gpup_bus *bus)
{
    return bus->connection;
}

void gpup_bus_free(struct gpup_bus *bus)
{
    if (!bus)
        return;
    g_clear_handle_id(&bus->refresh, g_source_remove);
    g_dbus_object_manager_server_set_connection(bus->objects, NULL);
    g_dbus_interface_skeleton_unexport(G_DBUS_INTERFACE_SKELETON(bus->manager));
    g_object_unref(bus->objects);
    g_object_unref(bus->manager);
    g_hash_table_unref(bus->exported);
    g_free(bus);
}
