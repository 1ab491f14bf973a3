/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_VGPU_OBJECTS_H
#define GPUP_VGPU_OBJECTS_H

#include "vgpu/format.h"
#include "wire/render.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The resources and contexts that a guest has made. */

#define VGPU_MAX_RESOURCES (1u << 17)
#define VGPU_MAX_CONTEXTS  512u
/* Pieces of guest memory over all resources: what a guest can make us remember. */
#define VGPU_MAX_BACKING_PIECES (1u << 22)
/* Of every format that the display shows. */
#define VGPU_PIXEL_BYTES 4u
#define VGPU_BUCKETS     4096u

struct vgpu_resource {
    struct vgpu_resource *next;
    uint32_t id;
    bool is_3d;
    bool in_renderer; /* the renderer knows it */
    bool lost;        /* its content went with a renderer */
    struct vgpu_shape shape;
    uint64_t charge;                /* bytes taken from the quota */
    uint64_t copy_charge;           /* and for the renderer's copy of a 2D resource */
    unsigned char *pixels;          /* 2D: what the host sees, lines of width * VGPU_PIXEL_BYTES */
    struct gpup_render_span *spans; /* backing; NULL: none */
    uint32_t n_spans;
    uint64_t backing_size;
};

struct vgpu_context {
    struct vgpu_context *next;
    uint32_t id;
    bool lost; /* went with a renderer */
};

struct vgpu_objects {
    struct vgpu_resource *resources[VGPU_BUCKETS];
    struct vgpu_context *contexts;
    uint32_t n_resources, n_contexts, n_pieces;
};

void vgpu_objects_clear(struct vgpu_objects *objects);

struct vgpu_resource *vgpu_resource_find(struct vgpu_objects *objects, uint32_t id);
/* NULL: 0, an id in use, too many, or no memory. */
struct vgpu_resource *vgpu_resource_add(struct vgpu_objects *objects, uint32_t id);
void vgpu_resource_remove(struct vgpu_objects *objects, struct vgpu_resource *resource);
/* It can be shown: it is of two dimensions, not a buffer for example. */
bool vgpu_resource_is_picture(const struct vgpu_resource *resource);
/* The backing is `spans` (owned from now on). */
void vgpu_resource_set_backing(struct vgpu_objects *objects, struct vgpu_resource *resource,
                               struct gpup_render_span *spans, uint32_t n_spans);
void vgpu_resource_drop_backing(struct vgpu_objects *objects, struct vgpu_resource *resource);

struct vgpu_context *vgpu_context_find(struct vgpu_objects *objects, uint32_t id);
struct vgpu_context *vgpu_context_add(struct vgpu_objects *objects, uint32_t id);
void vgpu_context_remove(struct vgpu_objects *objects, struct vgpu_context *context);

/* Calls func for every resource; it may change but not remove it. */
void vgpu_objects_each(struct vgpu_objects *objects,
                       void (*func)(struct vgpu_resource *resource, void *data), void *data);

#endif
