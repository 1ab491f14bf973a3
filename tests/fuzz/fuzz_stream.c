/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "vgpu/capset.h"
#include "vgpu/format.h"
#include "vgpu/stream.h"

#include <stdlib.h>
#include <string.h>

/*
 * The walk through a command stream, and what else is worked out from a guest's or renderer's
 * numbers: what a resource is charged, and the limits written into a capability set.
 */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* By virgl_protocol.h: what makes resources, is video, or tells of the host. */
static int is_forbidden(uint32_t opcode)
{
    return opcode == 41 || opcode == 48 || opcode == 49 || opcode == 50 ||
           (opcode > 52 && opcode != 62);
}

/* What passed has a known command at every place that the renderer will read one at. */
static void check_walk(const uint32_t *dwords, size_t n)
{
    uint32_t opcode;
    size_t at = 0;

    if (vgpu_stream_check(dwords, n, &opcode) < 0)
        return;
    while (at < n) {
        if (is_forbidden(dwords[at] & 0xff))
            abort();
        at += 1 + (dwords[at] >> 16);
    }
    if (at != n)
        abort();
}

/* A larger shape is never charged less, and nothing less than its first level's pixels. */
static void check_shape(const uint32_t *words)
{
    struct vgpu_shape shape = {.target = words[0] % 10,
                               .format = words[1] % 500,
                               .width = words[2],
                               .height = words[3],
                               .depth = words[4],
                               .array_size = words[5],
                               .last_level = words[6] % 20,
                               .nr_samples = words[7]};
    uint64_t bytes = 0, more = 0;

    if (!vgpu_shape_bytes(&shape, &bytes))
        return;
    if (bytes == 0 || bytes % 4096 != 0)
        abort();
    if (shape.width < UINT32_MAX)
        shape.width++;
    if (vgpu_shape_bytes(&shape, &more) && more < bytes)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint32_t *copy = malloc(size ? size : 1); /* exactly as long: what reads on is seen */
    size_t n = size / 4;

    if (!copy)
        abort();
    memcpy(copy, data, size);
    check_walk(copy, n);
    if (n >= 8)
        check_shape(copy);
    vgpu_capset_limit(copy, size, (uint64_t)size << 20);
    free(copy);
    return 0;
}
