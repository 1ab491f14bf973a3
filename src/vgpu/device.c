/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "vgpu/device_internal.h"

#include "core/error.h"
#include "vgpu/log.h"
#include "vgpu/loop.h"

#include <endian.h>
#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <unistd.h>

#define QUEUE_CONTROL 0u
#define QUEUES        2u
#define N_CAPSETS     2u /* VIRGL and VIRGL2 */
/* What a stop waits for the renderer, at most, before it answers with errors. */
#define STOP_MS    5000
#define MAX_LOGGED 20u
/* Requests taken off a queue, and time spent on them, before what else is ready gets its turn. */
#define MAX_ACCEPTED 1024u
#define TURN_MS      100u

static void append(struct request_list *list, struct request *q)
{
    q->next = NULL;
    *list->end = q;
    list->end = &q->next;
}

static void take(struct request_list *list, struct request **p)
{
    struct request *q = *p;

    *p = q->next;
    if (list->end == &q->next)
        list->end = p;
}

enum outcome answer(struct request *q, uint32_t response)
{
    q->response = response;
    return ANSWERED;
}

void answer_data(struct request *q, size_t offset, const void *data, size_t size)
{
    size_t at = sizeof(q->header) + offset;
    size_t n = virtqueue_write(q->element, at, data, size);

    if (at + n > q->written)
        q->written = at + n;
}

void forget_copy(struct vgpu_device *d, struct vgpu_resource *resource)
{
    vgpu_quota_credit(&d->usage.quota, resource->copy_charge);
    resource->copy_charge = 0;
}

void note_refusal(struct vgpu_device *d, const char *what)
{
    if (d->logged_refusals >= MAX_LOGGED)
        return;
    d->logged_refusals++;
    vgpu_log(LOG_NOTICE, "%s: %s%s", d->grant.vm, what,
             d->logged_refusals == MAX_LOGGED ? " (further ones are not logged)" : "");
}

/* Writes the answer's header (5.7.6.7: with the fence of the command) and hands it back. */
static void complete(struct request *q)
{
    struct virtio_gpu_ctrl_hdr header = {.type = htole32(q->response)};

    if (q->fenced) {
        header.flags = q->header.flags;
        header.fence_id = q->header.fence_id;
        header.ctx_id = q->header.ctx_id;
        header.ring_idx = q->header.ring_idx;
    }
    virtqueue_write(q->element, 0, &header, sizeof(header));
    if (q->written < sizeof(header))
        q->written = sizeof(header);
    virtqueue_push(q->element, q->written);
    free(q);
}

static const struct {
    uint32_t type;
    uint32_t size;
    enum outcome (*run)(struct vgpu_device *d, struct request *q, const void *command);
} commands[] = {
    {VIRTIO_GPU_CMD_GET_DISPLAY_INFO, sizeof(struct virtio_gpu_ctrl_hdr), get_display_info},
    {VIRTIO_GPU_CMD_GET_EDID, sizeof(struct virtio_gpu_cmd_get_edid), get_edid},
    {VIRTIO_GPU_CMD_RESOURCE_CREATE_2D, sizeof(struct virtio_gpu_resource_create_2d),
     resource_create_2d},
    {VIRTIO_GPU_CMD_RESOURCE_UNREF, sizeof(struct virtio_gpu_resource_unref), resource_unref},
    {VIRTIO_GPU_CMD_SET_SCANOUT, sizeof(struct virtio_gpu_set_scanout), set_scanout},
    {VIRTIO_GPU_CMD_RESOURCE_FLUSH, sizeof(struct virtio_gpu_resource_flush), resource_flush},
    {VIRTIO_GPU_CMD_TRANSFER_TO_HOST_2D, sizeof(struct virtio_gpu_transfer_to_host_2d),
     transfer_to_host_2d},
    {VIRTIO_GPU_CMD_RESOURCE_ATTACH_BACKING, sizeof(struct virtio_gpu_resource_attach_backing),
     attach_backing},
    {VIRTIO_GPU_CMD_RESOURCE_DETACH_BACKING, sizeof(struct virtio_gpu_resource_detach_backing),
     detach_backing},
    {VIRTIO_GPU_CMD_GET_CAPSET_INFO, sizeof(struct virtio_gpu_get_capset_info), get_capset_info},
    {VIRTIO_GPU_CMD_GET_CAPSET, sizeof(struct virtio_gpu_get_capset), get_capset},
    {VIRTIO_GPU_CMD_CTX_CREATE, sizeof(struct virtio_gpu_ctx_create), ctx_create},
    {VIRTIO_GPU_CMD_CTX_DESTROY, sizeof(struct virtio_gpu_ctx_destroy), ctx_destroy},
    {VIRTIO_GPU_CMD_CTX_ATTACH_RESOURCE, sizeof(struct virtio_gpu_ctx_resource), ctx_attach},
    {VIRTIO_GPU_CMD_CTX_DETACH_RESOURCE, sizeof(struct virtio_gpu_ctx_resource), ctx_detach},
    {VIRTIO_GPU_CMD_RESOURCE_CREATE_3D, sizeof(struct virtio_gpu_resource_create_3d),
     resource_create_3d},
    {VIRTIO_GPU_CMD_TRANSFER_TO_HOST_3D, sizeof(struct virtio_gpu_transfer_host_3d),
     transfer_to_host_3d},
    {VIRTIO_GPU_CMD_TRANSFER_FROM_HOST_3D, sizeof(struct virtio_gpu_transfer_host_3d),
     transfer_from_host_3d},
    {VIRTIO_GPU_CMD_SUBMIT_3D, sizeof(struct virtio_gpu_cmd_submit), submit_3d},
};

