/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "frontend.h"

#include <errno.h>
#include <glib.h>
#include <linux/virtio_gpu.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/*
 * What went wrong in other virtio-gpu back-ends, each as a guest would do it: QEMU's hw/display and
 * contrib/vhost-user-gpu, and virglrenderer. Ours answers, with an error where one is due, leaks
 * nothing to the guest, keeps nothing for ever, and goes on. A stream that is meant for a bug in
 * virglrenderer may at worst cost the guest its own renderer.
 */

#define OK      VIRTIO_GPU_RESP_OK_NODATA
#define INVALID VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER
#define WIDTH   FRONTEND_WIDTH
#define HEIGHT  FRONTEND_HEIGHT
#define PIXELS  FRONTEND_PIXELS

static const char *const options[] = {"--vram=64M", "--hang-ms=60000", NULL};

static void set_up(struct frontend *f, gconstpointer data)
{
    frontend_start(f, options);
}

static void tear_down(struct frontend *f, gconstpointer data)
{
    frontend_stop(f);
}

/* ---- helpers ---- */

/* A guest that starts anew draws as ever. */
static void assert_goes_on(struct frontend *f)
{
    frontend_reset(f);
    frontend_start_drawing(f, 1, 10);
    frontend_assert_draws(f, 1, 10);
}

/* KiB of a process's own memory. */
static long own_memory(pid_t pid)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/status", pid);
    g_autofree char *text = NULL;
    const char *line;

    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    line = strstr(text, "RssAnon:");
    g_assert_nonnull(line);
    return strtol(line + strlen("RssAnon:"), NULL, 10);
}

/* Everything was worked on; the renderer's memory, where there is one that context 1 is in. */
static long settle(struct frontend *f)
{
    const uint32_t nothing = 0;
    bool drawing = frontend_submit(f, 1, &nothing, 1) == OK;

    frontend_ping(f);
    return drawing ? own_memory(frontend_renderer(f)) : 0;
}

/* Does it until everything that is kept for good has been made, and then again: neither process
 * grows. */
static void assert_no_growth(struct frontend *f, void (*func)(struct frontend *f), unsigned times)
{
    long vgpu, render, grown;

    if (FRONTEND_SANITIZED) /* what is freed is kept for a while; leaks are found at the end */
        times /= 10;
    for (unsigned i = 0; i < times / 4; i++)
        func(f);
    render = settle(f);
    vgpu = own_memory(f->pid);
    for (unsigned i = 0; i < times; i++)
        func(f);
    grown = settle(f) - render;
    if (FRONTEND_SANITIZED)
        return;
    g_assert_cmpint(own_memory(f->pid) - vgpu, <, 256);
    g_assert_cmpint(grown, <, 4096);
}

static uint32_t simple(struct frontend *f, const void *command, size_t size)
{
    return frontend_command(f, command, size, NULL, 0);
}

static uint32_t set_scanout(struct frontend *f, uint32_t scanout, uint32_t resource, uint32_t x,
                            uint32_t width)
{
    const struct virtio_gpu_set_scanout c = {.hdr = {.type = VIRTIO_GPU_CMD_SET_SCANOUT},
                                             .r = {x, 0, width, 16},
                                             .scanout_id = scanout,
                                             .resource_id = resource};

    return simple(f, &c, sizeof(c));
}

static uint32_t detach(struct frontend *f, uint32_t resource)
{
    const struct virtio_gpu_resource_detach_backing c = {
        .hdr = {.type = VIRTIO_GPU_CMD_RESOURCE_DETACH_BACKING}, .resource_id = resource};

    return simple(f, &c, sizeof(c));
}

static uint32_t transfer_3d(struct frontend *f, uint32_t type, uint32_t resource,
                            struct virtio_gpu_box box, uint64_t offset, uint32_t stride,
                            uint32_t level)
{
    const struct virtio_gpu_transfer_host_3d c = {
        .hdr = {.type = type, .flags = VIRTIO_GPU_FLAG_FENCE, .ctx_id = 1},
        .box = box,
        .offset = offset,
        .resource_id = resource,
        .level = level,
        .stride = stride};

    return simple(f, &c, sizeof(c));
}

#define CMD(op, object, length)                                                                    \
    ((uint32_t)(op) | (uint32_t)(object) << 8 | (uint32_t)(length) << 16)

/* Context 1 with resource 10 in it and a place for objects. */
static void begin_stream(struct frontend *f)
{
    const uint32_t sub[] = {CMD(29, 0, 1), 1, CMD(28, 0, 1), 1};

    frontend_start_drawing(f, 1, 10);
    g_assert_cmphex(frontend_submit(f, 1, sub, G_N_ELEMENTS(sub)), ==, OK);
}

/* In a context that has seen no error yet: one that has executes nothing more. What comes of it is
 * the guest's own business; that an answer comes is ours. */
