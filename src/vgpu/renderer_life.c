/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "vgpu/device_internal.h"

#include "core/error.h"
#include "fault/fault.h"
#include "vgpu/capset.h"
#include "vgpu/log.h"
#include "vgpu/loop.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>

/*
 * Getting a renderer, and what happens when it dies: what was in flight is answered, contexts of
 * the old one refuse until they are destroyed, and another is started, ever more slowly where one
 * dies soon after the other.
 */

#ifdef GPUP_FAULT_POINTS
#define SETTLED_MS 300u /* where tests kill one after the other */
#else
#define SETTLED_MS 10000u /* one that lived that long counts as healthy */
#endif
#define MAX_PAUSE_MS 30000u
#define FREE_DEATHS  4u /* the pause begins with this one in a row */
/* A guest waits that long for the next one; beyond it, what needs one is refused. */
#define PATIENCE_MS 1000u
/* One that nobody draws with is let go after that: its memory is free for others, and the next one
 * is there within a tenth of a second. */
#define IDLE_MS 3000u
/* Who gives none is asked again after that. */
#define NO_RENDERER_MS 2000u

static uint64_t pause_ms(const struct vgpu_device *d)
{
    uint64_t pause;

    if (d->quick_deaths < FREE_DEATHS)
        return 0;
    pause =
        UINT64_C(500) << (d->quick_deaths < FREE_DEATHS + 6 ? d->quick_deaths - FREE_DEATHS : 6);
    return pause < MAX_PAUSE_MS ? pause : MAX_PAUSE_MS;
}

static void want(struct vgpu_device *d)
{
    if (d->renderer || d->renderer_wanted)
        return;
    d->renderer_wanted = true;
    d->events->want_renderer(d->data);
}

enum outcome need_renderer(struct vgpu_device *d, struct request *q, bool *refused)
{
    uint64_t now = vgpu_loop_now_ms();

    *refused = false;
    if (renderer_is_ready(d->renderer))
        return ANSWERED;
    if (d->renderer || d->renderer_died || d->renderer_wanted)
        return BLOCKED;
    if (now >= d->retry_ms)
        want(d);
    else if (d->retry_ms - now <= PATIENCE_MS)
        return BLOCKED; /* the restart timer runs */
    if (d->renderer || d->renderer_wanted)
        return BLOCKED;
    *refused = true;
    return answer(q, VIRTIO_GPU_RESP_ERR_UNSPEC);
}

void *tell_renderer(struct vgpu_device *d, struct request *q, uint32_t type, size_t size)
{
    void *record = renderer_reserve(d->renderer, type, size, false);

    if (record)
        q->in_renderer = true;
    return record;
}

void *ask_renderer(struct vgpu_device *d, struct request *q, uint32_t type, size_t size)
{
    void *record = renderer_reserve(d->renderer, type, size, !q->fenced);

    if (!record)
        return NULL;
    q->in_renderer = true;
    q->seq = q->fenced ? 0 : renderer_seq(d->renderer);
    return record;
}

/* ---- what comes from it ---- */

static int keep_capsets(struct vgpu_device *d, const struct gpup_render_ready *ready,
                        const void *data, size_t size)
{
    unsigned char *copy = malloc(size ? size : 1);
    size_t at = 0;

    if (!copy)
        return -ENOMEM;
    memcpy(copy, data, size);
    for (uint32_t i = 0; i < ready->n_capsets; i++) {
        vgpu_capset_limit(copy + at, ready->capsets[i].size, d->grant.vram);
        at += ready->capsets[i].size;
    }
    free(d->capset_data);
    d->capset_data = copy;
    d->n_capsets = ready->n_capsets;
    memcpy(d->capsets, ready->capsets, sizeof(d->capsets));
    return 0;
}

/* ---- one that nobody needs ---- */

