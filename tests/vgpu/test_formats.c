/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "vgpu/format.h"

#include <glib.h>
#include <string.h>

/*
 * What each of virgl's formats takes, worked out from its definition: for each number its
 * components with their bits, or its blocks as WIDTHxHEIGHT:BYTES or WIDTHxHEIGHTxDEPTH:BYTES, or
 * its subsampling (420: one colour for 2x2 pixels, 422: for 2x1, 440: for 1x2) with the bits of a
 * sample, or how many samples lie in how many bytes; *N: so many in a row. Three equal components
 * are allocated as four. What is not here is refused.
 */

static const struct {
    uint32_t first;
    const char *formats;
} table[] = {
    {1, "B8G8R8A8 B8G8R8X8 A8R8G8B8 X8R8G8B8 B5G5R5A1 B4G4R4A4 B5G6R5 R10G10B10A2 L8 A8 "
        "I8 L8A8 L16 2x1:4*2 Z16 Z32*2 Z24S8 S8Z24 Z24X8 X8Z24 S8 R64 R64G64 R64G64B64 "
        "R64G64B64A64 R32 R32G32 R32G32B32 R32G32B32A32 R32 R32G32 R32G32B32 R32G32B32A32 "
        "R32 R32G32 R32G32B32 R32G32B32A32 R32 R32G32 R32G32B32 R32G32B32A32 R32 R32G32 "
        "R32G32B32 R32G32B32A32 R16 R16G16 R16G16B16 R16G16B16A16 R16 R16G16 R16G16B16 "
        "R16G16B16A16 R16 R16G16 R16G16B16 R16G16B16A16 R16 R16G16 R16G16B16 R16G16B16A16 "
        "R8 R8G8 R8G8B8 R8G8B8A8 X8B8G8R8 R8 R8G8 R8G8B8 R8G8B8A8"},
    {74, "R8 R8G8 R8G8B8 R8G8B8A8"},
    {82, "R8 R8G8 R8G8B8 R8G8B8A8"},
    {87, "R32 R32G32 R32G32B32 R32G32B32A32 R16 R16G16 R16G16B16 R16G16B16A16 L8 L8A8 "
         "R8G8B8 A8B8G8R8 X8B8G8R8 B8G8R8A8 B8G8R8X8 A8R8G8B8 X8R8G8B8 R8G8B8A8 4x4:8*2 "
         "4x4:16*2 4x4:8*2 4x4:16*2 4x4:8*2 4x4:16*2 2x1:4*2 R8G8B8X8 R5G5B6 A8B8G8R8 "
         "B5G5R5X1 R10G10B10A2 R11G11B10 R9G9B9E5 Z32S8X24 8x1:1 R10G10B10X2*2 L4A4 "
         "B10G10R10A2 R10G10B10A2 R8G8 R8G8B8X8 B4G4R4X4 X24S8 S8X24 X32S8X24 B2G3R3 "
         "L16A16 A16 I16 4x4:8*2 4x4:16*2 A8 L8 L8A8 I8 A16 L16 L16A16 I16 A16 L16 L16A16 "
         "I16 A32 L32 L32A32 I32 420:8 422:8 420:8*3"},
    {168, "A4R4 R4A4 R8A8 A8R8 R10G10B10A2*2 B10G10R10A2*3 R8 R8G8 R8G8B8 R8G8B8A8 R8 R8G8 "
          "R8G8B8 R8G8B8A8 R16 R16G16 R16G16B16 R16G16B16A16 R16 R16G16 R16G16B16 "
          "R16G16B16A16 R32 R32G32 R32G32B32 R32G32B32A32 R32 R32G32 R32G32B32 R32G32B32A32 "
          "A8 I8 L8 L8A8 A8 I8 L8 L8A8 A16 I16 L16 L16A16 A16 I16 L16 L16A16 A32 I32 L32 "
          "L32A32 A32 I32 L32 L32A32 B10G10R10A2 4x4:8 R8G8B8A8*2 R8G8B8X8*4 B10G10R10X2 "
          "R16G16B16X16*5 R32G32B32X32*3 R8A8 R16A16*3 R32A32 R8A8*2 R16A16*2 R32A32*2 "
          "R10G10B10A2 B5G6R5 4x4:16*4"},
    {263, "G8R8*2 G16R16*2 A8B8G8R8 X8B8G8R8 4x4:8*4 4x4:16*2 4x4:8*2 4x4:16*3 5x4:16 "
          "5x5:16 6x5:16 6x6:16 8x5:16 8x6:16 8x8:16 10x5:16 10x6:16 10x8:16 10x10:16 "
          "12x10:16 12x12:16 4x4:16 5x4:16 5x5:16 6x5:16 6x6:16 8x5:16 8x6:16 8x8:16 "
          "10x5:16 10x6:16 10x8:16 10x10:16 12x10:16 12x12:16"},
    {308, "R10G10B10X2"},
    {311, "A4B4G4R4 R8 R8G8 420:16*3 B8G8R8 R3G3B2 R4G4B4A4 R5G5B5A1 R5G6B5 Y8 444:8 422:8*2 "
          "Y8 2x1:4 Z16S8 Z24S8 A1B5G5R5*2 A1R5G5B5*2 A2B10G10R10*2 A2R10G10B10*2 A4B4G4R4 "
          "A4R4G4B4*2 A8B8G8R8*7 3x3x3:16*2 4x3x3:16*2 4x4x3:16*2 4x4x4:16*2 5x4x4:16*2 "
          "5x5x4:16*2 5x5x5:16*2 6x5x5:16*2 6x6x5:16*2 6x6x6:16*2 4x4:8 4x4:16*2 A8Y8U8V8 "
          "B10G10R10A2 B10G10R10X2*2 B2G3R3 B4G4R4A4 B5G5R5A1 B5G6R5 B8G8R8A8*5 2x1:4 "
          "B8G8R8*6 B8G8R8X8*3 2x1:4 8x4:16*2 G16R16 2x1:4 420:8*2 G8R8 420:3/4 R10G10B10A2 "
          "R10G10B10X2 R3G3B2 R4G4B4A4 R4G4B4X4 R5G5B5A1 R5G5B5X1 R5G6B5*2 R64G64B64A64*2 "
          "R64G64B64*2 R64G64*2 R64*2 420:8*2 2x1:4 420:8*2 444:8 2x1:4 X1B5G5R5 X1R5G5B5 "
          "X8Y8U8V8 X8B8G8R8 X8R8G8B8*2 420:16 422:16*2 444:16 2x1:8*3 U10Y10V10A2 "
          "X4U12X4Y12X4V12X4A12 U16Y16V16A16 420:4/5 422:4/5 440:8 420:4/5 422:4/5 420:16*2 "
          "X6R10 X6R10X6G10 X4R12 X4R12X4G12 422:8*3 4x4:16 5x4:16 5x5:16 6x5:16 6x6:16 "
          "8x5:16 8x6:16 8x8:16 10x5:16 10x6:16 10x8:16 10x10:16 12x10:16 12x12:16"},
    {473, "2x2:6 4x2:15 420:16 422:16 444:16 420:16 422:16 444:16 422:16"},
};

