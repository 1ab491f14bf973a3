/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "vgpu/stream.h"

#include <errno.h>

/* virgl_protocol.h's numbers of what is refused among the known ones. */
enum {
    SET_DEBUG_FLAGS = 41,      /* writes to the host's log */
    PIPE_RESOURCE_CREATE = 48, /* memory past the quota */
    PIPE_RESOURCE_SET_TYPE = 49,
    GET_MEMORY_INFO = 50, /* the host's memory, not the partition's */
    LINK_SHADER = 52,
    CLEAR_SURFACE = 62,
};

#define BIT(opcode) (UINT64_C(1) << (opcode))

/* One bit for each opcode: streams have thousands of short commands. SET_TYPE is for blobs only,
 * which are not offered. */
static const uint64_t allowed = ((BIT(LINK_SHADER + 1) - 1) | BIT(CLEAR_SURFACE)) &
                                ~(BIT(SET_DEBUG_FLAGS) | BIT(PIPE_RESOURCE_CREATE) |
                                  BIT(PIPE_RESOURCE_SET_TYPE) | BIT(GET_MEMORY_INFO));

int vgpu_stream_check(const uint32_t *dwords, size_t n, uint32_t *opcode)
{
    size_t at = 0;

    while (at < n) {
        uint32_t header = __atomic_load_n(&dwords[at], __ATOMIC_RELAXED);
        uint32_t code = header & 0xff;

        at += 1 + (header >> 16);
        if (code >= 64 || !(allowed & BIT(code)) || at > n) {
            *opcode = code;
            return code >= 64 || !(allowed & BIT(code)) ? -EPERM : -EINVAL;
        }
    }
    return 0;
}