static void send_stream(struct frontend *f, const uint32_t *dwords, size_t n)
{
    frontend_reset(f);
    begin_stream(f);
    frontend_submit(f, 1, dwords, n);
}
#define SEND(f, ...)                                                                               \
    do {                                                                                           \
        const uint32_t dwords_[] = {__VA_ARGS__};                                                  \
        send_stream(f, dwords_, G_N_ELEMENTS(dwords_));                                            \
    } while (0)

/* ---- QEMU: vhost-user-gpu ---- */

static void leaking_commands(struct frontend *f)
{
    g_assert_cmphex(frontend_create_2d(f, 5, 64, 64), ==, OK);
    g_assert_cmphex(frontend_create_2d(f, 5, 64, 64), ==, VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID);
    g_assert_cmphex(frontend_create_2d(f, 0, 64, 64), ==, VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID);
    g_assert_cmphex(frontend_create_2d(f, 6, 0, 64), ==, INVALID);
    g_assert_cmphex(frontend_attach(f, 5, FRONTEND_MEMORY - 64, 4096), ==, INVALID); /* 3rd piece */
    g_assert_cmphex(frontend_attach(f, 5, FRONTEND_DATA, 16384), ==, OK);
    g_assert_cmphex(frontend_attach(f, 5, FRONTEND_DATA, 16384), ==, INVALID);
    g_assert_cmphex(frontend_unref(f, 5), ==, OK); /* with its backing */
}

/* Leaks in resource_create_2d, attach_backing and unref. */
static void cve_2021_3544(struct frontend *f, gconstpointer data)
{
    assert_no_growth(f, leaking_commands, 2000);
    assert_goes_on(f);
}

static void assert_zero(const void *data, size_t size)
{
    for (size_t i = 0; i < size; i++)
        g_assert_cmpuint(((const unsigned char *)data)[i], ==, 0);
}

/* get_capset_info answered with what lay on its stack (also CVE-2016-9845). */
static void cve_2021_3545(struct frontend *f, gconstpointer data)
{
    static const uint32_t indices[] = {2, 3, 64, UINT32_MAX};

    for (size_t i = 0; i < G_N_ELEMENTS(indices); i++) {
        const struct virtio_gpu_get_capset_info c = {
            .hdr = {.type = VIRTIO_GPU_CMD_GET_CAPSET_INFO}, .capset_index = indices[i]};
        struct virtio_gpu_resp_capset_info reply;

        g_assert_cmphex(frontend_command(f, &c, sizeof(c), &reply, sizeof(reply)), ==,
                        VIRTIO_GPU_RESP_OK_CAPSET_INFO);
        assert_zero(&reply.capset_id, sizeof(reply) - sizeof(reply.hdr));
        assert_zero((char *)&reply + 4, sizeof(reply.hdr) - 4);
    }
    assert_goes_on(f);
}

static size_t get_capset(struct frontend *f, uint32_t id, uint32_t version, size_t room,
                         uint32_t *type)
{
    const struct virtio_gpu_get_capset c = {
        .hdr = {.type = VIRTIO_GPU_CMD_GET_CAPSET}, .capset_id = id, .capset_version = version};
    struct virtio_gpu_ctrl_hdr header = {0};
    size_t n;

    frontend_offer(f, &c, sizeof(c), NULL, 0, room);
    n = frontend_wait(f, &header, sizeof(header));
    *type = header.type;
    return n;
}

/* get_capset wrote behind a buffer whose size came from elsewhere. Here: no more than there is
 * room for, and nothing where there is no such set. */
static void cve_2021_3546(struct frontend *f, gconstpointer data)
{
    uint32_t type;

    for (size_t room = sizeof(struct virtio_gpu_ctrl_hdr); room < 4096; room += 61) {
        struct virtio_gpu_ctrl_hdr c = {.type = VIRTIO_GPU_CMD_GET_CAPSET};
        const unsigned char *answer = f->memory + FRONTEND_DATA + 4096;

        memset(f->memory + FRONTEND_DATA, 0, 4096);
        memcpy(f->memory + FRONTEND_DATA, &c, sizeof(c));
        f->memory[FRONTEND_DATA + sizeof(c)] = 2; /* the set */
        memset(f->memory + FRONTEND_DATA + 4096, 0x5c, 8192);
        f->desc[0] = (struct vring_desc){FRONTEND_DATA, sizeof(c) + 8, VRING_DESC_F_NEXT, 1};
        f->desc[1] =
            (struct vring_desc){FRONTEND_DATA + 4096, (uint32_t)room, VRING_DESC_F_WRITE, 0};
        frontend_offer_head(f, 0);
        g_assert_cmpuint(frontend_wait(f, &type, sizeof(type)), <=, room);
        g_assert_cmphex(type, ==, VIRTIO_GPU_RESP_OK_CAPSET);
        for (size_t i = room; i < 8192; i++)
            g_assert_cmpuint(answer[i], ==, 0x5c);
    }
    assert_goes_on(f);
}

