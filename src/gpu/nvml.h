/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_GPU_NVML_H
#define GPUP_GPU_NVML_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

struct gpup_error;

/*
 * NVIDIA's management library, loaded when it is needed, in the helper only. Everything works
 * without it but what is said here to need it.
 */
struct gpup_nvml;

/* NULL where there is none, or it does not start, or does not know the GPU. */
struct gpup_nvml *gpup_nvml_open(const char *address);
void gpup_nvml_close(struct gpup_nvml *nvml);
typedef struct gpup_nvml gpup_nvml; /* for g_autoptr */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(gpup_nvml, gpup_nvml_close)

/* Bytes of the GPU, or 0. */
uint64_t gpup_nvml_memory(struct gpup_nvml *nvml);

struct gpup_vgpu_type {
    unsigned id; /* of this GPU, at this moment */
    char name[64];
    uint64_t framebuffer; /* bytes */
    unsigned most;        /* how many there can be; 0: not told */
};

/* All vGPU types of the GPU (struct gpup_vgpu_type); empty where it cannot tell. */
GArray *gpup_nvml_types(struct gpup_nvml *nvml);

enum gpup_vgpu_scheduler {
    GPUP_VGPU_BEST_EFFORT = 1,
    GPUP_VGPU_EQUAL_SHARE = 2,
    GPUP_VGPU_FIXED_SHARE = 3,
};
/* While no VM runs on it; lost when the driver is loaded anew. slice_ns 0: as the driver has it. */
int gpup_nvml_set_scheduler(struct gpup_nvml *nvml, enum gpup_vgpu_scheduler scheduler,
                            unsigned slice_ns, struct gpup_error **err);

#endif
