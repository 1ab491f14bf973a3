/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/present.h"

#include "sandbox/sandbox.h"

#include <string.h>

#define NOT_SET G_MAXUINT64

static char **take_lines(GPtrArray *lines)
{
    g_ptr_array_add(lines, NULL);
    return (char **)g_ptr_array_free(lines, FALSE);
}

/* What weakens the walls around a renderer on this system. */
static void add_weaknesses(struct gpup_daemon *d, struct gpup_gpu *gpu, GPtrArray *lines)
{
    unsigned bits = gpup_server_degraded(d->server);
    const char *cgroups = gpup_cgroups_problem(d->cgroups);
    const char *memory = gpu->node ? gpup_cgroups_gpu_problem(d->cgroups, gpu->id) : NULL;

    for (unsigned bit = 1; bit <= bits; bit <<= 1) {
        if (bits & bit)
            g_ptr_array_add(lines,
                            g_strdup_printf("renderers: %s",
                                            sandbox_degraded_text((enum sandbox_degraded)bit)));
    }
    if (cgroups)
        g_ptr_array_add(lines, g_strdup(cgroups));
    if (memory)
        g_ptr_array_add(lines, g_strdup(memory));
}

void gpup_present_manager(struct gpup_daemon *d, GpupManager *m)
{
    GPtrArray *problems = gpup_host_problems(d->host);
    GPtrArray *lines = g_ptr_array_new();
    g_auto(GStrv) degraded = NULL;

    for (guint i = 0; i < problems->len; i++)
        g_ptr_array_add(lines, g_strdup(problems->pdata[i]));
    degraded = take_lines(lines);
    gpup_manager_set_version(m, GPUP_VERSION);
    gpup_manager_set_host(m, g_get_host_name());
    gpup_manager_set_degraded(m, (const char *const *)degraded);
    gpup_manager_set_libvirt_connected(m, gpup_vms_connected(d->vms));
    gpup_manager_set_libvirt_error(m, gpup_vms_error(d->vms));
    gpup_manager_set_policy(m, gpup_policy_name(d->config.policy));
}

static GVariant *resources(struct gpup_gpu *gpu)
{
    GVariantBuilder builder;

    g_variant_builder_init(&builder, G_VARIANT_TYPE("a(ssttt)"));
    for (int r = 0; r < GPUP_RESOURCES; r++) {
        enum gpup_resource resource = (enum gpup_resource)r;
        uint64_t each = gpu->elastic || r != GPUP_VRAM
                            ? gpup_gpu_equal_part(gpu, resource, (unsigned)gpu->n_slots)
                            : gpu->fixed_vram;

        g_variant_builder_add(&builder, "(ssttt)", gpup_resource_name(resource),
                              gpup_enforcement_name(gpu->resource[r].enforcement),
                              gpu->resource[r].total, gpup_gpu_available(gpu, resource), each);
    }
    return g_variant_builder_end(&builder);
}

static GVariant *valid_counts(struct gpup_gpu *gpu)
{
    return g_variant_new_fixed_array(G_VARIANT_TYPE_UINT32, gpu->valid_counts, gpu->n_valid_counts,
                                     sizeof(unsigned));
}

void gpup_present_gpu(struct gpup_daemon *d, struct gpup_gpu *gpu, GpupGPU *g)
{
    bool hardware = gpu->kind != GPUP_KIND_VIRTIO;
    GPtrArray *lines = g_ptr_array_new();
    g_auto(GStrv) degraded = NULL;

    if (!hardware)
        add_weaknesses(d, gpu, lines);
    for (char **note = gpu->notes; note && *note; note++)
        g_ptr_array_add(lines, g_strdup(*note));
    degraded = take_lines(lines);
    gpup_gpu_set_id(g, gpu->id);
    gpup_gpu_set_short_id(g, gpup_gpu_short_id(gpu));
    gpup_gpu_set_key(g, gpu->key);
    gpup_gpu_set_name(g, gpu->name);
    gpup_gpu_set_vendor(g, gpu->vendor ? gpu->vendor : "");
    gpup_gpu_set_driver(g, gpu->driver ? gpu->driver : "");
    gpup_gpu_set_node(g, gpu->node ? gpu->node : "");
    gpup_gpu_set_pci_id(g, gpu->pci_id ? gpu->pci_id : "");
    gpup_gpu_set_kind(g, gpup_kind_name(gpu->kind));
    gpup_gpu_set_mode(g, gpup_mode_name(gpu->mode));
    gpup_gpu_set_reason(g, gpu->reason ? gpu->reason : "");
    gpup_gpu_set_isolation(g, hardware ? "hardware" : "process");
    gpup_gpu_set_degraded(g, (const char *const *)degraded);
    gpup_gpu_set_valid_counts(g, valid_counts(gpu));
    gpup_gpu_set_partition_count(g, (guint)gpu->n_slots);
    gpup_gpu_set_free_count(g, (guint)gpup_gpu_free_slots(gpu));
    gpup_gpu_set_resources(g, resources(gpu));
}

