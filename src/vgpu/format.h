/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_VGPU_FORMAT_H
#define GPUP_VGPU_FORMAT_H

#include <stdbool.h>
#include <stdint.h>

/* What a resource is made of, as VIRTIO_GPU_CMD_RESOURCE_CREATE_3D tells it (Gallium's terms). */
struct vgpu_shape {
    uint32_t target; /* 0 buffer, 1 1D, 2 2D, 3 3D, 4 cube, 5 rectangle, 6..8 arrays */
    uint32_t format; /* virgl's number */
    uint32_t width, height, depth, array_size;
    uint32_t last_level, nr_samples;
};

/* What a resource of this format takes is known; others are refused. */
bool vgpu_format_is_known(uint32_t format);

#define VGPU_TARGET_BUFFER 0u
#define VGPU_TARGET_2D     2u
#define VGPU_TARGET_RECT   5u

/*
 * The memory that a resource takes, in bytes: every level, layer and sample. Never less than a
 * page, since each resource costs the host something. false: a format or shape that does not
 * exist, or a size beyond 64 bits.
 */
bool vgpu_shape_bytes(const struct vgpu_shape *shape, uint64_t *bytes);

#endif
