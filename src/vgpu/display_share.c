/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "vgpu/display_share.h"

#include <stddef.h>
#include <sys/types.h>
#include <unistd.h>

void display_shares_init(struct display_shares *shares)
{
    for (unsigned i = 0; i < DISPLAY_SHARES; i++)
        shares->list[i] = (struct display_share){.fd = -1};
    shares->next = 0;
}

static void drop(struct display_share *share)
{
    if (share->fd >= 0)
        close(share->fd);
    *share = (struct display_share){.fd = -1};
}

void display_shares_clear(struct display_shares *shares)
{
    for (unsigned i = 0; i < DISPLAY_SHARES; i++)
        drop(&shares->list[i]);
}

const struct display_share *display_shares_find(const struct display_shares *shares,
                                                uint32_t resource)
{
    for (unsigned i = 0; i < DISPLAY_SHARES; i++) {
        if (shares->list[i].fd >= 0 && shares->list[i].resource == resource)
            return &shares->list[i];
    }
    return NULL;
}

void display_shares_forget(struct display_shares *shares, uint32_t resource)
{
    for (unsigned i = 0; i < DISPLAY_SHARES; i++) {
        if (shares->list[i].resource == resource)
            drop(&shares->list[i]);
    }
}

static bool fits(const struct vgpu_resource *resource, const struct gpup_render_exported *exported,
                 int fd)
{
    const struct vgpu_shape *shape = &resource->shape;
    off_t size = lseek(fd, 0, SEEK_END); /* dma-bufs tell their size so */
    uint64_t least;

    return exported->resource == resource->id && exported->width == shape->width &&
           exported->height == shape->height && exported->fourcc != 0 &&
           exported->stride >= (uint64_t)shape->width * VGPU_PIXEL_BYTES &&
           !__builtin_mul_overflow((uint64_t)exported->stride, (uint64_t)shape->height, &least) &&
           size >= 0 && (uint64_t)size >= least;
}

bool display_shares_add(struct display_shares *shares, const struct vgpu_resource *resource,
                        const struct gpup_render_exported *exported, int fd)
{
    struct display_share *share = &shares->list[shares->next];

    if (!fits(resource, exported, fd)) {
        close(fd);
        return false;
    }
    display_shares_forget(shares, resource->id);
    drop(share);
    shares->next = (shares->next + 1) % DISPLAY_SHARES;
    *share = (struct display_share){.resource = resource->id,
                                    .fd = fd,
                                    .stride = exported->stride,
                                    .fourcc = exported->fourcc,
                                    .modifier = exported->modifier};
    return true;
}
