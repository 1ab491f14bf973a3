/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_VGPU_DISPLAY_MESSAGE_H
#define GPUP_VGPU_DISPLAY_MESSAGE_H

#include <linux/virtio_gpu.h>
#include <stdint.h>

/*
 * The vhost-user-gpu protocol, by which a back-end shows pictures in QEMU (QEMU,
 * docs/interop/vhost-user-gpu.rst). In the machine's byte order. QEMU reads sizes and scanout
 * numbers unchecked: only well-formed messages may be sent.
 */

enum display_request {
    DISPLAY_GET_PROTOCOL_FEATURES = 1,
    DISPLAY_SET_PROTOCOL_FEATURES = 2,
    DISPLAY_GET_INFO = 3,
    DISPLAY_CURSOR_POS = 4,
    DISPLAY_CURSOR_POS_HIDE = 5,
    DISPLAY_CURSOR_UPDATE = 6,
    DISPLAY_SCANOUT = 7,
    DISPLAY_UPDATE = 8,
    DISPLAY_DMABUF_SCANOUT = 9,
    DISPLAY_DMABUF_UPDATE = 10,
    DISPLAY_GET_EDID = 11,
    DISPLAY_DMABUF_SCANOUT2 = 12,
};

#define DISPLAY_FLAG_REPLY  4u
#define DISPLAY_F_EDID      (UINT64_C(1) << 0)
#define DISPLAY_F_DMABUF2   (UINT64_C(1) << 1)
#define DISPLAY_CURSOR_SIZE 64u

struct display_header {
    uint32_t request, flags;
    uint32_t size; /* of what follows, bytes */
};

struct display_cursor_pos {
    uint32_t scanout, x, y;
};

struct display_cursor_update {
    struct display_cursor_pos pos;
    uint32_t hot_x, hot_y;
    uint32_t data[DISPLAY_CURSOR_SIZE * DISPLAY_CURSOR_SIZE]; /* a8r8g8b8 */
};

struct display_scanout {
    uint32_t scanout, width, height; /* width 0: nothing is shown */
};

struct display_update {
    uint32_t scanout, x, y, width, height;
    /* then height lines of width pixels, x8r8g8b8; nothing with DISPLAY_DMABUF_UPDATE */
};

struct display_dmabuf_scanout {
    uint32_t scanout, x, y, width, height;
    uint32_t fd_width, fd_height, fd_stride, fd_flags;
    int32_t fourcc;
} __attribute__((packed));

struct display_dmabuf_scanout2 {
    struct display_dmabuf_scanout scanout;
    uint64_t modifier;
} __attribute__((packed));

#endif
