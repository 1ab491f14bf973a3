/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "vgpu/format.h"

#include <glib.h>
#include <string.h>

/*
 * What each of virgl's formats takes, worked out from its definition: for each number its
 * components with their bits, or its blocks as WIDTHxHEIGHT:BYTES; *N: so many in a row. Three
 * equal components are allocated as four. Formats that are not here (planes of video,
 * three-dimensional blocks) are charged as the widest ones, 16 bytes a pixel, or by their planes.
 */

#define WIDTH  9600u
#define HEIGHT 4800u /* multiples of every block's size but one's */

static const struct {
    uint32_t first;
    const char *formats;
} table[] = {
    {1, "B8G8R8A8 B8G8R8X8 A8R8G8B8 X8R8G8B8 B5G5R5A1 B4G4R4A4 B5G6R5 R10G10B10A2 L8 A8 "
        "I8 L8A8 L16 YUYV*2 Z16 Z32*2 Z24S8 S8Z24 Z24X8 X8Z24 S8 R64 R64G64 R64G64B64 "
        "R64G64B64A64 R32 R32G32 R32G32B32 R32G32B32A32 R32 R32G32 R32G32B32 R32G32B32A32 "
        "R32 R32G32 R32G32B32 R32G32B32A32 R32 R32G32 R32G32B32 R32G32B32A32 R32 R32G32 "
        "R32G32B32 R32G32B32A32 R16 R16G16 R16G16B16 R16G16B16A16 R16 R16G16 R16G16B16 "
        "R16G16B16A16 R16 R16G16 R16G16B16 R16G16B16A16 R16 R16G16 R16G16B16 R16G16B16A16 "
        "R8 R8G8 R8G8B8 R8G8B8A8 X8B8G8R8 R8 R8G8 R8G8B8 R8G8B8A8"},
    {74, "R8 R8G8 R8G8B8 R8G8B8A8"},
    {82, "R8 R8G8 R8G8B8 R8G8B8A8"},
    {87, "R32 R32G32 R32G32B32 R32G32B32A32 R16 R16G16 R16G16B16 R16G16B16A16 L8 L8A8 "
         "R8G8B8 A8B8G8R8 X8B8G8R8 B8G8R8A8 B8G8R8X8 A8R8G8B8 X8R8G8B8 R8G8B8A8 4x4:8*2 "
         "4x4:16*2 4x4:8*2 4x4:16*2 4x4:8*2 4x4:16*2 YUYV*2 R8G8B8X8 R5G5B6 A8B8G8R8 "
         "B5G5R5X1 R10G10B10A2 R11G11B10 R9G9B9E5 Z32S8X24 R1 R10G10B10X2*2 L4A4 "
         "B10G10R10A2 R10G10B10A2 R8G8 R8G8B8X8 B4G4R4X4 X24S8 S8X24 X32S8X24 B2G3R3 "
         "L16A16 A16 I16 4x4:8*2 4x4:16*2 A8 L8 L8A8 I8 A16 L16 L16A16 I16 A16 L16 L16A16 "
         "I16 A32 L32 L32A32 I32"},
    {168, "A4R4 R4A4 R8A8 A8R8 R10G10B10A2*2 B10G10R10A2*3 R8 R8G8 R8G8B8 R8G8B8A8 R8 R8G8 "
          "R8G8B8 R8G8B8A8 R16 R16G16 R16G16B16 R16G16B16A16 R16 R16G16 R16G16B16 "
          "R16G16B16A16 R32 R32G32 R32G32B32 R32G32B32A32 R32 R32G32 R32G32B32 R32G32B32A32 "
          "A8 I8 L8 L8A8 A8 I8 L8 L8A8 A16 I16 L16 L16A16 A16 I16 L16 L16A16 A32 I32 L32 "
          "L32A32 A32 I32 L32 L32A32 B10G10R10A2 4x4:8 YUYV*2 R8G8B8X8*4 B10G10R10X2 "
          "R16G16B16X16*5 R32G32B32X32*3 R8A8 R16A16*3 R32A32 R8A8*2 R16A16*2 R32A32*2 "
          "R10G10B10A2 B5G6R5 4x4:16*4"},
    {263, "G8R8*2 G16R16*2 A8B8G8R8 X8B8G8R8 4x4:8*4 4x4:16*2 4x4:8*2 4x4:16*3 5x4:16 "
          "5x5:16 6x5:16 6x6:16 8x5:16 8x6:16 8x8:16 10x5:16 10x6:16 10x8:16 10x10:16 "
          "12x10:16 12x12:16 4x4:16 5x4:16 5x5:16 6x5:16 6x6:16 8x5:16 8x6:16 8x8:16 "
          "10x5:16 10x6:16 10x8:16 10x10:16 12x10:16 12x12:16"},
    {308, "R10G10B10X2"},
    {311, "A4B4G4R4 R8 R8G8"},
    {317, "B8G8R8 R3G3B2 R4G4B4A4 R5G5B5A1 R5G6B5 Y8"},
    {326, "Y8 YUYV Z16S8 Z24S8 A1B5G5R5*2 A1R5G5B5*2 A2B10G10R10*2 A2R10G10B10*2 A4B4G4R4 "
          "A4R4G4B4*2 A8B8G8R8*7"},
    {368, "4x4:8 4x4:16*2 A8Y8U8V8 B10G10R10A2 B10G10R10X2*2 B2G3R3 B4G4R4A4 B5G5R5A1 "
          "B5G6R5 B8G8R8A8*5 YUYV B8G8R8*6 B8G8R8X8*3 YUYV 8x4:16*2 G16R16 YUYV"},
    {401, "G8R8"},
    {403, "R10G10B10A2 R10G10B10X2 R3G3B2 R4G4B4A4 R4G4B4X4 R5G5B5A1 R5G5B5X1 R5G6B5*2 "
          "R64G64B64A64*2 R64G64B64*2 R64G64*2 R64*2"},
    {422, "YUYV"},
    {426, "YUYV X1B5G5R5 X1R5G5B5 X8Y8U8V8 X8B8G8R8 X8R8G8B8*2"},
    {450, "X6R10 X6R10X6G10 X4R12 X4R12X4G12"},
    {457, "4x4:16 5x4:16 5x5:16 6x5:16 6x6:16 8x5:16 8x6:16 8x8:16 10x5:16 10x6:16 10x8:16 "
          "10x10:16 12x10:16 12x12:16"},
};

