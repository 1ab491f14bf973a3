/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "vgpu/format.h"

#include <stddef.h>

/*
 * Memory of virgl's formats (their numbers: virgl_hw.h of virglrenderer and Mesa; their layouts:
 * Mesa's u_format.yaml): bytes of one block and how many pixels a block covers. Three-component
 * formats are counted as the four that drivers allocate. What is not here is refused: numbers
 * without a format, and formats of which only the hardware knows the layout (471, 472).
 */
struct format_range {
    uint16_t first, last;
    uint8_t bytes, width, height, depth;
};

#define ONE(f, b)                                                                                  \
    {                                                                                              \
        f, f, b, 1, 1, 1                                                                           \
    }
#define RANGE(f, l, b)                                                                             \
    {                                                                                              \
        f, l, b, 1, 1, 1                                                                           \
    }
#define BLOCK(f, l, b, w, h)                                                                       \
    {                                                                                              \
        f, l, b, w, h, 1                                                                           \
    }
/* Two pixels in a row that share their colour. */
#define PAIR(f, l, b) BLOCK(f, l, b, 2, 1)
/* Two formats of one block: plain and sRGB. */
#define ASTC_3D(f, w, h, d)                                                                        \
    {                                                                                              \
        f, (f) + 1, 16, w, h, d                                                                    \
    }
/* One, two, three and four components of one size. */
#define COMPONENTS(f, size)                                                                        \
    ONE(f, size), ONE((f) + 1, 2 * (size)), RANGE((f) + 2, (f) + 3, 4 * (size))
/* Plain, sRGB, and of floats. */
#define ASTC(f, w, h)                                                                              \
    BLOCK(f, f, 16, w, h), BLOCK((f) + 14, (f) + 14, 16, w, h),                                    \
        BLOCK((f) + 178, (f) + 178, 16, w, h)

