/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_VGPU_DEVICE_INTERNAL_H
#define GPUP_VGPU_DEVICE_INTERNAL_H

#include "vgpu/device.h"
#include "vgpu/display.h"
#include "vgpu/gpu_time.h"
#include "vgpu/objects.h"
#include "vgpu/renderer.h"
#include "vgpu/vhost_user.h"
#include "vgpu/virtqueue.h"

#include <linux/virtio_gpu.h>

/* One command of the guest, from its arrival to its answer. */
struct request {
    struct request *next;
    struct virtqueue_element *element;
    struct virtio_gpu_ctrl_hdr header; /* as the guest wrote it, copied once */
    uint32_t type, context;            /* of it, in our byte order */
    bool fenced;
    bool executed;    /* only its fence has to be sent yet */
    bool asked;       /* QEMU was asked something for it */
    bool in_renderer; /* the renderer was told something for it */
    uint32_t response;
    size_t written;
    uint64_t seq; /* what it waits for */
};

struct request_list {
    struct request *first, **end;
};

/* What became of a command. */
enum outcome {
    ANSWERED, /* request->response is set */
    WAITING,  /* the renderer answers request->seq */
    BLOCKED,  /* cannot go on now: try again when something has happened */
};

struct vgpu_device {
    struct vgpu_loop *loop;
    struct gpu_time *time;
    struct vhost_user *vhost;
    struct vgpu_grant grant;
    const struct vgpu_device_events *events;
    void *data;
    struct display *display; /* NULL: the head is disconnected */
    int unused_display;      /* then QEMU's socket is kept, or -1 */

    struct vgpu_objects objects;
    struct vgpu_usage usage;
    struct request_list pending, inflight;
    bool running; /* run_requests() is at work */

    struct renderer *renderer;
    bool started_first;   /* one was asked for when the device was made */
    bool renderer_wanted; /* asked for, not arrived */
    bool renderer_died;   /* to be cleaned up by death_timer */
    char death_reason[512];
    struct vgpu_source *death_timer, *restart_timer, *idle_timer;
    uint64_t retry_ms;     /* no renderer is asked for before this time */
    uint64_t started_ms;   /* when the present one was ready */
    unsigned quick_deaths; /* in a row */
    uint64_t sync_seq;     /* a command of our own that is waited for */
    int sync_status;       /* what it was answered with */
    unsigned logged_refusals;

    /* the capability sets, as first told; they outlive renderers */
    struct gpup_render_capset capsets[GPUP_RENDER_MAX_CAPSETS];
    uint32_t n_capsets;
    unsigned char *capset_data;
};

/* ---- device.c ---- */

enum outcome answer(struct request *request, uint32_t response);
/* Appends to the answer, behind its header. */
void answer_data(struct request *request, size_t offset, const void *data, size_t size);
/* Gives back what the renderer's copy of a 2D resource took: it is gone. */
void forget_copy(struct vgpu_device *device, struct vgpu_resource *resource);
/* A refusal that the guest caused: logged a few times. */
void note_refusal(struct vgpu_device *device, const char *what);

/* ---- renderer_life.c ---- */

/* ANSWERED: there is one. BLOCKED: wait. WAITING never. A refusal sets the response and gives
 * ANSWERED with *refused. */
enum outcome need_renderer(struct vgpu_device *device, struct request *request, bool *refused);
/* Room for a command of this request; NULL: BLOCKED is the outcome. */
void *tell_renderer(struct vgpu_device *device, struct request *request, uint32_t type,
                    size_t size);
/* The same, and the request waits for its answer unless a fence will do. */
void *ask_renderer(struct vgpu_device *device, struct request *request, uint32_t type, size_t size);
void bury_renderer(struct vgpu_device *device);
/* Nobody draws now: after a while it is let go. */
void idle_renderer(struct vgpu_device *device);
int add_renderer_timers(struct vgpu_device *device, struct gpup_error **err);
extern const struct renderer_events device_renderer_events;

/* device.c again: called by renderer_life.c */
bool finish_request(struct vgpu_device *device, uint64_t seq, int status);
/* Answers them with an error. */
void fail_requests(struct request_list *list);
void run_requests(struct vgpu_device *device);

/* ---- commands_2d.c, commands_3d.c: `command` is a copy of the whole structure ---- */

enum outcome get_display_info(struct vgpu_device *d, struct request *q, const void *command);
enum outcome get_edid(struct vgpu_device *d, struct request *q, const void *command);
enum outcome resource_create_2d(struct vgpu_device *d, struct request *q, const void *command);
enum outcome resource_unref(struct vgpu_device *d, struct request *q, const void *command);
enum outcome set_scanout(struct vgpu_device *d, struct request *q, const void *command);
enum outcome resource_flush(struct vgpu_device *d, struct request *q, const void *command);
enum outcome transfer_to_host_2d(struct vgpu_device *d, struct request *q, const void *command);
enum outcome attach_backing(struct vgpu_device *d, struct request *q, const void *command);
enum outcome detach_backing(struct vgpu_device *d, struct request *q, const void *command);

enum outcome get_capset_info(struct vgpu_device *d, struct request *q, const void *command);
enum outcome get_capset(struct vgpu_device *d, struct request *q, const void *command);
enum outcome ctx_create(struct vgpu_device *d, struct request *q, const void *command);
enum outcome ctx_destroy(struct vgpu_device *d, struct request *q, const void *command);
enum outcome ctx_attach(struct vgpu_device *d, struct request *q, const void *command);
enum outcome ctx_detach(struct vgpu_device *d, struct request *q, const void *command);
enum outcome resource_create_3d(struct vgpu_device *d, struct request *q, const void *command);
enum outcome transfer_to_host_3d(struct vgpu_device *d, struct request *q, const void *command);
enum outcome transfer_from_host_3d(struct vgpu_device *d, struct request *q, const void *command);
enum outcome submit_3d(struct vgpu_device *d, struct request *q, const void *command);

/* backing.c: tells the renderer of a backing; false: BLOCKED. */
bool send_backing(struct vgpu_device *d, struct request *q, struct vgpu_resource *resource);
/* Copies out of a backing, from its beginning to its end: a guest's backing may have many pieces,
 * which are walked through once. Starts with `span` and `start` 0. */
struct backing_reader {
    const struct guest_memory *memory;
    const struct vgpu_resource *resource;
    uint32_t span;  /* reached so far */
    uint64_t start; /* where it begins in the backing */
};
/* `length` bytes at `offset`, which is not before that of the last call. False: outside of it. */
bool copy_from_backing(struct backing_reader *reader, uint64_t offset, void *data, uint64_t length);

#endif