/* A set of size 0 was asked for: out of bounds. */
static void cve_2016_10028(struct frontend *f, gconstpointer data)
{
    static const uint32_t ids[] = {0, 3, 7, 8, 64, UINT32_MAX};
    uint32_t type;

    for (size_t i = 0; i < G_N_ELEMENTS(ids); i++) {
        get_capset(f, ids[i], 0, 1024, &type);
        g_assert_cmphex(type, ==, INVALID);
    }
    get_capset(f, 1, UINT32_MAX, 1024, &type);
    g_assert_cmphex(type, ==, INVALID);
    assert_goes_on(f);
}

/* ---- QEMU: virtio-gpu ---- */

static void create_twice(struct frontend *f)
{
    g_assert_cmphex(frontend_create_2d(f, 7, 256, 256), ==, OK);
    for (unsigned i = 0; i < 4; i++)
        g_assert_cmphex(frontend_create_2d(f, 7, 256, 256), ==,
                        VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID);
    g_assert_cmphex(frontend_unref(f, 7), ==, OK);
}

/* A resource that exists was made again and again: a leak. */
static void cve_2016_7994(struct frontend *f, gconstpointer data)
{
    assert_no_growth(f, create_twice, 1000);
    assert_goes_on(f);
}

static void change_cursor(struct frontend *f)
{
    frontend_cursor(f, VIRTIO_GPU_CMD_UPDATE_CURSOR, 7, 1, 1, 0, 0);
    frontend_cursor(f, VIRTIO_GPU_CMD_UPDATE_CURSOR, 8, 1, 1, 15, 15);
    frontend_cursor(f, VIRTIO_GPU_CMD_UPDATE_CURSOR, UINT32_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX,
                    UINT32_MAX);
    frontend_cursor(f, VIRTIO_GPU_CMD_MOVE_CURSOR, 9, UINT32_MAX, 0, 0, 0);
    frontend_cursor(f, VIRTIO_GPU_CMD_RESOURCE_UNREF, 7, 0, 0, 0, 0); /* does not belong there */
}

/* Each new cursor leaked the last one's pixels; one of another size was read out of bounds. */
static void cve_2016_9846(struct frontend *f, gconstpointer data)
{
    g_assert_cmphex(frontend_create_2d(f, 7, 64, 64), ==, OK);
    g_assert_cmphex(frontend_create_2d(f, 8, 16, 7), ==, OK);
    assert_no_growth(f, change_cursor, 1000);
    g_assert_cmphex(frontend_unref(f, 7), ==, OK);
    assert_goes_on(f);
}

/* A scanout beyond those that there are (also QEMU issue 383). */
static void cve_2016_10029(struct frontend *f, gconstpointer data)
{
    static const uint32_t ids[] = {1, 15, 16, 17, 64, 0x7fffffff, 0x80000000, UINT32_MAX};

    g_assert_cmphex(frontend_create_2d(f, 5, 64, 64), ==, OK);
    for (size_t i = 0; i < G_N_ELEMENTS(ids); i++) {
        const struct virtio_gpu_cmd_get_edid edid = {.hdr = {.type = VIRTIO_GPU_CMD_GET_EDID},
                                                     .scanout = ids[i]};

        g_assert_cmphex(set_scanout(f, ids[i], 5, 0, 16), ==,
                        VIRTIO_GPU_RESP_ERR_INVALID_SCANOUT_ID);
        g_assert_cmphex(set_scanout(f, ids[i], 0, 0, 16), ==,
                        VIRTIO_GPU_RESP_ERR_INVALID_SCANOUT_ID);
        g_assert_cmphex(simple(f, &edid, sizeof(edid)), ==, VIRTIO_GPU_RESP_ERR_INVALID_SCANOUT_ID);
    }
    assert_goes_on(f);
}

/* A device that writes into its own registers is entered again. Here requests, answers and tables
 * lie in the rings, in each other, and outside of memory. */
