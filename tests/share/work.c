/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "work.h"

#include <glib.h>
#include <string.h>

/* virglrenderer's protocol (virgl_protocol.h, virgl_hw.h of its sources). */

#define PICTURE          10u
#define VERTICES         11u
#define VERTEX_BYTES     48u
#define R8_UNORM         64u
#define RGBA_FLOAT       31u
#define BGRA_UNORM       1u
#define VERTEX_SHADER    0u
#define PIXEL_SHADER     1u
#define MOST_DWORDS      2048u
#define HALF_PIXEL       (1u << 29)
#define DEPTH_CLIP       (1u << 1)
#define WRITE_RGBA       (0xfu << 27)
#define STREAM_SLOT      16384u
#define PICTURE_BYTES_AT (FRONTEND_DATA + (UINT64_C(16) << 20))
#define STREAMS          (FRONTEND_DATA + (UINT64_C(8) << 20))

enum {
    CREATE_OBJECT = 1,
    BIND_OBJECT = 2,
    SET_VIEWPORT = 4,
    SET_FRAMEBUFFER = 5,
    SET_VERTEX_BUFFERS = 6,
    DRAW_VBO = 8,
    SET_CONSTANT_BUFFER = 12,
    SET_SUB = 28,
    CREATE_SUB = 29,
    BIND_SHADER = 31,
};

enum {
    BLEND = 1,
    RASTERIZER = 2,
    DEPTH_STENCIL = 3,
    SHADER = 4,
    VERTEX_ELEMENTS = 5,
    SURFACE = 8,
};

struct stream {
    uint32_t dwords[MOST_DWORDS];
    unsigned n;
};

static void put(struct stream *s, uint32_t value)
{
    g_assert_cmpuint(s->n, <, MOST_DWORDS);
    s->dwords[s->n++] = value;
}

static void put_float(struct stream *s, float value)
{
    uint32_t bits;

    memcpy(&bits, &value, sizeof(bits));
    put(s, bits);
}

static void put_zeros(struct stream *s, unsigned n)
{
    while (n-- > 0)
        put(s, 0);
}

static void command(struct stream *s, uint32_t opcode, uint32_t object, uint32_t length)
{
    put(s, opcode | object << 8 | length << 16);
}

static void bind(struct stream *s, uint32_t handle, uint32_t object)
{
    command(s, BIND_OBJECT, object, 1);
    put(s, handle);
}

static void shader(struct stream *s, uint32_t handle, uint32_t type, const char *text)
{
    uint32_t bytes = (uint32_t)strlen(text) + 1, dwords = (bytes + 3) / 4;

    command(s, CREATE_OBJECT, SHADER, 5 + dwords);
    put(s, handle);
    put(s, type);
    put(s, bytes);
    put(s, 300); /* tokens, at most */
    put(s, 0);   /* outputs of transform feedback */
    g_assert_cmpuint(s->n + dwords, <, MOST_DWORDS);
    memset(&s->dwords[s->n], 0, dwords * 4);
    memcpy(&s->dwords[s->n], text, bytes);
    s->n += dwords;
    command(s, BIND_SHADER, 0, 2);
    put(s, handle);
    put(s, type);
}

static void constant(struct stream *s, uint32_t type, float value)
{
    command(s, SET_CONSTANT_BUFFER, 0, 6);
    put(s, type);
    put(s, 0);
    put_float(s, value);
    put_zeros(s, 3);
}

static void put_target(struct stream *s, const struct work *work)
{
    float half = (float)work->size / 2;

    command(s, CREATE_SUB, 0, 1);
    put(s, 1);
    command(s, SET_SUB, 0, 1);
    put(s, 1);
    command(s, CREATE_OBJECT, SURFACE, 5);
    put(s, 100);
    put(s, PICTURE);
    put(s, BGRA_UNORM);
    put_zeros(s, 2);
    command(s, SET_FRAMEBUFFER, 0, 3);
    put(s, 1);
    put(s, 0);
    put(s, 100);
    command(s, SET_VIEWPORT, 0, 7);
    put(s, 0);
    for (int i = 0; i < 2; i++) {
        put_float(s, half);
        put_float(s, half);
        put_float(s, 0.5f);
    }
}

