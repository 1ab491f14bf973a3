/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "frontend.h"

#include <glib.h>
#include <string.h>

/*
 * No byte of a host process reaches a guest. Everything that a guest can read is read twice, each
 * time from processes whose memory is filled with another value before it is used: what differs
 * was never written by anybody.
 */

#define OK      VIRTIO_GPU_RESP_OK_NODATA
#define WIDTH   24u
#define HEIGHT  20u
#define DEPTH   6u
#define AREA    (64u << 10) /* of guest memory that is read into, at FRONTEND_DATA */
#define NOTHING 0x99        /* what lies there before */

static const char *const options[] = {"--vram=256M", "--hang-ms=60000", NULL};

struct story {
    struct frontend f;
    GByteArray *bytes; /* all that was read */
    GPtrArray *pieces; /* what each AREA of it is, where it is known */
    unsigned written;  /* resources that gave something */
};

static void note(struct story *s, const void *data, size_t size)
{
    g_byte_array_append(s->bytes, data, (guint)size);
}

/* ---- answers ---- */

/* The whole room, of which an answer may take a part. */
static void note_answer(struct story *s, const void *command, size_t size)
{
    static unsigned char room[8192];
    struct frontend *f = &s->f;
    const struct vring_used_elem *used;
    size_t n;

    frontend_offer(f, command, size, NULL, 0, sizeof(room));
    n = frontend_wait(f, NULL, 0);
    used = &f->used->ring[(f->seen - 1) % FRONTEND_QUEUE];
    memcpy(room, f->memory + f->desc[used->id + 1].addr, sizeof(room));
    note(s, &n, sizeof(n));
    note(s, room, sizeof(room));
}

static void read_answers(struct story *s)
{
    const struct virtio_gpu_ctrl_hdr display = {.type = VIRTIO_GPU_CMD_GET_DISPLAY_INFO};
    const struct virtio_gpu_cmd_get_edid edid = {.hdr = {.type = VIRTIO_GPU_CMD_GET_EDID}};

    note_answer(s, &display, sizeof(display));
    note_answer(s, &edid, sizeof(edid));
    for (uint32_t i = 0; i < 4; i++) {
        const struct virtio_gpu_get_capset_info info = {
            .hdr = {.type = VIRTIO_GPU_CMD_GET_CAPSET_INFO}, .capset_index = i};
        const struct virtio_gpu_get_capset get = {.hdr = {.type = VIRTIO_GPU_CMD_GET_CAPSET,
                                                          .flags = VIRTIO_GPU_FLAG_FENCE,
                                                          .fence_id = 7},
                                                  .capset_id = i};

        note_answer(s, &info, sizeof(info));
        note_answer(s, &get, sizeof(get));
    }
    for (uint32_t type = 0x100; type < 0x320; type++) { /* what is known and what is not */
        const struct virtio_gpu_ctrl_hdr bare = {.type = type};

        note_answer(s, &bare, sizeof(bare));
    }
}

/* ---- resources that nobody has written ---- */

static void read_resource(struct story *s, const struct virtio_gpu_resource_create_3d *c)
{
    struct frontend *f = &s->f;
    struct virtio_gpu_transfer_host_3d transfer = {
        .hdr = {.type = VIRTIO_GPU_CMD_TRANSFER_FROM_HOST_3D, .flags = VIRTIO_GPU_FLAG_FENCE},
        .resource_id = c->resource_id,
        .box = {0, 0, 0, c->width, c->height, c->target == 2 ? 1 : MAX(c->depth, c->array_size)}};
    const unsigned char *area = f->memory + FRONTEND_DATA;
    unsigned changed = 0;

    if (frontend_command(f, c, sizeof(*c), NULL, 0) == OK) {
        g_assert_cmphex(frontend_attach(f, c->resource_id, FRONTEND_DATA, AREA), ==, OK);
        /* some buffers' content goes to the backing when it is attached: that is over with this */
        frontend_command(f, &transfer, sizeof(transfer), NULL, 0);
        for (uint32_t level = 0; level <= c->last_level; level++) {
            memset(f->memory + FRONTEND_DATA, NOTHING, AREA);
            transfer.level = level;
            transfer.box.w = MAX(c->width >> level, 1);
            transfer.box.h = MAX(c->height >> level, 1);
            frontend_command(f, &transfer, sizeof(transfer), NULL, 0);
            note(s, area, AREA);
            g_ptr_array_add(s->pieces, g_strdup_printf("target %u, format %u, bind 0x%x, level %u",
                                                       c->target, c->format, c->bind, level));
            for (unsigned i = 0; i < AREA; i++)
                changed += area[i] != NOTHING;
        }
        g_assert_cmphex(frontend_unref(f, c->resource_id), ==, OK);
    }
    s->written += changed > 0;
}

