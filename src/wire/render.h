/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_WIRE_RENDER_H
#define GPUP_WIRE_RENDER_H

#include <stdint.h>

/*
 * gpup-vgpu <-> gpup-render.
 *
 * One AF_UNIX SOCK_SEQPACKET socket for what is rare or carries descriptors (set-up, guest memory),
 * and two single-producer single-consumer rings in one shared memory object for what is frequent:
 * commands (vgpu -> render) and events (render -> vgpu). Host byte order.
 *
 * Trust: gpup-vgpu trusts nothing that comes back; a renderer that breaks the protocol is killed
 * and replaced. gpup-render stands in the guest's trust domain; it still checks, to fail cleanly.
 *
 * The end of either process is seen by the other as end-of-file on the socket: gpup-render then
 * exits, gpup-vgpu asks for another renderer.
 */

/*
 * The version of what is said here. A gpup-vgpu runs as long as its VM, also over upgrades of gpup,
 * and renderers are of the release that is installed when they start. So: the set-up tells the
 * version that gpup-vgpu speaks, and gpup-render speaks that one, from GPUP_RENDER_OLDEST on; it
 * says it in all its headers. What changes the meaning or the size of anything raises the version;
 * the one before stays spoken for a release at least. gpupd knows both ends (hello in gpupd.h) and
 * says which VMs have to be restarted.
 */
#ifndef GPUP_RENDER_VERSION
#define GPUP_RENDER_VERSION 2
#endif
#ifndef GPUP_RENDER_OLDEST
#define GPUP_RENDER_OLDEST 2
#endif

/* ---- socket messages ---- */

enum gpup_render_msg_type {
    /* vgpu -> render, first: struct gpup_render_setup, descriptors: shared memory (memfd sealed
     * against shrinking), command eventfd (wakes render), event eventfd (wakes vgpu). */
    GPUP_RENDER_SETUP = 1,
    /* render -> vgpu: struct gpup_render_ready, one descriptor: a read-only memfd with the
     * capability sets, one after another in the order of `capsets`. */
    GPUP_RENDER_READY = 2,
    /* render -> vgpu: struct gpup_render_failed; then render exits. */
    GPUP_RENDER_FAILED = 3,
    /* vgpu -> render: struct gpup_render_memory, one descriptor: the region's memory. Regions are
     * named by a number that is never used twice with one renderer. A command that names a region
     * is always sent after its ADD. */
    GPUP_RENDER_MEMORY_ADD = 4,
    /* render -> vgpu: struct gpup_render_exported, one descriptor: the resource's dma-buf. Comes
     * before the answer to GPUP_CMD_EXPORT. */
    GPUP_RENDER_EXPORTED = 5,
    /* render -> vgpu, before READY, or not at all: struct gpup_render_ready without a descriptor
     * and without the renderer's name. What the capability sets are is known; what is in them is
     * not, and OpenGL may still fail to start. */
    GPUP_RENDER_STARTED = 6,
};

struct gpup_render_header {
    uint32_t type;
    uint32_t version;
};

struct gpup_render_setup {
    struct gpup_render_header header;
    uint64_t shared_size; /* bytes of the shared memory object */
    /* The command ring: struct gpup_ring, then its data; the size is that of both together, see
     * gpup_ring_bytes(). Offsets are multiples of 64. */
    uint64_t command_offset, command_size;
    uint64_t event_offset, event_size; /* the event ring, likewise */
    uint64_t pixel_offset, pixel_size; /* the area for GPUP_CMD_READ_PIXELS */
    uint64_t vram;                     /* the partition's memory, bytes */
};

#define GPUP_RENDER_MAX_CAPSETS 8

struct gpup_render_capset {
    uint32_t id; /* virtio-gpu capset id: 1 VIRGL, 2 VIRGL2 */
    uint32_t max_version;
    uint32_t size; /* bytes */
    uint32_t pad;
};

struct gpup_render_ready {
    struct gpup_render_header header;
    uint32_t n_capsets;
    uint32_t pad;
    struct gpup_render_capset capsets[GPUP_RENDER_MAX_CAPSETS];
    char renderer[128]; /* the GL renderer string, for people; terminated */
};

struct gpup_render_failed {
    struct gpup_render_header header;
    int32_t status; /* negative errno */
    char text[500]; /* terminated */
};

struct gpup_render_memory {
    struct gpup_render_header header;
    uint32_t region;
    uint32_t pad;
    uint64_t size;   /* bytes */
    uint64_t offset; /* into the descriptor */
};

struct gpup_render_exported {
    struct gpup_render_header header;
    uint32_t resource, width, height;
    uint32_t stride; /* bytes */
    uint32_t fourcc; /* drm_fourcc.h */
    uint32_t pad;
    uint64_t modifier; /* drm_fourcc.h */
};

/* ---- rings ---- */

/*
 * Byte ring of records. Positions only grow (uint64, never wrapped); the place of a byte is
 * position % size; size is a power of two. A record starts at a multiple of 8 and is contiguous:
 * where it would not fit before the end of the ring, the producer writes a record GPUP_REC_PAD
 * that fills the rest and starts again at the beginning. A record takes at most half of the ring.
 *
 * The producer writes the record, publishes `head` (release), then wakes the consumer through its
 * eventfd only if `consumer_waits` is set (both sides use sequentially consistent fences, so that
 * no wake is lost). The consumer publishes `tail` and wakes the producer (the other eventfd) only
 * if `producer_waits` is set.
 */
