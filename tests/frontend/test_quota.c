/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "frontend.h"

#include "vgpu/format.h"

#include <glib.h>
#include <stdio.h>
#include <string.h>

/* What a partition is charged for a resource is what a driver takes for it (Mesa's llvmpipe), of
 * whatever format and shape, whatever else a guest says of it. */

#define OK  VIRTIO_GPU_RESP_OK_NODATA
#define MIB (UINT64_C(1) << 20)

static const char *const options[] = {"--vram=2G", "--hang-ms=60000", NULL};

enum {
    BUFFER,
    LINE,
    PICTURE,
    VOLUME,
    CUBE,
    RECTANGLE,
    LINES,
    PICTURES,
    CUBES,
};

#define SAMPLER (1u << 3)
#define TARGET  (1u << 1)
#define VERTEX  (1u << 4)

/* Bytes that the renderer has mapped, used or not. */
static uint64_t mapped_memory(const struct frontend *f)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/status", frontend_renderer(f));
    g_autofree char *text = NULL;
    const char *line;

    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    line = strstr(text, "VmSize:");
    g_assert_nonnull(line);
    return g_ascii_strtoull(line + strlen("VmSize:"), NULL, 10) << 10;
}

/* The answer comes after the renderer has done it. */
static uint32_t create(struct frontend *f, uint32_t id, const struct vgpu_shape *shape,
                       uint32_t bind)
{
    const struct virtio_gpu_resource_create_3d c = {
        .hdr = {.type = VIRTIO_GPU_CMD_RESOURCE_CREATE_3D,
                .flags = VIRTIO_GPU_FLAG_FENCE,
                .fence_id = ++f->fence},
        .resource_id = id,
        .target = shape->target,
        .format = shape->format,
        .bind = bind,
        .width = shape->width,
        .height = shape->height,
        .depth = shape->depth,
        .array_size = shape->array_size,
        .last_level = shape->last_level,
        .nr_samples = shape->nr_samples};

    return frontend_command(f, &c, sizeof(c), NULL, 0);
}

/* Bytes that the driver took; 0: it has no such resource. What was freed before would be used
 * again: nothing is freed. */
static uint64_t taken(struct frontend *f, const struct vgpu_shape *shape, uint32_t bind)
{
    static uint32_t id = 10;
    uint64_t before = mapped_memory(f), after;

    if (create(f, id++, shape, bind) != OK)
        return 0;
    after = mapped_memory(f);
    return after > before ? after - before : 0;
}

/* True: the driver has such a resource. A driver rounds up, and has something beside. */
static bool assert_covered(struct frontend *f, const struct vgpu_shape *shape, uint32_t bind)
{
    uint64_t bytes, took;

    if (!vgpu_shape_bytes(shape, &bytes))
        return false;
    took = taken(f, shape, bind);
    g_test_message("target %u format %u %ux%ux%u array %u level %u samples %u: charged "
                   "%" G_GUINT64_FORMAT " KiB, taken %" G_GUINT64_FORMAT " KiB",
                   shape->target, shape->format, shape->width, shape->height, shape->depth,
                   shape->array_size, shape->last_level, shape->nr_samples, bytes >> 10,
                   took >> 10);
    if (!FRONTEND_SANITIZED) /* which has memory of its own beside all */
        g_assert_cmpuint(took, <=, bytes + bytes / 8 + MIB / 4);
    return took > bytes / 2;
}

static void set_up(struct frontend *f, gconstpointer data)
{
    frontend_start(f, options);
    frontend_start_drawing(f, 1, 1); /* what the first ones set up is there then */
    frontend_assert_draws(f, 1, 1);
}

static void tear_down(struct frontend *f, gconstpointer data)
{
    frontend_stop(f);
}