struct size {
    unsigned width, height, depth;
};

static uint64_t up(uint64_t n, uint64_t by)
{
    return (n + by - 1) / by;
}

/* A line of samples: of so many bits each, or so many in so many bytes. */
static uint64_t line_bytes(uint64_t samples, const char *how)
{
    char *slash;
    uint64_t n = g_ascii_strtoull(how, &slash, 10);

    return *slash == '/' ? up(samples, n) * g_ascii_strtoull(slash + 1, NULL, 10) : samples * n / 8;
}

static uint64_t planes_bytes(const char *name, struct size s)
{
    uint64_t w = name[1] == '2' ? up(s.width, 2) : s.width;
    uint64_t h =
        g_str_has_prefix(name, "420") || g_str_has_prefix(name, "440") ? up(s.height, 2) : s.height;

    if (g_str_has_prefix(name, "420:3/4")) /* its pairs are cut into lines as such */
        return (up(s.width, 3) * 4 * s.height + up(w, 3) * 8 * h) * s.depth;
    return (line_bytes(s.width, name + 4) * s.height + line_bytes(2 * w, name + 4) * h) * s.depth;
}

static uint64_t blocks_bytes(const char *name, struct size s)
{
    uint64_t n = 1;
    const unsigned *size = &s.width;

    for (; *name != ':'; size++) {
        n *= up(*size, g_ascii_strtoull(name, (char **)&name, 10));
        name += *name == 'x';
    }
    return n * (size == &s.depth ? s.depth : 1) * g_ascii_strtoull(name + 1, NULL, 10);
}

