/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "vgpu/capset.h"
#include "vgpu/format.h"
#include "vgpu/quota.h"
#include "vgpu/stream.h"

#include <errno.h>
#include <glib.h>
#include <string.h>

/* What a partition is charged and refused: sizes worked out by hand from the formats' definitions
 * (OpenGL's tables of sized formats; S3TC, RGTC, BPTC, ETC2 and ASTC block sizes). */

#define PAGE(n) (((uint64_t)(n) + 4095) / 4096 * 4096)

static uint64_t bytes_of(struct vgpu_shape shape)
{
    uint64_t bytes = 0;

    return vgpu_shape_bytes(&shape, &bytes) ? bytes : 0;
}

static void plain_formats(void)
{
    static const struct {
        uint32_t format, bytes; /* of a pixel */
    } formats[] = {
        {1, 4},   /* B8G8R8A8_UNORM */
        {7, 2},   /* B5G6R5_UNORM */
        {10, 1},  /* A8_UNORM */
        {16, 2},  /* Z16_UNORM */
        {19, 4},  /* Z24_UNORM_S8_UINT */
        {23, 1},  /* S8_UINT */
        {28, 4},  /* R32_FLOAT */
        {29, 8},  /* R32G32_FLOAT */
        {30, 16}, /* R32G32B32_FLOAT, allocated as four */
        {31, 16}, /* R32G32B32A32_FLOAT */
        {49, 4},  /* R16G16_UNORM */
        {51, 8},  /* R16G16B16A16_UNORM */
        {64, 1},  /* R8_UNORM */
        {65, 2},  /* R8G8_UNORM */
        {67, 4},  /* R8G8B8A8_UNORM */
        {94, 8},  /* R16G16B16A16_FLOAT */
        {104, 4}, /* R8G8B8A8_SRGB */
        {124, 4}, /* R11G11B10_FLOAT */
        {126, 8}, /* Z32_FLOAT_S8X24_UINT */
        {131, 4}, /* B10G10R10A2_UNORM */
        {180, 4}, /* R8G8B8A8_UINT */
        {188, 8}, /* R16G16B16A16_UINT */
        {196, 16} /* R32G32B32A32_UINT */
    };

    for (size_t i = 0; i < G_N_ELEMENTS(formats); i++)
        g_assert_cmpuint(bytes_of((struct vgpu_shape){.target = 2,
                                                      .format = formats[i].format,
                                                      .width = 256,
                                                      .height = 128,
                                                      .depth = 1,
                                                      .array_size = 1}),
                         ==, 256 * 128 * formats[i].bytes);
}

static void block_formats(void)
{
    static const struct {
        uint32_t format, blocks_x, blocks_y, bytes; /* of 100 x 60 pixels */
    } formats[] = {
        {105, 25, 15, 8},  /* DXT1 */
        {108, 25, 15, 16}, /* DXT5 */
        {113, 25, 15, 8},  /* RGTC1 */
        {115, 25, 15, 16}, /* RGTC2 */
        {255, 25, 15, 16}, /* BPTC */
        {269, 25, 15, 8},  /* ETC2_RGB8 */
        {273, 25, 15, 16}, /* ETC2_RGBA8 */
        {279, 25, 15, 16}, /* ASTC 4x4 */
        {286, 13, 8, 16},  /* ASTC 8x8 */
        {292, 9, 5, 16},   /* ASTC 12x12 */
        {306, 9, 5, 16},   /* ASTC 12x12 sRGB */
    };

    for (size_t i = 0; i < G_N_ELEMENTS(formats); i++)
        g_assert_cmpuint(bytes_of((struct vgpu_shape){
                             .target = 2, .format = formats[i].format, .width = 100, .height = 60}),
                         ==, PAGE(formats[i].blocks_x * formats[i].blocks_y * formats[i].bytes));
}

