/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "vgpu/device_internal.h"

#include "vgpu/stream.h"

#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

/* virtio 1.2, 5.7.6.9: the 3D commands. What is checked here is who and how much; the renderer's
 * own parser checks the rest, in its jail. */

#define BIND_RENDER_TARGET (1u << 1)
#define Y_0_TOP            1u

enum outcome get_capset_info(struct vgpu_device *d, struct request *q, const void *command)
{
    const struct virtio_gpu_get_capset_info *c = command;
    uint32_t index = le32toh(c->capset_index);
    struct {
        uint32_t id, max_version, max_size, padding;
    } info = {0};
    bool refused;

    if (d->n_capsets == 0) {
        enum outcome outcome = need_renderer(d, q, &refused);

        if (outcome == BLOCKED || refused)
            return outcome;
    }
    if (index < d->n_capsets) {
        info.id = htole32(d->capsets[index].id);
        info.max_version = htole32(d->capsets[index].max_version);
        info.max_size = htole32(d->capsets[index].size);
    }
    answer_data(q, 0, &info, sizeof(info));
    return answer(q, VIRTIO_GPU_RESP_OK_CAPSET_INFO);
}

enum outcome get_capset(struct vgpu_device *d, struct request *q, const void *command)
{
    const struct virtio_gpu_get_capset *c = command;
    size_t at = 0;
    bool refused;

    if (!d->capset_data) {
        enum outcome outcome = need_renderer(d, q, &refused);

        if (outcome == BLOCKED || refused)
            return outcome;
    }
    for (uint32_t i = 0; d->capset_data && i < d->n_capsets; i++) {
        if (d->capsets[i].id == le32toh(c->capset_id) &&
            le32toh(c->capset_version) <= d->capsets[i].max_version) {
            answer_data(q, 0, d->capset_data + at, d->capsets[i].size);
            return answer(q, VIRTIO_GPU_RESP_OK_CAPSET);
        }
        at += d->capsets[i].size;
    }
    return answer(q, VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
}

/* ---- contexts ---- */

static enum outcome bad_context(struct request *q)
{
    return answer(q, VIRTIO_GPU_RESP_ERR_INVALID_CONTEXT_ID);
}

enum outcome ctx_create(struct vgpu_device *d, struct request *q, const void *command)
{
    const struct virtio_gpu_ctx_create *c = command;
    uint32_t length = le32toh(c->nlen);
    struct gpup_cmd_context *cmd;
    enum outcome outcome;
    bool refused;

    if (q->context == 0 || vgpu_context_find(&d->objects, q->context))
        return bad_context(q);
    if (d->objects.n_contexts >= VGPU_MAX_CONTEXTS) {
        note_refusal(d, "too many OpenGL contexts");
        return answer(q, VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY);
    }
    outcome = need_renderer(d, q, &refused);
    if (outcome == BLOCKED || refused)
        return outcome;
    cmd = tell_renderer(d, q, GPUP_CMD_CONTEXT_CREATE, sizeof(*cmd));
    if (!cmd)
        return BLOCKED;
    cmd->context = q->context;
    cmd->name_length = length < sizeof(cmd->name) ? length : sizeof(cmd->name) - 1;
    memset(cmd->name, 0, sizeof(cmd->name));
    memcpy(cmd->name, c->debug_name, cmd->name_length);
    if (!vgpu_context_add(&d->objects, q->context))
        return answer(q, VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY); /* not committed: not sent */
    renderer_commit(d->renderer);
    return answer(q, VIRTIO_GPU_RESP_OK_NODATA);
}

enum outcome ctx_destroy(struct vgpu_device *d, struct request *q, const void *command)
{
    struct vgpu_context *context = vgpu_context_find(&d->objects, q->context);

