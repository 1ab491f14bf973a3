/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_VGPU_DEVICE_H
#define GPUP_VGPU_DEVICE_H

#include "vgpu/quota.h"

#include <stdbool.h>
#include <stdint.h>

struct gpup_error;
struct vgpu_loop;

/*
 * The virtio-gpu device (virtio 1.2, 5.7) of one partition: 2D and VIRGL commands, checked,
 * charged, and handed to the renderer process.
 */
struct vgpu_device;

enum vgpu_display {
    VGPU_DISPLAY_OFF,    /* the head is disconnected */
    VGPU_DISPLAY_PIXELS, /* shown by QEMU, whatever its console */
    VGPU_DISPLAY_SHARED, /* QEMU's console has a GL context: by dma-bufs where the GPU gives them */
};

struct vgpu_grant {
    uint64_t vram;    /* bytes */
    uint32_t hang_ms; /* 0: never */
    const char *vm;   /* for messages; outlives the device */
    enum vgpu_display display;
};

struct vgpu_device_events {
    /* A renderer is wanted: vgpu_device_renderer() or vgpu_device_no_renderer() answers, later or
     * at once. */
    void (*want_renderer)(void *data);
    /* The front-end has gone. */
    void (*closed)(void *data);
};

struct vgpu_usage {
    struct vgpu_quota quota;
    uint64_t stream_errors, commands, submits, frames, renderer_deaths, contexts, resources;
    uint64_t renderer_hangs; /* of the deaths */
};

/* `fd` is the vhost-user socket; taken in any case. */
struct vgpu_device *vgpu_device_new(struct vgpu_loop *loop, int fd, const struct vgpu_grant *grant,
                                    const struct vgpu_device_events *events, void *data,
                                    struct gpup_error **err);
void vgpu_device_free(struct vgpu_device *device);

/* The renderer that was wanted; the descriptors are taken. pidfd may be -1. */
void vgpu_device_renderer(struct vgpu_device *device, int sock, int pidfd);
/* There is none: `reason` is logged, and what needs one is refused for a while. */
void vgpu_device_no_renderer(struct vgpu_device *device, const char *reason);

/* The partition has this many bytes now; what is charged beyond it stays until it is freed. */
void vgpu_device_set_vram(struct vgpu_device *device, uint64_t vram);

/* GPU time is gpupd's to give (gpu_time.h): the descriptors are taken. And: gpupd has gone. */
void vgpu_device_gpu_time(struct vgpu_device *device, const int *fds);
void vgpu_device_gpu_time_lost(struct vgpu_device *device);

bool vgpu_device_has_renderer(const struct vgpu_device *device);

void vgpu_device_usage(const struct vgpu_device *device, struct vgpu_usage *usage);

#endif