static GVariant *grant_of(const struct gpup_grant *grant)
{
    GVariantBuilder builder;

    g_variant_builder_init(&builder, G_VARIANT_TYPE("a(sttt)"));
    for (int r = 0; grant && r < GPUP_RESOURCES; r++)
        g_variant_builder_add(&builder, "(sttt)", gpup_resource_name((enum gpup_resource)r),
                              grant->share[r].min, grant->share[r].weight, grant->share[r].cap);
    return g_variant_builder_end(&builder);
}

void gpup_present_partition(struct gpup_daemon *d, struct gpup_gpu *gpu, unsigned index,
                            GpupPartition *p)
{
    const struct gpup_slot *slot = &gpu->slots[index];
    bool used = !gpup_slot_is_free(slot);
    struct gpup_claim *claim = used ? gpup_host_claim(d->host, slot->adapter) : NULL;
    bool runs = claim && (claim->started || gpup_server_is_alive(slot->adapter, d->server));

    gpup_partition_set_gpu(p, gpu->id);
    gpup_partition_set_index(p, index);
    gpup_partition_set_state(p, !used ? "free" : runs ? "used" : "reserved");
    gpup_partition_set_vm(p, used && slot->vm ? slot->vm : "");
    gpup_partition_set_grant(p, grant_of(used ? &slot->grant : NULL));
}

static GVariant *bounds(const struct gpup_request *q)
{
    return g_variant_new("(ttt)", q->has_min ? q->min : NOT_SET,
                         q->has_optimal ? q->optimal : NOT_SET, q->has_max ? q->max : NOT_SET);
}

static GVariant *adapter_of(struct gpup_daemon *d, const struct gpup_adapter *adapter)
{
    GVariantBuilder builder;
    struct gpup_gpu *pin =
        adapter && adapter->gpu ? gpup_host_gpu_by_key(d->host, adapter->gpu) : NULL;

    g_variant_builder_init(&builder, G_VARIANT_TYPE_VARDICT);
    if (!adapter)
        return g_variant_builder_end(&builder);
    g_variant_builder_add(&builder, "{sv}", "id", g_variant_new_string(adapter->id));
    g_variant_builder_add(&builder, "{sv}", "kind",
                          g_variant_new_string(gpup_kind_name(adapter->kind)));
    g_variant_builder_add(&builder, "{sv}", "gpu",
                          g_variant_new_string(pin            ? pin->id
                                               : adapter->gpu ? adapter->gpu
                                                              : ""));
    g_variant_builder_add(&builder, "{sv}", "display",
                          g_variant_new_string(gpup_display_name(adapter->display)));
    for (int r = 0; r < GPUP_RESOURCES; r++)
        g_variant_builder_add(&builder, "{sv}", gpup_resource_name((enum gpup_resource)r),
                              bounds(&adapter->request[r]));
    return g_variant_builder_end(&builder);
}

void gpup_present_vm(struct gpup_daemon *d, struct gpup_vm *vm, GpupVM *v)
{
    struct gpup_claim *claim = gpup_host_claim_of_vm(d->host, vm->uuid);
    const char *problem = vm->problem;
    char partition[64] = "";

    if (!problem && claim)
        problem = gpup_server_problem(d->server, claim->adapter);
    if (claim)
        gpup_host_partition_name(d->host, claim, partition, sizeof(partition));
    gpup_vm_set_name(v, vm->name);
    gpup_vm_set_uuid(v, vm->uuid);
    gpup_vm_set_state(v, vm->state);
    gpup_vm_set_has_adapter(v, vm->adapter != NULL);
    gpup_vm_set_adapter(v, adapter_of(d, vm->adapter));
    gpup_vm_set_partition(v, partition);
    gpup_vm_set_grant(v, grant_of(claim ? &claim->grant : NULL));
    gpup_vm_set_system(v, vm->system ? vm->system : "");
    gpup_vm_set_problem(v, problem ? problem : "");
}