    if (!context)
        return bad_context(q);
    if (!context->lost && d->renderer) {
        struct gpup_cmd_context *cmd = tell_renderer(d, q, GPUP_CMD_CONTEXT_DESTROY, sizeof(*cmd));

        if (!cmd)
            return BLOCKED;
        cmd->context = q->context;
        cmd->name_length = 0;
        renderer_commit(d->renderer);
    }
    vgpu_context_remove(&d->objects, context);
    idle_renderer(d);
    return answer(q, VIRTIO_GPU_RESP_OK_NODATA);
}

/* Makes a 2D resource known to the renderer, with what the guest has in it now. False: BLOCKED;
 * it goes on from there the next time. */
static bool promote(struct vgpu_device *d, struct request *q, struct vgpu_resource *resource)
{
    struct gpup_cmd_resource_create *cmd;
    struct gpup_cmd_transfer *transfer;

    cmd = tell_renderer(d, q, GPUP_CMD_RESOURCE_CREATE, sizeof(*cmd));
    if (!cmd)
        return false;
    *cmd = (struct gpup_cmd_resource_create){.record = cmd->record,
                                             .resource = resource->id,
                                             .target = VGPU_TARGET_2D,
                                             .format = resource->shape.format,
                                             .bind = BIND_RENDER_TARGET,
                                             .width = resource->shape.width,
                                             .height = resource->shape.height,
                                             .depth = 1,
                                             .array_size = 1,
                                             .flags = Y_0_TOP};
    renderer_commit(d->renderer);
    resource->in_renderer = true;
    if (!resource->spans)
        return true;
    /* Without room for these two its content comes with the guest's next transfer. */
    if (!send_backing(d, q, resource))
        return true;
    transfer = tell_renderer(d, q, GPUP_CMD_TRANSFER_TO_HOST, sizeof(*transfer));
    if (!transfer)
        return true;
    *transfer = (struct gpup_cmd_transfer){.record = transfer->record,
                                           .resource = resource->id,
                                           .stride = resource->shape.width * VGPU_PIXEL_BYTES,
                                           .w = resource->shape.width,
                                           .h = resource->shape.height,
                                           .d = 1};
    renderer_commit(d->renderer);
    return true;
}

/* Its pixels lie with us, and once more in the renderer. */
static bool charge_copy(struct vgpu_device *d, struct vgpu_resource *resource)
{
    if (resource->copy_charge > 0) /* there was no room in the ring then */
        return true;
    if (!vgpu_quota_charge(&d->usage.quota, resource->charge)) {
        note_refusal(d, "out of the partition's memory");
        return false;
    }
    resource->copy_charge = resource->charge;
    return true;
}

static enum outcome ctx_resource(struct vgpu_device *d, struct request *q, uint32_t id, bool attach)
{
    struct vgpu_context *context = vgpu_context_find(&d->objects, q->context);
    struct vgpu_resource *resource = vgpu_resource_find(&d->objects, id);
    struct gpup_cmd_context_resource *cmd;
    bool wait;

    if (!context)
        return bad_context(q);
    if (!resource)
        return answer(q, VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID);
    if (context->lost || resource->lost || !d->renderer)
        return attach ? bad_context(q) : answer(q, VIRTIO_GPU_RESP_OK_NODATA);
    if (!resource->in_renderer && attach && !charge_copy(d, resource))
        return answer(q, VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY);
    if (!resource->in_renderer && (!attach || !promote(d, q, resource)))
        return attach ? BLOCKED : answer(q, VIRTIO_GPU_RESP_OK_NODATA);
    /* A 2D resource's first content is read from the guest's pages: before the answer. */
    wait = attach && !resource->is_3d && !q->fenced;
    cmd = (wait ? ask_renderer : tell_renderer)(
        d, q, attach ? GPUP_CMD_CONTEXT_ATTACH : GPUP_CMD_CONTEXT_DETACH, sizeof(*cmd));
    if (!cmd)
        return BLOCKED;
    cmd->context = q->context;
    cmd->resource = id;
    renderer_commit(d->renderer);
    answer(q, VIRTIO_GPU_RESP_OK_NODATA);
    return wait ? WAITING : ANSWERED;
}

enum outcome ctx_attach(struct vgpu_device *d, struct request *q, const void *command)
{
    const struct virtio_gpu_ctx_resource *c = command;

    return ctx_resource(d, q, le32toh(c->resource_id), true);
}

enum outcome ctx_detach(struct vgpu_device *d, struct request *q, const void *command)
{
    const struct virtio_gpu_ctx_resource *c = command;

    return ctx_resource(d, q, le32toh(c->resource_id), false);
}

/* ---- resources ---- */

static struct vgpu_shape shape_of(const struct virtio_gpu_resource_create_3d *c)
{
    return (struct vgpu_shape){.target = le32toh(c->target),
                               .format = le32toh(c->format),
                               .width = le32toh(c->width),
                               .height = le32toh(c->height),
                               .depth = le32toh(c->depth),
                               .array_size = le32toh(c->array_size),
                               .last_level = le32toh(c->last_level),
                               .nr_samples = le32toh(c->nr_samples)};
}

static bool send_create(struct vgpu_device *d, struct request *q,
                        const struct virtio_gpu_resource_create_3d *c)
{
    struct gpup_cmd_resource_create *cmd =
        tell_renderer(d, q, GPUP_CMD_RESOURCE_CREATE, sizeof(*cmd));

    if (!cmd)
        return false;
    *cmd = (struct gpup_cmd_resource_create){.record = cmd->record,
                                             .resource = le32toh(c->resource_id),
                                             .target = le32toh(c->target),
                                             .format = le32toh(c->format),
                                             .bind = le32toh(c->bind),
                                             .width = le32toh(c->width),
                                             .height = le32toh(c->height),
                                             .depth = le32toh(c->depth),
                                             .array_size = le32toh(c->array_size),
                                             .last_level = le32toh(c->last_level),
                                             .nr_samples = le32toh(c->nr_samples),
                                             .flags = le32toh(c->flags)};
    return true;
}

static enum outcome refuse_shape(struct vgpu_device *d, struct request *q, uint32_t format)
{
    char text[80];

    if (!vgpu_format_is_known(format)) {
        snprintf(text, sizeof(text), "format %u is not known: no resource can have it", format);
        note_refusal(d, text);
    }
    return answer(q, VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
}

enum outcome resource_create_3d(struct vgpu_device *d, struct request *q, const void *command)
{
    const struct virtio_gpu_resource_create_3d *c = command;
    struct vgpu_shape shape = shape_of(c);
    struct vgpu_resource *resource;
    enum outcome outcome;
    uint64_t bytes;
    bool refused;

