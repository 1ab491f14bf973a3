/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <virgl/virglrenderer.h>

#include "render/render.h"

struct region *region_find(struct objects *objects, uint32_t id)
{
    struct region *region = objects->regions;

    while (region && region->id != id)
        region = region->next;
    return region;
}

int region_add(struct objects *objects, const struct gpup_render_memory *message, int fd,
               struct gpup_error **err)
{
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE), lead = message->offset % page, end, length;
    struct region *region;
    struct stat st;
    void *map;

    if (region_find(objects, message->region))
        return gpup_error_set(err, EPROTO, "memory region %u was given twice", message->region);
    if (message->size == 0 || __builtin_add_overflow(message->offset, message->size, &end) ||
        __builtin_add_overflow(message->size, lead, &length) || length > SIZE_MAX)
        return gpup_error_set(err, EPROTO, "memory region %u has an impossible size",
                              message->region);
    if (fstat(fd, &st) < 0)
        return gpup_error_set(err, errno, "memory region %u: %s", message->region, strerror(errno));
    if (S_ISREG(st.st_mode) && (uint64_t)st.st_size < end)
        return gpup_error_set(err, EPROTO, "memory region %u is larger than what backs it",
                              message->region);
    map = mmap(NULL, (size_t)length, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
               (off_t)(message->offset - lead));
    if (map == MAP_FAILED)
        return gpup_error_set(err, errno, "mapping memory region %u: %s", message->region,
                              strerror(errno));
    madvise(map, (size_t)length, MADV_DONTDUMP);
    region = calloc(1, sizeof(*region));
    if (!region) {
        munmap(map, (size_t)length);
        return gpup_error_set(err, ENOMEM, "out of memory");
    }
    *region = (struct region){
        .next = objects->regions,
        .id = message->region,
        .base = (unsigned char *)map + lead,
        .size = message->size,
        .map = map,
        .map_size = (size_t)length,
    };
    objects->regions = region;
    return 0;
}

static bool region_in_use(struct objects *objects, const struct region *region)
{
    for (size_t bucket = 0; bucket < RESOURCE_BUCKETS; bucket++)
        for (struct resource *r = objects->resources[bucket]; r; r = r->next)
            for (unsigned int i = 0; i < r->n_backing; i++) {
                uintptr_t at = (uintptr_t)r->backing[i].iov_base;

                if (at >= (uintptr_t)region->base && at - (uintptr_t)region->base < region->size)
                    return true;
            }
    return false;
}

int region_remove(struct objects *objects, uint32_t id)
{
    struct region **link = &objects->regions, *region;

    while (*link && (*link)->id != id)
        link = &(*link)->next;
    region = *link;
    if (!region)
        return -ENOENT;
    if (region_in_use(objects, region))
        return -EBUSY;
    *link = region->next;
    munmap(region->map, region->map_size);
    free(region);
    return 0;
}

static struct resource **resource_link(struct objects *objects, uint32_t id)
{
    struct resource **link = &objects->resources[id % RESOURCE_BUCKETS];

    while (*link && (*link)->id != id)
        link = &(*link)->next;
    return link;
}

struct resource *resource_find(struct objects *objects, uint32_t id)
{
    return *resource_link(objects, id);
}

int resource_add(struct objects *objects, uint32_t id)
{
    struct resource **link = resource_link(objects, id);

    if (*link)
        return -EEXIST;
    *link = calloc(1, sizeof(**link));
    if (!*link)
        return -ENOMEM;
    (*link)->id = id;
    return 0;
}

void resource_drop_backing(struct resource *resource)
{
    struct iovec *unused;
    int n_unused;

    if (!resource->backing)
        return;
    virgl_renderer_resource_detach_iov((int)resource->id, &unused, &n_unused);
    free(resource->backing);
    resource->backing = NULL;
    resource->n_backing = 0;
}

void resource_remove(struct objects *objects, uint32_t id)
{
    struct resource **link = resource_link(objects, id), *resource = *link;

    if (!resource)
        return;
    *link = resource->next;
    free(resource->backing);
    free(resource);
}

int context_add(struct objects *objects, uint32_t id)
{
    struct context *context;

    if (context_known(objects, id))
        return -EEXIST;
    context = calloc(1, sizeof(*context));
    if (!context)
        return -ENOMEM;
    context->id = id;
    context->next = objects->contexts;
    objects->contexts = context;
    return 0;
}

bool context_known(struct objects *objects, uint32_t id)
{
    for (struct context *context = objects->contexts; context; context = context->next)
        if (context->id == id)
            return true;
    return false;
}

void context_remove(struct objects *objects, uint32_t id)
{
    struct context **link = &objects->contexts, *context;

    while (*link && (*link)->id != id)
        link = &(*link)->next;
    context = *link;
    if (!context)
        return;
    *link = context->next;
    free(context);
}
