/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_VGPU_GPU_TIME_H
#define GPUP_VGPU_GPU_TIME_H

#include <stdbool.h>
#include <stdint.h>

struct gpup_error;
struct vgpu_loop;

/*
 * The gate that commands pass on their way to the renderer. gpupd's arbiter (wire/gpu_time.h) says
 * when it is shut. Before gpupd has said anything it is open; when gpupd goes away the partition
 * keeps to its own share, by the CPU time of its renderer.
 */
struct gpu_time;

/* `opened` is called when held commands may go on. */
struct gpu_time *gpu_time_new(struct vgpu_loop *loop, void (*opened)(void *data), void *data,
                              struct gpup_error **err);
void gpu_time_free(struct gpu_time *time);

/* From gpupd: takes the descriptors of GPUP_MSG_GPU_TIME (GPUP_GPU_TIME_FDS of them) in any case.
 */
void gpu_time_attach(struct gpu_time *time, const int *fds);
/* gpupd has gone. */
void gpu_time_detach(struct gpu_time *time);

/* Whether the next command has to wait. */
bool gpu_time_holds(struct gpu_time *time);
/* While this is set nothing is held: what is pending has to come to its end. */
void gpu_time_set_open(struct gpu_time *time, bool open);
/* Whether there is anything to do, waiting or unfinished. */
void gpu_time_set_busy(struct gpu_time *time, bool busy);

/* A command went to the renderer; fenced: it is answered when it is done. True: gpu_time_sent() is
 * to be called with its number, or, where it is not fenced, with that of a fence behind it. */
bool gpu_time_wants_fence(struct gpu_time *time, bool fenced);
/* The fence `seq` follows a command; own: nobody else waits for it. */
void gpu_time_sent(struct gpu_time *time, uint64_t seq, bool own);
/* Something was answered. True: it was an own fence. */
bool gpu_time_finished(struct gpu_time *time, uint64_t seq);
/* The renderer is another one, or none: nothing is unfinished. */
void gpu_time_forget(struct gpu_time *time);

/* For how long the renderer has been kept stopped from outside, milliseconds since start. */
uint64_t gpu_time_stopped_ms(const struct gpu_time *time);

#endif
