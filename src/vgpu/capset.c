/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "vgpu/capset.h"

#include "vgpu/format.h"

#include <endian.h>
#include <string.h>

/* Places in struct virgl_caps_v2, which begins with virgl_caps_v1 and only ever grows at its end.
 */
#define SAMPLER_FORMATS        4u
#define RENDER_FORMATS         68u
#define DEPTH_FORMATS          132u
#define CAPABILITY_BITS        392u
#define CAPABILITY_BITS_V2     688u
#define MAX_VIDEO_MEMORY       692u /* MiB */
#define NUM_VIDEO_CAPS         856u

#define CAP_GUEST_MAY_INIT_LOG (1u << 14)
#define CAP_V2_VIDEO_MEMORY    (1u << 2)
#define CAP_V2_MEMINFO         (1u << 3)

static void change(void *data, size_t size, size_t at, uint32_t clear, uint32_t set)
{
    uint32_t value;

    if (size < at + sizeof(value))
        return;
    memcpy(&value, (char *)data + at, sizeof(value));
    value = htole32((le32toh(value) & ~clear) | set);
    memcpy((char *)data + at, &value, sizeof(value));
}

/* A bit for each format, the first for none. A guest's programs do not see that a resource is
 * refused: their driver must not try those that are. */
static void limit_formats(void *data, size_t size, size_t at)
{
    for (uint32_t first = 0; first < 512; first += 32) {
        uint32_t unknown = 0;

        for (uint32_t i = 0; i < 32; i++)
            unknown |= (uint32_t)(first + i > 0 && !vgpu_format_is_known(first + i)) << i;
        change(data, size, at + first / 8, unknown, 0);
    }
}

void vgpu_capset_limit(void *data, size_t size, uint64_t vram)
{
    uint64_t mib = vram >> 20;

    limit_formats(data, size, SAMPLER_FORMATS);
    limit_formats(data, size, RENDER_FORMATS);
    limit_formats(data, size, DEPTH_FORMATS);
    change(data, size, CAPABILITY_BITS, CAP_GUEST_MAY_INIT_LOG, 0);
    change(data, size, CAPABILITY_BITS_V2, CAP_V2_MEMINFO, CAP_V2_VIDEO_MEMORY);
    change(data, size, MAX_VIDEO_MEMORY, UINT32_MAX, mib > UINT32_MAX ? UINT32_MAX : (uint32_t)mib);
    change(data, size, NUM_VIDEO_CAPS, UINT32_MAX, 0);
}
