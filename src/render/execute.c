/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <virgl/virglrenderer.h>

#include "render/render.h"

/* virglrenderer's header only names it. */
struct virgl_box {
    uint32_t x, y, z, w, h, d;
};

/* virglrenderer answers 0, a positive errno, or -1. */
static int status_of(int r)
{
    if (r == 0)
        return 0;
    return r > 0 ? -r : r == -1 ? -EIO : r;
}

/* virglrenderer makes the OpenGL context current that it creates or destroys, and goes on taking
 * the one before it for current: the next stream of that one would draw in the wrong one. */
static void make_known_context_current(void)
{
    virgl_renderer_force_ctx_0();
}

static int context_create(struct render *render, const void *data)
{
    /* virglrenderer's messages carry the name: the guest's own is not for the log */
    static const char name[] = "guest";
    const struct gpup_cmd_context *cmd = data;
    int r;

    if (cmd->context == 0 || cmd->name_length > sizeof(cmd->name))
        return -EINVAL;
    r = context_add(&render->objects, cmd->context);
    if (r < 0)
        return r;
    r = status_of(virgl_renderer_context_create(cmd->context, sizeof(name) - 1, name));
    make_known_context_current();
    if (r < 0)
        context_remove(&render->objects, cmd->context);
    return r;
}

static int context_destroy(struct render *render, const void *data)
{
    const struct gpup_cmd_context *cmd = data;

    if (!context_known(&render->objects, cmd->context))
        return -ENOENT;
    virgl_renderer_context_destroy(cmd->context);
    make_known_context_current();
    context_remove(&render->objects, cmd->context);
    return 0;
}

static int both_known(struct render *render, const struct gpup_cmd_context_resource *cmd)
{
    if (!context_known(&render->objects, cmd->context) ||
        !resource_find(&render->objects, cmd->resource))
        return -ENOENT;
    return 0;
}

static int context_attach(struct render *render, const void *data)
{
    const struct gpup_cmd_context_resource *cmd = data;
    int r = both_known(render, cmd);

    if (r == 0)
        virgl_renderer_ctx_attach_resource((int)cmd->context, (int)cmd->resource);
    return r;
}

static int context_detach(struct render *render, const void *data)
{
    const struct gpup_cmd_context_resource *cmd = data;
    int r = both_known(render, cmd);

    if (r == 0)
        virgl_renderer_ctx_detach_resource((int)cmd->context, (int)cmd->resource);
    return r;
}

static int resource_create(struct render *render, const void *data)
{
    const struct gpup_cmd_resource_create *cmd = data;
    struct virgl_renderer_resource_create_args args = {
        .handle = cmd->resource,
        .target = cmd->target,
        .format = cmd->format,
        .bind = cmd->bind,
        .width = cmd->width,
        .height = cmd->height,
        .depth = cmd->depth,
        .array_size = cmd->array_size,
        .last_level = cmd->last_level,
        .nr_samples = cmd->nr_samples,
        .flags = cmd->flags,
    };
    int r;

    if (cmd->resource == 0)
        return -EINVAL;
    r = resource_add(&render->objects, cmd->resource);
    if (r < 0)
        return r;
    r = status_of(virgl_renderer_resource_create(&args, NULL, 0));
    if (r < 0)
        resource_remove(&render->objects, cmd->resource);
    return r;
}

static int resource_unref(struct render *render, const void *data)
{
    const struct gpup_cmd_resource *cmd = data;
    struct resource *resource = resource_find(&render->objects, cmd->resource);

    if (!resource)
        return -ENOENT;
    resource_drop_backing(resource);
    virgl_renderer_resource_unref(cmd->resource);
    resource_remove(&render->objects, cmd->resource);
    return 0;
}

static int fill_backing(struct render *render, const struct gpup_cmd_backing_attach *cmd,
                        struct iovec *backing)
{
    for (uint32_t i = 0; i < cmd->n_spans; i++) {
        const struct gpup_render_span *span = &cmd->spans[i];
        struct region *region = region_find(&render->objects, span->region);

        if (!region)
            return -ENOENT;
        if (span->length == 0 || span->offset > region->size ||
            span->length > region->size - span->offset)
            return -ERANGE;
        backing[i].iov_base = region->base + span->offset;
        backing[i].iov_len = span->length;
    }
    return 0;
}