static void cve_2024_3446(struct frontend *f, gconstpointer data)
{
    enum {
        N = VRING_DESC_F_NEXT,
        W = VRING_DESC_F_WRITE,
        I = VRING_DESC_F_INDIRECT
    };
    const struct virtio_gpu_ctrl_hdr c = {.type = VIRTIO_GPU_CMD_GET_DISPLAY_INFO};
    const uint64_t rings[] = {0, 8192, 12288}; /* descriptors, available, used */

    for (size_t i = 0; i < G_N_ELEMENTS(rings); i++) {
        memcpy(f->memory + FRONTEND_DATA, &c, sizeof(c));
        f->desc[0] = (struct vring_desc){FRONTEND_DATA, sizeof(c), N, 1};
        f->desc[1] = (struct vring_desc){rings[i], 1024, W, 0};
        frontend_offer_head(f, 0);
        frontend_ping(f);
        frontend_reset(f);
    }
    /* the answer over the question, and over the table that names both */
    memcpy(f->memory + FRONTEND_DATA, &c, sizeof(c));
    f->desc[0] = (struct vring_desc){FRONTEND_DATA, sizeof(c), N, 1};
    f->desc[1] = (struct vring_desc){FRONTEND_DATA, 1024, W, 0};
    frontend_offer_head(f, 0);
    g_assert_cmpuint(frontend_wait(f, NULL, 0), >, sizeof(c));
    f->desc[0] = (struct vring_desc){4096, 32, I, 0};
    *(struct vring_desc *)(f->memory + 4096) = (struct vring_desc){FRONTEND_DATA, 64, N, 1};
    *(struct vring_desc *)(f->memory + 4112) = (struct vring_desc){4096, 32, W, 0};
    frontend_offer_head(f, 0);
    g_assert_cmpuint(frontend_wait(f, NULL, 0), <=, 32);
    /* where a device's registers would be */
    f->desc[0] = (struct vring_desc){FRONTEND_DATA, sizeof(c), N, 1};
    f->desc[1] = (struct vring_desc){0xfe000000, 4096, W, 0};
    frontend_offer_head(f, 0);
    g_assert_cmpuint(frontend_wait(f, NULL, 0), ==, 0);
    assert_goes_on(f);
}

/* width * height * 4 wrapped in 32 bits: an image shorter than what is copied into it. */
static void cve_2026_3886(struct frontend *f, gconstpointer data)
{
    static const uint32_t sizes[][2] = {
        {65536, 16384},  {32768, 32768},     {65536, 65536},      {16384, 65537}, {UINT32_MAX, 1},
        {1, UINT32_MAX}, {0x40000000, 4},    {0x40000001, 1},     {46341, 46341}, {0x80000000, 2},
        {2, 0x80000000}, {0x10000, 0x10001}, {UINT32_MAX, 16384}, {16385, 1}};

    for (size_t i = 0; i < G_N_ELEMENTS(sizes); i++) {
        struct virtio_gpu_transfer_to_host_2d transfer = {
            .hdr = {.type = VIRTIO_GPU_CMD_TRANSFER_TO_HOST_2D},
            .r = {0, 0, sizes[i][0], sizes[i][1]},
            .resource_id = 5};

        g_assert_cmphex(frontend_create_2d(f, 5, sizes[i][0], sizes[i][1]), !=, OK);
        g_assert_cmphex(simple(f, &transfer, sizeof(transfer)), ==,
                        VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID);
        g_assert_cmphex(frontend_create_3d(f, 5, sizes[i][0], sizes[i][1]), ==,
                        (uint64_t)sizes[i][0] * sizes[i][1] * 4 > 64 << 20
                            ? VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY
                            : OK);
        frontend_unref(f, 5);
    }
    assert_goes_on(f);
}

/* Blobs are not offered: what QEMU did wrong with their offsets and sizes cannot be asked for. */
static void qemu_blob_scanout(struct frontend *f, gconstpointer data)
{
    const struct virtio_gpu_resource_create_blob create = {
        .hdr = {.type = VIRTIO_GPU_CMD_RESOURCE_CREATE_BLOB},
        .resource_id = 9,
        .blob_mem = VIRTIO_GPU_BLOB_MEM_GUEST,
        .size = UINT64_C(1) << 40};
    const struct virtio_gpu_set_scanout_blob scanout = {
        .hdr = {.type = VIRTIO_GPU_CMD_SET_SCANOUT_BLOB},
        .r = {0, 0, 64, 64},
        .resource_id = 9,
        .width = 64,
        .height = 64,
        .strides = {UINT32_MAX},
        .offsets = {UINT32_MAX}};
    const struct virtio_gpu_resource_map_blob map = {
        .hdr = {.type = VIRTIO_GPU_CMD_RESOURCE_MAP_BLOB}, .resource_id = 9, .offset = UINT64_MAX};

    g_assert_cmphex(simple(f, &create, sizeof(create)), ==, VIRTIO_GPU_RESP_ERR_UNSPEC);
    g_assert_cmphex(simple(f, &scanout, sizeof(scanout)), ==, VIRTIO_GPU_RESP_ERR_UNSPEC);
    g_assert_cmphex(simple(f, &map, sizeof(map)), ==, VIRTIO_GPU_RESP_ERR_UNSPEC);
    assert_goes_on(f);
}