union command {
    struct virtio_gpu_ctrl_hdr header;
    struct virtio_gpu_set_scanout scanout;
    struct virtio_gpu_transfer_to_host_2d transfer_2d;
    struct virtio_gpu_resource_create_3d create_3d;
    struct virtio_gpu_transfer_host_3d transfer_3d;
    struct virtio_gpu_ctx_create ctx_create;
};

static enum outcome execute(struct vgpu_device *d, struct request *q)
{
    for (size_t i = 0; i < sizeof(commands) / sizeof(*commands); i++) {
        union command command;

        if (commands[i].type != q->type)
            continue;
        if (virtqueue_read(q->element, 0, &command, commands[i].size) != commands[i].size)
            return answer(q, VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
        /* the guest may have changed it since: only the first copy counts */
        command.header = q->header;
        return commands[i].run(d, q, &command);
    }
    return answer(q, VIRTIO_GPU_RESP_ERR_UNSPEC);
}

/* Fences come back in order: after a command for the renderer, or while it still works on others,
 * a fenced answer has to wait for it. */
static enum outcome send_fence(struct vgpu_device *d, struct request *q)
{
    struct gpup_cmd_fence *fence;

    if (!renderer_is_ready(d->renderer) || !(q->in_renderer || d->inflight.first))
        return ANSWERED;
    fence = renderer_reserve(d->renderer, GPUP_CMD_FENCE, sizeof(*fence), true);
    if (!fence)
        return BLOCKED;
    fence->context = q->context;
    fence->ring = 0;
    q->seq = renderer_seq(d->renderer);
    renderer_commit(d->renderer);
    return WAITING;
}

/* A command that nobody waits for, but whose end the gate has to know. */
static void send_own_fence(struct vgpu_device *d)
{
    struct gpup_cmd_fence *fence =
        renderer_reserve(d->renderer, GPUP_CMD_FENCE, sizeof(*fence), true);

    if (!fence) /* the ring is full: that bounds it as well */
        return;
    fence->context = 0;
    fence->ring = 0;
    renderer_commit(d->renderer);
    gpu_time_sent(d->time, renderer_seq(d->renderer), true);
}

static void follow(struct vgpu_device *d, const struct request *q, enum outcome outcome)
{
    if (!q->in_renderer || !renderer_is_ready(d->renderer) ||
        !gpu_time_wants_fence(d->time, outcome == WAITING))
        return;
    if (outcome == WAITING)
        gpu_time_sent(d->time, q->seq, false);
    else
        send_own_fence(d);
}

static enum outcome advance(struct vgpu_device *d, struct request *q)
{
    enum outcome outcome = ANSWERED;