static int backing_attach(struct render *render, const void *data)
{
    const struct gpup_cmd_backing_attach *cmd = data;
    struct resource *resource = resource_find(&render->objects, cmd->resource);
    struct iovec *backing;
    int r;

    if (cmd->n_spans == 0 || cmd->n_spans > GPUP_MAX_BACKING ||
        sizeof(*cmd) + (uint64_t)cmd->n_spans * sizeof(cmd->spans[0]) > cmd->record.size)
        return -EINVAL;
    if (!resource)
        return -ENOENT;
    if (resource->backing)
        return -EEXIST;
    /* The regions' descriptors may still lie in the socket. */
    r = session_read_socket(render);
    if (r != 0)
        return -EPIPE;
    backing = calloc(cmd->n_spans, sizeof(*backing));
    if (!backing)
        return -ENOMEM;
    r = fill_backing(render, cmd, backing);
    if (r == 0)
        r = status_of(
            virgl_renderer_resource_attach_iov((int)cmd->resource, backing, (int)cmd->n_spans));
    if (r < 0) {
        free(backing);
        return r;
    }
    resource->backing = backing;
    resource->n_backing = cmd->n_spans;
    return 0;
}

static int backing_detach(struct render *render, const void *data)
{
    const struct gpup_cmd_resource *cmd = data;
    struct resource *resource = resource_find(&render->objects, cmd->resource);

    if (!resource)
        return -ENOENT;
    resource_drop_backing(resource);
    return 0;
}

static int transfer(struct render *render, const struct gpup_cmd_transfer *cmd, bool to_host)
{
    struct virgl_box box = {cmd->x, cmd->y, cmd->z, cmd->w, cmd->h, cmd->d};
    struct resource *resource = resource_find(&render->objects, cmd->resource);

    if (!resource || (cmd->context != 0 && !context_known(&render->objects, cmd->context)))
        return -ENOENT;
    if (!resource->backing)
        return -EINVAL;
    if (to_host)
        return status_of(virgl_renderer_transfer_write_iov(
            cmd->resource, cmd->context, (int)cmd->level, cmd->stride, cmd->layer_stride, &box,
            cmd->offset, NULL, 0));
    return status_of(virgl_renderer_transfer_read_iov(cmd->resource, cmd->context, cmd->level,
                                                      cmd->stride, cmd->layer_stride, &box,
                                                      cmd->offset, NULL, 0));
}

static int transfer_to_host(struct render *render, const void *data)
{
    return transfer(render, data, true);
}

static int transfer_from_host(struct render *render, const void *data)
{
    return transfer(render, data, false);
}

static int submit(struct render *render, const void *data)
{
    const struct gpup_cmd_submit *cmd = data;

    if (sizeof(*cmd) + (uint64_t)cmd->n_dwords * sizeof(uint32_t) > cmd->record.size ||
        cmd->n_dwords > GPUP_MAX_SUBMIT / sizeof(uint32_t))
        return -EINVAL;
    if (!context_known(&render->objects, cmd->context))
        return -ENOENT;
    /* virglrenderer does not write to it. What it lies in is gpup-vgpu's, whom we trust. */
    return status_of(virgl_renderer_submit_cmd((void *)(uintptr_t)cmd->dwords, (int)cmd->context,
                                               (int)cmd->n_dwords));
}

static int read_pixels(struct render *render, const void *data)
{
    const struct gpup_cmd_read_pixels *cmd = data;
    struct virgl_box box = {cmd->x, cmd->y, 0, cmd->w, cmd->h, 1};
    struct iovec iov = {.iov_base = render->pixels};
    uint64_t bytes = (uint64_t)cmd->h * cmd->stride;

    if (cmd->w == 0 || cmd->h == 0 || (uint64_t)cmd->w * 4 > cmd->stride ||
        bytes > render->pixel_size)
        return -EINVAL;
    if (!resource_find(&render->objects, cmd->resource))
        return -ENOENT;
    iov.iov_len = bytes;
    return status_of(
        virgl_renderer_transfer_read_iov(cmd->resource, 0, 0, cmd->stride, 0, &box, 0, &iov, 1));
}

