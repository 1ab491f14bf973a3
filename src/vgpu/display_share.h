/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_VGPU_DISPLAY_SHARE_H
#define GPUP_VGPU_DISPLAY_SHARE_H

#include "vgpu/objects.h"
#include "wire/render.h"

#include <stdbool.h>
#include <stdint.h>

/* The buffers that QEMU was or may be shown without a copy: those a guest flips between. */

#define DISPLAY_SHARES 4u

struct display_share {
    uint32_t resource; /* 0: none */
    int fd;
    uint32_t stride, fourcc;
    uint64_t modifier;
};

struct display_shares {
    struct display_share list[DISPLAY_SHARES];
    unsigned next; /* the place of the next one */
};

void display_shares_init(struct display_shares *shares);
void display_shares_clear(struct display_shares *shares);
const struct display_share *display_shares_find(const struct display_shares *shares,
                                                uint32_t resource);
void display_shares_forget(struct display_shares *shares, uint32_t resource);

/*
 * Keeps what the renderer has exported; `fd` is taken in any case. False: it does not fit the
 * resource. QEMU believes what it is told, so nothing of this goes on unchecked.
 */
bool display_shares_add(struct display_shares *shares, const struct vgpu_resource *resource,
                        const struct gpup_render_exported *exported, int fd);

#endif
