/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "standin.h"

#include <signal.h>
#include <sys/prctl.h>

#define NOT_SET G_MAXUINT64
#define GIB     (G_GUINT64_CONSTANT(1) << 30)
#define MIB     (G_GUINT64_CONSTANT(1) << 20)

/* Records a call; TRUE when it was answered with an error (or not at all). */
static gboolean record(struct standin *s, GDBusMethodInvocation *invocation)
{
    g_autofree char *arguments =
        g_variant_print(g_dbus_method_invocation_get_parameters(invocation), FALSE);

    g_string_append_printf(s->asked, "%s%s\n", g_dbus_method_invocation_get_method_name(invocation),
                           arguments);
    if (s->hang_up) {
        g_dbus_connection_close_sync(s->connection, NULL, NULL);
        g_object_unref(invocation);
        return TRUE;
    }
    if (!s->error)
        return FALSE;
    g_dbus_method_invocation_return_dbus_error(invocation, s->error, s->message);
    return TRUE;
}

static const char *const done[] = {"first line", "second line", NULL};

static gboolean on_assign(GpupManager *manager, GDBusMethodInvocation *invocation, const char *vm,
                          GVariant *adapter, GVariant *options, struct standin *s)
{
    if (!record(s, invocation))
        gpup_manager_complete_assign(manager, invocation, done);
    return TRUE;
}

static gboolean on_unassign(GpupManager *manager, GDBusMethodInvocation *invocation, const char *vm,
                            GVariant *options, struct standin *s)
{
    if (!record(s, invocation))
        gpup_manager_complete_unassign(manager, invocation, done);
    return TRUE;
}

static gboolean on_start(GpupManager *manager, GDBusMethodInvocation *invocation, const char *vm,
                         GVariant *options, struct standin *s)
{
    if (!record(s, invocation))
        gpup_manager_complete_start_vm(manager, invocation, done);
    return TRUE;
}

static gboolean on_stop(GpupManager *manager, GDBusMethodInvocation *invocation, const char *vm,
                        GVariant *options, struct standin *s)
{
    if (!record(s, invocation))
        gpup_manager_complete_stop_vm(manager, invocation, done);
    return TRUE;
}

static gboolean on_explain(GpupManager *manager, GDBusMethodInvocation *invocation, const char *vm,
                           struct standin *s)
{
    if (record(s, invocation))
        return TRUE;
    gpup_manager_complete_explain(
        manager, invocation, "desk2 would get a partition of llvmpipe",
        g_variant_new_parsed("[('0000:03:00.0', false, false, 'not partitioned',"
                             "  'gpup gpu partition 03:00.0 N'),"
                             " ('software', true, true, '2 of 4 free, 512 MiB for desk2', '')]"));
    return TRUE;
}

static gboolean on_get_guest(GpupManager *manager, GDBusMethodInvocation *invocation,
                             const char *vm, guint vendor, struct standin *s)
{
    if (record(s, invocation))
        return TRUE;
    if (s->guest)
        gpup_manager_complete_get_guest(manager, invocation, g_variant_new_parsed(s->guest));
    else
        g_dbus_method_invocation_return_dbus_error(invocation, "org.gpup1.Error.NotSupported",
                                                   "no agent");
    return TRUE;
}

static gboolean on_get_events(GpupManager *manager, GDBusMethodInvocation *invocation,
                              GVariant *options, struct standin *s)
{
    if (record(s, invocation))
        return TRUE;
    gpup_manager_complete_get_events(
        manager, invocation,
        g_variant_new_parsed(
            "[{'id': <uint64 7>, 'time': <uint64 1000000000000000>, 'last': <uint64 "
            "1000000000000000>, 'count': <uint64 1>, 'kind': <'partition'>, 'user': <'root "
            "(alice)'>, 'gpu': <'03:00.0'>, 'vm': <''>, 'text': <'03:00.0: 4 partitions'>},"
            " {'id': <uint64 8>, 'time': <uint64 1000000060000000>, 'last': <uint64 "
            "1000000120000000>, 'count': <uint64 3>, 'kind': <'refused'>, 'user': <'libvirt'>,"
            " 'gpu': <''>, 'vm': <'desk2'>, 'text': <'no partition for desk2\n  software: "
            "full'>}]"));
    return TRUE;
}

static gboolean on_get_health(GpupGPU *gpu, GDBusMethodInvocation *invocation, struct standin *s)
{
    gpup_gpu_complete_get_health(
        gpu, invocation,
        g_variant_new_parsed("{'since': <uint64 1000000000000000>, 'renderer-deaths': <uint64 2>,"
                             " 'hangs': <uint64 1>, 'resets': <uint64 0>,"
                             " 'refused-memory': <uint64 3>, 'refused-commands': <uint64 0>,"
                             " 'refused-starts': <uint64 0>}"));
    return TRUE;
}