static struct virtio_gpu_resource_create_3d shape(uint32_t target, uint32_t format, uint32_t bind)
{
    return (struct virtio_gpu_resource_create_3d){
        .hdr = {.type = VIRTIO_GPU_CMD_RESOURCE_CREATE_3D},
        .resource_id = 10,
        .target = target,
        .format = format,
        .bind = bind,
        .width = WIDTH,
        .height = HEIGHT,
        .depth = 1,
        .array_size = 1};
}

/* As textures and, for those that are not, as targets or depth buffers. */
static void read_formats(struct story *s)
{
    static const uint32_t binds[] = {1 << 3, 1 << 1 | 1 << 3, 1 << 0 | 1 << 3};

    for (uint32_t format = 1; format < 480; format++) {
        for (size_t i = 0; i < G_N_ELEMENTS(binds); i++) {
            struct virtio_gpu_resource_create_3d c = shape(2, format, binds[i]);

            read_resource(s, &c);
        }
    }
    g_test_message("%u of the formats could be read", s->written);
    g_assert_cmpuint(s->written, >, 150);
}

/* 1D, 3D, cube, rectangle, arrays; with levels. */
static void read_targets(struct story *s)
{
    static const uint32_t formats[] = {1, 28, 31, 16, 107};

    for (uint32_t target = 1; target <= 8; target++) {
        for (size_t i = 0; i < G_N_ELEMENTS(formats); i++) {
            struct virtio_gpu_resource_create_3d c = shape(target, formats[i], 1 << 3);

            if (target == 1 || target == 6)
                c.height = 1;
            if (target == 4 || target == 8)
                c.height = c.width;
            if (target == 3)
                c.depth = DEPTH;
            if (target == 4 || target == 6 || target == 7 || target == 8)
                c.array_size = DEPTH;
            if (target != 5)
                c.last_level = 3;
            read_resource(s, &c);
        }
    }
    g_assert_cmpuint(s->written, >, 20);
}

static void read_buffers(struct story *s)
{
    static const uint32_t sizes[] = {1, 64, 4097, AREA};

    for (unsigned bit = 0; bit < 24; bit++) {
        for (size_t i = 0; i < G_N_ELEMENTS(sizes); i++) {
            struct virtio_gpu_resource_create_3d c = shape(0, 64, 1u << bit);

            c.width = sizes[i];
            c.height = 1;
            read_resource(s, &c);
        }
    }
    g_assert_cmpuint(s->written, >, 20);
}

/* Lines that are further apart than they are long: nothing is written between them. */
static void read_with_gaps(struct story *s)
{
    struct frontend *f = &s->f;
    const struct virtio_gpu_resource_create_3d c = shape(2, 1, 1 << 1 | 1 << 3);
    const struct virtio_gpu_transfer_host_3d transfer = {
        .hdr = {.type = VIRTIO_GPU_CMD_TRANSFER_FROM_HOST_3D,
                .flags = VIRTIO_GPU_FLAG_FENCE,
                .ctx_id = 1},
        .resource_id = c.resource_id,
        .stride = 512,
        .offset = 64,
        .box = {3, 2, 0, 10, 10, 1}};
    const unsigned char *area = f->memory + FRONTEND_DATA;

    g_assert_cmphex(frontend_context(f, VIRTIO_GPU_CMD_CTX_CREATE, 1), ==, OK);
    g_assert_cmphex(frontend_command(f, &c, sizeof(c), NULL, 0), ==, OK);
    g_assert_cmphex(frontend_attach(f, c.resource_id, FRONTEND_DATA, AREA), ==, OK);
    frontend_context_resource(f, VIRTIO_GPU_CMD_CTX_ATTACH_RESOURCE, 1, c.resource_id);
    memset(f->memory + FRONTEND_DATA, NOTHING, AREA);
    g_assert_cmphex(frontend_command(f, &transfer, sizeof(transfer), NULL, 0), ==, OK);
    for (unsigned i = 0; i < AREA; i++) {
        bool inside = i >= 64 && (i - 64) / 512 < 10 && (i - 64) % 512 < 40;

        g_assert_cmpuint(area[i], ==, inside ? 0 : NOTHING);
    }
    note(s, area, AREA);
}

