/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/bus.h"
#include "cli/cli.h"
#include "cli/gpu.h"
#include "cli/values.h"
#include "core/units.h"

#include <glib/gstdio.h>
#include <stdio.h>
#include <string.h>

/*
 * What is worth watching, in the OpenMetrics text format
 * (https://github.com/OpenObservability/OpenMetrics, 1.0), which Prometheus' node_exporter reads
 * from a file (its textfile collector). That one refuses a file with a type that the older format
 * of Prometheus lacks, such as info.
 */

enum type {
    GAUGE,
    COUNTER
};

struct family {
    const char *name; /* without the suffix of its type, with that of its unit */
    enum type type;
    const char *unit, *help;
    const char *key; /* of GetUsage or GetHealth, or NULL */
    guint64 divisor; /* of that value: 10^9 for nanoseconds as seconds */
};

#define NS_PER_S G_GUINT64_CONSTANT(1000000000)

enum {
    UP,
    BUILD,
    LIBVIRT,
    HOST_FAMILIES
};
static const struct family host_families[HOST_FAMILIES] = {
    [UP] = {"gpup_up", GAUGE, "", "Whether gpupd answers."},
    [BUILD] = {"gpup_build_info", GAUGE, "", "The version of gpupd."},
    [LIBVIRT] = {"gpup_libvirt_connected", GAUGE, "", "Whether gpupd reaches libvirt."},
};

enum {
    GPU,
    GPU_MEMORY,
    GPU_AVAILABLE,
    GPU_PARTITIONS,
    GPU_FREE,
    GPU_FAMILIES
};
static const struct family gpu_families[GPU_FAMILIES] = {
    [GPU] = {"gpup_gpu_info", GAUGE, "", "A GPU of this host."},
    [GPU_MEMORY] = {"gpup_gpu_memory_bytes", GAUGE, "bytes", "Memory of the GPU."},
    [GPU_AVAILABLE] = {"gpup_gpu_memory_available_bytes", GAUGE, "bytes",
                       "Memory that no partition has been given."},
    [GPU_PARTITIONS] = {"gpup_gpu_partitions", GAUGE, "", "Partitions that the GPU is cut into."},
    [GPU_FREE] = {"gpup_gpu_partitions_free", GAUGE, "", "Partitions that no VM holds."},
};

static const struct family health_families[] = {
    {"gpup_gpu_renderer_deaths", COUNTER, "", "Renderers that ended by themselves or hung.",
     "renderer-deaths", 1},
    {"gpup_gpu_renderer_hangs", COUNTER, "", "Renderers that were ended for taking too long.",
     "hangs", 1},
    {"gpup_gpu_resets", COUNTER, "", "Resets by the GPU's driver.", "resets", 1},
    {"gpup_gpu_memory_refusals", COUNTER, "", "Requests of guests beyond their partition's memory.",
     "refused-memory", 1},
    {"gpup_gpu_command_refusals", COUNTER, "", "Command streams of guests that were not valid.",
     "refused-commands", 1},
    {"gpup_gpu_start_refusals", COUNTER, "", "Starts of VMs that the GPU had no partition for.",
     "refused-starts", 1},
};

enum {
    VM_LIMIT,
    VM_COMPUTE_MIN,
    VM_COMPUTE_MAX,
    VM_FAMILIES
};
static const struct family vm_families[VM_FAMILIES] = {
    [VM_LIMIT] = {"gpup_vm_memory_limit_bytes", GAUGE, "bytes",
                  "GPU memory that the VM was given."},
    [VM_COMPUTE_MIN] = {"gpup_vm_compute_min_ratio", GAUGE, "ratio",
                        "Part of the GPU's time that the VM is guaranteed."},
    [VM_COMPUTE_MAX] = {"gpup_vm_compute_max_ratio", GAUGE, "ratio",
                        "Part of the GPU's time that the VM never passes."},
};

static const struct family usage_families[] = {
    {"gpup_vm_memory_used_bytes", GAUGE, "bytes", "GPU memory that the VM uses.", "vram-used", 1},
    {"gpup_vm_memory_peak_bytes", GAUGE, "bytes", "The most that it has used.", "vram-peak", 1},
    {"gpup_vm_gpu_time_seconds", COUNTER, "seconds", "Time of the whole GPU that the VM used.",
     "gpu-time", NS_PER_S},
    {"gpup_vm_waiting_seconds", COUNTER, "seconds",
     "Time for which commands of the VM were held back for others or for its maximum.", "gpu-wait",
     NS_PER_S},
    {"gpup_vm_memory_refusals", COUNTER, "", "Requests beyond its memory.", "refused", 1},
    {"gpup_vm_command_refusals", COUNTER, "", "Its command streams that were not valid.",
     "stream-errors", 1},
    {"gpup_vm_renderer_deaths", COUNTER, "", "Times its renderer ended and was replaced.",
     "renderer-deaths", 1},
    {"gpup_vm_renderer_hangs", COUNTER, "", "Those of them where it took too long.",
     "renderer-hangs", 1},
};