static gboolean on_rescan(GpupManager *manager, GDBusMethodInvocation *invocation,
                          GVariant *options, struct standin *s)
{
    const char *const lines[] = {"03:00.0 x: would be found", NULL};

    if (!record(s, invocation))
        gpup_manager_complete_rescan(manager, invocation,
                                     g_variant_n_children(options) > 0 ? lines : lines + 1);
    return TRUE;
}

static gboolean on_describe(GpupGPU *gpu, GDBusMethodInvocation *invocation, struct standin *s)
{
    gpup_gpu_complete_describe_counts(
        gpu, invocation,
        g_variant_new_parsed("[(uint32 2, uint64 7392460800, uint64 500000, uint64 0, uint64 0),"
                             " (4, 3696230400, 250000, 0, 0)]"));
    return TRUE;
}

static gboolean on_set_count(GpupGPU *gpu, GDBusMethodInvocation *invocation, guint count,
                             GVariant *options, struct standin *s)
{
    g_string_append_printf(s->asked, "%s ", gpup_gpu_get_id(gpu));
    if (!record(s, invocation))
        gpup_gpu_complete_set_partition_count(gpu, invocation, done);
    return TRUE;
}

static gboolean on_usage(GpupPartition *partition, GDBusMethodInvocation *invocation,
                         struct standin *s)
{
    if (!*gpup_partition_get_vm(partition))
        gpup_partition_complete_get_usage(partition, invocation,
                                          g_variant_new_array(G_VARIANT_TYPE("{sv}"), NULL, 0));
    else if (s->looks == 0)
        gpup_partition_complete_get_usage(
            partition, invocation,
            g_variant_new_parsed("{'vram-used': <uint64 104857600>, 'refused': <uint64 3>,"
                                 " 'renderer-deaths': <uint64 1>, 'renderer-pid': <uint32 77>}"));
    else
        gpup_partition_complete_get_usage(
            partition, invocation,
            g_variant_new_parsed("{'vram-used': <uint64 104857600>, 'gpu-time': <%t>,"
                                 " 'gpu-wait': <%t>, 'at': <%t>}",
                                 s->looks * G_GUINT64_CONSTANT(251000000),
                                 s->looks * G_GUINT64_CONSTANT(100000000),
                                 s->looks * G_GUINT64_CONSTANT(1000000000)));
    s->looks += s->looks > 0;
    return TRUE;
}

/* Takes the interface. */
static void export(struct standin *s, const char *path, gpointer interface)
{
    g_autoptr(GDBusObjectSkeleton) object = g_dbus_object_skeleton_new(path);

    g_dbus_object_skeleton_add_interface(object, interface);
    g_dbus_object_manager_server_export(s->objects, object);
    g_object_unref(interface);
}

static GVariant *counts_of(const guint32 *counts, gsize n)
{
    return g_variant_new_fixed_array(G_VARIANT_TYPE_UINT32, counts, n, sizeof(*counts));
}

/* One that each test reads the same: nothing set that is not said by the caller. */
static GpupGPU *new_gpu(struct standin *s, const char *id, const char *short_id, const char *name,
                        const char *mode, guint count, guint n_free, const char *isolation)
{
    static const char *const nothing[] = {NULL};
    static const guint32 valid[] = {2, 4};
    GpupGPU *gpu = gpup_gpu_skeleton_new();
    g_autofree char *key = g_strdup_printf("key-%s", short_id);

    g_object_set(gpu, "id", id, "short-id", short_id, "name", name, "mode", mode, "isolation",
                 isolation, "partition-count", count, "free-count", n_free, "key", key, "vendor",
                 "ACME", "driver", "acme", "node", "", "pci-id", "", "kind", "sriov", "reason", "",
                 "degraded", nothing, NULL);
    gpup_gpu_set_valid_counts(gpu, counts_of(valid, G_N_ELEMENTS(valid)));
    g_signal_connect(gpu, "handle-describe-counts", G_CALLBACK(on_describe), s);
    g_signal_connect(gpu, "handle-get-health", G_CALLBACK(on_get_health), s);
    g_signal_connect(gpu, "handle-set-partition-count", G_CALLBACK(on_set_count), s);
    return gpu;
}

static void set_resources(GpupGPU *gpu, guint64 total, guint64 available, guint64 each)
{
    gpup_gpu_set_resources(gpu,
                           g_variant_new_parsed("[('vram', 'hard', %t, %t, %t),"
                                                " ('compute', 'share', 1000000, 500000, 250000),"
                                                " ('encode', 'none', 1000000, 1000000, 250000),"
                                                " ('decode', 'none', 1000000, 1000000, 250000)]",
                                                total, available, each));
}

