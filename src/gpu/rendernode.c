/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/units.h"
#include "gpu/counts.h"
#include "gpu/provider.h"
#include "gpu/sysfs.h"

#include <string.h>

/*
 * Any GPU with a DRM render node (/dev/dri/renderD*), shared by virtio partitions. Its memory is
 * known where the driver tells it (amdgpu), else as configured.
 */

static void find_memory(const struct gpup_system *system, const char *device_dir,
                        struct gpup_gpu *gpu)
{
    uint64_t memory = gpup_pci_configured_memory(system, gpu);
    g_autofree char *reason = NULL;

    if (memory == 0 && !gpup_sysfs_read_number(device_dir, "mem_info_vram_total", &memory))
        memory = 0;
    gpu->resource[GPUP_VRAM] = (struct gpup_resource_info){memory, GPUP_ENFORCE_HARD};
    if (memory > 0)
        return;
    gpu->mode = GPUP_MODE_UNUSABLE;
    reason = g_strdup_printf("its driver does not tell its memory: set memory= in section [gpu %s] "
                             "of gpup.conf",
                             gpu->id);
    gpu->reason = strdup(reason);
}

static char *address_of(const struct gpup_system *system, const char *node)
{
    g_autofree char *dir = g_build_filename(system->sysfs, "class", "drm", node, NULL);

    return gpup_sysfs_link_name(dir, "device");
}

static struct gpup_gpu *probe_node(const struct gpup_system *system, const char *node)
{
    g_autofree char *address = address_of(system, node);
    g_autoptr(gpup_pci) pci = address ? gpup_pci_read(system, address) : NULL;
    struct gpup_gpu *gpu;

    if (!pci || pci->is_vf)
        return NULL; /* nothing that a host shares: vgem, a SoC's own, a partition of another */
    gpu = gpup_pci_gpu(system, pci);
    free(gpu->node);
    gpu->node = g_build_filename("/dev/dri", node, NULL);
    gpu->kind = GPUP_KIND_VIRTIO;
    gpu->elastic = true;
    /* gpupd divides its time; nothing does that for encoders and decoders */
    for (int r = GPUP_COMPUTE; r < GPUP_RESOURCES; r++)
        gpu->resource[r] = (struct gpup_resource_info){
            GPUP_PPM_FULL, r == GPUP_COMPUTE ? GPUP_ENFORCE_SHARE : GPUP_ENFORCE_NONE};
    gpup_gpu_allow_counts(gpu, GPUP_VIRTIO_MOST_PARTITIONS);
    find_memory(system, pci->dir, gpu);
    return gpu;
}

static int rendernode_probe(const struct gpup_system *system, GPtrArray *gpus,
                            struct gpup_error **err)
{
    g_autofree char *path = g_build_filename(system->sysfs, "class", "drm", NULL);
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    const char *name;

    while (dir && (name = g_dir_read_name(dir))) {
        struct gpup_gpu *gpu;

        if (!g_str_has_prefix(name, "renderD"))
            continue;
        gpu = probe_node(system, name);
        if (gpu)
            g_ptr_array_add(gpus, gpu);
    }
    return 0;
}

const struct gpup_provider gpup_provider_rendernode = {
    .name = "rendernode",
    .kind = GPUP_KIND_VIRTIO,
    .probe = rendernode_probe,
};