static void put_state(struct stream *s)
{
    command(s, CREATE_OBJECT, BLEND, 11);
    put(s, 101);
    put_zeros(s, 2);
    put(s, WRITE_RGBA);
    put_zeros(s, 7);
    bind(s, 101, BLEND);
    command(s, CREATE_OBJECT, DEPTH_STENCIL, 5);
    put(s, 102);
    put_zeros(s, 4);
    bind(s, 102, DEPTH_STENCIL);
    command(s, CREATE_OBJECT, RASTERIZER, 9);
    put(s, 103);
    put(s, DEPTH_CLIP | HALF_PIXEL);
    put_float(s, 1);
    put_zeros(s, 2);
    put_float(s, 1);
    put_zeros(s, 3);
    bind(s, 103, RASTERIZER);
    command(s, CREATE_OBJECT, VERTEX_ELEMENTS, 5);
    put(s, 104);
    put_zeros(s, 3);
    put(s, RGBA_FLOAT);
    bind(s, 104, VERTEX_ELEMENTS);
    command(s, SET_VERTEX_BUFFERS, 0, 3);
    put(s, 16);
    put(s, 0);
    put(s, VERTICES);
}

static void put_shaders(struct stream *s)
{
    shader(s, 105, VERTEX_SHADER,
           "VERT\nDCL IN[0]\nDCL OUT[0], POSITION\nDCL OUT[1], GENERIC[0]\n"
           "0: MOV OUT[0], IN[0]\n1: MOV OUT[1], IN[0]\n2: END\n");
    shader(s, 106, PIXEL_SHADER,
           "FRAG\nDCL IN[0], GENERIC[0], LINEAR\nDCL OUT[0], COLOR\nDCL CONST[0]\n"
           "DCL TEMP[0..2]\nIMM[0] FLT32 {0.0, 1.0, 0.5, 0.25}\n"
           "0: MOV TEMP[0], IN[0]\n1: MOV TEMP[1].x, IMM[0].xxxx\n2: BGNLOOP\n"
           "3: SGE TEMP[2].x, TEMP[1].xxxx, CONST[0].xxxx\n4: IF TEMP[2].xxxx\n5: BRK\n6: ENDIF\n"
           "7: MAD TEMP[0], TEMP[0], IMM[0].zzzz, IMM[0].wwww\n"
           "8: MAD TEMP[0], TEMP[0].wzyx, IMM[0].zzzz, IMM[0].wwww\n"
           "9: MAD TEMP[0], TEMP[0].yxwz, IMM[0].zzzz, IMM[0].wwww\n"
           "10: ADD TEMP[1].x, TEMP[1].xxxx, IMM[0].yyyy\n11: ENDLOOP\n"
           "12: MOV OUT[0], TEMP[0]\n13: END\n");
}

static void create(struct frontend *f, uint32_t resource, uint32_t target, uint32_t format,
                   uint32_t bind_as, uint32_t width, uint32_t height)
{
    struct virtio_gpu_resource_create_3d c = {.hdr = {.type = VIRTIO_GPU_CMD_RESOURCE_CREATE_3D},
                                              .resource_id = resource,
                                              .target = target,
                                              .format = format,
                                              .bind = bind_as,
                                              .width = width,
                                              .height = height,
                                              .depth = 1,
                                              .array_size = 1};

    g_assert_cmphex(frontend_command(f, &c, sizeof(c), NULL, 0), ==, VIRTIO_GPU_RESP_OK_NODATA);
    g_assert_cmphex(
        frontend_context_resource(f, VIRTIO_GPU_CMD_CTX_ATTACH_RESOURCE, WORK_CONTEXT, resource),
        ==, VIRTIO_GPU_RESP_OK_NODATA);
}

