/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "vgpu/objects.h"

#include <stdlib.h>

static struct vgpu_resource **place(struct vgpu_objects *objects, uint32_t id)
{
    struct vgpu_resource **p = &objects->resources[id % VGPU_BUCKETS];

    while (*p && (*p)->id != id)
        p = &(*p)->next;
    return p;
}

struct vgpu_resource *vgpu_resource_find(struct vgpu_objects *objects, uint32_t id)
{
    return *place(objects, id);
}

struct vgpu_resource *vgpu_resource_add(struct vgpu_objects *objects, uint32_t id)
{
    struct vgpu_resource **p = place(objects, id);

    if (id == 0 || *p || objects->n_resources >= VGPU_MAX_RESOURCES)
        return NULL;
    *p = calloc(1, sizeof(**p));
    if (!*p)
        return NULL;
    (*p)->id = id;
    objects->n_resources++;
    return *p;
}

static void release(struct vgpu_resource *resource)
{
    free(resource->spans);
    free(resource->pixels);
    free(resource);
}

void vgpu_resource_remove(struct vgpu_objects *objects, struct vgpu_resource *resource)
{
    struct vgpu_resource **p = place(objects, resource->id);

    vgpu_resource_drop_backing(objects, resource);
    *p = resource->next;
    objects->n_resources--;
    release(resource);
}

bool vgpu_resource_is_picture(const struct vgpu_resource *resource)
{
    return resource->shape.target == VGPU_TARGET_2D || resource->shape.target == VGPU_TARGET_RECT;
}

void vgpu_resource_set_backing(struct vgpu_objects *objects, struct vgpu_resource *resource,
                               struct gpup_render_span *spans, uint32_t n_spans)
{
    resource->spans = spans;
    resource->n_spans = n_spans;
    resource->backing_size = 0;
    for (uint32_t i = 0; i < n_spans; i++)
        resource->backing_size += spans[i].length;
    objects->n_pieces += n_spans;
}

void vgpu_resource_drop_backing(struct vgpu_objects *objects, struct vgpu_resource *resource)
{
    objects->n_pieces -= resource->n_spans;
    free(resource->spans);
    resource->spans = NULL;
    resource->n_spans = 0;
    resource->backing_size = 0;
}

struct vgpu_context *vgpu_context_find(struct vgpu_objects *objects, uint32_t id)
{
    struct vgpu_context *context = objects->contexts;

    while (context && context->id != id)
        context = context->next;
    return context;
}

struct vgpu_context *vgpu_context_add(struct vgpu_objects *objects, uint32_t id)
{
    struct vgpu_context *context;

    if (id == 0 || objects->n_contexts >= VGPU_MAX_CONTEXTS || vgpu_context_find(objects, id))
        return NULL;
    context = calloc(1, sizeof(*context));
    if (!context)
        return NULL;
    context->id = id;
    context->next = objects->contexts;
    objects->contexts = context;
    objects->n_contexts++;
    return context;
}

void vgpu_context_remove(struct vgpu_objects *objects, struct vgpu_context *context)
{
    struct vgpu_context **p = &objects->contexts;

    while (*p != context)
        p = &(*p)->next;
    *p = context->next;
    objects->n_contexts--;
    free(context);
}

void vgpu_objects_each(struct vgpu_objects *objects,
                       void (*func)(struct vgpu_resource *resource, void *data), void *data)
{
    for (unsigned i = 0; i < VGPU_BUCKETS; i++) {
        for (struct vgpu_resource *r = objects->resources[i]; r; r = r->next)
            func(r, data);
    }
}

void vgpu_objects_clear(struct vgpu_objects *objects)
{
    for (unsigned i = 0; i < VGPU_BUCKETS; i++) {
        while (objects->resources[i])
            vgpu_resource_remove(objects, objects->resources[i]);
    }
    while (objects->contexts)
        vgpu_context_remove(objects, objects->contexts);
}
