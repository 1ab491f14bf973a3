/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "vgpu/edid.h"

#include <string.h>

/* Blanking as in VESA's CVT reduced blanking, rounded. */
#define H_BLANK 160u
#define V_BLANK 40u

static uint32_t clamp(uint32_t value)
{
    return value < 64 ? 64 : value > 4095 ? 4095 : value;
}

/* 3.10.2: the 18 bytes of a detailed timing. */
static void detailed_timing(uint8_t *t, uint32_t w, uint32_t h)
{
    uint64_t clock = (uint64_t)(w + H_BLANK) * (h + V_BLANK) * 60 / 10000; /* in 10 kHz */
    uint32_t mm_w = w * 254 / 960, mm_h = h * 254 / 960;                   /* 96 dpi */

    if (clock > 65535)
        clock = 65535;
    t[0] = (uint8_t)clock;
    t[1] = (uint8_t)(clock >> 8);
    t[2] = (uint8_t)w;
    t[3] = H_BLANK & 0xff;
    t[4] = (uint8_t)((w >> 8) << 4 | H_BLANK >> 8);
    t[5] = (uint8_t)h;
    t[6] = V_BLANK;
    t[7] = (uint8_t)((h >> 8) << 4);
    t[8] = 48; /* front porch, sync */
    t[9] = 32;
    t[10] = 3 << 4 | 6;
    t[12] = (uint8_t)mm_w;
    t[13] = (uint8_t)mm_h;
    t[14] = (uint8_t)((mm_w >> 8) << 4 | (mm_h >> 8));
    t[17] = 0x1e; /* digital, separate sync, both positive */
}

static void text_descriptor(uint8_t *d, uint8_t tag, const char *text)
{
    size_t n = strlen(text);

    d[3] = tag;
    memset(d + 5, ' ', 13);
    memcpy(d + 5, text, n); /* NOLINT(bugprone-not-null-terminated-result): no string */
    if (n < 13)
        d[5 + n] = '\n';
}

void vgpu_edid_make(uint8_t edid[VGPU_EDID_SIZE], uint32_t width, uint32_t height)
{
    static const uint8_t head[] = {
        0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x00, 0, 0, /* the manufacturer, below */
        0x01, 0x00, 0,    0,    0,    0,    1,    33,   1, 4, 0xa5 /* digital, 8 bit */};
    static const uint8_t srgb[] = {0xee, 0x91, 0xa3, 0x54, 0x4c, 0x99, 0x26, 0x0f, 0x50, 0x54};
    uint8_t sum = 0;

    width = clamp(width);
    height = clamp(height);
    memset(edid, 0, VGPU_EDID_SIZE);
    memcpy(edid, head, sizeof(head));
    edid[8] = (('G' - '@') << 2 | ('P' - '@') >> 3) & 0xff;
    edid[9] = (('P' - '@') << 5 | ('U' - '@')) & 0xff;
    edid[21] = (uint8_t)(width * 254 / 9600); /* cm */
    edid[22] = (uint8_t)(height * 254 / 9600);
    edid[23] = 120; /* gamma 2.2 */
    edid[24] = 0x06;
    memcpy(edid + 25, srgb, sizeof(srgb));
    memset(edid + 38, 0x01, 16); /* no standard timings */
    detailed_timing(edid + 54, width, height);
    text_descriptor(edid + 72, 0xfc, "gpup");
    edid[90 + 3] = 0x10; /* dummy descriptors */
    edid[108 + 3] = 0x10;
    for (unsigned i = 0; i < VGPU_EDID_SIZE - 1; i++)
        sum = (uint8_t)(sum + edid[i]);
    edid[127] = (uint8_t)(0x100 - sum);
}