static int export(struct render *render, const void *data)
{
    const struct gpup_cmd_resource *cmd = data;

    return export_resource(render, cmd->resource);
}

static int memory_remove(struct render *render, const void *data)
{
    const struct gpup_cmd_memory_remove *cmd = data;

    /* Its ADD may still lie in the socket, when nothing ever used it. */
    if (session_read_socket(render) != 0)
        return -EPIPE;
    return region_remove(&render->objects, cmd->region);
}

/* Piece by piece, not by virgl_renderer_reset(): fences under way keep their order. */
static int reset(struct render *render, const void *data)
{
    while (render->objects.contexts) {
        uint32_t id = render->objects.contexts->id;

        virgl_renderer_context_destroy(id);
        context_remove(&render->objects, id);
    }
    make_known_context_current();
    for (size_t bucket = 0; bucket < RESOURCE_BUCKETS; bucket++)
        while (render->objects.resources[bucket]) {
            struct resource *resource = render->objects.resources[bucket];
            uint32_t id = resource->id;

            resource_drop_backing(resource);
            virgl_renderer_resource_unref(id);
            resource_remove(&render->objects, id);
        }
    return 0;
}

static int ping(struct render *render, const void *data)
{
    return 0;
}

int execute(struct render *render, struct gpup_error **err)
{
    static const struct {
        size_t size; /* at least */
        int (*run)(struct render *render, const void *data);
    } commands[] = {
        [GPUP_CMD_CONTEXT_CREATE] = {sizeof(struct gpup_cmd_context), context_create},
        [GPUP_CMD_CONTEXT_DESTROY] = {sizeof(struct gpup_cmd_context), context_destroy},
        [GPUP_CMD_CONTEXT_ATTACH] = {sizeof(struct gpup_cmd_context_resource), context_attach},
        [GPUP_CMD_CONTEXT_DETACH] = {sizeof(struct gpup_cmd_context_resource), context_detach},
        [GPUP_CMD_RESOURCE_CREATE] = {sizeof(struct gpup_cmd_resource_create), resource_create},
        [GPUP_CMD_RESOURCE_UNREF] = {sizeof(struct gpup_cmd_resource), resource_unref},
        [GPUP_CMD_BACKING_ATTACH] = {sizeof(struct gpup_cmd_backing_attach), backing_attach},
        [GPUP_CMD_BACKING_DETACH] = {sizeof(struct gpup_cmd_resource), backing_detach},
        [GPUP_CMD_TRANSFER_TO_HOST] = {sizeof(struct gpup_cmd_transfer), transfer_to_host},
        [GPUP_CMD_TRANSFER_FROM_HOST] = {sizeof(struct gpup_cmd_transfer), transfer_from_host},
        [GPUP_CMD_SUBMIT] = {sizeof(struct gpup_cmd_submit), submit},
        [GPUP_CMD_FENCE] = {sizeof(struct gpup_cmd_fence), NULL},
        [GPUP_CMD_READ_PIXELS] = {sizeof(struct gpup_cmd_read_pixels), read_pixels},
        [GPUP_CMD_MEMORY_REMOVE] = {sizeof(struct gpup_cmd_memory_remove), memory_remove},
        [GPUP_CMD_RESET] = {sizeof(struct gpup_record), reset},
        [GPUP_CMD_EXPORT] = {sizeof(struct gpup_cmd_resource), export},
        [GPUP_CMD_PING] = {sizeof(struct gpup_record), ping},
    };
    const struct gpup_record *record = render->record;
    int r;

    if (record->type >= sizeof(commands) / sizeof(*commands) || commands[record->type].size == 0)
        return gpup_error_set(err, EPROTO, "unknown command %u", record->type);
    if (record->size < commands[record->type].size)
        return gpup_error_set(err, EPROTO, "command %u is too short (%u bytes)", record->type,
                              record->size);
    if (record->type == GPUP_CMD_FENCE) {
        r = virgl_fence(render, record->seq);
        return r < 0 ? gpup_error_set(err, -r, "out of memory") : 0;
    }
    r = commands[record->type].run(render, record);
    if (record->seq == 0)
        return 0;
    r = session_emit(render, GPUP_EVENT_DONE, record->seq, r);
    return r < 0 ? gpup_error_set(err, -r, "the event ring: %s", strerror(-r)) : 0;
}