static void prepare_state(struct frontend *f, const struct work *work, uint32_t context)
{
    struct stream s = {.n = 0};

    put_target(&s, work);
    put_state(&s);
    put_shaders(&s);
    g_assert_cmphex(frontend_submit(f, context, s.dwords, s.n), ==, VIRTIO_GPU_RESP_OK_NODATA);
}

void work_prepare(struct frontend *f, const struct work *work)
{
    static const float triangle[12] = {-1, -1, 0, 1, 3, -1, 0, 1, -1, 3, 0, 1};

    g_assert_cmphex(frontend_context(f, VIRTIO_GPU_CMD_CTX_CREATE, WORK_CONTEXT), ==,
                    VIRTIO_GPU_RESP_OK_NODATA);
    create(f, PICTURE, 2, BGRA_UNORM, 1 << 1, work->size, work->size);
    g_assert_cmphex(frontend_attach(f, PICTURE, PICTURE_BYTES_AT, work->size * work->size * 4), ==,
                    VIRTIO_GPU_RESP_OK_NODATA);
    create(f, VERTICES, 0, R8_UNORM, 1 << 4, VERTEX_BYTES, 1);
    memcpy(f->memory + FRONTEND_DATA, triangle, sizeof(triangle));
    g_assert_cmphex(frontend_attach(f, VERTICES, FRONTEND_DATA, VERTEX_BYTES), ==,
                    VIRTIO_GPU_RESP_OK_NODATA);
    g_assert_cmphex(frontend_transfer(f, VIRTIO_GPU_CMD_TRANSFER_TO_HOST_3D, WORK_CONTEXT, VERTICES,
                                      VERTEX_BYTES, 1),
                    ==, VIRTIO_GPU_RESP_OK_NODATA);
    prepare_state(f, work, WORK_CONTEXT);
}

void work_prepare_context(struct frontend *f, const struct work *work, uint32_t context)
{
    static const uint32_t resources[] = {PICTURE, VERTICES};

    g_assert_cmphex(frontend_context(f, VIRTIO_GPU_CMD_CTX_CREATE, context), ==,
                    VIRTIO_GPU_RESP_OK_NODATA);
    for (unsigned i = 0; i < G_N_ELEMENTS(resources); i++)
        g_assert_cmphex(
            frontend_context_resource(f, VIRTIO_GPU_CMD_CTX_ATTACH_RESOURCE, context, resources[i]),
            ==, VIRTIO_GPU_RESP_OK_NODATA);
    prepare_state(f, work, context);
}

static void draw(struct stream *s)
{
    static const uint32_t values[12] = {
        [1] = 3 /* vertices */, [2] = 4 /* triangles */, [4] = 1, [10] = 2 /* the last vertex */};

    command(s, DRAW_VBO, 0, 12);
    for (unsigned i = 0; i < 12; i++)
        put(s, values[i]);
}

void work_offer(struct frontend *f, const struct work *work, uint32_t context, bool fenced)
{
    struct virtio_gpu_cmd_submit c = {.hdr = {.type = VIRTIO_GPU_CMD_SUBMIT_3D, .ctx_id = context}};
    uint64_t address = STREAMS + f->avail->idx % (FRONTEND_QUEUE / 2) * STREAM_SLOT;
    struct stream s = {.n = 0};

    constant(&s, PIXEL_SHADER, (float)work->loops);
    for (unsigned i = 0; i < work->draws; i++)
        draw(&s);
    c.size = s.n * 4;
    if (fenced) {
        c.hdr.flags = VIRTIO_GPU_FLAG_FENCE;
        c.hdr.fence_id = ++f->fence;
    }
    memcpy(f->memory + address, &c, sizeof(c));
    memcpy(f->memory + address + sizeof(c), s.dwords, s.n * 4);
    frontend_offer_at(f, address, sizeof(c) + s.n * 4, sizeof(struct virtio_gpu_ctrl_hdr));
}