struct unit {
    unsigned width, height, bytes;
};

static struct unit unit_of(const char *name)
{
    unsigned bits = 0, n = 0, each = 0;
    struct unit u = {1, 1, 0};
    bool equal = true;

    if (g_ascii_isdigit(*name)) {
        u.width = (unsigned)g_ascii_strtoull(name, (char **)&name, 10);
        u.height = (unsigned)g_ascii_strtoull(name + 1, (char **)&name, 10);
        u.bytes = (unsigned)g_ascii_strtoull(name + 1, NULL, 10);
        return u;
    }
    if (g_str_has_prefix(name, "YUYV")) { /* two pixels share their colour */
        u.bytes = 2;
        return u;
    }
    while (g_ascii_isalpha(*name)) {
        unsigned size = (unsigned)g_ascii_strtoull(name + 1, (char **)&name, 10);

        equal &= n == 0 || size == each;
        each = size;
        bits += size;
        n++;
    }
    if (n == 3 && equal && each >= 8)
        bits += each;
    u.bytes = (bits + 7) / 8;
    if (u.bytes == 3)
        u.bytes = 4;
    return u;
}

static void assert_charge(uint32_t format, struct unit u)
{
    const struct vgpu_shape shape = {.target = 2,
                                     .format = format,
                                     .width = WIDTH,
                                     .height = HEIGHT,
                                     .depth = 1,
                                     .array_size = 1};
    uint64_t expected = (uint64_t)((WIDTH + u.width - 1) / u.width) *
                        ((HEIGHT + u.height - 1) / u.height) * u.bytes;
    uint64_t bytes = 0;

    expected = (expected + 4095) / 4096 * 4096;
    g_assert_true(vgpu_shape_bytes(&shape, &bytes));
    if (bytes != expected)
        g_error("format %u is charged %.3f bytes a pixel", format, (double)bytes / WIDTH / HEIGHT);
}

static void every_format(void)
{
    unsigned n = 0;

    for (size_t i = 0; i < G_N_ELEMENTS(table); i++) {
        g_auto(GStrv) names = g_strsplit(table[i].formats, " ", 0);
        uint32_t format = table[i].first;

        for (char **name = names; *name; name++) {
            const char *star = strchr(*name, '*');
            unsigned times = star ? (unsigned)g_ascii_strtoull(star + 1, NULL, 10) : 1;

            for (; times > 0; times--, n++)
                assert_charge(format++, unit_of(*name));
        }
    }
    g_assert_cmpuint(n, ==, 398);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/format/every", every_format);
    return g_test_run();
}
