/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/bus.h"

#include "cli/cli.h"
#include "core/resolve.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

#define BUS_NAME "org.gpup1"
#define BUS_PATH "/org/gpup1"

int cli_bus_connect(struct cli_bus *bus)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GDBusConnection) connection = NULL;
    g_autofree char *owner = NULL;

    connection = g_bus_get_sync(G_BUS_TYPE_SYSTEM, NULL, &error);
    if (!connection)
        return cli_not_running();
    /* GIO ignores it; a reader such as head(1) that has seen enough is to end us quietly */
    signal(SIGPIPE, SIG_DFL);
    /* nothing is started only because somebody looked */
    bus->manager = gpup_manager_proxy_new_sync(connection,
                                               G_DBUS_PROXY_FLAGS_DO_NOT_AUTO_START |
                                                   G_DBUS_PROXY_FLAGS_DO_NOT_CONNECT_SIGNALS,
                                               BUS_NAME, BUS_PATH, NULL, &error);
    if (!bus->manager)
        return cli_bus_error(error, NULL);
    owner = g_dbus_proxy_get_name_owner(G_DBUS_PROXY(bus->manager));
    return owner ? GPUP_EXIT_DONE : cli_not_running();
}

void cli_bus_clear(struct cli_bus *bus)
{
    g_clear_object(&bus->manager);
    g_clear_pointer(&bus->gpus, g_ptr_array_unref);
    g_clear_pointer(&bus->partitions, g_ptr_array_unref);
    g_clear_pointer(&bus->vms, g_ptr_array_unref);
}

static gint by_gpu_id(gconstpointer a, gconstpointer b)
{
    return strcmp(cli_text(gpup_gpu_get_id(*(GpupGPU *const *)a)),
                  cli_text(gpup_gpu_get_id(*(GpupGPU *const *)b)));
}

static gint by_gpu_and_index(gconstpointer a, gconstpointer b)
{
    GpupPartition *const *x = a, *const *y = b;
    int order = strcmp(cli_text(gpup_partition_get_gpu(*x)), cli_text(gpup_partition_get_gpu(*y)));
    guint i = gpup_partition_get_index(*x), j = gpup_partition_get_index(*y);

    return order ? order : (i > j) - (i < j);
}

static gint by_vm_name(gconstpointer a, gconstpointer b)
{
    return strcmp(cli_text(gpup_vm_get_name(*(GpupVM *const *)a)),
                  cli_text(gpup_vm_get_name(*(GpupVM *const *)b)));
}

static void take(GPtrArray *array, gpointer object)
{
    if (object)
        g_ptr_array_add(array, object);
}

int cli_bus_load(struct cli_bus *bus)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GDBusObjectManager) objects = NULL;
    GList *list;
    int code = cli_bus_connect(bus);

    if (code != GPUP_EXIT_DONE)
        return code;
    objects = gpup_object_manager_client_new_sync(
        g_dbus_proxy_get_connection(G_DBUS_PROXY(bus->manager)),
        G_DBUS_OBJECT_MANAGER_CLIENT_FLAGS_DO_NOT_AUTO_START, BUS_NAME, BUS_PATH, NULL, &error);
    if (!objects)
        return cli_bus_error(error, NULL);
    bus->gpus = g_ptr_array_new_with_free_func(g_object_unref);
    bus->partitions = g_ptr_array_new_with_free_func(g_object_unref);
    bus->vms = g_ptr_array_new_with_free_func(g_object_unref);
    list = g_dbus_object_manager_get_objects(objects);
    for (GList *l = list; l; l = l->next) {
        take(bus->gpus, gpup_object_get_gpu(l->data));
        take(bus->partitions, gpup_object_get_partition(l->data));
        take(bus->vms, gpup_object_get_vm(l->data));
    }
    g_list_free_full(list, g_object_unref);
    g_ptr_array_sort(bus->gpus, by_gpu_id);
    g_ptr_array_sort(bus->partitions, by_gpu_and_index);
    g_ptr_array_sort(bus->vms, by_vm_name);
    return GPUP_EXIT_DONE;
}

/* The words that a GPU may be called by; the strings stay the proxy's. */
static struct gpup_gpu words_of(GpupGPU *gpu)
{
    return (struct gpup_gpu){
        .id = (char *)cli_text(gpup_gpu_get_id(gpu)),
        .key = (char *)cli_text(gpup_gpu_get_key(gpu)),
        .name = (char *)cli_text(gpup_gpu_get_name(gpu)),
        .node = (char *)cli_text(gpup_gpu_get_node(gpu)),
    };
}

int cli_bus_find_gpu(const struct cli_bus *bus, const char *word, GpupGPU **gpu)
{
    GPUP_AUTO_ERROR err = NULL;
    g_autofree struct gpup_gpu *words = g_new0(struct gpup_gpu, bus->gpus->len + 1);
    g_autofree struct gpup_gpu **list = g_new0(struct gpup_gpu *, bus->gpus->len + 1);
    size_t index = 0;

    for (guint i = 0; i < bus->gpus->len; i++) {
        words[i] = words_of(bus->gpus->pdata[i]);
        list[i] = &words[i];
    }
    if (gpup_find_gpu(list, bus->gpus->len, word, &index, &err) < 0)
        return cli_error(err);
    *gpu = bus->gpus->pdata[index];
    return GPUP_EXIT_DONE;
}