/* What video players ask for, by hand. */
static void planar_formats(void)
{
    static const struct {
        uint32_t format, width, height, bytes;
    } formats[] = {
        {166, 1920, 1080, 1920 * 1080 + 960 * 540 * 2},       /* NV12 */
        {165, 1921, 1081, 1921 * 1081 + 2 * 961 * 541},       /* IYUV */
        {164, 1921, 1081, 1921 * 1081 + 2 * 961 * 1081},      /* YV16 */
        {314, 1920, 1080, 2 * (1920 * 1080 + 2 * 960 * 540)}, /* P010 */
        {323, 100, 100, 3 * 100 * 100},                       /* Y8_U8_V8_444 */
        {445, 100, 101, 100 * 101 + 2 * 100 * 51},            /* Y8_U8_V8_440 */
        {402, 1920, 1080, 2560 * 1080 + 320 * 8 * 540},       /* P030: three samples in 4 bytes */
        {443, 1920, 1080, 2400 * 1080 + 2400 * 540},          /* NV15: four in 5 */
        {14, 101, 10, 51 * 4 * 10},                           /* UYVY */
        {437, 101, 10, 51 * 8 * 10},                          /* Y210 */
    };

    for (size_t i = 0; i < G_N_ELEMENTS(formats); i++)
        g_assert_cmpuint(bytes_of((struct vgpu_shape){.target = 2,
                                                      .format = formats[i].format,
                                                      .width = formats[i].width,
                                                      .height = formats[i].height}),
                         ==, PAGE(formats[i].bytes));
    /* each level has planes of its own */
    g_assert_cmpuint(bytes_of((struct vgpu_shape){
                         .target = 2, .format = 166, .width = 640, .height = 480, .last_level = 1}),
                     ==, PAGE((640 * 480 + 320 * 240) * 3 / 2));
    /* ASTC 4x4x3, 16 bytes a block: of 64 x 64 x 10, and of the next level, 32 x 32 x 5 */
    g_assert_cmpuint(
        bytes_of((struct vgpu_shape){
            .target = 3, .format = 352, .width = 64, .height = 64, .depth = 10, .last_level = 1}),
        ==, PAGE(16 * 16 * 4 * 16 + 8 * 8 * 2 * 16));
}

static void levels_layers_samples(void)
{
    const struct vgpu_shape base = {.target = 2, .format = 1, .width = 64, .height = 32};
    struct vgpu_shape s = base;

    s.last_level = 6; /* 64x32 32x16 16x8 8x4 4x2 2x1 1x1 */
    g_assert_cmpuint(bytes_of(s), ==, PAGE(4 * (2048 + 512 + 128 + 32 + 8 + 2 + 1)));
    s = base;
    s.array_size = 6;
    g_assert_cmpuint(bytes_of(s), ==, 6 * 8192);
    s = base;
    s.nr_samples = 8;
    g_assert_cmpuint(bytes_of(s), ==, 8 * 8192);
    s.nr_samples = 5; /* there are 8 then */
    g_assert_cmpuint(bytes_of(s), ==, 8 * 8192);
    s.nr_samples = 2; /* Mesa's llvmpipe has 4 */
    g_assert_cmpuint(bytes_of(s), ==, 4 * 8192);
    s.nr_samples = 1;
    g_assert_cmpuint(bytes_of(s), ==, 8192);
    s = base;
    s.target = 3;
    s.depth = 16;
    s.last_level = 1; /* its depth is halved too */
    g_assert_cmpuint(bytes_of(s), ==, 16 * 8192 + 8 * 2048);
    s = (struct vgpu_shape){.target = 0, .format = 64, .width = 5000, .height = 1};
    g_assert_cmpuint(bytes_of(s), ==, 8192);
    s.width = 1; /* a page is the least */
    g_assert_cmpuint(bytes_of(s), ==, 4096);
}

static void impossible_shapes(void)
{
    g_assert_cmpuint(bytes_of((struct vgpu_shape){.target = 2, .format = 0, .width = 1}), ==, 0);
    g_assert_cmpuint(bytes_of((struct vgpu_shape){.target = 2, .format = 9999, .width = 1}), ==, 0);
    g_assert_cmpuint(bytes_of((struct vgpu_shape){.target = 2, .format = 471, .width = 1}), ==, 0);
    g_assert_cmpuint(
        bytes_of((struct vgpu_shape){
            .target = 3, .format = 436, .width = UINT32_MAX, .height = UINT32_MAX, .depth = 2}),
        ==, 0);
    g_assert_cmpuint(bytes_of((struct vgpu_shape){.target = 2, .format = 1, .width = 0}), ==, 0);
    g_assert_cmpuint(
        bytes_of((struct vgpu_shape){.target = 2, .format = 1, .width = 1, .last_level = 16}), ==,
        0);
    g_assert_cmpuint(
        bytes_of((struct vgpu_shape){
            .target = 2, .format = 31, .width = UINT32_MAX, .height = UINT32_MAX, .depth = 2}),
        ==, 0);
    g_assert_cmpuint(bytes_of((struct vgpu_shape){.target = 2,
                                                  .format = 1,
                                                  .width = 65536,
                                                  .height = 65536,
                                                  .array_size = UINT32_MAX,
                                                  .nr_samples = UINT32_MAX}),
                     ==, 0);
}

