/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/units.h"
#include "gpu/counts.h"
#include "gpu/provider.h"

#include <stdio.h>
#include <string.h>

/*
 * The software GPU: Mesa's llvmpipe. There on every host, so that gpup works without hardware.
 * 100 % of compute is the configured number of CPUs, memory a quarter of RAM or as configured.
 */

static uint64_t total_ram(const struct gpup_system *system)
{
    g_autofree char *path = g_build_filename(system->proc, "meminfo", NULL);
    g_autofree char *text = NULL;
    const char *line;
    uint64_t kib;

    if (!g_file_get_contents(path, &text, NULL, NULL))
        return 0;
    line = strstr(text, "MemTotal:");
    kib = line ? g_ascii_strtoull(line + strlen("MemTotal:"), NULL, 10) : 0;
    return kib > UINT64_MAX >> 10 ? 0 : kib << 10;
}

static int software_probe(const struct gpup_system *system, GPtrArray *gpus,
                          struct gpup_error **err)
{
    const uint64_t mib = UINT64_C(1) << 20;
    struct gpup_gpu *gpu;
    uint64_t memory = system->software_memory;

    if (!system->software)
        return 0;
    if (memory == 0)
        memory = total_ram(system) / 4 / mib * mib;
    gpu = g_malloc0(sizeof(*gpu));
    gpu->id = strdup("software");
    gpu->key = strdup("software");
    gpu->name = strdup("llvmpipe");
    gpu->vendor = strdup("Mesa");
    gpu->driver = strdup("llvmpipe");
    gpu->kind = GPUP_KIND_VIRTIO;
    gpu->elastic = true;
    gpu->resource[GPUP_VRAM] = (struct gpup_resource_info){memory, GPUP_ENFORCE_HARD};
    gpu->resource[GPUP_COMPUTE] = (struct gpup_resource_info){GPUP_PPM_FULL, GPUP_ENFORCE_SHARE};
    if (memory < mib) {
        gpu->mode = GPUP_MODE_UNUSABLE;
        gpu->reason = strdup(system->software_memory
                                 ? "memory= in section [software] of gpup.conf is less than 1 MiB: "
                                   "write a number and a unit, such as 4G"
                                 : "its memory is not known: set memory= in section [software] of "
                                   "gpup.conf");
    }
    gpup_gpu_allow_counts(gpu, GPUP_VIRTIO_MOST_PARTITIONS);
    g_ptr_array_add(gpus, gpu);
    return 0;
}

const struct gpup_provider gpup_provider_software = {
    .name = "software",
    .kind = GPUP_KIND_VIRTIO,
    .probe = software_probe,
};
