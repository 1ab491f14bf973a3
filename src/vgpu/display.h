/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_VGPU_DISPLAY_H
#define GPUP_VGPU_DISPLAY_H

#include "vgpu/objects.h"

#include <linux/virtio_gpu.h>
#include <stdbool.h>
#include <stdint.h>

struct gpup_error;
struct vgpu_device;

/*
 * What the guest shows on its head, brought to QEMU's display socket: by pixels, a strip at a time,
 * as fast as QEMU takes it, or, what a GPU has rendered, as a dma-buf. What changes meanwhile is
 * put together, so that a slow viewer costs the guest nothing. Every function takes NULL, for a
 * head that is disconnected.
 */
struct display;

/* share: QEMU's console has a GL context, so that it takes dma-bufs. */
struct display *display_new(struct vgpu_device *device, bool share, struct gpup_error **err);
void display_free(struct display *display);

/* QEMU gives a socket at every start and cont; taken in any case. */
void display_connect(struct display *display, int fd);

/* What QEMU says of the head; false: asked for, run_requests() is called when it is there. *asked
 * belongs to the guest's request, false at first. */
bool display_info(struct display *display, bool *asked, struct virtio_gpu_display_one *head);

/* virtio 1.2, 5.7.6.8 and 5.7.6.10; the rectangle lies in the resource. NULL: nothing is shown. */
void display_set_scanout(struct display *display, const struct vgpu_resource *resource,
                         const struct virtio_gpu_rect *rect);
void display_flush(struct display *display, const struct vgpu_resource *resource,
                   const struct virtio_gpu_rect *rect);
void display_cursor(struct display *display, const struct virtio_gpu_update_cursor *command);

/* The resource is about to go. */
void display_forget(struct display *display, uint32_t resource);
/* The guest's driver has reset the device: nothing is shown any more. */
void display_reset(struct display *display);

/* The renderer has finished `seq`; false: that was not the display's. */
bool display_finished(struct display *display, uint64_t seq, int status);
/* There may be room in the renderer's ring again. */
void display_pump(struct display *display);
void display_renderer_gone(struct display *display);

#endif