static void quota(void)
{
    struct vgpu_quota q = {.limit = 100};

    g_assert_true(vgpu_quota_charge(&q, 60));
    g_assert_false(vgpu_quota_charge(&q, 41));
    g_assert_false(vgpu_quota_charge(&q, UINT64_MAX));
    g_assert_true(vgpu_quota_charge(&q, 40));
    g_assert_cmpuint(q.refused, ==, 2);
    vgpu_quota_credit(&q, 60);
    g_assert_cmpuint(q.used, ==, 40);
    g_assert_cmpuint(q.peak, ==, 100);
    vgpu_quota_credit(&q, 1000);
    g_assert_cmpuint(q.used, ==, 0);
}

static void streams(void)
{
    static const uint32_t refused[] = {41, 48, 49, 50, 53, 57, 61, 63, 200, 255};
    const uint32_t good[] = {7 | 2u << 16, 48, 48, 0, 62 | 1u << 16, 53};
    const uint32_t cut[] = {7 | 2u << 16, 48};
    uint32_t opcode;

    g_assert_cmpint(vgpu_stream_check(good, G_N_ELEMENTS(good), &opcode), ==, 0);
    g_assert_cmpint(vgpu_stream_check(good, 0, &opcode), ==, 0);
    g_assert_cmpint(vgpu_stream_check(cut, 2, &opcode), ==, -EINVAL);
    for (size_t i = 0; i < G_N_ELEMENTS(refused); i++) {
        const uint32_t stream[] = {0, 1 | 1u << 16, 48, refused[i]};

        g_assert_cmpint(vgpu_stream_check(stream, 4, &opcode), ==, -EPERM);
        g_assert_cmpuint(opcode, ==, refused[i]);
    }
}

static bool bit_of(const unsigned char *caps, size_t mask, uint32_t format)
{
    return caps[mask + format / 8] >> format % 8 & 1;
}

/* The formats that a guest may believe in are those that it may have. */
static void assert_formats(const unsigned char *caps)
{
    static const size_t masks[] = {4, 68, 132}; /* for textures, targets, depth */

    for (size_t i = 0; i < G_N_ELEMENTS(masks); i++) {
        for (uint32_t format = 1; format < 512; format++)
            g_assert_cmpint(bit_of(caps, masks[i], format), ==, vgpu_format_is_known(format));
    }
}

static void capsets(void)
{
    unsigned char caps[1376];
    uint32_t value;

    memset(caps, 0xff, sizeof(caps));
    vgpu_capset_limit(caps, sizeof(caps), UINT64_C(3) << 30);
    memcpy(&value, caps + 692, 4);
    g_assert_cmpuint(value, ==, 3072);
    memcpy(&value, caps + 688, 4);
    g_assert_cmphex(value, ==, ~(UINT32_C(1) << 3));
    memcpy(&value, caps + 856, 4);
    g_assert_cmpuint(value, ==, 0);
    assert_formats(caps);
    /* the first version has nothing else of it */
    memset(caps, 0xff, 308);
    vgpu_capset_limit(caps, 308, 1);
    assert_formats(caps);
    for (unsigned i = 0; i < 308; i++)
        g_assert_true((i >= 4 && i < 196) || caps[i] == 0xff);
    memset(caps, 0, 308);
    vgpu_capset_limit(caps, 308, 1);
    for (unsigned i = 0; i < 308; i++)
        g_assert_cmphex(caps[i], ==, 0);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/format/plain", plain_formats);
    g_test_add_func("/format/blocks", block_formats);
    g_test_add_func("/format/planar", planar_formats);
    g_test_add_func("/format/levels", levels_layers_samples);
    g_test_add_func("/format/impossible", impossible_shapes);
    g_test_add_func("/quota", quota);
    g_test_add_func("/stream", streams);
    g_test_add_func("/capset", capsets);
    return g_test_run();
}
