/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_RENDER_H
#define GPUP_RENDER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "core/error.h"
#include "wire/ring.h"

/*
 * gpup-render: executes one partition's command streams. It runs in the guest's trust domain;
 * whoever talks to it treats it as hostile. It ends when its socket ends.
 */

#define RESOURCE_BUCKETS 1024u

struct region { /* a part of the guest's memory */
    struct region *next;
    uint32_t id;
    unsigned char *base;
    uint64_t size;
    void *map;
    size_t map_size;
};

struct resource {
    struct resource *next;
    uint32_t id;
    struct iovec *backing; /* NULL: none; virglrenderer holds on to it until it is detached */
    unsigned int n_backing;
};

struct context {
    struct context *next;
    uint32_t id;
};

struct objects {
    struct region *regions;
    struct context *contexts;
    struct resource *resources[RESOURCE_BUCKETS];
};

struct pending_fence {
    struct pending_fence *next;
    uint64_t seq;
    uint32_t id; /* what virglrenderer calls it */
};

typedef void (*gl_function)(void);

/* glFenceSync(), glClientWaitSync(), glDeleteSync() */
struct gl_sync {
    void *(*create)(unsigned int condition, unsigned int flags); /* NULL: not to be used */
    unsigned int (*wait)(void *sync, unsigned int flags, uint64_t timeout_ns);
    void (*destroy)(void *sync);
};

struct render {
    int sock;
    uint32_t version;         /* that gpup-vgpu speaks (wire/render.h) */
    int command_fd, event_fd; /* wakes us; wakes gpup-vgpu (borrowed by the rings) */
    bool woken;               /* command_fd is to be emptied */
    bool has_node;            /* renders on a GPU */
    int drm_fd;               /* its node, until virglrenderer takes it; -1 */
    int virgl_fd;             /* readable when virglrenderer is to be polled */
    gl_function finish;       /* glFinish, where fences are not reported; else NULL */
    void *shared;
    uint64_t shared_size;
    unsigned char *pixels;
    uint64_t pixel_size;
    struct gpup_ring_end commands, events;
    const struct gpup_record *record; /* the command being executed, in the ring */
    struct objects objects;
    pthread_mutex_t events_lock; /* the ring `events` */
    pthread_mutex_t fences_lock; /* the list */
    struct pending_fence *fences, **fences_end;
    _Atomic unsigned int n_fences; /* announced, and not yet reported */
    struct gl_sync sync;
    uint32_t last_fence;
    int over; /* the socket has ended: 1 at end of file, -errno with `error` for a reason */
    struct gpup_error *error;
};

/* ---- log.c ---- */

/* From now on nothing else reaches the log: Mesa and virglrenderer's reader of shaders write to
 * standard error by themselves, as often as a guest wants it. */
void log_alone(void);
/* What it ends with. */
void log_error(const char *text);
/* What a guest may have caused: the first line, without what a terminal or a reader of logs takes
 * for more than text, and not without end. */
void log_guest(const char *text);

/* ---- virgl.c ---- */

/* Starts virglrenderer on a render node, or on the software renderer when it is NULL. */
int virgl_start(struct render *render, const char *render_node, struct gpup_error **err);
void gl_renderer_name(char *text, size_t size);
/* Tells which capability sets there are, and their sizes. */
void virgl_describe_capsets(struct gpup_render_ready *ready);
/* Their content, as described, in a sealed memfd. The descriptor, or -errno. */
int virgl_capsets(const struct gpup_render_ready *ready);
/* Announces everything executed so far as fence `seq`. */
int virgl_fence(struct render *render, uint64_t seq);
/* Whether fences are unfinished, or not reported yet. */
bool virgl_has_fences(struct render *render);

/* ---- export.c ---- */

/* Sends GPUP_RENDER_EXPORTED. -ENOTSUP: it cannot be shared. */
int export_resource(struct render *render, uint32_t resource);

/* ---- session.c ---- */

/* Serves the socket until it ends. 0 at end of file. */
int session_run(struct render *render, const char *render_node, struct gpup_error **err);
/* Sends an event, from any thread; waits while the ring is full. -errno: the session is over. */
int session_emit(struct render *render, uint32_t type, uint64_t seq, int status);
/* Sends a message with a descriptor, or none where it is -1; waits for room, but not for ever:
 * -ETIMEDOUT. */
int session_send(struct render *render, const void *message, size_t size, int fd);
/* Takes what the socket holds (descriptors of guest memory). Returns render->over. */
int session_read_socket(struct render *render);

/* ---- execute.c ---- */

/* Executes render->record and answers it. -errno: the peer broke the protocol. */
int execute(struct render *render, struct gpup_error **err);

/* ---- objects.c ---- */

int region_add(struct objects *objects, const struct gpup_render_memory *message, int fd,
               struct gpup_error **err);
struct region *region_find(struct objects *objects, uint32_t id);
int region_remove(struct objects *objects, uint32_t id); /* -EBUSY: a backing lies in it */

int resource_add(struct objects *objects, uint32_t id); /* -EEXIST, -ENOMEM */
struct resource *resource_find(struct objects *objects, uint32_t id);
void resource_remove(struct objects *objects, uint32_t id);
/* Takes the backing away from virglrenderer and frees it. */
void resource_drop_backing(struct resource *resource);

int context_add(struct objects *objects, uint32_t id);
bool context_known(struct objects *objects, uint32_t id);
void context_remove(struct objects *objects, uint32_t id);

#endif