void idle_renderer(struct vgpu_device *d)
{
    if (d->objects.n_contexts == 0)
        vgpu_timer_arm(d->idle_timer, IDLE_MS);
}

static void count_rendered(struct vgpu_resource *resource, void *data)
{
    if (resource->is_3d && !resource->lost)
        ++*(unsigned *)data;
}

static void leave_renderer(struct vgpu_resource *resource, void *data)
{
    resource->in_renderer = false;
    forget_copy(data, resource);
}

static void on_idle_timer(void *data)
{
    struct vgpu_device *d = data;
    unsigned rendered = 0;

    if (!renderer_is_ready(d->renderer) || d->renderer_died || d->objects.n_contexts > 0)
        return;
    vgpu_objects_each(&d->objects, count_rendered, &rendered);
    if (rendered > 0 || d->pending.first || d->inflight.first || renderer_is_busy(d->renderer)) {
        vgpu_timer_arm(d->idle_timer, IDLE_MS);
        return;
    }
    renderer_free(d->renderer);
    d->renderer = NULL;
    d->started_ms = 0;
    display_renderer_gone(d->display);
    vgpu_objects_each(&d->objects, leave_renderer, d);
}

/* A driver that has seen the sets keeps them: they stay as first told. */
static void on_started(void *device, const struct gpup_render_ready *ready)
{
    struct vgpu_device *d = device;

    if (d->n_capsets > 0)
        return;
    d->n_capsets = ready->n_capsets;
    memcpy(d->capsets, ready->capsets, sizeof(d->capsets));
    run_requests(d);
}

static void on_ready(void *device, const struct gpup_render_ready *ready, const void *data,
                     size_t size)
{
    struct vgpu_device *d = device;
    const struct guest_memory *memory = vhost_user_memory(d->vhost);
    char name[sizeof(ready->renderer)];
    GPUP_AUTO_ERROR err = NULL;

    GPUP_FAULT("vgpu.renderer.ready");
    d->started_ms = vgpu_loop_now_ms();
    memcpy(name, ready->renderer, sizeof(name));
    name[sizeof(name) - 1] = '\0';
    vgpu_log(LOG_INFO, "%s: renderer ready (%s)", d->grant.vm, name);
    if (!d->capset_data && keep_capsets(d, ready, data, size) < 0)
        vgpu_log(LOG_ERR, "%s: out of memory", d->grant.vm);
    idle_renderer(d);
    for (size_t i = 0; i < memory->n_regions; i++) {
        if (renderer_add_memory(d->renderer, &memory->regions[i], &err) < 0)
            vgpu_log(LOG_ERR, "%s: %s", d->grant.vm, gpup_error_message(err));
    }
    run_requests(d);
}

static bool on_finished(void *device, uint64_t seq, int status)
{
    return finish_request(device, seq, status);
}

static void on_idle(void *device)
{
    struct vgpu_device *d = device;

    run_requests(d);
    display_pump(d->display);
}

/* Called from within the renderer's own code: cleaned up at the loop's next turn. */
static void on_ended(void *device, const char *reason)
{
    struct vgpu_device *d = device;

    d->renderer_died = true;
    snprintf(d->death_reason, sizeof(d->death_reason), "%s", reason);
    vgpu_timer_arm(d->death_timer, 0);
}

static uint64_t stopped_ms(void *device)
{
    return gpu_time_stopped_ms(((struct vgpu_device *)device)->time);
}

const struct renderer_events device_renderer_events = {
    .started = on_started,
    .ready = on_ready,
    .finished = on_finished,
    .idle = on_idle,
    .ended = on_ended,
    .stopped_ms = stopped_ms,
};

/* ---- its death ---- */

static void lose_resource(struct vgpu_resource *resource, void *data)
{
    struct vgpu_device *d = data;

    resource->in_renderer = false;
    forget_copy(d, resource);
    if (!resource->is_3d || resource->lost)
        return;
    resource->lost = true;
    vgpu_quota_credit(&d->usage.quota, resource->charge);
    resource->charge = 0;
}