static void every_format(struct frontend *f, gconstpointer data)
{
    unsigned n = 0;

    for (uint32_t format = 0; format < 512; format++) {
        const struct vgpu_shape shape = {.target = PICTURE,
                                         .format = format,
                                         .width = 512,
                                         .height = 512,
                                         .depth = 1,
                                         .array_size = 1};

        n += assert_covered(f, &shape, SAMPLER);
    }
    g_test_message("%u formats", n);
    if (n == 0)
        g_test_skip("what this driver takes cannot be seen from outside");
    else
        g_assert_cmpuint(n, >, 100);
}

static void every_shape(struct frontend *f, gconstpointer data)
{
    static const struct vgpu_shape shapes[] = {
        /* target, format, width, height, depth, array, level, samples */
        {BUFFER, 64, 8388608, 1, 1, 1, 0, 0},    {BUFFER, 64, 8388608, 100, 9, 9, 0, 0},
        {LINE, 31, 16384, 1, 1, 1, 14, 0},       {PICTURE, 67, 1024, 1024, 1, 1, 0, 0},
        {PICTURE, 67, 1024, 1024, 1, 1, 10, 0},  {PICTURE, 67, 1024, 1024, 1, 1, 0, 4},
        {PICTURE, 67, 1024, 1024, 1, 1, 0, 3},   {PICTURE, 67, 1024, 1024, 1, 1, 0, 2},
        {PICTURE, 67, 1024, 1024, 1, 0, 0, 0},   {PICTURE, 67, 1024, 1024, 0, 1, 0, 1},
        {PICTURE, 67, 1024, 1024, 8, 1, 0, 0},   {PICTURE, 67, 1024, 1024, 1, 8, 0, 0},
        {PICTURE, 67, 1024, 1024, 1, 1, 15, 0},  {PICTURE, 67, 1023, 1025, 1, 1, 9, 0},
        {VOLUME, 67, 128, 128, 128, 1, 0, 0},    {VOLUME, 67, 128, 128, 128, 1, 7, 0},
        {VOLUME, 67, 128, 128, 128, 8, 0, 0},    {VOLUME, 67, 16, 16, 2048, 1, 11, 0},
        {CUBE, 67, 512, 512, 1, 6, 0, 0},        {CUBE, 67, 512, 512, 1, 0, 0, 0},
        {CUBE, 67, 512, 512, 1, 1, 9, 0},        {CUBE, 67, 512, 512, 1, 12, 9, 0},
        {RECTANGLE, 67, 1024, 1024, 1, 1, 0, 0}, {RECTANGLE, 67, 1024, 1024, 1, 0, 10, 0},
        {LINES, 31, 8192, 1, 1, 64, 13, 0},      {LINES, 31, 8192, 64, 1, 1, 0, 0},
        {LINES, 31, 8192, 64, 1, 64, 0, 0},      {PICTURES, 67, 512, 512, 1, 16, 9, 0},
        {PICTURES, 67, 512, 512, 1, 0, 0, 0},    {PICTURES, 67, 512, 512, 16, 1, 0, 0},
        {PICTURES, 67, 512, 512, 1, 8, 0, 4},    {CUBES, 67, 256, 256, 1, 24, 8, 0},
        {CUBES, 67, 256, 256, 1, 0, 0, 0},       {CUBES, 67, 256, 256, 1, 7, 0, 0},
        {PICTURE, 108, 2048, 2048, 1, 1, 11, 0}, {PICTURE, 19, 1024, 1024, 1, 1, 0, 4},
    };
    unsigned n = 0;

    for (size_t i = 0; i < G_N_ELEMENTS(shapes); i++) {
        n += assert_covered(f, &shapes[i], shapes[i].target == BUFFER ? VERTEX : SAMPLER);
    }
    if (n == 0)
        g_test_skip("what this driver takes cannot be seen from outside");
    else
        g_assert_cmpuint(n, >, 12);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add("/quota/formats", struct frontend, NULL, set_up, every_format, tear_down);
    g_test_add("/quota/shapes", struct frontend, NULL, set_up, every_shape, tear_down);
    return g_test_run();
}
