/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "vgpu/device_internal.h"

#include "vgpu/edid.h"

#include <endian.h>
#include <stdlib.h>
#include <string.h>

/* virtio 1.2, 5.7.6.8: the 2D commands. A 2D resource's pixels lie with us; the renderer gets a
 * copy when the resource is attached to a context. */

#define MAX_2D_SIZE 16384u /* what is shown is no larger either */
#define HEAD_WIDTH  1280u
#define HEAD_HEIGHT 800u

/* Unless a display was asked for the head reports itself disconnected: the VM's other video device
 * shows the desktop. */
enum outcome get_display_info(struct vgpu_device *d, struct request *q, const void *command)
{
    struct virtio_gpu_resp_display_info info = {0};

    if (!display_info(d->display, &q->asked, &info.pmodes[0]))
        return BLOCKED;
    answer_data(q, 0, &info.pmodes, sizeof(info.pmodes));
    return answer(q, VIRTIO_GPU_RESP_OK_DISPLAY_INFO);
}

enum outcome get_edid(struct vgpu_device *d, struct request *q, const void *command)
{
    const struct virtio_gpu_cmd_get_edid *c = command;
    struct virtio_gpu_resp_edid edid = {.size = htole32(VGPU_EDID_SIZE)};
    struct virtio_gpu_display_one head;

    if (le32toh(c->scanout) != 0)
        return answer(q, VIRTIO_GPU_RESP_ERR_INVALID_SCANOUT_ID);
    if (!display_info(d->display, &q->asked, &head))
        return BLOCKED;
    vgpu_edid_make(edid.edid, head.r.width ? le32toh(head.r.width) : HEAD_WIDTH,
                   head.r.height ? le32toh(head.r.height) : HEAD_HEIGHT);
    answer_data(q, 0, &edid.size, sizeof(edid) - sizeof(edid.hdr));
    return answer(q, VIRTIO_GPU_RESP_OK_EDID);
}

static bool is_2d_format(uint32_t format)
{
    switch (format) {
    case VIRTIO_GPU_FORMAT_B8G8R8A8_UNORM:
    case VIRTIO_GPU_FORMAT_B8G8R8X8_UNORM:
    case VIRTIO_GPU_FORMAT_A8R8G8B8_UNORM:
    case VIRTIO_GPU_FORMAT_X8R8G8B8_UNORM:
    case VIRTIO_GPU_FORMAT_R8G8B8A8_UNORM:
    case VIRTIO_GPU_FORMAT_X8B8G8R8_UNORM:
    case VIRTIO_GPU_FORMAT_A8B8G8R8_UNORM:
    case VIRTIO_GPU_FORMAT_R8G8B8X8_UNORM:
        return true;
    default:
        return false;
    }
}

enum outcome resource_create_2d(struct vgpu_device *d, struct request *q, const void *command)
{
    const struct virtio_gpu_resource_create_2d *c = command;
    struct vgpu_shape shape = {.target = VGPU_TARGET_2D,
                               .format = le32toh(c->format),
                               .width = le32toh(c->width),
                               .height = le32toh(c->height),
                               .depth = 1,
                               .array_size = 1};
    struct vgpu_resource *resource;
    uint64_t bytes;

    if (!is_2d_format(shape.format) || shape.width > MAX_2D_SIZE || shape.height > MAX_2D_SIZE ||
        shape.height == 0 || !vgpu_shape_bytes(&shape, &bytes))
        return answer(q, VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
    if (vgpu_resource_find(&d->objects, le32toh(c->resource_id)))
        return answer(q, VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID);
    if (!vgpu_quota_charge(&d->usage.quota, bytes)) {
        note_refusal(d, "out of the partition's memory");
        return answer(q, VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY);
    }
    resource = vgpu_resource_add(&d->objects, le32toh(c->resource_id));
    if (resource)
        resource->pixels = calloc((size_t)shape.width * shape.height, VGPU_PIXEL_BYTES);
    if (!resource || !resource->pixels) {
        if (resource)
            vgpu_resource_remove(&d->objects, resource);
        vgpu_quota_credit(&d->usage.quota, bytes);
        return answer(q, VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID);
    }
    resource->shape = shape;
    resource->charge = bytes;
    return answer(q, VIRTIO_GPU_RESP_OK_NODATA);
}

/* The guest frees the pages behind it after the answer: the renderer has let go then. */
enum outcome resource_unref(struct vgpu_device *d, struct request *q, const void *command)
{
    const struct virtio_gpu_resource_unref *c = command;
    struct vgpu_resource *resource = vgpu_resource_find(&d->objects, le32toh(c->resource_id));
    bool wait = false;