static void add_header(GString *text, const struct family *f)
{
    static const char *const types[] = {"gauge", "counter"};

    g_string_append_printf(text, "# TYPE %s %s\n", f->name, types[f->type]);
    if (*f->unit)
        g_string_append_printf(text, "# UNIT %s %s\n", f->name, f->unit);
    g_string_append_printf(text, "# HELP %s %s\n", f->name, f->help);
}

static void add_label(GString *text, const char *name, const char *value)
{
    g_string_append_printf(text, "%s%s=\"", text->len ? "," : "", name);
    for (; *value; value++) {
        if (*value == '\\' || *value == '"')
            g_string_append_c(text, '\\');
        if (*value == '\n')
            g_string_append(text, "\\n");
        else
            g_string_append_c(text, *value);
    }
    g_string_append_c(text, '"');
}

/* value / divisor, exactly. */
static void add_sample(GString *text, const struct family *f, const char *labels, guint64 value,
                       guint64 divisor)
{
    static const char *const suffixes[] = {"", "_total"};

    g_string_append_printf(text, "%s%s", f->name, suffixes[f->type]);
    if (*labels)
        g_string_append_printf(text, "{%s}", labels);
    g_string_append_printf(text, " %" G_GUINT64_FORMAT, value / divisor);
    if (divisor > 1) {
        int digits = 0;

        for (guint64 d = divisor; d > 1; d /= 10)
            digits++;
        g_string_append_printf(text, ".%0*" G_GUINT64_FORMAT, digits, value % divisor);
    }
    g_string_append_c(text, '\n');
}

/* ---- host and GPUs ---- */

static void add_host(GString *text, const struct cli_bus *bus)
{
    g_autoptr(GString) version = g_string_new(NULL);

    add_header(text, &host_families[UP]);
    add_sample(text, &host_families[UP], "", bus != NULL, 1);
    if (!bus)
        return;
    add_label(version, "version", cli_text(gpup_manager_get_version(bus->manager)));
    add_header(text, &host_families[BUILD]);
    add_sample(text, &host_families[BUILD], version->str, 1, 1);
    add_header(text, &host_families[LIBVIRT]);
    add_sample(text, &host_families[LIBVIRT], "",
               gpup_manager_get_libvirt_connected(bus->manager) != FALSE, 1);
}

static char *gpu_labels(GpupGPU *gpu, bool all)
{
    GString *labels = g_string_new(NULL);

    add_label(labels, "gpu", cli_text(gpup_gpu_get_short_id(gpu)));
    if (all) {
        add_label(labels, "name", cli_text(gpup_gpu_get_name(gpu)));
        add_label(labels, "driver", cli_text(gpup_gpu_get_driver(gpu)));
        add_label(labels, "kind", cli_text(gpup_gpu_get_kind(gpu)));
        add_label(labels, "mode", cli_text(gpup_gpu_get_mode(gpu)));
    }
    return g_string_free(labels, FALSE);
}

static guint64 gpu_value(GpupGPU *gpu, int family)
{
    struct cli_resource resource[GPUP_RESOURCES];

    cli_read_resources(gpup_gpu_get_resources(gpu), resource);
    switch (family) {
    case GPU_MEMORY:
        return resource[GPUP_VRAM].total;
    case GPU_AVAILABLE:
        return resource[GPUP_VRAM].available;
    case GPU_PARTITIONS:
        return gpup_gpu_get_partition_count(gpu);
    case GPU_FREE:
        return gpup_gpu_get_free_count(gpu);
    default:
        return 1;
    }
}

static void add_gpus(GString *text, const struct cli_bus *bus)
{
    for (int f = 0; f < GPU_FAMILIES; f++) {
        add_header(text, &gpu_families[f]);
        for (guint i = 0; i < bus->gpus->len; i++) {
            g_autofree char *labels = gpu_labels(bus->gpus->pdata[i], f == GPU);

            add_sample(text, &gpu_families[f], labels, gpu_value(bus->gpus->pdata[i], f), 1);
        }
    }
}

/* One whose owner has just gone is left out. */
static void add_numbers(GString *text, const struct family *families, size_t n,
                        GPtrArray *dictionaries, GPtrArray *labels)
{
    for (size_t f = 0; f < n; f++) {
        add_header(text, &families[f]);
        for (guint i = 0; i < dictionaries->len; i++) {
            uint64_t value;

            if (cli_read_number(dictionaries->pdata[i], families[f].key, &value))
                add_sample(text, &families[f], labels->pdata[i], value, families[f].divisor);
        }
    }
}

static void unref_variant(gpointer data)
{
    if (data)
        g_variant_unref(data);
}