/* A backing shorter than what it backs, for each way of using it. */
static void backing_shorter_than_resource(struct frontend *f, gconstpointer data)
{
    struct virtio_gpu_transfer_to_host_2d transfer = {
        .hdr = {.type = VIRTIO_GPU_CMD_TRANSFER_TO_HOST_2D},
        .r = {0, 0, WIDTH, HEIGHT},
        .resource_id = 5};
    static const uint64_t offsets[] = {
        0, PIXELS - 1, PIXELS, UINT64_MAX, UINT64_MAX - PIXELS + 1, UINT32_MAX, UINT64_C(1) << 63};

    g_assert_cmphex(frontend_create_2d(f, 5, WIDTH, HEIGHT), ==, OK);
    g_assert_cmphex(frontend_attach(f, 5, FRONTEND_DATA, PIXELS - 4), ==, OK);
    for (size_t i = 0; i < G_N_ELEMENTS(offsets); i++) {
        transfer.offset = offsets[i];
        g_assert_cmphex(simple(f, &transfer, sizeof(transfer)), ==, INVALID);
    }
    begin_stream(f);
    g_assert_cmphex(detach(f, 10), ==, OK);
    g_assert_cmphex(detach(f, 10), ==, VIRTIO_GPU_RESP_ERR_UNSPEC);
    g_assert_cmphex(transfer_3d(f, VIRTIO_GPU_CMD_TRANSFER_FROM_HOST_3D, 10,
                                (struct virtio_gpu_box){0, 0, 0, WIDTH, HEIGHT, 1}, 0, WIDTH * 4,
                                0),
                    ==, INVALID);
    g_assert_cmphex(frontend_attach(f, 10, FRONTEND_DATA, PIXELS - 4), ==, OK);
    memset(f->memory + FRONTEND_DATA, 0x77, 2 * PIXELS);
    for (size_t i = 0; i < G_N_ELEMENTS(offsets); i++) {
        transfer_3d(f, VIRTIO_GPU_CMD_TRANSFER_FROM_HOST_3D, 10,
                    (struct virtio_gpu_box){0, 0, 0, WIDTH, HEIGHT, 1}, offsets[i], WIDTH * 4, 0);
        transfer_3d(f, VIRTIO_GPU_CMD_TRANSFER_TO_HOST_3D, 10,
                    (struct virtio_gpu_box){0, 0, 0, WIDTH, HEIGHT, 1}, offsets[i], WIDTH * 4, 0);
    }
    /* nothing behind the backing was written */
    for (unsigned i = PIXELS - 4; i < 2 * PIXELS; i++)
        g_assert_cmpuint(f->memory[FRONTEND_DATA + i], ==, 0x77);
    assert_goes_on(f);
}

/* ---- virglrenderer ---- */

static void contexts_twice(struct frontend *f)
{
    g_assert_cmphex(frontend_context(f, VIRTIO_GPU_CMD_CTX_CREATE, 3), ==, OK);
    for (unsigned i = 0; i < 3; i++)
        g_assert_cmphex(frontend_context(f, VIRTIO_GPU_CMD_CTX_CREATE, 3), ==,
                        VIRTIO_GPU_RESP_ERR_INVALID_CONTEXT_ID);
    g_assert_cmphex(frontend_context(f, VIRTIO_GPU_CMD_CTX_DESTROY, 3), ==, OK);
    g_assert_cmphex(frontend_context(f, VIRTIO_GPU_CMD_CTX_DESTROY, 3), ==,
                    VIRTIO_GPU_RESP_ERR_INVALID_CONTEXT_ID);
}

/* A context of the same number again and again: a leak. */
static void cve_2016_10163(struct frontend *f, gconstpointer data)
{
    frontend_start_drawing(f, 1, 10);
    assert_no_growth(f, contexts_twice, 100);
    assert_goes_on(f);
}

static void attach_twice(struct frontend *f)
{
    g_assert_cmphex(frontend_attach(f, 11, FRONTEND_DATA, PIXELS), ==, OK);
    for (unsigned i = 0; i < 3; i++)
        g_assert_cmphex(frontend_attach(f, 11, FRONTEND_DATA, PIXELS), ==, INVALID);
    g_assert_cmphex(detach(f, 11), ==, OK);
}

/* A second backing on top of the first: a leak. */
static void cve_2016_10214(struct frontend *f, gconstpointer data)
{
    frontend_start_drawing(f, 1, 10);
    g_assert_cmphex(frontend_create_3d(f, 11, WIDTH, HEIGHT), ==, OK);
    assert_no_growth(f, attach_twice, 1000);
    assert_goes_on(f);
}

/* vrend_draw_vbo: vertices and indices out of bounds. */
static void cve_2017_5956(struct frontend *f, gconstpointer data)
{
    SEND(f, CMD(6, 0, 3), 16, UINT32_MAX - 3, 10); /* vertex buffer: stride, offset */
    SEND(f, CMD(11, 0, 3), 10, 4, UINT32_MAX - 1); /* indices behind the resource */
    SEND(f, CMD(8, 0, 12), 0, UINT32_MAX, 4, 1, UINT32_MAX, UINT32_MAX, 0, 0, 0, 0, UINT32_MAX, 0);
    SEND(f, CMD(11, 0, 1), 0); /* no indices at all */
    SEND(f, CMD(8, 0, 12), 0, 100, 4, 1, 1, 0, 0, 0, 0, 0, UINT32_MAX, 0);
    SEND(f, CMD(6, 0, 3 * 40), 16, 0, 10); /* says more than it has */
    assert_goes_on(f);
}