/* A 2D resource that the renderer gets to know without its ever having had a backing. */
static void read_dumb_buffer(struct story *s)
{
    struct frontend *f = &s->f;

    g_assert_cmphex(frontend_create_2d(f, 5, WIDTH, HEIGHT), ==, OK);
    g_assert_cmphex(frontend_context(f, VIRTIO_GPU_CMD_CTX_CREATE, 1), ==, OK);
    g_assert_cmphex(frontend_context_resource(f, VIRTIO_GPU_CMD_CTX_ATTACH_RESOURCE, 1, 5), ==, OK);
    g_assert_cmphex(frontend_attach(f, 5, FRONTEND_DATA, AREA), ==, OK);
    memset(f->memory + FRONTEND_DATA, NOTHING, AREA);
    g_assert_cmphex(frontend_transfer(f, VIRTIO_GPU_CMD_TRANSFER_FROM_HOST_3D, 1, 5, WIDTH, HEIGHT),
                    ==, OK);
    for (unsigned i = 0; i < WIDTH * HEIGHT * 4; i++)
        g_assert_cmpuint(f->memory[FRONTEND_DATA + i], ==, 0);
    note(s, f->memory + FRONTEND_DATA, AREA);
}

#define CMD(op, object, length)                                                                    \
    ((uint32_t)(op) | (uint32_t)(object) << 8 | (uint32_t)(length) << 16)

/* Results of queries that never ran, and of one that did. */
static void read_queries(struct story *s)
{
    struct frontend *f = &s->f;

    for (uint32_t type = 0; type < 12; type++) {
        const uint32_t stream[] = {CMD(29, 0, 1),
                                   1,
                                   CMD(28, 0, 1),
                                   1,
                                   CMD(1, 9, 4),
                                   40,
                                   type,
                                   0,
                                   10,
                                   CMD(21, 0, 2),
                                   40,
                                   0};
        const uint32_t counted[] = {CMD(19, 0, 1), 40, CMD(20, 0, 1), 40, CMD(21, 0, 2), 40, 1};

        frontend_reset(f);
        frontend_start_drawing(f, 1, 10);
        memset(f->memory + FRONTEND_DATA, NOTHING, AREA);
        frontend_submit(f, 1, stream, G_N_ELEMENTS(stream));
        if (type == 0) /* not those that tell a time */
            frontend_submit(f, 1, counted, G_N_ELEMENTS(counted));
        note(s, f->memory + FRONTEND_DATA, AREA);
    }
}

/* ---- twice ---- */

static void tell(struct story *s, const char *renderer, const char *poison,
                 void (*func)(struct story *s))
{
    *s = (struct story){.bytes = g_byte_array_new(),
                        .pieces = g_ptr_array_new_with_free_func(g_free)};
    g_setenv("GPUP_TEST_RENDER", renderer, true);
    g_setenv("MALLOC_PERTURB_", poison, true);
    frontend_start(&s->f, options);
    func(s);
    frontend_stop(&s->f);
}

static void assert_same(const struct story *a, const struct story *b)
{
    unsigned found = 0;

    g_assert_cmpuint(a->bytes->len, ==, b->bytes->len);
    for (guint i = 0; i < a->bytes->len; i++) {
        guint piece = i / AREA;

        if (a->bytes->data[i] == b->bytes->data[i])
            continue;
        g_test_message("byte %u of %s: 0x%02x and 0x%02x", i % AREA,
                       piece < a->pieces->len ? (char *)a->pieces->pdata[piece] : "what was read",
                       a->bytes->data[i], b->bytes->data[i]);
        found++;
        i = (piece + 1) * AREA - 1;
    }
    g_assert_cmpuint(found, ==, 0);
}

static void compare(gconstpointer func)
{
    struct story a, b;

    tell(&a, g_getenv("GPUP_TEST_RENDER_A"), "90", func);
    tell(&b, g_getenv("GPUP_TEST_RENDER_B"), "51", func);
    assert_same(&a, &b);
    g_byte_array_unref(a.bytes);
    g_byte_array_unref(b.bytes);
    g_ptr_array_unref(a.pieces);
    g_ptr_array_unref(b.pieces);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *path;
        void (*func)(struct story *s);
    } tests[] = {
        {"/poison/answers", read_answers}, {"/poison/formats", read_formats},
        {"/poison/targets", read_targets}, {"/poison/buffers", read_buffers},
        {"/poison/gaps", read_with_gaps},  {"/poison/2d", read_dumb_buffer},
        {"/poison/queries", read_queries},
    };

    g_test_init(&argc, &argv, NULL);
    for (size_t i = 0; i < G_N_ELEMENTS(tests); i++)
        g_test_add_data_func(tests[i].path, (gconstpointer)tests[i].func, compare);
    return g_test_run();
}