static const struct format_range ranges[] = {
    RANGE(1, 4, 4),
    RANGE(5, 7, 2),
    ONE(8, 4),
    RANGE(9, 11, 1),
    RANGE(12, 13, 2),
    PAIR(14, 15, 4),
    ONE(16, 2),
    RANGE(17, 22, 4),
    ONE(23, 1),
    COMPONENTS(24, 8),
    COMPONENTS(28, 4),
    COMPONENTS(32, 4),
    COMPONENTS(36, 4),
    COMPONENTS(40, 4),
    COMPONENTS(44, 4),
    COMPONENTS(48, 2),
    COMPONENTS(52, 2),
    COMPONENTS(56, 2),
    COMPONENTS(60, 2),
    COMPONENTS(64, 1),
    ONE(68, 4),
    COMPONENTS(69, 1),
    COMPONENTS(74, 1),
    COMPONENTS(82, 1),
    COMPONENTS(87, 4),
    COMPONENTS(91, 2),
    ONE(95, 1),
    ONE(96, 2),
    RANGE(97, 104, 4),
    BLOCK(105, 106, 8, 4, 4),
    BLOCK(107, 108, 16, 4, 4),
    BLOCK(109, 110, 8, 4, 4),
    BLOCK(111, 112, 16, 4, 4),
    BLOCK(113, 114, 8, 4, 4),
    BLOCK(115, 116, 16, 4, 4),
    PAIR(117, 118, 4),
    ONE(119, 4),
    ONE(120, 2),
    ONE(121, 4),
    ONE(122, 2),
    RANGE(123, 125, 4),
    ONE(126, 8),
    BLOCK(127, 127, 1, 8, 1),
    RANGE(128, 129, 4),
    ONE(130, 1),
    RANGE(131, 132, 4),
    ONE(133, 2),
    ONE(134, 4),
    ONE(135, 2),
    RANGE(136, 137, 4),
    ONE(138, 8),
    ONE(139, 1),
    ONE(140, 4),
    RANGE(141, 142, 2),
    BLOCK(143, 144, 8, 4, 4),
    BLOCK(145, 146, 16, 4, 4),
    RANGE(147, 148, 1),
    ONE(149, 2),
    ONE(150, 1),
    RANGE(151, 152, 2),
    ONE(153, 4),
    RANGE(154, 156, 2),
    ONE(157, 4),
    ONE(158, 2),
    RANGE(159, 160, 4),
    ONE(161, 8),
    ONE(162, 4),
    RANGE(168, 169, 1),
    RANGE(170, 171, 2),
    RANGE(172, 176, 4),
    COMPONENTS(177, 1),
    COMPONENTS(181, 1),
    COMPONENTS(185, 2),
    COMPONENTS(189, 2),
    COMPONENTS(193, 4),
    COMPONENTS(197, 4),
    RANGE(201, 203, 1),
    ONE(204, 2),
    RANGE(205, 207, 1),
    ONE(208, 2),
    RANGE(209, 211, 2),
    ONE(212, 4),
    RANGE(213, 215, 2),
    ONE(216, 4),
    RANGE(217, 219, 4),
    ONE(220, 8),
    RANGE(221, 223, 4),
    ONE(224, 8),
    ONE(225, 4),
    BLOCK(226, 226, 8, 4, 4),
    RANGE(227, 228, 4), /* two pixels in 4 bytes; Mesa 25 takes 4 for each */
    RANGE(229, 233, 4),
    RANGE(234, 238, 8),
    RANGE(239, 241, 16),
    ONE(242, 2),
    RANGE(243, 245, 4),
    ONE(246, 8),
    RANGE(247, 248, 2),
    RANGE(249, 250, 4),
    RANGE(251, 252, 8),
    ONE(253, 4),
    ONE(254, 2),
    BLOCK(255, 258, 16, 4, 4),
    RANGE(263, 264, 2),
    RANGE(265, 268, 4),
    BLOCK(269, 272, 8, 4, 4),
    BLOCK(273, 274, 16, 4, 4),
    BLOCK(275, 276, 8, 4, 4),
    BLOCK(277, 278, 16, 4, 4),
    ASTC(279, 4, 4),
    ASTC(280, 5, 4),
    ASTC(281, 5, 5),
    ASTC(282, 6, 5),
    ASTC(283, 6, 6),
    ASTC(284, 8, 5),
    ASTC(285, 8, 6),
    ASTC(286, 8, 8),
    ASTC(287, 10, 5),
    ASTC(288, 10, 6),
    ASTC(289, 10, 8),
    ASTC(290, 10, 10),
    ASTC(291, 12, 10),
    ASTC(292, 12, 12),
    ONE(308, 4),
    ONE(311, 2),
    ONE(312, 1),
    ONE(313, 2),
    ONE(317, 4),
    ONE(318, 1),
    RANGE(319, 321, 2),
    ONE(322, 1),
    ONE(326, 1),
    PAIR(327, 327, 4),
    RANGE(328, 329, 4),
    RANGE(330, 333, 2),
    RANGE(334, 337, 4),
    RANGE(338, 340, 2),
    RANGE(341, 347, 4),
    ASTC_3D(348, 3, 3, 3),
    ASTC_3D(350, 4, 3, 3),
    ASTC_3D(352, 4, 4, 3),
    ASTC_3D(354, 4, 4, 4),
    ASTC_3D(356, 5, 4, 4),
    ASTC_3D(358, 5, 5, 4),
    ASTC_3D(360, 5, 5, 5),
    ASTC_3D(362, 6, 5, 5),
    ASTC_3D(364, 6, 6, 5),
    ASTC_3D(366, 6, 6, 6),
    BLOCK(368, 368, 8, 4, 4),
    BLOCK(369, 370, 16, 4, 4),
    RANGE(371, 374, 4),
    ONE(375, 1),
    RANGE(376, 378, 2),
    RANGE(379, 383, 4),
    PAIR(384, 384, 4),
    RANGE(385, 393, 4),
    PAIR(394, 394, 4),
    BLOCK(395, 396, 16, 8, 4),
    ONE(397, 4),
    PAIR(398, 398, 4),
    ONE(401, 2),
    RANGE(403, 404, 4),
    ONE(405, 1),
    RANGE(406, 411, 2),
    RANGE(412, 415, 32),
    RANGE(416, 417, 16),
    RANGE(418, 419, 8),
    PAIR(422, 422, 4),
    PAIR(426, 426, 4),
    RANGE(427, 428, 2),
    RANGE(429, 432, 4),
    PAIR(437, 439, 8),
    ONE(440, 4),
    RANGE(441, 442, 8),
    ONE(450, 2),
    ONE(451, 4),
    ONE(452, 2),
    ONE(453, 4),
    BLOCK(473, 473, 6, 2, 2),
    BLOCK(474, 474, 15, 4, 2),
};

/*
 * Formats of several planes: a full one, and one with the two others' samples as pairs (or two with
 * one each, which takes the same), of which there is one for x * y pixels. Bytes of so many samples
 * or pairs in a row.
 */
struct planar_range {
    uint16_t first, last;
    uint8_t bytes, samples;
    uint8_t pair_bytes, pairs;
    uint8_t x, y;
};

#define PLANAR_8(f, l, x, y)                                                                       \
    {                                                                                              \
        f, l, 1, 1, 2, 1, x, y                                                                     \
    }
#define PLANAR_16(f, l, x, y)                                                                      \
    {                                                                                              \
        f, l, 2, 1, 4, 1, x, y                                                                     \
    }
/* 10 bits each, without gaps. */
#define PLANAR_10(f, x, y)                                                                         \
    {                                                                                              \
        f, f, 5, 4, 5, 2, x, y                                                                     \
    }