    if (!q->executed) {
        if (gpu_time_holds(d->time))
            return BLOCKED;
        outcome = execute(d, q);
        if (outcome != BLOCKED) {
            q->executed = true;
            d->usage.commands++;
        }
    }
    if (outcome == ANSWERED && q->fenced)
        outcome = send_fence(d, q);
    if (outcome != BLOCKED)
        follow(d, q, outcome);
    return outcome;
}

void run_requests(struct vgpu_device *d)
{
    struct virtqueue *queue;
    uint64_t until = vgpu_loop_now_ms() + TURN_MS;

    if (d->running) /* called back by what a command has set off: the loop below goes on */
        return;
    d->running = true;
    gpu_time_set_busy(d->time, d->pending.first || d->inflight.first);
    while (d->pending.first && !d->renderer_died) {
        struct request *q = d->pending.first;
        enum outcome outcome = advance(d, q);

        if (outcome == BLOCKED)
            break;
        take(&d->pending, &d->pending.first);
        if (outcome == WAITING)
            append(&d->inflight, q);
        else
            complete(q);
        if (d->pending.first && vgpu_loop_now_ms() >= until) {
            vhost_user_kick_again(d->vhost, QUEUE_CONTROL);
            break;
        }
    }
    d->running = false;
    renderer_watch(d->renderer);
    gpu_time_set_busy(d->time, d->pending.first || d->inflight.first);
    queue = vhost_user_queue(d->vhost, QUEUE_CONTROL);
    if (queue)
        virtqueue_notify(queue);
}

bool finish_request(struct vgpu_device *d, uint64_t seq, int status)
{
    struct request **p = &d->inflight.first;

    if (gpu_time_finished(d->time, seq))
        return true;
    if (d->sync_seq != 0 && seq == d->sync_seq) {
        d->sync_seq = 0;
        d->sync_status = status;
        return true;
    }
    if (display_finished(d->display, seq, status))
        return true;
    while (*p && (*p)->seq != seq)
        p = &(*p)->next;
    if (*p) {
        struct request *q = *p;

        take(&d->inflight, p);
        complete(q);
        return true;
    }
    return false;
}

/* ---- what vhost-user asks of a device ---- */

static void accept_requests(struct vgpu_device *d, struct virtqueue *queue)
{
    struct virtqueue_element *element;
    unsigned left = MAX_ACCEPTED;
    int ret = 1;

    while (left-- > 0 && (ret = virtqueue_pop(queue, &element, NULL)) != 0) {
        struct request *q = ret == 1 ? calloc(1, sizeof(*q)) : NULL;

        if (ret == 1 && !q)
            virtqueue_push(element, 0);
        if (!q)
            continue; /* malformed: answered by the queue */
        q->element = element;
        virtqueue_read(element, 0, &q->header, sizeof(q->header));
        q->type = le32toh(q->header.type);
        q->context = le32toh(q->header.ctx_id);
        q->fenced = le32toh(q->header.flags) & VIRTIO_GPU_FLAG_FENCE;
        append(&d->pending, q);
    }
    if (ret != 0)
        vhost_user_kick_again(d->vhost, QUEUE_CONTROL);
}

/* Its commands have no answer. */
static void serve_cursor(struct vgpu_device *d, unsigned index, struct virtqueue *queue)
{
    struct virtqueue_element *element;
    unsigned left = MAX_ACCEPTED;
    int ret = 1;

    while (left-- > 0 && (ret = virtqueue_pop(queue, &element, NULL)) != 0) {
        struct virtio_gpu_update_cursor command;

        if (ret != 1)
            continue; /* malformed: answered by the queue */
        if (virtqueue_read(element, 0, &command, sizeof(command)) == sizeof(command))
            display_cursor(d->display, &command);
        virtqueue_push(element, 0);
    }
    virtqueue_notify(queue);
    if (ret != 0)
        vhost_user_kick_again(d->vhost, index);
}

static void device_kick(void *device, unsigned index, struct virtqueue *queue)
{
    struct vgpu_device *d = device;

    if (index != QUEUE_CONTROL) {
        serve_cursor(d, index, queue);
        return;
    }
    accept_requests(d, queue);
    run_requests(d);
}

/* A renderer that would be ended for taking long is not waited for longer than that either. */
static int patience_ms(const struct vgpu_device *d)
{
    return d->grant.hang_ms > 0 && d->grant.hang_ms < STOP_MS ? (int)d->grant.hang_ms : STOP_MS;
}

/* What such a command frees goes with the renderer: it has succeeded. */
static bool frees(const struct request *q)
{
    switch (q->type) {
    case VIRTIO_GPU_CMD_RESOURCE_UNREF:
    case VIRTIO_GPU_CMD_RESOURCE_DETACH_BACKING:
    case VIRTIO_GPU_CMD_CTX_DESTROY:
    case VIRTIO_GPU_CMD_CTX_DETACH_RESOURCE:
        return q->executed;
    default:
        return false;
    }
}

void fail_requests(struct request_list *list)
{
    while (list->first) {
        struct request *q = list->first;

        take(list, &list->first);
        if (!frees(q))
            q->response = VIRTIO_GPU_RESP_ERR_UNSPEC;
        complete(q);
    }
}

/* A renderer that does not do what must be done at once. */
static void end_renderer(struct vgpu_device *d, const char *reason)
{
    renderer_free(d->renderer);
    d->renderer = NULL;
    snprintf(d->death_reason, sizeof(d->death_reason), "%s", reason);
    d->renderer_died = true;
    bury_renderer(d);
}

/* Works on what was accepted until all is answered, nothing can go on, or time is up. */
static void finish_all(struct vgpu_device *d)
{
    uint64_t until = vgpu_loop_now_ms() + (uint64_t)patience_ms(d);

    while (d->pending.first || d->inflight.first) {
        struct request *first = d->pending.first;
        uint64_t now;

        run_requests(d);
        now = vgpu_loop_now_ms();
        if (now >= until)
            return;
        if (d->renderer_died)
            bury_renderer(d);
        else if (renderer_is_busy(d->renderer))
            renderer_wait(d->renderer, (int)(until - now));
        else if (d->pending.first == first)
            return;
    }
}

/* The front-end takes what is used as where to go on: everything is answered before we stop. */
static void device_stop(void *device, unsigned index, struct virtqueue *queue)
{
    struct vgpu_device *d = device;

    if (index != QUEUE_CONTROL)
        return;
    gpu_time_set_open(d->time, true);
    finish_all(d);
    /* what the renderer still owes comes to nobody: it would answer what was not asked */
    if (d->inflight.first)
        end_renderer(d, "it did not finish in time for a stop");
    fail_requests(&d->pending);
    gpu_time_set_open(d->time, false);
    gpu_time_set_busy(d->time, false);
    virtqueue_notify(queue);
}

static void device_set_features(void *device, uint64_t features)
{
}

static void device_get_config(void *device, uint32_t offset, void *data, uint32_t length)
{
    const struct virtio_gpu_config config = {.num_scanouts = htole32(1),
                                             .num_capsets = htole32(N_CAPSETS)};

    if (offset >= sizeof(config))
        return;
    if (length > sizeof(config) - offset)
        length = (uint32_t)sizeof(config) - offset;
    memcpy(data, (const char *)&config + offset, length);
}

/* Only events_clear can be written, and there are no events. */
static void device_set_config(void *device, uint32_t offset, const void *data, uint32_t length)
{
}

static void device_set_display(void *device, int fd)
{
    struct vgpu_device *d = device;

    if (d->display) {
        display_connect(d->display, fd);
        return;
    }
    if (d->unused_display >= 0)
        close(d->unused_display);
    d->unused_display = fd;
}

static void device_reset(void *device)
{
    struct vgpu_device *d = device;
    struct gpup_record *record;

    display_reset(d->display);
    vgpu_objects_clear(&d->objects);
    d->usage.quota.used = 0;
    if (!d->renderer)
        return;
    record = renderer_is_ready(d->renderer)
                 ? renderer_reserve(d->renderer, GPUP_CMD_RESET, sizeof(*record), false)
                 : NULL;
    if (record) {
        renderer_commit(d->renderer);
        idle_renderer(d);
        return;
    }
    /* one that cannot be told starts anew */
    renderer_free(d->renderer);
    d->renderer = NULL;
    d->renderer_died = false;
    gpu_time_forget(d->time);
}

static void device_memory_added(void *device, const struct guest_region *region)
{
    struct vgpu_device *d = device;
    GPUP_AUTO_ERROR err = NULL;

    if (renderer_is_ready(d->renderer) && renderer_add_memory(d->renderer, region, &err) < 0)
        vgpu_log(LOG_ERR, "%s: %s", d->grant.vm, gpup_error_message(err));
}

/* Room for a command of our own; waits for it. NULL: the renderer has ended, or time is up. */
static void *reserve_waiting(struct vgpu_device *d, uint32_t type, size_t size, bool answer,
                             uint64_t until)
{
    while (renderer_is_ready(d->renderer)) {
        void *record = renderer_reserve(d->renderer, type, size, answer);
        uint64_t now = vgpu_loop_now_ms();

        if (record)
            return record;
        if (now >= until)
            return NULL;
        renderer_wait(d->renderer, (int)(until - now));
    }
    return NULL;
}

struct removal {
    struct vgpu_device *device;
    uint32_t region;
    uint64_t until;
    bool failed;
};

static bool lies_in(const struct vgpu_resource *resource, uint32_t region)
{
    for (uint32_t i = 0; i < resource->n_spans; i++) {
        if (resource->spans[i].region == region)
            return true;
    }
    return false;
}

static void forget_backing(struct vgpu_resource *resource, void *data)
{
    struct removal *removal = data;
    struct vgpu_device *d = removal->device;
    struct gpup_cmd_resource *cmd;

    if (!lies_in(resource, removal->region))
        return;
    vgpu_resource_drop_backing(&d->objects, resource);
    if (!resource->in_renderer || !renderer_is_ready(d->renderer) || removal->failed)
        return;
    cmd = reserve_waiting(d, GPUP_CMD_BACKING_DETACH, sizeof(*cmd), false, removal->until);
    removal->failed = !cmd;
    if (!cmd)
        return;
    cmd->resource = resource->id;
    renderer_commit(d->renderer);
}

/* What lies in flight finishes before the renderer comes to this. False: it does not let go. */
static bool remove_from_renderer(struct vgpu_device *d, struct removal *removal)
{
    struct gpup_cmd_memory_remove *cmd;
    uint64_t now;

    cmd = removal->failed
              ? NULL
              : reserve_waiting(d, GPUP_CMD_MEMORY_REMOVE, sizeof(*cmd), true, removal->until);
    if (!cmd)
        return false;
    cmd->region = removal->region;
    d->sync_seq = renderer_seq(d->renderer);
    renderer_commit(d->renderer);
    while (d->sync_seq != 0 && !d->renderer_died && (now = vgpu_loop_now_ms()) < removal->until)
        renderer_wait(d->renderer, (int)(removal->until - now));
    return d->sync_seq == 0 && !d->renderer_died && d->sync_status == 0;
}

static bool any_inside(const struct request_list *list, const struct guest_region *region)
{
    for (const struct request *q = list->first; q; q = q->next) {
        if (virtqueue_element_touches(q->element, region->map, region->size))
            return true;
    }
    return false;
}

/* A request in memory that is taken away cannot be answered later: those that were not begun are
 * answered now, those in flight have until the removal's time is up. */
static void finish_inside(struct vgpu_device *d, const struct guest_region *region, uint64_t until)
{
    struct request **p = &d->pending.first;
    uint64_t now;

    while (any_inside(&d->inflight, region) && !d->renderer_died &&
           (now = vgpu_loop_now_ms()) < until)
        renderer_wait(d->renderer, (int)(until - now));
    while (*p) {
        struct request *q = *p;

        if (!virtqueue_element_touches(q->element, region->map, region->size)) {
            p = &q->next;
            continue;
        }
        take(&d->pending, p);
        q->response = VIRTIO_GPU_RESP_ERR_UNSPEC;
        complete(q);
    }
}

/* The memory will be gone when this returns: a renderer that does not let go of it ends. */
static void device_memory_removed(void *device, const struct guest_region *region)
{
    struct vgpu_device *d = device;
    struct removal removal = {d, region->id, vgpu_loop_now_ms() + (uint64_t)patience_ms(d), false};

    d->running = true; /* nothing new begins meanwhile */
    vgpu_objects_each(&d->objects, forget_backing, &removal);
    if (d->renderer_died)
        bury_renderer(d);
    else if (renderer_is_ready(d->renderer) && !remove_from_renderer(d, &removal))
        end_renderer(d, "it did not let go of the guest's memory");
    finish_inside(d, region, removal.until);
    d->running = false;
    vhost_user_kick_again(d->vhost, QUEUE_CONTROL);
}

static void device_closed(void *device)
{
    struct vgpu_device *d = device;

    d->events->closed(d->data);
}

static const struct vhost_user_device ops = {
    .features = UINT64_C(1) << VIRTIO_F_VERSION_1 | UINT64_C(1) << VIRTIO_RING_F_INDIRECT_DESC |
                UINT64_C(1) << VIRTIO_RING_F_EVENT_IDX | UINT64_C(1) << VIRTIO_GPU_F_VIRGL |
                UINT64_C(1) << VIRTIO_GPU_F_EDID,
    .n_queues = QUEUES,
    .set_features = device_set_features,
    .get_config = device_get_config,
    .set_config = device_set_config,
    .set_display = device_set_display,
    .kick = device_kick,
    .stop = device_stop,
    .reset = device_reset,
    .memory_added = device_memory_added,
    .memory_removed = device_memory_removed,
    .closed = device_closed,
};

void vgpu_device_set_vram(struct vgpu_device *d, uint64_t vram)
{
    if (d->grant.vram != vram)
        vgpu_log(LOG_INFO, "%s: %llu MiB from now on", d->grant.vm,
                 (unsigned long long)(vram >> 20));
    d->grant.vram = vram;
    d->usage.quota.limit = vram;
}

static void on_gate_opened(void *device)
{
    run_requests(device);
}

void vgpu_device_gpu_time(struct vgpu_device *d, const int *fds)
{
    gpu_time_attach(d->time, fds);
}

void vgpu_device_gpu_time_lost(struct vgpu_device *d)
{
    gpu_time_detach(d->time);
}

struct vgpu_device *vgpu_device_new(struct vgpu_loop *loop, int fd, const struct vgpu_grant *grant,
                                    const struct vgpu_device_events *events, void *data,
                                    struct gpup_error **err)
{
    struct vgpu_device *d = calloc(1, sizeof(*d));

