/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <unistd.h>
#include <virgl/virglrenderer.h>

#include "render/render.h"

/* A resource as a dma-buf of one plane: what QEMU's display can take. */
static int query(uint32_t resource, struct virgl_renderer_export_query *q)
{
    *q = (struct virgl_renderer_export_query){
        .hdr = {.stype = VIRGL_RENDERER_STRUCTURE_TYPE_EXPORT_QUERY, .size = sizeof(*q)},
        .in_resource_id = resource,
        .in_export_fds = 1,
    };
    if (virgl_renderer_execute(q, sizeof(*q)) != 0 || q->out_num_fds == 0)
        return -ENOTSUP;
    if (q->out_num_fds == 1 && q->out_fourcc != 0 && q->out_offsets[0] == 0)
        return 0;
    for (uint32_t i = 0; i < q->out_num_fds && i < 4; i++)
        close(q->out_fds[i]);
    return -ENOTSUP;
}

int export_resource(struct render *render, uint32_t resource)
{
    struct gpup_render_exported message = {
        .header = {.type = GPUP_RENDER_EXPORTED, .version = render->version},
        .resource = resource,
    };
    struct virgl_renderer_resource_info info;
    struct virgl_renderer_export_query q;
    int r;

    /* the software renderer has no buffers of the kernel's, and crashes when asked for them */
    if (!render->has_node)
        return -ENOTSUP;
    if (!resource_find(&render->objects, resource) ||
        virgl_renderer_resource_get_info((int)resource, &info) != 0)
        return -ENOENT;
    r = query(resource, &q);
    if (r < 0)
        return r;
    message.width = info.width;
    message.height = info.height;
    message.stride = q.out_strides[0];
    message.fourcc = q.out_fourcc;
    message.modifier = q.out_modifier;
    r = session_send(render, &message, sizeof(message), q.out_fds[0]);
    close(q.out_fds[0]);
    return r;
}