    if (!vgpu_shape_bytes(&shape, &bytes))
        return refuse_shape(d, q, shape.format);
    if (le32toh(c->resource_id) == 0 || vgpu_resource_find(&d->objects, le32toh(c->resource_id)))
        return answer(q, VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID);
    outcome = need_renderer(d, q, &refused);
    if (outcome == BLOCKED || refused)
        return outcome;
    if (!send_create(d, q, c))
        return BLOCKED;
    if (!vgpu_quota_charge(&d->usage.quota, bytes)) {
        note_refusal(d, "out of the partition's memory");
        return answer(q, VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY); /* not committed: not sent */
    }
    resource = vgpu_resource_add(&d->objects, le32toh(c->resource_id));
    if (!resource) {
        vgpu_quota_credit(&d->usage.quota, bytes);
        return answer(q, VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY);
    }
    renderer_commit(d->renderer);
    resource->is_3d = true;
    resource->in_renderer = true;
    resource->shape = shape;
    resource->charge = bytes;
    return answer(q, VIRTIO_GPU_RESP_OK_NODATA);
}

static enum outcome transfer(struct vgpu_device *d, struct request *q,
                             const struct virtio_gpu_transfer_host_3d *c, uint32_t type)
{
    struct vgpu_resource *resource = vgpu_resource_find(&d->objects, le32toh(c->resource_id));
    struct vgpu_context *context = vgpu_context_find(&d->objects, q->context);
    struct gpup_cmd_transfer *cmd;

    if (!resource || !resource->in_renderer || !d->renderer)
        return answer(q, VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID);
    if (q->context != 0 && (!context || context->lost))
        return bad_context(q);
    if (!resource->spans)
        return answer(q, VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
    cmd = tell_renderer(d, q, type, sizeof(*cmd));
    if (!cmd)
        return BLOCKED;
    *cmd = (struct gpup_cmd_transfer){.record = cmd->record,
                                      .context = q->context,
                                      .resource = resource->id,
                                      .level = le32toh(c->level),
                                      .stride = le32toh(c->stride),
                                      .layer_stride = le32toh(c->layer_stride),
                                      .x = le32toh(c->box.x),
                                      .y = le32toh(c->box.y),
                                      .z = le32toh(c->box.z),
                                      .w = le32toh(c->box.w),
                                      .h = le32toh(c->box.h),
                                      .d = le32toh(c->box.d),
                                      .offset = le64toh(c->offset)};
    renderer_commit(d->renderer);
    return answer(q, VIRTIO_GPU_RESP_OK_NODATA);
}

enum outcome transfer_to_host_3d(struct vgpu_device *d, struct request *q, const void *command)
{
    return transfer(d, q, command, GPUP_CMD_TRANSFER_TO_HOST);
}

enum outcome transfer_from_host_3d(struct vgpu_device *d, struct request *q, const void *command)
{
    return transfer(d, q, command, GPUP_CMD_TRANSFER_FROM_HOST);
}

/* ---- command streams ---- */

static enum outcome refuse_stream(struct vgpu_device *d, struct request *q, int ret,
                                  uint32_t opcode)
{
    char text[80];

    d->usage.stream_errors++;
    if (ret == -EPERM)
        snprintf(text, sizeof(text), "command %u is not allowed in a stream", opcode);
    else
        snprintf(text, sizeof(text), "a malformed command stream");
    note_refusal(d, text);
    return answer(q, VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
}

enum outcome submit_3d(struct vgpu_device *d, struct request *q, const void *command)
{
    const struct virtio_gpu_cmd_submit *c = command;
    struct vgpu_context *context = vgpu_context_find(&d->objects, q->context);
    uint32_t size = le32toh(c->size), opcode = 0;
    struct gpup_cmd_submit *cmd;
    int ret;

    if (!context || context->lost || !d->renderer)
        return bad_context(q);
    if (size % 4 != 0 || size > GPUP_MAX_SUBMIT || q->element->out_size < sizeof(*c) ||
        size > q->element->out_size - sizeof(*c))
        return refuse_stream(d, q, -EINVAL, 0);
    cmd = tell_renderer(d, q, GPUP_CMD_SUBMIT, sizeof(*cmd) + size);
    if (!cmd)
        return BLOCKED;
    cmd->context = q->context;
    cmd->n_dwords = size / 4;
    if (virtqueue_read(q->element, sizeof(*c), cmd->dwords, size) != size)
        return refuse_stream(d, q, -EINVAL, 0);
    /* in the ring, where the guest cannot change it any more */
    ret = vgpu_stream_check(cmd->dwords, size / 4, &opcode);
    if (ret < 0)
        return refuse_stream(d, q, ret, opcode);
    renderer_commit(d->renderer);
    d->usage.submits++;
    return answer(q, VIRTIO_GPU_RESP_OK_NODATA);
}
