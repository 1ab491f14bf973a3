/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/cli.h"
#include "cli/hyperv.h"

#include <stdio.h>
#include <string.h>

/* What Get-VMHostPartitionableGpu and Get-VMGpuPartitionAdapter print: the properties by their
 * names there, amounts with the unit that they are in. */

static const enum gpup_resource order[GPUP_RESOURCES] = {GPUP_VRAM, GPUP_ENCODE, GPUP_DECODE,
                                                         GPUP_COMPUTE};

const char *const hyperv_names[GPUP_RESOURCES] = {[GPUP_VRAM] = "VRAM",
                                                  [GPUP_COMPUTE] = "Compute",
                                                  [GPUP_ENCODE] = "Encode",
                                                  [GPUP_DECODE] = "Decode"};

static void property(const char *prefix, const char *name, const char *value)
{
    g_autofree char *whole = g_strconcat(prefix, name, NULL);

    if (*value)
        printf("%-29s : %s\n", whole, value);
    else
        printf("%-29s :\n", whole);
}

/* "4294967296 (4 GiB)", "25 %" */
static char *amount(enum gpup_resource r, uint64_t value)
{
    g_autofree char *text = cli_amount(r, value);

    if (r != GPUP_VRAM)
        return g_steal_pointer(&text);
    return g_strdup_printf("%" G_GUINT64_FORMAT " (%s)", value, text);
}

static void property_amount(const char *prefix, enum gpup_resource r, bool has, uint64_t value)
{
    g_autofree char *text = has ? amount(r, value) : g_strdup("");

    property(prefix, hyperv_names[r], text);
}

static char *counts(GpupGPU *gpu)
{
    GVariant *value = gpup_gpu_get_valid_counts(gpu);
    GString *text = g_string_new("{");
    gsize n = 0;
    const guint32 *list = value ? g_variant_get_fixed_array(value, &n, sizeof(*list)) : NULL;

    for (gsize i = n; i > 0; i--) /* the largest first, as there */
        g_string_append_printf(text, "%u%s", list[i - 1], i > 1 ? ", " : "");
    g_string_append_c(text, '}');
    return g_string_free(text, FALSE);
}

void hyperv_print_gpu(GpupGPU *gpu)
{
    struct cli_resource resource[GPUP_RESOURCES];
    g_autofree char *valid = counts(gpu);
    g_autofree char *count = g_strdup_printf("%u", gpup_gpu_get_partition_count(gpu));

    cli_read_resources(gpup_gpu_get_resources(gpu), resource);
    property("Name", "", cli_text(gpup_gpu_get_id(gpu)));
    property("ValidPartitionCounts", "", valid);
    property("PartitionCount", "", count);
    for (int i = 0; i < GPUP_RESOURCES; i++) {
        enum gpup_resource r = order[i];

        property_amount("Total", r, true, resource[r].total);
        property_amount("Available", r, true, resource[r].available);
        property_amount("MinPartition", r, true, resource[r].each);
        property_amount("MaxPartition", r, true, resource[r].each);
        property_amount("OptimalPartition", r, true, resource[r].each);
    }
    property("SupportsIncomingLiveMigration", "", "False");
    putchar('\n');
}

void hyperv_print_adapter(const struct cli_bus *bus, GpupVM *vm)
{
    const char *partition = cli_text(gpup_vm_get_partition(vm));
    const char *slash = strrchr(partition, '/');
    struct cli_request request;
    struct gpup_grant grant;
    bool granted = cli_read_grant(gpup_vm_get_grant(vm), &grant);
    g_autofree char *where =
        slash ? g_strndup(partition, (gsize)(slash - partition)) : g_strdup("");
    GpupGPU *gpu;

    cli_read_adapter(gpup_vm_get_adapter(vm), &request);
    gpu = cli_bus_gpu(bus, *request.gpu ? request.gpu : where);
    property("InstancePath", "", gpu ? cli_text(gpup_gpu_get_id(gpu)) : request.gpu);
    property("PartitionId", "", slash ? slash + 1 : "");
    for (int i = 0; i < GPUP_RESOURCES; i++) {
        enum gpup_resource r = order[i];
        const struct gpup_request *q = &request.request[r];

        property_amount("CurrentPartition", r, granted && grant.share[r].cap > 0,
                        grant.share[r].min);
        property_amount("MinPartition", r, q->has_min, q->min);
        property_amount("MaxPartition", r, q->has_max, q->max);
        property_amount("OptimalPartition", r, q->has_optimal, q->optimal);
    }
    property("SupportsOutgoingLiveMigration", "", "False");
    property("Id", "", request.id);
    property("VMName", "", cli_text(gpup_vm_get_name(vm)));
    putchar('\n');
}
