/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_WIRE_GPUPD_H
#define GPUP_WIRE_GPUPD_H

#include <stddef.h>
#include <stdint.h>

/*
 * The socket /run/gpup/gpupd.sock: SOCK_SEQPACKET, one message a packet, host byte order (both
 * ends are on one machine). Clients: the libvirt hook (root) and gpup-vgpu (recognised by its
 * peer pid). Every request is answered by exactly one packet of the type named beside it; gpupd
 * closes the connection on anything malformed. Messages have the fixed sizes of their structures;
 * descriptors travel as SCM_RIGHTS where a comment says so.
 */

#define GPUP_GPUPD_SOCKET "/run/gpup/gpupd.sock"
/* One file per adapter of a VM that is starting or running; libvirt passes the path on to gpup-vgpu
 * as its render node, which tells it whose it is. */
#define GPUP_VM_DIR        "/run/gpup/vm"
#define GPUP_GPUPD_VERSION 1

enum gpup_msg_type {
    /* hook -> gpupd: struct gpup_msg_hook, one descriptor: a memfd with the domain XML.
     * Answer: GPUP_MSG_ANSWER. */
    GPUP_MSG_HOOK = 1,
    GPUP_MSG_ANSWER = 2,
    /* gpup-vgpu -> gpupd: struct gpup_msg_hello. Answer: GPUP_MSG_GRANT, or GPUP_MSG_ANSWER with
     * the refusal. The connection is the lease: it stays open as long as the VM runs. After gpupd
     * was restarted, gpup-vgpu connects again and says hello with the flag ADOPT when it has a
     * renderer: gpupd wrote down which one that is. */
    GPUP_MSG_HELLO = 10,
    GPUP_MSG_GRANT = 11, /* without a hello: the grant is another one now; no answer */
    /* gpup-vgpu -> gpupd: struct gpup_msg_plain. A renderer is wanted (the first, or another after
     * a death; what was there before is killed first). Answer: GPUP_MSG_RENDERER with two
     * descriptors (its socket, its pidfd), or GPUP_MSG_ANSWER with the reason. The answer may
     * take a moment: it is asynchronous, a lease has one such request in flight at most. */
    GPUP_MSG_WANT_RENDERER = 12,
    GPUP_MSG_RENDERER = 13,
    /* gpup-vgpu -> gpupd: struct gpup_msg_usage; no answer; at most one each 200 ms. */
    GPUP_MSG_USAGE = 15,
    /* gpupd -> gpup-vgpu, after the grant, to those that said GPUP_HELLO_GPU_TIME: struct
     * gpup_msg_plain with the four descriptors of wire/gpu_time.h. No answer. */
    GPUP_MSG_GPU_TIME = 16,
};

struct gpup_msg_header {
    uint32_t type;    /* enum gpup_msg_type */
    uint32_t version; /* GPUP_GPUPD_VERSION */
};

struct gpup_msg_plain {
    struct gpup_msg_header header;
};

enum gpup_hook_op {
    GPUP_HOOK_PREPARE = 1, /* reserve, or refuse the start */
    GPUP_HOOK_STARTED = 2,
    GPUP_HOOK_RELEASE = 3,   /* free; idempotent */
    GPUP_HOOK_RECONNECT = 4, /* libvirtd came back and the VM runs */
    GPUP_HOOK_MIGRATE = 5,   /* incoming migration: refuse with the reason */
    GPUP_HOOK_RESTORE = 6,   /* from a saved state: refuse with the reason */
};

struct gpup_msg_hook {
    struct gpup_msg_header header;
    uint32_t op; /* enum gpup_hook_op */
    uint32_t pad;
    char vm[256]; /* the VM's name, terminated */
};

/* The answer to a hook, or a refusal to gpup-vgpu. */
struct gpup_msg_answer {
    struct gpup_msg_header header;
    int32_t status;       /* 0, or a negative errno */
    char text[4096 - 12]; /* why, for a person; terminated; may hold several lines */
};

#define GPUP_HELLO_ADOPT    1u
#define GPUP_HELLO_GPU_TIME 2u

struct gpup_msg_hello {
    struct gpup_msg_header header;
    uint32_t flags;
    uint32_t render_version; /* that it speaks with renderers; 0, of who does not tell: 2 */
    char adapter[40]; /* the adapter's id (a UUID), from the last part of the render-node path */
};

/* What a partition was given. Shares in parts per million. */
#define GPUP_GRANT_DISPLAY 1u /* the head is connected */
#define GPUP_GRANT_SHARED  2u /* and QEMU takes dma-bufs for it */

struct gpup_msg_grant {
    struct gpup_msg_header header;
    uint64_t vram; /* bytes */
    uint32_t compute_min, compute_weight, compute_cap;
    uint32_t hang_ms; /* a command stream that runs longer has its renderer killed */
    uint32_t flags;   /* GPUP_GRANT_ bits */
    uint32_t pad;
    char vm[256];       /* for logs */
    char partition[64]; /* GPU/index, for logs */
};

struct gpup_msg_usage {
    struct gpup_msg_header header;
    uint64_t vram_used; /* bytes charged now */
    uint64_t vram_peak;
    uint64_t refused;         /* allocations refused for lack of memory, since start */
    uint64_t stream_errors;   /* command streams refused, since start */
    uint64_t commands;        /* virtio-gpu commands, since start */
    uint64_t submits;         /* command streams, since start */
    uint64_t frames;          /* updates of what is shown, since start */
    uint64_t renderer_deaths; /* since start */
    uint64_t contexts;        /* alive now */
    uint64_t resources;       /* alive now */
    /* A gpup-vgpu that is older than gpupd sends less: what follows may be missing. */
    uint64_t renderer_hangs; /* those of renderer_deaths that took too long, since start */
};
/* The shortest that is accepted. */
#define GPUP_USAGE_MIN offsetof(struct gpup_msg_usage, renderer_hangs)

#endif