GVariant *gpup_present_counts(struct gpup_daemon *d, const char *key)
{
    struct gpup_gpu *gpu = gpup_host_gpu_by_key(d->host, key);
    GVariantBuilder builder;

    g_variant_builder_init(&builder, G_VARIANT_TYPE("a(utttt)"));
    for (size_t i = 0; gpu && i < gpu->n_valid_counts; i++) {
        unsigned n = gpu->valid_counts[i];

        g_variant_builder_add(&builder, "(utttt)", n, gpup_gpu_equal_part(gpu, GPUP_VRAM, n),
                              gpup_gpu_equal_part(gpu, GPUP_COMPUTE, n),
                              gpup_gpu_equal_part(gpu, GPUP_ENCODE, n),
                              gpup_gpu_equal_part(gpu, GPUP_DECODE, n));
    }
    return g_variant_builder_end(&builder);
}

static void add_time(struct gpup_daemon *d, const char *adapter, GVariantBuilder *builder)
{
    struct gpup_arbiter_usage t;

    if (!gpup_server_time(d->server, adapter, &t))
        return;
    g_variant_builder_add(builder, "{sv}", "gpu-time", g_variant_new_uint64(t.charged_ns));
    g_variant_builder_add(builder, "{sv}", "gpu-wait", g_variant_new_uint64(t.waited_ns));
    g_variant_builder_add(builder, "{sv}", "gpu-stopped", g_variant_new_uint64(t.stopped_ns));
    g_variant_builder_add(builder, "{sv}", "gpu-rate", g_variant_new_uint32(t.rate));
    g_variant_builder_add(builder, "{sv}", "at", g_variant_new_uint64(t.now_ns));
}

GVariant *gpup_present_usage(struct gpup_daemon *d, const char *id, unsigned index)
{
    struct gpup_gpu *gpu = gpup_host_gpu_at(d->host, id);
    GVariantBuilder builder;
    struct gpup_msg_usage u;
    pid_t pid;

    g_variant_builder_init(&builder, G_VARIANT_TYPE_VARDICT);
    if (!gpu || index >= gpu->n_slots ||
        !gpup_server_usage(d->server, gpu->slots[index].adapter, &u, &pid))
        return g_variant_builder_end(&builder);
    g_variant_builder_add(&builder, "{sv}", "vram-used", g_variant_new_uint64(u.vram_used));
    g_variant_builder_add(&builder, "{sv}", "vram-peak", g_variant_new_uint64(u.vram_peak));
    g_variant_builder_add(&builder, "{sv}", "refused", g_variant_new_uint64(u.refused));
    g_variant_builder_add(&builder, "{sv}", "stream-errors", g_variant_new_uint64(u.stream_errors));
    g_variant_builder_add(&builder, "{sv}", "commands", g_variant_new_uint64(u.commands));
    g_variant_builder_add(&builder, "{sv}", "submits", g_variant_new_uint64(u.submits));
    g_variant_builder_add(&builder, "{sv}", "frames", g_variant_new_uint64(u.frames));
    g_variant_builder_add(&builder, "{sv}", "renderer-deaths",
                          g_variant_new_uint64(u.renderer_deaths));
    g_variant_builder_add(&builder, "{sv}", "renderer-hangs",
                          g_variant_new_uint64(u.renderer_hangs));
    g_variant_builder_add(&builder, "{sv}", "contexts", g_variant_new_uint64(u.contexts));
    g_variant_builder_add(&builder, "{sv}", "resources", g_variant_new_uint64(u.resources));
    g_variant_builder_add(&builder, "{sv}", "renderer-pid", g_variant_new_uint32((guint32)pid));
    add_time(d, gpu->slots[index].adapter, &builder);
    return g_variant_builder_end(&builder);
}

GVariant *gpup_present_health(struct gpup_daemon *d, const char *key)
{
    struct gpup_troubles total;
    GVariantBuilder builder;

    gpup_health_get(d->health, key, &total);
    g_variant_builder_init(&builder, G_VARIANT_TYPE_VARDICT);
    g_variant_builder_add(&builder, "{sv}", "since",
                          g_variant_new_uint64((guint64)gpup_health_since(d->health)));
    for (int i = 0; i < GPUP_TROUBLES; i++)
        g_variant_builder_add(&builder, "{sv}", gpup_trouble_name((enum gpup_trouble)i),
                              g_variant_new_uint64(total.count[i]));
    return g_variant_builder_end(&builder);
}