static void add_gpus(struct standin *s)
{
    static const char *const weak[] = {"no cgroup v2: GPU time is not limited", NULL};
    GpupGPU *gpu = new_gpu(s, "0000:03:00.0", "03:00.0", "B50", "unused", 0, 0, "hardware");

    set_resources(gpu, G_GUINT64_CONSTANT(14784921600), G_GUINT64_CONSTANT(14784921600), 0);
    export(s, "/org/gpup1/gpu/_30000_3a03_3a00_2e0", gpu);
    gpu = new_gpu(s, "0000:41:00.0", "41:00.0", "A16 1 of 4", "partitioned", 4, 1, "hardware");
    set_resources(gpu, 16 * GIB, 4 * GIB, 4 * GIB);
    export(s, "/org/gpup1/gpu/_30000_3a41_3a00_2e0", gpu);
    gpu = new_gpu(s, "0000:42:00.0", "42:00.0", "A16 2 of 4", "unusable", 0, 0, "hardware");
    gpup_gpu_set_reason(gpu, "ordinary NVIDIA driver loaded");
    export(s, "/org/gpup1/gpu/_30000_3a42_3a00_2e0", gpu);
    gpu = new_gpu(s, "software", "software", "llvmpipe", "partitioned", 4, 3, "process");
    gpup_gpu_set_kind(gpu, "virtio");
    gpup_gpu_set_degraded(gpu, weak);
    set_resources(gpu, 2 * GIB, 1536 * MIB, 512 * MIB);
    export(s, "/org/gpup1/gpu/software", gpu);
}

static const char grant_text[] = "[('vram', uint64 536870912, uint64 536870912, uint64 536870912),"
                                 " ('compute', 250000, 250000, 1000000)]";

static void add_partition(struct standin *s, guint index, const char *vm, const char *grant)
{
    GpupPartition *partition = gpup_partition_skeleton_new();
    g_autofree char *path = g_strdup_printf("/org/gpup1/partition/software/%u", index);

    g_object_set(partition, "gpu", "software", "index", index, "state", *vm ? "used" : "free", "vm",
                 vm, NULL);
    gpup_partition_set_grant(partition, g_variant_new_parsed(grant));
    g_signal_connect(partition, "handle-get-usage", G_CALLBACK(on_usage), s);
    export(s, path, partition);
}

static void add_vm(struct standin *s, const char *name, const char *uuid, const char *state,
                   GVariant *adapter, const char *partition)
{
    GpupVM *vm = gpup_vm_skeleton_new();
    g_autofree char *word = g_strdelimit(g_strdup(uuid), "-", '_');
    g_autofree char *path = g_strdup_printf("/org/gpup1/vm/%s", word);

    g_object_set(vm, "name", name, "uuid", uuid, "state", state, "has-adapter", adapter != NULL,
                 "partition", partition, "system", "", "problem", "", NULL);
    gpup_vm_set_adapter(vm, adapter ? adapter : g_variant_new_parsed("@a{sv} {}"));
    gpup_vm_set_grant(vm, g_variant_new_parsed(*partition ? grant_text : "@a(sttt) []"));
    if (!*state)
        g_object_set(vm, "state", "shut off", "problem", "its adapter cannot be read", NULL);
    export(s, path, vm);
}

static void add_vms(struct standin *s)
{
    add_vm(s, "plain", "00000000-0000-4000-8000-000000000003", "running", NULL, "");
    add_vm(s, "broken", "00000000-0000-4000-8000-000000000004", "", NULL, "");
    add_vm(s, "desk1", "00000000-0000-4000-8000-000000000001", "running",
           g_variant_new_parsed("{'id': <'11111111-0000-4000-8000-000000000001'>,"
                                " 'kind': <'virtio'>, 'gpu': <''>,"
                                " 'vram': <(%t, %t, %t)>, 'compute': <(%t, %t, %t)>}",
                                256 * MIB, 512 * MIB, GIB, G_GUINT64_CONSTANT(250000), NOT_SET,
                                NOT_SET),
           "software/1");
    add_vm(s, "desk2", "00000000-0000-4000-8000-000000000002", "shut off",
           g_variant_new_parsed("{'id': <'11111111-0000-4000-8000-000000000002'>,"
                                " 'kind': <'sriov'>, 'gpu': <'key-41:00.0'>,"
                                " 'vram': <(%t, %t, %t)>}",
                                NOT_SET, NOT_SET, NOT_SET),
           "");
}

static void on_name(GDBusConnection *connection, const char *name, gpointer data)
{
    *(gboolean *)data = TRUE;
}

