/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "vgpu/stream.h"

#include <errno.h>
#include <stdbool.h>

/* virgl_protocol.h's numbers of what is refused among the known ones. */
enum {
    SET_DEBUG_FLAGS = 41,      /* writes to the host's log */
    PIPE_RESOURCE_CREATE = 48, /* memory past the quota */
    PIPE_RESOURCE_SET_TYPE = 49,
    GET_MEMORY_INFO = 50, /* the host's memory, not the partition's */
    LINK_SHADER = 52,
    CLEAR_SURFACE = 62,
};

static bool allowed(uint32_t opcode)
{
    switch (opcode) {
    case SET_DEBUG_FLAGS:
    case PIPE_RESOURCE_CREATE:
    case PIPE_RESOURCE_SET_TYPE: /* only for blobs, which are not offered */
    case GET_MEMORY_INFO:
        return false;
    default:
        return opcode <= LINK_SHADER || opcode == CLEAR_SURFACE;
    }
}

int vgpu_stream_check(const uint32_t *dwords, size_t n, uint32_t *opcode)
{
    size_t at = 0;

    while (at < n) {
        uint32_t header = __atomic_load_n(&dwords[at], __ATOMIC_RELAXED);
        size_t length = header >> 16;

        *opcode = header & 0xff;
        if (!allowed(*opcode))
            return -EPERM;
        if (length > n - at - 1)
            return -EINVAL;
        at += 1 + length;
    }
    return 0;
}
