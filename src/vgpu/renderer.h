/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_VGPU_RENDERER_H
#define GPUP_VGPU_RENDERER_H

#include "wire/render.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct gpup_error;
struct guest_region;
struct vgpu_loop;

/*
 * Our end of one renderer process. Nothing that comes from it is trusted: whatever breaks the
 * protocol, hangs or dies ends in `ended`, once, after which only renderer_free() may be called.
 */
struct renderer;

struct renderer_events {
    /* It has started, and will be ready soon: which capability sets there are, not their content.
     * Once at most; a renderer need not tell it. */
    void (*started)(void *device, const struct gpup_render_ready *ready);
    /* It can take commands; the capability sets lie in `data`, one after another, for this call. */
    void (*ready)(void *device, const struct gpup_render_ready *ready, const void *data,
                  size_t size);
    /* The command or fence `seq` has finished; status of a command, 0 for a fence. false: there is
     * no such one. */
    bool (*finished)(void *device, uint64_t seq, int status);
    /* After a batch of answers, and when there is room again that renderer_reserve() did not find.
     */
    void (*idle)(void *device);
    void (*ended)(void *device, const char *reason);
    /* For how long it has been kept from running, from outside, since start. */
    uint64_t (*stopped_ms)(void *device);
};

/* Takes the descriptors in any case. hang_ms: no answer for that long while one is due ends it. */
struct renderer *renderer_new(struct vgpu_loop *loop, int sock, int pidfd, uint64_t vram,
                              uint32_t hang_ms, const struct renderer_events *events, void *device,
                              struct gpup_error **err);
/* Kills the process if it still runs. NULL is allowed. */
void renderer_free(struct renderer *renderer);

bool renderer_is_ready(const struct renderer *renderer);
/* It was ended for taking too long. */
bool renderer_hung(const struct renderer *renderer);

/* Hands a region of the guest's memory over (guest_memory.h; the number is the region's id). */
int renderer_add_memory(struct renderer *renderer, const struct guest_region *region,
                        struct gpup_error **err);

/*
 * Room for a command of `size` bytes with its header. answer: it is to be answered (as DONE, or
 * FENCE for a fence); renderer_seq() then tells its number. NULL: no room now; `idle` will be
 * called (or `ended`). The caller fills in what follows the record and commits at once, or forgets
 * it: then it was never sent.
 */
void *renderer_reserve(struct renderer *renderer, uint32_t type, size_t size, bool answer);
uint64_t renderer_seq(const struct renderer *renderer);
void renderer_commit(struct renderer *renderer);

/* After a batch of commands: sees to it that the last of them will be heard of, so that one that
 * hangs is noticed even where the guest asked for no answer. */
void renderer_watch(struct renderer *renderer);
/* Where GPUP_CMD_READ_PIXELS puts what it read: the renderer may write there at any time. */
const unsigned char *renderer_pixels(const struct renderer *renderer, uint64_t *size);

/* What the renderer has exported last (GPUP_CMD_EXPORT); false: nothing. The descriptor becomes the
 * caller's. */
bool renderer_take_export(struct renderer *renderer, struct gpup_render_exported *exported,
                          int *fd);

/* True while an answer is due. */
bool renderer_is_busy(const struct renderer *renderer);

/* Handles what comes from the renderer, without the loop: waits timeout_ms for it at most. */
void renderer_wait(struct renderer *renderer, int timeout_ms);

#endif
