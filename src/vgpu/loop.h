/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_VGPU_LOOP_H
#define GPUP_VGPU_LOOP_H

#include <stdbool.h>
#include <stdint.h>

struct gpup_error;

/* A single-threaded epoll loop with timers. */
struct vgpu_loop;
struct vgpu_source;

typedef void (*vgpu_loop_func)(uint32_t events, void *data); /* EPOLLIN, EPOLLHUP, ... */
typedef void (*vgpu_timer_func)(void *data);

struct vgpu_loop *vgpu_loop_new(struct gpup_error **err);
void vgpu_loop_free(struct vgpu_loop *loop);

/* The descriptor stays the caller's and must outlive the source. NULL with err set on failure. */
struct vgpu_source *vgpu_loop_add(struct vgpu_loop *loop, int fd, uint32_t events,
                                  vgpu_loop_func func, void *data, struct gpup_error **err);
int vgpu_source_set_events(struct vgpu_source *source, uint32_t events);
/*
 * Has the loop look at memory for a moment before it sleeps, where what comes has lately come that
 * soon: `peek` tells whether there is work, the source's function is then called with no events,
 * its descriptor unread.
 */
void vgpu_source_set_peek(struct vgpu_source *source, bool (*peek)(void *data));
/* Safe from within any callback, its own included: nothing is called for it afterwards. */
void vgpu_source_remove(struct vgpu_source *source);

/* One-shot. Re-arm from the callback to repeat. after_ms 0: at the next turn. */
struct vgpu_source *vgpu_loop_add_timer(struct vgpu_loop *loop, vgpu_timer_func func, void *data,
                                        struct gpup_error **err);
void vgpu_timer_arm(struct vgpu_source *timer, uint64_t after_ms);
void vgpu_timer_disarm(struct vgpu_source *timer);

/* Until vgpu_loop_quit(). Returns its status. */
int vgpu_loop_run(struct vgpu_loop *loop);
void vgpu_loop_quit(struct vgpu_loop *loop, int status);
uint64_t vgpu_loop_now_ms(void); /* CLOCK_MONOTONIC */

#endif