static int no_such_vm(const struct cli_bus *bus, const char *word)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new();
    const char *nearest;

    for (guint i = 0; i < bus->vms->len; i++)
        g_ptr_array_add(names, (gpointer)cli_text(gpup_vm_get_name(bus->vms->pdata[i])));
    g_ptr_array_add(names, NULL);
    nearest = cli_nearest(word, (const char *const *)names->pdata);
    if (nearest)
        return cli_fail("no VM '%s': did you mean '%s'?", word, nearest);
    if (!gpup_manager_get_libvirt_connected(bus->manager))
        return cli_fail("no VM '%s' is known: libvirt cannot be reached: %s", word,
                        cli_text(gpup_manager_get_libvirt_error(bus->manager)));
    return cli_fail("no VM '%s': gpup vm list shows the VMs there are", word);
}

int cli_bus_find_vm(const struct cli_bus *bus, const char *word, GpupVM **vm)
{
    for (guint i = 0; i < bus->vms->len; i++) {
        *vm = bus->vms->pdata[i];
        if (g_strcmp0(gpup_vm_get_name(*vm), word) == 0)
            return GPUP_EXIT_DONE;
    }
    for (guint i = 0; i < bus->vms->len; i++) {
        *vm = bus->vms->pdata[i];
        if (g_ascii_strcasecmp(cli_text(gpup_vm_get_uuid(*vm)), word) == 0)
            return GPUP_EXIT_DONE;
    }
    return no_such_vm(bus, word);
}

GpupGPU *cli_bus_gpu(const struct cli_bus *bus, const char *id)
{
    for (guint i = 0; *id && i < bus->gpus->len; i++) {
        GpupGPU *gpu = bus->gpus->pdata[i];

        if (g_strcmp0(gpup_gpu_get_id(gpu), id) == 0 ||
            g_strcmp0(gpup_gpu_get_short_id(gpu), id) == 0 ||
            g_strcmp0(gpup_gpu_get_key(gpu), id) == 0)
            return gpu;
    }
    return NULL;
}

gboolean cli_partition_is_of(GpupPartition *partition, GpupGPU *gpu)
{
    const char *id = cli_text(gpup_partition_get_gpu(partition));

    return g_strcmp0(gpup_gpu_get_id(gpu), id) == 0 ||
           g_strcmp0(gpup_gpu_get_short_id(gpu), id) == 0;
}

/* Splits "GPU/index". NULL when the GPU is not there. */
static GpupGPU *gpu_of_name(const struct cli_bus *bus, const char *name, const char **index)
{
    const char *slash = strrchr(name, '/');
    g_autofree char *id = NULL;

    if (!slash)
        return NULL;
    id = g_strndup(name, (gsize)(slash - name));
    *index = slash + 1;
    return cli_bus_gpu(bus, id);
}

GpupPartition *cli_bus_partition(const struct cli_bus *bus, const char *name)
{
    const char *index;
    GpupGPU *gpu = gpu_of_name(bus, name, &index);

    for (guint i = 0; gpu && i < bus->partitions->len; i++) {
        GpupPartition *partition = bus->partitions->pdata[i];
        g_autofree char *n = g_strdup_printf("%u", gpup_partition_get_index(partition));

        if (cli_partition_is_of(partition, gpu) && strcmp(n, index) == 0)
            return partition;
    }
    return NULL;
}

GVariant *cli_partition_usage(GpupPartition *partition)
{
    GVariant *usage = NULL;

    if (partition && g_strcmp0(gpup_partition_get_state(partition), "used") == 0)
        gpup_partition_call_get_usage_sync(partition, CLI_READ_FLAGS, CLI_READ_TIMEOUT, &usage,
                                           NULL, NULL);
    return usage;
}

char *cli_partition_short_name(const struct cli_bus *bus, const char *name)
{
    const char *index;
    GpupGPU *gpu = gpu_of_name(bus, name, &index);

    if (!gpu)
        return g_strdup(name);
    return g_strdup_printf("%s/%s", cli_text(gpup_gpu_get_short_id(gpu)), index);
}

void cli_bus_notes(const struct cli_bus *bus)
{
    const char *const *degraded = gpup_manager_get_degraded(bus->manager);

    for (; degraded && *degraded; degraded++)
        cli_note("%s", *degraded);
    if (!gpup_manager_get_libvirt_connected(bus->manager))
        cli_note("libvirt cannot be reached, so what is shown of VMs may be old or missing: %s",
                 cli_text(gpup_manager_get_libvirt_error(bus->manager)));
}

void cli_option_bool(GVariantBuilder *options, const char *name, gboolean value)
{
    if (value)
        g_variant_builder_add(options, "{sv}", name, g_variant_new_boolean(TRUE));
}

void cli_option_number(GVariantBuilder *options, const char *name, guint32 value)
{
    if (value > 0)
        g_variant_builder_add(options, "{sv}", name, g_variant_new_uint32(value));
}

int cli_bus_outcome(gboolean done, char *const *lines, gboolean dry_run, const GError *error,
                    const char *action)
{
    if (!done)
        return cli_bus_error(error, action);
    for (; lines && *lines; lines++) {
        g_autofree char *clean = cli_clean(*lines);

        puts(clean);
    }
    if (dry_run)
        puts("Dry run: nothing was changed.");
    return GPUP_EXIT_DONE;
}
