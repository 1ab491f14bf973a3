/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_TEST_VIEWER_H
#define GPUP_TEST_VIEWER_H

#include "frontend.h"

#include <glib.h>

/*
 * QEMU's end of the display socket: answers, and keeps what it was shown. Runs in a thread of its
 * own. A message that would hurt QEMU ends the test.
 */
struct viewer {
    int fd;
    uint64_t features; /* it offers these; 0 is QEMU 7.2 */
    GThread *thread;
    GMutex lock;
    GCond changed;
    bool silent; /* answers nothing */
    bool ended;
    uint32_t width, height; /* of the scanout */
    uint32_t *pixels;       /* x8r8g8b8 */
    unsigned scanouts, updates, cursors;
    uint64_t bytes; /* of pixels received */
    uint32_t cursor[64 * 64], cursor_x, cursor_y, hot_x, hot_y;
    bool cursor_visible;
    /* shared buffers */
    unsigned dmabufs, dmabuf_updates;
    int dmabuf;
    uint32_t dmabuf_width, dmabuf_height, dmabuf_stride, dmabuf_fourcc;
    uint64_t dmabuf_modifier;
};

/* Gives the device a new display socket, as QEMU does at every start; the head has this size. */
void viewer_start(struct viewer *v, struct frontend *f, uint32_t features);
void viewer_stop(struct viewer *v);

/* Waits until done(v, data), called with the lock held, is true; 60 s. */
void viewer_wait(struct viewer *v, bool (*done)(struct viewer *v, const void *data),
                 const void *data);

#define VIEWER_WIDTH  1024u
#define VIEWER_HEIGHT 768u

#endif