static void add_manager(struct standin *s)
{
    static const char *const degraded[] = {"no polkit: only root may change anything", NULL};
    GpupManager *m = gpup_manager_skeleton_new();

    g_object_set(m, "version", "9.8.7", "host", "host1", "policy", "spread", "degraded", degraded,
                 "libvirt-connected", TRUE, "libvirt-error", "", NULL);
    g_signal_connect(m, "handle-assign", G_CALLBACK(on_assign), s);
    g_signal_connect(m, "handle-unassign", G_CALLBACK(on_unassign), s);
    g_signal_connect(m, "handle-start-vm", G_CALLBACK(on_start), s);
    g_signal_connect(m, "handle-stop-vm", G_CALLBACK(on_stop), s);
    g_signal_connect(m, "handle-explain", G_CALLBACK(on_explain), s);
    g_signal_connect(m, "handle-rescan", G_CALLBACK(on_rescan), s);
    g_signal_connect(m, "handle-get-guest", G_CALLBACK(on_get_guest), s);
    g_signal_connect(m, "handle-get-events", G_CALLBACK(on_get_events), s);
    g_dbus_interface_skeleton_export(G_DBUS_INTERFACE_SKELETON(m), s->connection, "/org/gpup1",
                                     NULL);
    s->manager = m;
}

/* In the bus daemon before its exec: a test that aborts leaves none behind. (GTestDBus does.) */
static void die_with_parent(gpointer data)
{
    prctl(PR_SET_PDEATHSIG, SIGTERM);
}

static void start_bus(struct standin *s)
{
    g_autoptr(GSubprocessLauncher) launcher = g_subprocess_launcher_new(
        G_SUBPROCESS_FLAGS_STDOUT_PIPE | G_SUBPROCESS_FLAGS_STDERR_SILENCE);
    g_autoptr(GDataInputStream) output = NULL;
    g_autoptr(GError) error = NULL;

    g_subprocess_launcher_set_child_setup(launcher, die_with_parent, NULL, NULL);
    s->bus = g_subprocess_launcher_spawn(launcher, &error, "dbus-daemon", "--session", "--nofork",
                                         "--nopidfile", "--print-address=1", NULL);
    g_assert_no_error(error);
    output = g_data_input_stream_new(g_subprocess_get_stdout_pipe(s->bus));
    s->address = g_data_input_stream_read_line(output, NULL, NULL, &error);
    g_assert_no_error(error);
    g_assert_nonnull(s->address);
}

void standin_bus_up(struct standin *s)
{
    g_autoptr(GError) error = NULL;

    *s = (struct standin){.asked = g_string_new(NULL)};
    start_bus(s);
    s->connection =
        g_dbus_connection_new_for_address_sync(s->address,
                                               G_DBUS_CONNECTION_FLAGS_AUTHENTICATION_CLIENT |
                                                   G_DBUS_CONNECTION_FLAGS_MESSAGE_BUS_CONNECTION,
                                               NULL, NULL, &error);
    g_assert_no_error(error);
    g_dbus_connection_set_exit_on_close(s->connection, FALSE);
}

void standin_up(struct standin *s)
{
    standin_bus_up(s);
    s->objects = g_dbus_object_manager_server_new("/org/gpup1");
    add_manager(s);
    add_gpus(s);
    for (guint i = 0; i < 4; i++)
        add_partition(s, i, i == 1 ? "desk1" : "", i == 1 ? grant_text : "@a(sttt) []");
    add_vms(s);
    g_dbus_object_manager_server_set_connection(s->objects, s->connection);
    s->owner = g_bus_own_name_on_connection(s->connection, "org.gpup1", G_BUS_NAME_OWNER_FLAGS_NONE,
                                            on_name, NULL, &s->acquired, NULL);
    while (!s->acquired)
        g_main_context_iteration(NULL, TRUE);
}

void standin_empty(struct standin *s)
{
    GList *list = g_dbus_object_manager_get_objects(G_DBUS_OBJECT_MANAGER(s->objects));

    for (GList *l = list; l; l = l->next)
        g_dbus_object_manager_server_unexport(s->objects, g_dbus_object_get_object_path(l->data));
    g_list_free_full(list, g_object_unref);
}

void standin_down(struct standin *s)
{
    if (s->owner)
        g_bus_unown_name(s->owner);
    if (s->manager)
        g_dbus_interface_skeleton_unexport(G_DBUS_INTERFACE_SKELETON(s->manager));
    if (s->objects)
        g_dbus_object_manager_server_set_connection(s->objects, NULL);
    g_clear_object(&s->manager);
    g_clear_object(&s->objects);
    if (!g_dbus_connection_is_closed(s->connection))
        g_dbus_connection_close_sync(s->connection, NULL, NULL);
    g_clear_object(&s->connection);
    g_subprocess_send_signal(s->bus, SIGTERM); /* it takes its socket away */
    g_subprocess_wait(s->bus, NULL, NULL);
    g_clear_object(&s->bus);
    g_free(s->address);
    g_string_free(s->asked, TRUE);
}