static void add_health(GString *text, const struct cli_bus *bus)
{
    g_autoptr(GPtrArray) health = g_ptr_array_new_with_free_func(unref_variant);
    g_autoptr(GPtrArray) labels = g_ptr_array_new_with_free_func(g_free);

    for (guint i = 0; i < bus->gpus->len; i++) {
        g_ptr_array_add(health, cli_gpu_health(bus->gpus->pdata[i]));
        g_ptr_array_add(labels, gpu_labels(bus->gpus->pdata[i], false));
    }
    add_numbers(text, health_families, G_N_ELEMENTS(health_families), health, labels);
}

/* ---- VMs that hold a partition ---- */

static char *vm_labels(const struct cli_bus *bus, GpupPartition *partition)
{
    GString *labels = g_string_new(NULL);
    GpupGPU *gpu = cli_bus_gpu(bus, cli_text(gpup_partition_get_gpu(partition)));
    g_autofree char *index = g_strdup_printf("%u", gpup_partition_get_index(partition));

    add_label(labels, "vm", cli_text(gpup_partition_get_vm(partition)));
    add_label(labels, "gpu", gpu ? cli_text(gpup_gpu_get_short_id(gpu)) : "");
    add_label(labels, "partition", index);
    return g_string_free(labels, FALSE);
}

static void add_grants(GString *text, GPtrArray *partitions, GPtrArray *labels)
{
    for (int f = 0; f < VM_FAMILIES; f++) {
        add_header(text, &vm_families[f]);
        for (guint i = 0; i < partitions->len; i++) {
            struct gpup_grant grant;

            if (!cli_read_grant(gpup_partition_get_grant(partitions->pdata[i]), &grant))
                continue;
            if (f == VM_LIMIT)
                add_sample(text, &vm_families[f], labels->pdata[i], grant.share[GPUP_VRAM].cap, 1);
            else
                add_sample(text, &vm_families[f], labels->pdata[i],
                           f == VM_COMPUTE_MIN ? grant.share[GPUP_COMPUTE].min
                                               : grant.share[GPUP_COMPUTE].cap,
                           GPUP_PPM_FULL);
        }
    }
}

static void add_vms(GString *text, const struct cli_bus *bus)
{
    g_autoptr(GPtrArray) held = g_ptr_array_new();
    g_autoptr(GPtrArray) usage = g_ptr_array_new_with_free_func(unref_variant);
    g_autoptr(GPtrArray) labels = g_ptr_array_new_with_free_func(g_free);

    for (guint i = 0; i < bus->partitions->len; i++) {
        GpupPartition *partition = bus->partitions->pdata[i];

        if (!*cli_text(gpup_partition_get_vm(partition)))
            continue;
        g_ptr_array_add(held, partition);
        g_ptr_array_add(labels, vm_labels(bus, partition));
        g_ptr_array_add(usage, cli_partition_usage(partition));
    }
    add_grants(text, held, labels);
    add_numbers(text, usage_families, G_N_ELEMENTS(usage_families), usage, labels);
}

/* ---- the command ---- */

/* bus NULL: gpupd does not answer, which is all there is to say. */
static char *all_metrics(const struct cli_bus *bus)
{
    GString *text = g_string_new(NULL);

    add_host(text, bus);
    if (bus) {
        add_gpus(text, bus);
        add_health(text, bus);
        add_vms(text, bus);
    }
    g_string_append(text, "# EOF\n");
    return g_string_free(text, FALSE);
}

/* Whoever reads the file sees the old one or the new one, whole. */
static int write_out(const char *path, const char *text)
{
    g_autoptr(GError) error = NULL;
    GStatBuf st;

    if (!path) {
        fputs(text, stdout);
        return GPUP_EXIT_DONE;
    }
    /* what is there is replaced: a folder cannot be, a device or a link is not to be */
    if (g_lstat(path, &st) == 0 && !S_ISREG(st.st_mode))
        return cli_fail("%s is not written: it is no plain file. Name another, or leave --output "
                        "out to print",
                        path);
    if (!g_file_set_contents_full(path, text, -1, G_FILE_SET_CONTENTS_CONSISTENT, 0644, &error))
        return cli_fail("%s is not written: %s", path, error->message);
    return GPUP_EXIT_DONE;
}

int cli_metrics(struct cli_args *args)
{
    g_auto(cli_bus) bus = {0};
    g_autofree char *path = NULL;
    g_autofree char *text = NULL;
    const GOptionEntry entries[] = {
        {"output", 'o', 0, G_OPTION_ARG_FILENAME, &path,
         "Write this file, at once and whole, instead of printing", "FILE"},
        {0},
    };
    int code = cli_parse(args, entries, 0, 0), written;

    if (code != CLI_GO_ON)
        return code;
    if (path && !*path)
        return cli_usage_error(args, "an empty argument names nothing");
    code = cli_bus_load(&bus);
    if (code != GPUP_EXIT_DONE && !path)
        return code;
    /* what was written earlier is not to look as if it were still so */
    text = all_metrics(code == GPUP_EXIT_DONE ? &bus : NULL);
    written = write_out(path, text);
    return code == GPUP_EXIT_DONE ? written : code;
}