static uint64_t pixels_bytes(const char *name, struct size s)
{
    unsigned bits = 0, n = 0, each = 0, bytes;
    bool equal = true;

    while (g_ascii_isalpha(*name)) {
        unsigned size = (unsigned)g_ascii_strtoull(name + 1, (char **)&name, 10);

        equal &= n == 0 || size == each;
        each = size;
        bits += size;
        n++;
    }
    if (n == 3 && equal && each >= 8)
        bits += each;
    bytes = (bits + 7) / 8;
    return (uint64_t)s.width * s.height * s.depth * (bytes == 3 ? 4 : bytes);
}

static uint64_t expected_bytes(const char *name, struct size s)
{
    if (g_ascii_isalpha(*name))
        return pixels_bytes(name, s);
    return name[3] == ':' && name[1] != 'x' ? planes_bytes(name, s) : blocks_bytes(name, s);
}

static void assert_charge(uint32_t format, const char *name)
{
    /* whole blocks but of some formats; parts of blocks; smaller than any */
    static const struct size sizes[] = {{9600, 4800, 1}, {4801, 1203, 7}, {100, 60, 60}, {1, 1, 1}};

    for (size_t i = 0; i < G_N_ELEMENTS(sizes); i++) {
        const struct vgpu_shape shape = {.target = 3,
                                         .format = format,
                                         .width = sizes[i].width,
                                         .height = sizes[i].height,
                                         .depth = sizes[i].depth};
        uint64_t expected = up(expected_bytes(name, sizes[i]), 4096) * 4096, bytes = 0;

        g_assert_true(vgpu_shape_bytes(&shape, &bytes));
        if (bytes != expected)
            g_error("format %u (%s) of %ux%ux%u is charged %" G_GUINT64_FORMAT
                    " bytes, not %" G_GUINT64_FORMAT,
                    format, name, shape.width, shape.height, shape.depth, bytes, expected);
    }
}

static void assert_refused(uint32_t format)
{
    const struct vgpu_shape shape = {
        .target = 2, .format = format, .width = 64, .height = 64, .depth = 1};
    uint64_t bytes;

    if (vgpu_format_is_known(format) || vgpu_shape_bytes(&shape, &bytes))
        g_error("format %u does not exist and is taken", format);
}

static void every_format(void)
{
    unsigned n = 0;
    uint32_t format = 0;

    for (size_t i = 0; i < G_N_ELEMENTS(table); i++) {
        g_auto(GStrv) names = g_strsplit(table[i].formats, " ", 0);

        while (format < table[i].first)
            assert_refused(format++);
        for (char **name = names; *name; name++) {
            const char *star = strchr(*name, '*');
            unsigned times = star ? (unsigned)g_ascii_strtoull(star + 1, NULL, 10) : 1;

            for (; times > 0; times--, n++) {
                g_assert_true(vgpu_format_is_known(format));
                assert_charge(format++, *name);
            }
        }
    }
    while (format < 1024)
        assert_refused(format++);
    g_assert_cmpuint(n, ==, 466);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/format/every", every_format);
    return g_test_run();
}
