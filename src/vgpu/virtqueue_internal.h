/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_VGPU_VIRTQUEUE_INTERNAL_H
#define GPUP_VGPU_VIRTQUEUE_INTERNAL_H

#include "vgpu/virtqueue.h"

#include <linux/virtio_ring.h>

/* What vhost_user.c sets up and the rest of the device does not see. */

struct virtqueue *virtqueue_new(const struct guest_memory *memory);
void virtqueue_free(
    struct virtqueue *queue); /* also elements outstanding become stale: see reset */

struct virtqueue_setup {
    uint16_t size;              /* power of two, at most VIRTQUEUE_MAX_SIZE */
    uint16_t base;              /* next entry of the available ring */
    uint64_t desc, avail, used; /* front-end addresses */
    bool event_idx, indirect;
    int call; /* eventfd that interrupts the driver, or -1; borrowed */
};

/* -EINVAL: a size that is not valid, or a ring that is not in guest memory or not aligned. */
int virtqueue_start(struct virtqueue *queue, const struct virtqueue_setup *setup,
                    struct gpup_error **err);
/* Elements still out become stale. Returns the base to resume from: what is not yet used. */
uint16_t virtqueue_stop(struct virtqueue *queue);
/* Guest memory moved: looks the rings up again; a ring that is no longer there stops the queue. */
int virtqueue_remap(struct virtqueue *queue, struct gpup_error **err);
/* The guest memory mapped at `base` is about to be taken away: elements that lie in it become
 * stale; a queue whose rings lie in it pauses until virtqueue_remap(). */
void virtqueue_forget_memory(struct virtqueue *queue, const void *base, uint64_t size);
void virtqueue_set_call(struct virtqueue *queue, int call);
/* Between start and stop. */
bool virtqueue_is_started(const struct virtqueue *queue);
/* The same, and nothing keeps it from working. */
bool virtqueue_is_running(const struct virtqueue *queue);
/* The same, and the driver has offered something. */
bool virtqueue_has_work(const struct virtqueue *queue);

#endif