    if (!d) {
        close(fd);
        gpup_error_set(err, ENOMEM, "out of memory");
        return NULL;
    }
    *d = (struct vgpu_device){
        .loop = loop, .grant = *grant, .events = events, .data = data, .unused_display = -1};
    d->usage.quota.limit = grant->vram;
    d->pending.end = &d->pending.first;
    d->inflight.end = &d->inflight.first;
    d->time = gpu_time_new(loop, on_gate_opened, d, err);
    d->vhost = vhost_user_new(loop, fd, &ops, d, err);
    if (d->vhost && grant->display)
        d->display = display_new(d, grant->display == VGPU_DISPLAY_SHARED, err);
    if (!d->time || !d->vhost || (grant->display && !d->display) ||
        add_renderer_timers(d, err) < 0) {
        vgpu_device_free(d);
        return NULL;
    }
    return d;
}

static void free_requests(struct request_list *list)
{
    while (list->first) {
        struct request *q = list->first;

        take(list, &list->first);
        virtqueue_element_free(q->element);
        free(q);
    }
}

void vgpu_device_free(struct vgpu_device *d)
{
    if (!d)
        return;
    free_requests(&d->pending);
    free_requests(&d->inflight);
    renderer_free(d->renderer);
    vgpu_source_remove(d->death_timer);
    vgpu_source_remove(d->restart_timer);
    vgpu_source_remove(d->idle_timer);
    vhost_user_free(d->vhost);
    gpu_time_free(d->time);
    vgpu_objects_clear(&d->objects);
    display_free(d->display);
    if (d->unused_display >= 0)
        close(d->unused_display);
    free(d->capset_data);
    free(d);
}

void vgpu_device_usage(const struct vgpu_device *d, struct vgpu_usage *usage)
{
    *usage = d->usage;
    usage->contexts = d->objects.n_contexts;
    usage->resources = d->objects.n_resources;
}