/* decode_set_framebuffer_state: more colour buffers than there are. */
static void cve_2017_5957(struct frontend *f, gconstpointer data)
{
    uint32_t stream[300] = {CMD(5, 0, 298), 296};

    for (unsigned i = 2; i < G_N_ELEMENTS(stream); i++)
        stream[i] = 110;
    send_stream(f, stream, G_N_ELEMENTS(stream));
    stream[1] = UINT32_MAX;
    send_stream(f, stream, G_N_ELEMENTS(stream));
    assert_goes_on(f);
}

/* create_shader: lengths and offsets that wrap. */
static void cve_2017_6355(struct frontend *f, gconstpointer data)
{
    static const uint32_t lengths[] = {0, 1, 0x7ffffffc, 0x7fffffff, 0x80000000, UINT32_MAX};

    for (size_t i = 0; i < G_N_ELEMENTS(lengths); i++) {
        /* handle, type, offset or length, tokens, stream outputs, text */
        SEND(f, CMD(1, 4, 7), 50, 0, lengths[i], 300, 0, 0x47415246, 0);
        SEND(f, CMD(1, 4, 7), 50, 0, lengths[i] | 0x80000000u, 300, 0, 0x41414141, 0x41414141);
        SEND(f, CMD(1, 4, 7), 51, UINT32_MAX, lengths[i], UINT32_MAX, UINT32_MAX, 0, 0);
        SEND(f, CMD(1, 4, 5), 52, 0, 4, 1, 64); /* stream outputs that are not there */
    }
    assert_goes_on(f);
}

static void vertex_elements(struct frontend *f)
{
    const uint32_t stream[] = {CMD(1, 5, 5), 61, 0, 0, 0, 28, CMD(2, 5, 1), 61};

    g_assert_cmphex(frontend_submit(f, 1, stream, G_N_ELEMENTS(stream)), ==, OK);
}

/* create_vertex_elements_state: too many, and again under one handle. */
static void cve_2017_6386(struct frontend *f, gconstpointer data)
{
    uint32_t stream[4 * 64 + 2] = {CMD(1, 5, 4 * 64 + 1), 60};

    for (unsigned i = 0; i < 64; i++)
        memcpy(&stream[2 + i * 4], (uint32_t[4]){i * 4, 0, i, 28}, 16);
    send_stream(f, stream, G_N_ELEMENTS(stream));
    frontend_reset(f);
    begin_stream(f);
    assert_no_growth(f, vertex_elements, 400);
    assert_goes_on(f);
}

/* decode_reset on a context that is not there. */
static void cve_2017_6210(struct frontend *f, gconstpointer data)
{
    const uint32_t stream[] = {CMD(7, 0, 8), 4, 0, 0, 0, 0, 0, 0, 0};

    for (uint32_t context = 0; context < 4; context++)
        g_assert_cmphex(frontend_submit(f, context, stream, G_N_ELEMENTS(stream)), ==,
                        VIRTIO_GPU_RESP_ERR_INVALID_CONTEXT_ID);
    /* in one without a place for objects, or with the last of them destroyed */
    SEND(f, CMD(28, 0, 1), 77, CMD(7, 0, 8), 4, 0, 0, 0, 0, 0, 0, 0);
    SEND(f, CMD(30, 0, 1), 0, CMD(30, 0, 1), 1, CMD(7, 0, 8), 4, 0, 0, 0, 0, 0, 0, 0);
    assert_goes_on(f);
}

/* Null pointers: objects and resources that do not exist, everywhere. */
static void cve_2019_18388(struct frontend *f, gconstpointer data)
{
    SEND(f, CMD(17, 0, 13), 999, 0, 0, 0, 0, 998, 0, 0, 0, 0, 1, 1, 1);
    SEND(f, CMD(1, 6, 6), 70, 999, 1, 0, 0, 0); /* sampler view of nothing */
    SEND(f, CMD(1, 8, 5), 71, 999, 1, 0, 0);    /* surface of nothing */
    SEND(f, CMD(1, 10, 4), 72, 999, 0, 64);     /* stream-out target in nothing */
    SEND(f, CMD(1, 9, 4), 73, 0, 0, 999);       /* query into nothing */
    SEND(f, CMD(2, 1, 1), 999, CMD(2, 2, 1), 999, CMD(2, 3, 1), 999, CMD(3, 0, 1), 999);
    SEND(f, CMD(10, 0, 4), 0, 0, 999, 999);
    SEND(f, CMD(19, 0, 1), 999, CMD(20, 0, 1), 999, CMD(21, 0, 2), 999, 1);
    SEND(f, CMD(8, 0, 12), 0, 3, 4, 0, 1, 0, 0, 0, 0, 0, 3, 0); /* no shaders bound */
    SEND(f, CMD(37, 0, 8), 1, 1, 1, 1, 1, 1, 0, 0);
    SEND(f, CMD(31, 0, 2), 999, 0);
    assert_goes_on(f);
}