struct gpup_ring {
    _Alignas(64) _Atomic uint64_t head; /* written by the producer */
    _Atomic uint32_t producer_waits;
    _Alignas(64) _Atomic uint64_t tail; /* written by the consumer */
    _Atomic uint32_t consumer_waits;
    _Alignas(64) unsigned char data[]; /* the ring's size is told at set-up */
};

struct gpup_record {
    uint32_t type; /* enum gpup_cmd_type or gpup_event_type */
    uint32_t size; /* bytes with this header, before rounding up to 8 */
    uint64_t seq;  /* commands: see GPUP_CMD_*; events: which command they answer */
};

#define GPUP_REC_PAD         0u
#define GPUP_CMD_RING_SIZE   (UINT64_C(16) << 20)
#define GPUP_EVENT_RING_SIZE (UINT64_C(1) << 18)
#define GPUP_MAX_SUBMIT      (UINT32_C(4) << 20) /* bytes of one command stream */
#define GPUP_MAX_BACKING     65536u              /* entries of one backing list */

/*
 * Commands, executed strictly in order. Each answers with GPUP_EVENT_DONE when its `seq` is not 0;
 * with seq 0 nothing is answered. `seq` grows by any positive amount from command to command.
 */
enum gpup_cmd_type {
    GPUP_CMD_CONTEXT_CREATE = 1,
    GPUP_CMD_CONTEXT_DESTROY,
    GPUP_CMD_CONTEXT_ATTACH, /* a resource to a context */
    GPUP_CMD_CONTEXT_DETACH,
    GPUP_CMD_RESOURCE_CREATE,
    GPUP_CMD_RESOURCE_UNREF,
    GPUP_CMD_BACKING_ATTACH,
    GPUP_CMD_BACKING_DETACH,
    GPUP_CMD_TRANSFER_TO_HOST,
    GPUP_CMD_TRANSFER_FROM_HOST,
    GPUP_CMD_SUBMIT,
    GPUP_CMD_FENCE, /* answered by GPUP_EVENT_FENCE when all before it has finished on the GPU */
    GPUP_CMD_READ_PIXELS,   /* a box of a resource into the pixel area, for the display */
    GPUP_CMD_MEMORY_REMOVE, /* unmap a region; backing lists that name it were detached before */
    GPUP_CMD_RESET,         /* the device was reset: drop every context and resource */
    GPUP_CMD_EXPORT,        /* a resource as a dma-buf, for the display; see GPUP_RENDER_EXPORTED */
    GPUP_CMD_PING,          /* does nothing; its answer tells that all before it was executed */
};

struct gpup_cmd_context {
    struct gpup_record record;
    uint32_t context;
    uint32_t name_length; /* CREATE only */
    char name[64];
};

struct gpup_cmd_context_resource {
    struct gpup_record record;
    uint32_t context;
    uint32_t resource;
};

struct gpup_cmd_resource_create {
    struct gpup_record record;
    uint32_t resource, target, format, bind;
    uint32_t width, height, depth, array_size;
    uint32_t last_level, nr_samples, flags, pad;
};

struct gpup_cmd_resource {
    struct gpup_record record;
    uint32_t resource; /* UNREF, BACKING_DETACH, EXPORT */
    uint32_t pad;
};

struct gpup_render_span {
    uint32_t region;
    uint32_t length; /* bytes */
    uint64_t offset; /* into the region; offset + length <= its size */
};

struct gpup_cmd_backing_attach {
    struct gpup_record record;
    uint32_t resource;
    uint32_t n_spans;
    struct gpup_render_span spans[];
};

struct gpup_cmd_transfer {
    struct gpup_record record;
    uint32_t context; /* 0: none */
    uint32_t resource;
    uint32_t level, stride, layer_stride, pad;
    uint32_t x, y, z, w, h, d;
    uint64_t offset; /* into the backing */
};

struct gpup_cmd_submit {
    struct gpup_record record;
    uint32_t context;
    uint32_t n_dwords;
    uint32_t dwords[];
};

struct gpup_cmd_fence {
    struct gpup_record record; /* seq names the fence; never 0 */
    uint32_t context;          /* 0: the global timeline */
    uint32_t ring;
};

struct gpup_cmd_read_pixels {
    struct gpup_record record;
    uint32_t resource;
    uint32_t x, y, w, h;
    uint32_t stride; /* bytes of one line in the pixel area; h * stride <= its size */
};

struct gpup_cmd_memory_remove {
    struct gpup_record record;
    uint32_t region;
    uint32_t pad;
};

enum gpup_event_type {
    GPUP_EVENT_DONE = 1,  /* seq: the command's */
    GPUP_EVENT_FENCE = 2, /* seq: the fence's; fences of one timeline come in order */
};

struct gpup_event {
    struct gpup_record record;
    int32_t status; /* DONE: 0 or a negative errno */
    uint32_t pad;
};

#endif
