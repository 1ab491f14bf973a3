/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "vgpu/device_internal.h"

#include <endian.h>
#include <stdlib.h>
#include <string.h>

/* The guest's memory behind a resource (virtio 1.2, 5.7.6.8, RESOURCE_ATTACH_BACKING). */

#define PIECES_PER_ENTRY 8

struct span_list {
    struct gpup_render_span *spans;
    uint32_t n, room;
};

/* A piece right behind the last one makes it longer. */
static bool extend_last(struct span_list *list, const struct guest_span *piece)
{
    struct gpup_render_span *last = list->n > 0 ? &list->spans[list->n - 1] : NULL;

    if (!last || last->region != piece->region || last->offset + last->length != piece->offset ||
        piece->length > UINT32_MAX - last->length)
        return false;
    last->length += (uint32_t)piece->length;
    return true;
}

static bool add_piece(struct span_list *list, const struct guest_span *piece)
{
    if (extend_last(list, piece))
        return true;
    if (list->n == list->room) {
        uint32_t room = list->room ? list->room * 2 : 16;
        void *grown = list->n < GPUP_MAX_BACKING
                          ? reallocarray(list->spans, room, sizeof(*list->spans))
                          : NULL;

        if (!grown)
            return false;
        list->spans = grown;
        list->room = room;
    }
    list->spans[list->n++] = (struct gpup_render_span){
        .region = piece->region, .length = (uint32_t)piece->length, .offset = piece->offset};
    return true;
}

static bool add_entry(const struct guest_memory *memory, struct span_list *list,
                      const struct virtio_gpu_mem_entry *entry)
{
    struct guest_span pieces[PIECES_PER_ENTRY];
    int n = guest_memory_translate(memory, le64toh(entry->addr), le32toh(entry->length), pieces,
                                   PIECES_PER_ENTRY);

    if (n <= 0)
        return false;
    for (int i = 0; i < n; i++) {
        if (!add_piece(list, &pieces[i]))
            return false;
    }
    return true;
}

static bool read_entries(struct vgpu_device *d, struct request *q, uint32_t n_entries,
                         struct span_list *list)
{
    struct virtio_gpu_mem_entry entries[64];
    size_t at = sizeof(struct virtio_gpu_resource_attach_backing);

    while (n_entries > 0) {
        uint32_t n = n_entries < 64 ? n_entries : 64;

        if (virtqueue_read(q->element, at, entries, n * sizeof(entries[0])) !=
            n * sizeof(entries[0]))
            return false;
        for (uint32_t i = 0; i < n; i++) {
            if (!add_entry(vhost_user_memory(d->vhost), list, &entries[i]))
                return false;
        }
        at += n * sizeof(entries[0]);
        n_entries -= n;
    }
    return list->n > 0;
}

bool send_backing(struct vgpu_device *d, struct request *q, struct vgpu_resource *resource)
{
    struct gpup_cmd_backing_attach *cmd =
        tell_renderer(d, q, GPUP_CMD_BACKING_ATTACH,
                      sizeof(*cmd) + resource->n_spans * sizeof(resource->spans[0]));

    if (!cmd)
        return false;
    cmd->resource = resource->id;
    cmd->n_spans = resource->n_spans;
    memcpy(cmd->spans, resource->spans, resource->n_spans * sizeof(resource->spans[0]));
    renderer_commit(d->renderer);
    return true;
}

enum outcome attach_backing(struct vgpu_device *d, struct request *q, const void *command)
{
    const struct virtio_gpu_resource_attach_backing *c = command;
    struct vgpu_resource *resource = vgpu_resource_find(&d->objects, le32toh(c->resource_id));
    uint32_t n_entries = le32toh(c->nr_entries);
    struct span_list list = {0};

    if (!resource)
        return answer(q, VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID);
    if (resource->spans || n_entries == 0 || n_entries > GPUP_MAX_BACKING ||
        !read_entries(d, q, n_entries, &list) ||
        list.n > VGPU_MAX_BACKING_PIECES - d->objects.n_pieces) {
        free(list.spans);
        return answer(q, VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
    }
    vgpu_resource_set_backing(&d->objects, resource, list.spans, list.n);
    if (resource->in_renderer && !send_backing(d, q, resource)) {
        vgpu_resource_drop_backing(&d->objects, resource);
        return BLOCKED;
    }
    return answer(q, VIRTIO_GPU_RESP_OK_NODATA);
}

/* The guest may use its pages for something else after the answer: the renderer has let go then. */
enum outcome detach_backing(struct vgpu_device *d, struct request *q, const void *command)
{
    const struct virtio_gpu_resource_detach_backing *c = command;
    struct vgpu_resource *resource = vgpu_resource_find(&d->objects, le32toh(c->resource_id));
    bool wait = false;

    if (!resource)
        return answer(q, VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID);
    if (!resource->spans)
        return answer(q, VIRTIO_GPU_RESP_ERR_UNSPEC);
    if (resource->in_renderer && d->renderer) {
        struct gpup_cmd_resource *cmd = ask_renderer(d, q, GPUP_CMD_BACKING_DETACH, sizeof(*cmd));

        if (!cmd)
            return BLOCKED;
        cmd->resource = resource->id;
        renderer_commit(d->renderer);
        wait = q->seq != 0;
    }
    vgpu_resource_drop_backing(&d->objects, resource);
    answer(q, VIRTIO_GPU_RESP_OK_NODATA);
    return wait ? WAITING : ANSWERED;
}

static const struct guest_region *find_region(const struct guest_memory *memory, uint32_t id)
{
    for (size_t i = 0; i < memory->n_regions; i++) {
        if (memory->regions[i].id == id)
            return &memory->regions[i];
    }
    return NULL;
}

/* Goes on where the last copy began: what is copied lies ever further on. */
static void seek(struct backing_reader *reader, uint64_t offset)
{
    const struct vgpu_resource *resource = reader->resource;

    while (reader->span < resource->n_spans &&
           offset - reader->start >= resource->spans[reader->span].length) {
        reader->start += resource->spans[reader->span].length;
        reader->span++;
    }
}

bool copy_from_backing(struct backing_reader *reader, uint64_t offset, void *data, uint64_t length)
{
    const struct vgpu_resource *resource = reader->resource;
    uint64_t end;

    if (__builtin_add_overflow(offset, length, &end) || end > resource->backing_size ||
        offset < reader->start)
        return false;
    while (length > 0) {
        const struct gpup_render_span *span;
        const struct guest_region *region;
        uint64_t inside, part;

        seek(reader, offset);
        span = &resource->spans[reader->span];
        region = find_region(reader->memory, span->region);
        if (!region)
            return false;
        inside = offset - reader->start;
        part = span->length - inside < length ? span->length - inside : length;
        memcpy(data, (const char *)region->map + span->offset + inside, part);
        data = (char *)data + part;
        offset += part;
        length -= part;
    }
    return true;
}