/* RESOURCE_INLINE_WRITE with a box larger than what follows or than the resource. */
static void cve_2019_18389(struct frontend *f, gconstpointer data)
{
    static const uint32_t boxes[][6] = {{0, 0, 0, WIDTH, HEIGHT, 1},
                                        {0, 0, 0, UINT32_MAX, UINT32_MAX, UINT32_MAX},
                                        {UINT32_MAX, UINT32_MAX, 0, 4, 4, 1},
                                        {0, 0, 0, 0x10000, 0x10000, 1},
                                        {WIDTH - 1, HEIGHT - 1, 7, 2, 2, 2}};

    for (size_t i = 0; i < G_N_ELEMENTS(boxes); i++) {
        const uint32_t *b = boxes[i];

        SEND(f, CMD(9, 0, 12), 10, 0, 0, 0, 0, b[0], b[1], b[2], b[3], b[4], b[5], 0x41414141);
        SEND(f, CMD(9, 0, 12), 10, 15, 0, UINT32_MAX, UINT32_MAX, b[0], b[1], b[2], b[3], b[4],
             b[5], 0x41414141);
        SEND(f, CMD(9, 0, 12), 10, 0, 0, 1, 1, b[0], b[1], b[2], b[3], b[4], b[5], 0x41414141);
    }
    assert_goes_on(f);
}

/* BLIT of formats and boxes that do not fit each other. */
static void cve_2019_18390(struct frontend *f, gconstpointer data)
{
    static const uint32_t formats[] = {0, 1, 67, 107, 311, 312, 399, 999, UINT32_MAX};

    for (size_t i = 0; i < G_N_ELEMENTS(formats); i++) {
        /* what, scissor, to: handle, level, format, box; from: likewise */
        SEND(f, CMD(16, 0, 21), 0xff, 0, 0, 10, 0, formats[i], 0, 0, 0, UINT32_MAX, 4, 1, 10, 9, 67,
             UINT32_MAX, 0, 0, 4, UINT32_MAX, 9);
        SEND(f, CMD(16, 0, 21), 0x0f, 0, 0, 10, 0, 1, 0, 0, 0, 4, 4, 1, 10, 0, formats[i], 0, 0, 0,
             4, 4, 1);
    }
    assert_goes_on(f);
}

/* TRANSFER_TO_HOST_3D: a backing shorter than the box; strides, levels and layers that are not. */
static void cve_2019_18391(struct frontend *f, gconstpointer data)
{
    static const struct {
        struct virtio_gpu_box box;
        uint64_t offset;
        uint32_t stride, level;
    } transfers[] = {{{0, 0, 0, WIDTH, HEIGHT, 1}, 64, WIDTH * 4, 0},
                     {{0, 0, 0, WIDTH, HEIGHT, 1}, 0, UINT32_MAX, 0},
                     {{0, 0, 0, WIDTH, HEIGHT, 1}, 0, 1, 0},
                     {{0, 0, 0, WIDTH, HEIGHT, 1}, UINT64_MAX, 0, 0},
                     {{0, 0, 0, UINT32_MAX, UINT32_MAX, UINT32_MAX}, 0, 0, 0},
                     {{UINT32_MAX, UINT32_MAX, UINT32_MAX, 2, 2, 2}, 0, 0, 0},
                     {{0, 0, 0, WIDTH, HEIGHT, 1}, 0, WIDTH * 4, 14},
                     {{0, 0, 0, WIDTH, HEIGHT, 1}, 0, WIDTH * 4, UINT32_MAX},
                     {{0, 0, 5, WIDTH, HEIGHT, 7}, 0, WIDTH * 4, 0}};

    for (size_t i = 0; i < G_N_ELEMENTS(transfers); i++) {
        frontend_reset(f);
        begin_stream(f);
        memset(f->memory + FRONTEND_DATA + PIXELS, 0x66, PIXELS);
        transfer_3d(f, VIRTIO_GPU_CMD_TRANSFER_TO_HOST_3D, 10, transfers[i].box,
                    transfers[i].offset, transfers[i].stride, transfers[i].level);
        transfer_3d(f, VIRTIO_GPU_CMD_TRANSFER_FROM_HOST_3D, 10, transfers[i].box,
                    transfers[i].offset, transfers[i].stride, transfers[i].level);
        for (unsigned k = 0; k < PIXELS; k++)
            g_assert_cmpuint(f->memory[FRONTEND_DATA + PIXELS + k], ==, 0x66);
    }
    assert_goes_on(f);
}