static const struct planar_range planar[] = {
    PLANAR_8(163, 163, 2, 2),  PLANAR_8(164, 164, 2, 1),     PLANAR_8(165, 167, 2, 2),
    PLANAR_16(314, 316, 2, 2), PLANAR_8(323, 323, 1, 1),     PLANAR_8(324, 325, 2, 1),
    PLANAR_8(399, 400, 2, 2),  {402, 402, 4, 3, 8, 3, 2, 2}, PLANAR_8(420, 421, 2, 2),
    PLANAR_8(423, 424, 2, 2),  PLANAR_8(425, 425, 1, 1),     PLANAR_16(433, 433, 2, 2),
    PLANAR_16(434, 435, 2, 1), PLANAR_16(436, 436, 1, 1),    PLANAR_10(443, 2, 2),
    PLANAR_10(444, 2, 1),      PLANAR_8(445, 445, 1, 2),     PLANAR_10(446, 2, 2),
    PLANAR_10(447, 2, 1),      PLANAR_16(448, 449, 2, 2),    PLANAR_8(454, 456, 2, 1),
    PLANAR_16(475, 475, 2, 2), PLANAR_16(476, 476, 2, 1),    PLANAR_16(477, 477, 1, 1),
    PLANAR_16(478, 478, 2, 2), PLANAR_16(479, 479, 2, 1),    PLANAR_16(480, 480, 1, 1),
    PLANAR_16(481, 481, 2, 1),
};

#define MAX_LEVELS 16u
#define PAGE       UINT64_C(4096)

static const struct format_range *find_format(uint32_t format)
{
    for (size_t i = 0; i < sizeof(ranges) / sizeof(*ranges); i++) {
        if (format >= ranges[i].first && format <= ranges[i].last)
            return &ranges[i];
    }
    return NULL;
}

static const struct planar_range *find_planar(uint32_t format)
{
    for (size_t i = 0; i < sizeof(planar) / sizeof(*planar); i++) {
        if (format >= planar[i].first && format <= planar[i].last)
            return &planar[i];
    }
    return NULL;
}

bool vgpu_format_is_known(uint32_t format)
{
    return find_format(format) || find_planar(format);
}

static uint64_t level_size(uint32_t size, uint32_t level)
{
    uint32_t s = size >> level;

    return s ? s : 1;
}

static uint64_t divide_up(uint64_t n, uint64_t by)
{
    return (n + by - 1) / by;
}

/* Of one layer and sample. */
static bool image_bytes(uint32_t format, uint64_t w, uint64_t h, uint64_t d, uint64_t *bytes)
{
    const struct format_range *f = find_format(format);
    const struct planar_range *p = f ? NULL : find_planar(format);
    uint64_t plane;

    if (f)
        return !__builtin_mul_overflow(divide_up(w, f->width), divide_up(h, f->height), bytes) &&
               !__builtin_mul_overflow(*bytes, divide_up(d, f->depth), bytes) &&
               !__builtin_mul_overflow(*bytes, (uint64_t)f->bytes, bytes);
    return p && !__builtin_mul_overflow(divide_up(w, p->samples) * p->bytes, h, bytes) &&
           !__builtin_mul_overflow(divide_up(divide_up(w, p->x), p->pairs) * p->pair_bytes,
                                   divide_up(h, p->y), &plane) &&
           !__builtin_add_overflow(*bytes, plane, bytes) &&
           !__builtin_mul_overflow(*bytes, d, bytes);
}

/* Drivers take the next number that they have: powers of two, and not all of them two. */
static uint64_t samples_taken(uint32_t asked)
{
    uint64_t samples = 4;

    if (asked <= 1)
        return 1;
    while (samples < asked)
        samples *= 2;
    return samples;
}

static bool add_level(const struct vgpu_shape *shape, uint32_t level, uint64_t *bytes)
{
    uint64_t size;

    return image_bytes(shape->format, level_size(shape->width, level),
                       level_size(shape->height, level), level_size(shape->depth, level), &size) &&
           !__builtin_mul_overflow(size, (uint64_t)(shape->array_size ? shape->array_size : 1),
                                   &size) &&
           !__builtin_mul_overflow(size, samples_taken(shape->nr_samples), &size) &&
           !__builtin_add_overflow(*bytes, size, bytes);
}

bool vgpu_shape_bytes(const struct vgpu_shape *shape, uint64_t *bytes)
{
    *bytes = 0;
    if (!vgpu_format_is_known(shape->format) || shape->width == 0 ||
        shape->last_level >= MAX_LEVELS)
        return false;
    if (shape->target == VGPU_TARGET_BUFFER) {
        *bytes = shape->width;
    } else {
        for (uint32_t level = 0; level <= shape->last_level; level++) {
            if (!add_level(shape, level, bytes))
                return false;
        }
    }
    if (__builtin_add_overflow(*bytes, PAGE - 1, bytes))
        return false;
    *bytes = *bytes / PAGE * PAGE;
    return true;
}