static void schedule_restart(struct vgpu_device *d, bool was_ready)
{
    uint64_t now = vgpu_loop_now_ms();
    uint64_t pause;

    if (was_ready && now - d->started_ms >= SETTLED_MS)
        d->quick_deaths = 0;
    d->quick_deaths++;
    pause = pause_ms(d);
    d->retry_ms = now + pause;
    vgpu_log(LOG_WARNING, "%s: renderer ended: %s; %s%s", d->grant.vm, d->death_reason,
             d->objects.n_contexts > 0 ? "programs that draw must be restarted"
                                       : "nobody was drawing",
             pause > 0 ? "; it ended often: the next one waits" : "");
    vgpu_timer_arm(d->restart_timer, pause);
}

void bury_renderer(struct vgpu_device *d)
{
    bool was_ready = d->started_ms != 0;

    if (!d->renderer_died)
        return;
    d->renderer_died = false;
    vgpu_timer_disarm(d->death_timer);
    d->usage.renderer_hangs += renderer_hung(d->renderer);
    renderer_free(d->renderer);
    d->renderer = NULL;
    d->sync_seq = 0;
    gpu_time_forget(d->time);
    d->usage.renderer_deaths++;
    for (struct vgpu_context *c = d->objects.contexts; c; c = c->next)
        c->lost = true;
    vgpu_objects_each(&d->objects, lose_resource, d);
    display_renderer_gone(d->display);
    fail_requests(&d->inflight);
    schedule_restart(d, was_ready);
    d->started_ms = 0;
}

static void on_death_timer(void *data)
{
    struct vgpu_device *d = data;

    bury_renderer(d);
    run_requests(d);
}

static void on_restart_timer(void *data)
{
    struct vgpu_device *d = data;

    /* A guest that draws needs another at once. The very first tells the capability sets, which the
     * guest's driver will ask for. */
    if (d->objects.n_contexts > 0 || d->pending.first || !d->started_first)
        want(d);
    d->started_first = true;
    run_requests(d);
}

int add_renderer_timers(struct vgpu_device *d, struct gpup_error **err)
{
    d->death_timer = vgpu_loop_add_timer(d->loop, on_death_timer, d, err);
    d->restart_timer = vgpu_loop_add_timer(d->loop, on_restart_timer, d, err);
    d->idle_timer = vgpu_loop_add_timer(d->loop, on_idle_timer, d, err);
    if (!d->death_timer || !d->restart_timer || !d->idle_timer)
        return -EIO;
    vgpu_timer_arm(d->restart_timer, 0);
    return 0;
}

/* ---- from outside ---- */

void vgpu_device_renderer(struct vgpu_device *d, int sock, int pidfd)
{
    GPUP_AUTO_ERROR err = NULL;

    renderer_free(d->renderer);
    d->renderer = NULL;
    gpu_time_forget(d->time);
    d->renderer = renderer_new(d->loop, sock, pidfd, d->grant.vram, d->grant.hang_ms,
                               &device_renderer_events, d, &err);
    d->renderer_wanted = false; /* only now: what is called back meanwhile does not ask again */
    if (!d->renderer)
        vgpu_device_no_renderer(d, gpup_error_message(err));
}

void vgpu_device_no_renderer(struct vgpu_device *d, const char *reason)
{
    d->renderer_wanted = false;
    d->quick_deaths++;
    d->retry_ms = vgpu_loop_now_ms() + NO_RENDERER_MS;
    vgpu_log(LOG_ERR, "%s: no renderer: %s", d->grant.vm, reason);
    vgpu_timer_arm(d->restart_timer, NO_RENDERER_MS); /* what comes shortly before then waits */
    run_requests(d);
}

bool vgpu_device_has_renderer(const struct vgpu_device *d)
{
    return d->renderer != NULL;
}
