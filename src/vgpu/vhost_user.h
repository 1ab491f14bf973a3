/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_VGPU_VHOST_USER_H
#define GPUP_VGPU_VHOST_USER_H

#include "vgpu/guest_memory.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct gpup_error;
struct vgpu_loop;
struct virtqueue;

/*
 * The back-end side of vhost-user (QEMU's docs/interop/vhost-user.rst) for one device. The
 * front-end is trusted more than the guest, but its messages are checked all the same: a malformed
 * one is logged and ends the connection, never memory safety.
 */
struct vhost_user;

struct vhost_user_device {
    uint64_t features; /* device features offered, VIRTIO_F_* and VIRTIO_GPU_F_* */
    unsigned n_queues;

    /* The driver agreed to these features (only ever a subset of those offered). */
    void (*set_features)(void *device, uint64_t features);
    void (*get_config)(void *device, uint32_t offset, void *data, uint32_t length);
    void (*set_config)(void *device, uint32_t offset, const void *data, uint32_t length);
    /* GPU_SET_SOCKET: the display socket, now the device's; -1 when it was taken away. */
    void (*set_display)(void *device, int fd);
    /* The guest kicked this queue, or it was just enabled: pop until it is empty, or for a while
     * and ask for another call (vhost_user_kick_again): a guest can offer without end. */
    void (*kick)(void *device, unsigned index, struct virtqueue *queue);
    /* The queue stops (GET_VRING_BASE): whatever was popped is answered or put back before this
     * returns (the front-end expects the base to be what is not yet used). The device's state
     * (resources, contexts) stays: the VM may be continued. */
    void (*stop)(void *device, unsigned index, struct virtqueue *queue);
    /* RESET_DEVICE, or a new driver (its first queue begins anew): all state is dropped. */
    void (*reset)(void *device);
    void (*memory_added)(void *device, const struct guest_region *region);
    /* Before the region is unmapped: nothing may use it when this returns. */
    void (*memory_removed)(void *device, const struct guest_region *region);
    /* The front-end has gone (QEMU ended). */
    void (*closed)(void *device);
};

/* Takes ownership of fd, the connected socket. */
struct vhost_user *vhost_user_new(struct vgpu_loop *loop, int fd,
                                  const struct vhost_user_device *ops, void *device,
                                  struct gpup_error **err);
void vhost_user_free(struct vhost_user *vhost);

const struct guest_memory *vhost_user_memory(const struct vhost_user *vhost);
struct virtqueue *vhost_user_queue(struct vhost_user *vhost, unsigned index); /* NULL if stopped */
/* Calls `kick` again for this queue, after what else is ready was served. */
void vhost_user_kick_again(struct vhost_user *vhost, unsigned index);

#endif