    if (!resource)
        return answer(q, VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID);
    if (resource->in_renderer && d->renderer) {
        struct gpup_cmd_resource *cmd = ask_renderer(d, q, GPUP_CMD_RESOURCE_UNREF, sizeof(*cmd));

        if (!cmd)
            return BLOCKED;
        cmd->resource = resource->id;
        renderer_commit(d->renderer);
        wait = q->seq != 0;
    }
    display_forget(d->display, resource->id);
    forget_copy(d, resource);
    vgpu_quota_credit(&d->usage.quota, resource->charge);
    vgpu_resource_remove(&d->objects, resource);
    answer(q, VIRTIO_GPU_RESP_OK_NODATA);
    return wait ? WAITING : ANSWERED;
}

static bool rect_fits(const struct virtio_gpu_rect *rect, const struct vgpu_resource *resource)
{
    uint32_t right, bottom;

    return !__builtin_add_overflow(le32toh(rect->x), le32toh(rect->width), &right) &&
           !__builtin_add_overflow(le32toh(rect->y), le32toh(rect->height), &bottom) &&
           right <= resource->shape.width && bottom <= resource->shape.height;
}

enum outcome set_scanout(struct vgpu_device *d, struct request *q, const void *command)
{
    const struct virtio_gpu_set_scanout *c = command;
    struct vgpu_resource *resource;

    if (le32toh(c->scanout_id) != 0)
        return answer(q, VIRTIO_GPU_RESP_ERR_INVALID_SCANOUT_ID);
    if (le32toh(c->resource_id) == 0) {
        display_set_scanout(d->display, NULL, NULL);
        return answer(q, VIRTIO_GPU_RESP_OK_NODATA);
    }
    resource = vgpu_resource_find(&d->objects, le32toh(c->resource_id));
    if (!resource)
        return answer(q, VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID);
    if (!vgpu_resource_is_picture(resource) || !rect_fits(&c->r, resource) ||
        le32toh(c->r.width) > MAX_2D_SIZE || le32toh(c->r.height) > MAX_2D_SIZE)
        return answer(q, VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
    display_set_scanout(d->display, resource, &c->r);
    return answer(q, VIRTIO_GPU_RESP_OK_NODATA);
}

enum outcome resource_flush(struct vgpu_device *d, struct request *q, const void *command)
{
    const struct virtio_gpu_resource_flush *c = command;
    struct vgpu_resource *resource = vgpu_resource_find(&d->objects, le32toh(c->resource_id));

    if (!resource)
        return answer(q, VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID);
    if (!rect_fits(&c->r, resource))
        return answer(q, VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
    d->usage.frames++;
    display_flush(d->display, resource, &c->r);
    return answer(q, VIRTIO_GPU_RESP_OK_NODATA);
}

/* Line by line: `offset` is where the rectangle's first pixel lies in the backing, whose lines are
 * as long as the resource's. */
static bool copy_rect(struct vgpu_device *d, struct vgpu_resource *resource,
                      const struct virtio_gpu_rect *rect, uint64_t offset)
{
    struct backing_reader reader = {.memory = vhost_user_memory(d->vhost), .resource = resource};
    uint64_t stride = (uint64_t)resource->shape.width * VGPU_PIXEL_BYTES;
    uint64_t line = (uint64_t)le32toh(rect->width) * VGPU_PIXEL_BYTES;
    unsigned char *to = resource->pixels + le32toh(rect->y) * stride +
                        (uint64_t)le32toh(rect->x) * VGPU_PIXEL_BYTES;

    for (uint32_t i = 0; i < le32toh(rect->height); i++, to += stride) {
        uint64_t at;

        if (__builtin_add_overflow(offset, i * stride, &at) ||
            !copy_from_backing(&reader, at, to, line))
            return false;
    }
    return true;
}

enum outcome transfer_to_host_2d(struct vgpu_device *d, struct request *q, const void *command)
{
    const struct virtio_gpu_transfer_to_host_2d *c = command;
    struct vgpu_resource *resource = vgpu_resource_find(&d->objects, le32toh(c->resource_id));

    if (!resource || resource->is_3d)
        return answer(q, VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID);
    if (!resource->spans || !rect_fits(&c->r, resource) ||
        !copy_rect(d, resource, &c->r, le64toh(c->offset)))
        return answer(q, VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
    if (resource->in_renderer && d->renderer) {
        struct gpup_cmd_transfer *cmd =
            tell_renderer(d, q, GPUP_CMD_TRANSFER_TO_HOST, sizeof(*cmd));

        if (!cmd)
            return BLOCKED;
        *cmd = (struct gpup_cmd_transfer){.record = cmd->record,
                                          .resource = resource->id,
                                          .stride = resource->shape.width * VGPU_PIXEL_BYTES,
                                          .x = le32toh(c->r.x),
                                          .y = le32toh(c->r.y),
                                          .w = le32toh(c->r.width),
                                          .h = le32toh(c->r.height),
                                          .d = 1,
                                          .offset = le64toh(c->offset)};
        renderer_commit(d->renderer);
    }
    return answer(q, VIRTIO_GPU_RESP_OK_NODATA);
}