static void unref_everywhere(struct frontend *f)
{
    const uint32_t bind[] = {CMD(1, 8, 5), 112, 12, 1, 0, 0, CMD(5, 0, 3), 1, 0, 112};
    const uint32_t draw[] = {CMD(7, 0, 8), 4, 0, 0, 0, 0, 0, 0, 0, CMD(3, 8, 1), 112};

    g_assert_cmphex(frontend_create_3d(f, 12, WIDTH, HEIGHT), ==, OK);
    g_assert_cmphex(frontend_attach(f, 12, FRONTEND_DATA, PIXELS), ==, OK);
    g_assert_cmphex(frontend_context_resource(f, VIRTIO_GPU_CMD_CTX_ATTACH_RESOURCE, 1, 12), ==,
                    OK);
    g_assert_cmphex(frontend_context_resource(f, VIRTIO_GPU_CMD_CTX_ATTACH_RESOURCE, 1, 12), ==,
                    OK);
    g_assert_cmphex(frontend_submit(f, 1, bind, G_N_ELEMENTS(bind)), ==, OK);
    g_assert_cmphex(frontend_unref(f, 12), ==, OK); /* while it is drawn into */
    g_assert_cmphex(frontend_unref(f, 12), ==, VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID);
    g_assert_cmphex(detach(f, 12), ==, VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID);
    frontend_submit(f, 1, draw, G_N_ELEMENTS(draw));
}

/* Freed twice: a resource that goes while it is attached, bound and has a backing. */
static void cve_2020_8003(struct frontend *f, gconstpointer data)
{
    begin_stream(f);
    for (unsigned i = 0; i < 50; i++)
        unref_everywhere(f);
    assert_goes_on(f);
}

/* Written behind a buffer: transfers inside of streams, with boxes beyond it. */
static void cve_2022_0135(struct frontend *f, gconstpointer data)
{
    static const uint32_t widths[] = {1, 4096, PIXELS, PIXELS + 1, 0x7fffffff, UINT32_MAX};

    for (size_t i = 0; i < G_N_ELEMENTS(widths); i++) {
        for (uint32_t direction = 0; direction < 3; direction++) {
            memset(f->memory + FRONTEND_DATA + PIXELS, 0x66, PIXELS);
            /* resource, level, usage, stride, layer stride, box, offset, direction */
            SEND(f, CMD(43, 0, 13), 10, 0, 0, 0, 0, 0, 0, 0, widths[i], 1, 1, 0, direction);
            SEND(f, CMD(43, 0, 13), 10, 0, 0, UINT32_MAX, 1, 0, 0, 0, WIDTH, HEIGHT, 1, UINT32_MAX,
                 direction);
            SEND(f, CMD(45, 0, 14), 10, 0, 0, 0, 0, 0, 0, 0, widths[i], 1, 1, 10, UINT32_MAX,
                 direction);
            for (unsigned k = 0; k < PIXELS; k++)
                g_assert_cmpuint(f->memory[FRONTEND_DATA + PIXELS + k], ==, 0x66);
        }
    }
    assert_goes_on(f);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *path;
        void (*func)(struct frontend *, gconstpointer);
    } tests[] = {
        {"/cves/qemu/CVE-2016-7994", cve_2016_7994},
        {"/cves/qemu/CVE-2016-9845", cve_2021_3545},
        {"/cves/qemu/CVE-2016-9846", cve_2016_9846},
        {"/cves/qemu/CVE-2016-10028", cve_2016_10028},
        {"/cves/qemu/CVE-2016-10029", cve_2016_10029},
        {"/cves/qemu/CVE-2021-3544", cve_2021_3544},
        {"/cves/qemu/CVE-2021-3545", cve_2021_3545},
        {"/cves/qemu/CVE-2021-3546", cve_2021_3546},
        {"/cves/qemu/CVE-2024-3446", cve_2024_3446},
        {"/cves/qemu/CVE-2026-3886", cve_2026_3886},
        {"/cves/qemu/issue-383", cve_2016_10029},
        {"/cves/qemu/blob-scanout", qemu_blob_scanout},
        {"/cves/qemu/short-backing", backing_shorter_than_resource},
        {"/cves/virgl/CVE-2016-10163", cve_2016_10163},
        {"/cves/virgl/CVE-2016-10214", cve_2016_10214},
        {"/cves/virgl/CVE-2017-5956", cve_2017_5956},
        {"/cves/virgl/CVE-2017-5957", cve_2017_5957},
        {"/cves/virgl/CVE-2017-6210", cve_2017_6210},
        {"/cves/virgl/CVE-2017-6355", cve_2017_6355},
        {"/cves/virgl/CVE-2017-6386", cve_2017_6386},
        {"/cves/virgl/CVE-2019-18388", cve_2019_18388},
        {"/cves/virgl/CVE-2019-18389", cve_2019_18389},
        {"/cves/virgl/CVE-2019-18390", cve_2019_18390},
        {"/cves/virgl/CVE-2019-18391", cve_2019_18391},
        {"/cves/virgl/CVE-2020-8003", cve_2020_8003},
        {"/cves/virgl/CVE-2022-0135", cve_2022_0135},
    };

    g_test_init(&argc, &argv, NULL);
    for (size_t i = 0; i < G_N_ELEMENTS(tests); i++)
        g_test_add(tests[i].path, struct frontend, NULL, set_up, tests[i].func, tear_down);
    return g_test_run();
}
