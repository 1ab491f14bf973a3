/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "viewer.h"

#include "vgpu/display_message.h"

#include <signal.h>
#include <string.h>

/* What the guest shows reaches QEMU's display: by pixels, whatever the order of events. */

#define OK     VIRTIO_GPU_RESP_OK_NODATA
#define WIDTH  320u
#define HEIGHT 200u
#define BYTES  (WIDTH * HEIGHT * 4)

struct fixture {
    struct frontend frontend;
    struct viewer viewer;
};

static const char *const options[] = {"--vram=64M", "--hang-ms=60000", "--display", NULL};

static void set_up(struct fixture *x, gconstpointer data)
{
    frontend_start(&x->frontend, options);
    viewer_start(&x->viewer, &x->frontend, 0);
}

static void tear_down(struct fixture *x, gconstpointer data)
{
    viewer_stop(&x->viewer);
    frontend_stop(&x->frontend);
}

static void set_scanout(struct frontend *f, uint32_t resource, uint32_t x, uint32_t y,
                        uint32_t width, uint32_t height, uint32_t expected)
{
    struct virtio_gpu_set_scanout c = {.hdr = {.type = VIRTIO_GPU_CMD_SET_SCANOUT},
                                       .r = {x, y, width, height},
                                       .resource_id = resource};

    g_assert_cmphex(frontend_command(f, &c, sizeof(c), NULL, 0), ==, expected);
}

static void flush(struct frontend *f, uint32_t resource, uint32_t x, uint32_t y, uint32_t width,
                  uint32_t height)
{
    struct virtio_gpu_resource_flush c = {.hdr = {.type = VIRTIO_GPU_CMD_RESOURCE_FLUSH},
                                          .r = {x, y, width, height},
                                          .resource_id = resource};

    g_assert_cmphex(frontend_command(f, &c, sizeof(c), NULL, 0), ==, OK);
}

static void transfer(struct frontend *f, uint32_t resource, uint32_t y, uint32_t height)
{
    struct virtio_gpu_transfer_to_host_2d c = {.hdr = {.type = VIRTIO_GPU_CMD_TRANSFER_TO_HOST_2D},
                                               .r = {0, y, WIDTH, height},
                                               .offset = (uint64_t)y * WIDTH * 4,
                                               .resource_id = resource};

    g_assert_cmphex(frontend_command(f, &c, sizeof(c), NULL, 0), ==, OK);
}

static uint32_t colour_at(uint32_t seed, uint32_t i)
{
    return (seed * 0x010305u + i * 7) & 0xffffff;
}

/* The guest draws lines [y, y + height) into its buffer. */
static void draw(struct frontend *f, uint32_t seed, uint32_t y, uint32_t height)
{
    uint32_t *pixels = (uint32_t *)(void *)(f->memory + FRONTEND_DATA);

    for (uint32_t i = y * WIDTH; i < (y + height) * WIDTH; i++)
        pixels[i] = colour_at(seed, i);
}

static void make_buffer(struct frontend *f, uint32_t resource)
{
    g_assert_cmphex(frontend_create_2d(f, resource, WIDTH, HEIGHT), ==, OK);
    g_assert_cmphex(frontend_attach(f, resource, FRONTEND_DATA, BYTES), ==, OK);
}

/* seed: what the picture was drawn with. */
static bool shows(struct viewer *v, const void *data)
{
    uint32_t seed = *(const uint32_t *)data;

    if (v->width != WIDTH || v->height != HEIGHT)
        return false;
    for (uint32_t i = 0; i < WIDTH * HEIGHT; i++) {
        if ((v->pixels[i] & 0xffffff) != colour_at(seed, i))
            return false;
    }
    return true;
}

static bool shows_nothing(struct viewer *v, const void *data)
{
    return v->scanouts > 0 && v->width == 0;
}

static void show(struct fixture *x, uint32_t seed)
{
    draw(&x->frontend, seed, 0, HEIGHT);
    transfer(&x->frontend, 5, 0, HEIGHT);
    flush(&x->frontend, 5, 0, 0, WIDTH, HEIGHT);
    viewer_wait(&x->viewer, shows, &seed);
}

/* The guest is told the head that QEMU has, as information and as EDID. */
static void head(struct fixture *x, gconstpointer data)
{
    struct virtio_gpu_ctrl_hdr ask = {.type = VIRTIO_GPU_CMD_GET_DISPLAY_INFO};
    struct virtio_gpu_cmd_get_edid ask_edid = {.hdr = {.type = VIRTIO_GPU_CMD_GET_EDID}};
    struct virtio_gpu_resp_display_info info;
    struct virtio_gpu_resp_edid edid;

    g_assert_cmphex(frontend_command(&x->frontend, &ask, sizeof(ask), &info, sizeof(info)), ==,
                    VIRTIO_GPU_RESP_OK_DISPLAY_INFO);
    g_assert_cmpuint(info.pmodes[0].enabled, ==, 1);
    g_assert_cmpuint(info.pmodes[0].r.width, ==, VIEWER_WIDTH);
    g_assert_cmpuint(info.pmodes[0].r.height, ==, VIEWER_HEIGHT);
    g_assert_cmpuint(info.pmodes[1].enabled, ==, 0);
    g_assert_cmphex(
        frontend_command(&x->frontend, &ask_edid, sizeof(ask_edid), &edid, sizeof(edid)), ==,
        VIRTIO_GPU_RESP_OK_EDID);
    g_assert_cmpuint(edid.edid[56] | (edid.edid[58] >> 4) << 8, ==, VIEWER_WIDTH);
    g_assert_cmpuint(edid.edid[59] | (edid.edid[61] >> 4) << 8, ==, VIEWER_HEIGHT);
}

/* A viewer that does not answer costs a second, not the guest's boot. */
static void silent_viewer(struct fixture *x, gconstpointer data)
{
    struct virtio_gpu_ctrl_hdr ask = {.type = VIRTIO_GPU_CMD_GET_DISPLAY_INFO};
    struct virtio_gpu_resp_display_info info;
    struct viewer second;
    gint64 start;

    viewer_start(&second, &x->frontend, 0);
    viewer_stop(&second);
    viewer_start(&second, &x->frontend, 0);
    g_mutex_lock(&second.lock);
    second.silent = true;
    g_mutex_unlock(&second.lock);
    start = g_get_monotonic_time();
    g_assert_cmphex(frontend_command(&x->frontend, &ask, sizeof(ask), &info, sizeof(info)), ==,
                    VIRTIO_GPU_RESP_OK_DISPLAY_INFO);
    g_assert_cmpint(g_get_monotonic_time() - start, <, 30 * G_TIME_SPAN_SECOND);
    g_assert_cmpuint(info.pmodes[0].enabled, ==, 1);
    viewer_stop(&second);
}

static void pictures(struct fixture *x, gconstpointer data)
{
    struct frontend *f = &x->frontend;
    uint32_t seed = 1;
    uint64_t bytes;

    make_buffer(f, 5);
    draw(f, 1, 0, HEIGHT);
    transfer(f, 5, 0, HEIGHT);
    set_scanout(f, 5, 0, 0, WIDTH, HEIGHT, OK); /* shows at once: no flush is due */
    viewer_wait(&x->viewer, shows, &seed);
    show(x, 2);
    /* a part only; what was not transferred stays */
    bytes = x->viewer.bytes;
    draw(f, 2, 0, HEIGHT);
    transfer(f, 5, 50, 10);
    flush(f, 5, 0, 50, WIDTH, 10);
    show(x, 3);
    g_assert_cmpuint(x->viewer.bytes - bytes, <=, BYTES + WIDTH * 10 * 4);
    g_assert_cmpuint(x->viewer.scanouts, ==, 1);
    /* off, and on again */
    set_scanout(f, 0, 0, 0, 0, 0, OK);
    viewer_wait(&x->viewer, shows_nothing, NULL);
    set_scanout(f, 5, 0, 0, WIDTH, HEIGHT, OK);
    show(x, 4);
    /* a resource that goes is not shown any more */
    g_assert_cmphex(frontend_unref(f, 5), ==, OK);
    viewer_wait(&x->viewer, shows_nothing, NULL);
}

static bool shows_part(struct viewer *v, const void *data)
{
    if (v->width != 100 || v->height != 50)
        return false;
    for (uint32_t i = 0; i < 100 * 50; i++) {
        uint32_t at = (i / 100 + 20) * WIDTH + i % 100 + 10;

        if ((v->pixels[i] & 0xffffff) != colour_at(9, at))
            return false;
    }
    return true;
}

/* A part of a resource: its other parts do not show, nor do rectangles that lie outside. */
static void part(struct fixture *x, gconstpointer data)
{
    struct frontend *f = &x->frontend;

    make_buffer(f, 5);
    set_scanout(f, 5, 10, 20, 100, 50, OK);
    draw(f, 9, 0, HEIGHT);
    transfer(f, 5, 0, HEIGHT);
    flush(f, 5, 0, 0, 5, 5);
    flush(f, 5, 200, 100, 100, 100);
    flush(f, 5, 0, 0, WIDTH, HEIGHT);
    viewer_wait(&x->viewer, shows_part, NULL);
    set_scanout(f, 5, 10, 20, WIDTH, 50, VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
    set_scanout(f, 5, UINT32_MAX, 20, 2, 50, VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
    set_scanout(f, 77, 0, 0, 1, 1, VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID);
}

/* stop and cont: the new socket gets all. */
static void stop_and_cont(struct fixture *x, gconstpointer data)
{
    uint32_t seed = 6;

    make_buffer(&x->frontend, 5);
    set_scanout(&x->frontend, 5, 0, 0, WIDTH, HEIGHT, OK);
    show(x, 6);
    frontend_pause(&x->frontend);
    viewer_stop(&x->viewer);
    viewer_start(&x->viewer, &x->frontend, 0);
    frontend_resume(&x->frontend);
    viewer_wait(&x->viewer, shows, &seed);
    show(x, 7);
}

static void reset(struct fixture *x, gconstpointer data)
{
    make_buffer(&x->frontend, 5);
    set_scanout(&x->frontend, 5, 0, 0, WIDTH, HEIGHT, OK);
    show(x, 6);
    frontend_reset(&x->frontend);
    viewer_wait(&x->viewer, shows_nothing, NULL);
    make_buffer(&x->frontend, 5);
    set_scanout(&x->frontend, 5, 0, 0, WIDTH, HEIGHT, OK);
    show(x, 8);
}

/* A viewer that takes nothing does not hold the guest up, and gets the last picture at the end. */
static void slow_viewer(struct fixture *x, gconstpointer data)
{
    struct frontend *f = &x->frontend;
    uint32_t seed = 60;

    make_buffer(f, 5);
    set_scanout(f, 5, 0, 0, WIDTH, HEIGHT, OK);
    g_mutex_lock(&x->viewer.lock); /* it stops at the next message */
    for (uint32_t i = 1; i <= 60; i++) {
        draw(f, i, 0, HEIGHT);
        transfer(f, 5, 0, HEIGHT);
        flush(f, 5, 0, 0, WIDTH, HEIGHT);
    }
    g_mutex_unlock(&x->viewer.lock);
    viewer_wait(&x->viewer, shows, &seed);
    g_assert_cmpuint(x->viewer.bytes, <, 10 * BYTES);
}

static bool shows_blue(struct viewer *v, const void *data)
{
    if (v->width != WIDTH || v->height != HEIGHT)
        return false;
    for (uint32_t i = 0; i < WIDTH * HEIGHT; i++) {
        if ((v->pixels[i] & 0xffffff) != 0x0000ff)
            return false;
    }
    return true;
}

/* What was rendered is read back; after the renderer's death its picture stays, and new ones come.
 */
static void rendered(struct fixture *x, gconstpointer data)
{
    static const float blue[4] = {0, 0, 1, 1};
    struct frontend *f = &x->frontend;
    uint32_t seed = 3;

    for (uint32_t round = 0; round < 2; round++) {
        g_assert_cmphex(frontend_context(f, VIRTIO_GPU_CMD_CTX_CREATE, 1), ==, OK);
        g_assert_cmphex(frontend_create_3d(f, 10, WIDTH, HEIGHT), ==, OK);
        g_assert_cmphex(frontend_context_resource(f, VIRTIO_GPU_CMD_CTX_ATTACH_RESOURCE, 1, 10), ==,
                        OK);
        set_scanout(f, 10, 0, 0, WIDTH, HEIGHT, OK);
        g_assert_cmphex(frontend_clear(f, 1, 10, blue), ==, OK);
        flush(f, 10, 0, 0, WIDTH, HEIGHT);
        viewer_wait(&x->viewer, shows_blue, NULL);
        g_assert_cmpint(kill(frontend_renderer(f), SIGKILL), ==, 0);
        g_assert_cmphex(frontend_unref(f, 10), ==, OK);
        g_assert_cmphex(frontend_context(f, VIRTIO_GPU_CMD_CTX_DESTROY, 1), ==, OK);
        viewer_wait(&x->viewer, shows_nothing, NULL);
    }
    make_buffer(f, 5);
    set_scanout(f, 5, 0, 0, WIDTH, HEIGHT, OK);
    draw(f, 3, 0, HEIGHT);
    transfer(f, 5, 0, HEIGHT);
    flush(f, 5, 0, 0, WIDTH, HEIGHT);
    viewer_wait(&x->viewer, shows, &seed);
}

/* ---- the cursor ---- */

static void make_other(struct frontend *f, uint32_t id, uint32_t target, uint32_t width,
                       uint32_t height)
{
    struct virtio_gpu_resource_create_3d c = {.hdr = {.type = VIRTIO_GPU_CMD_RESOURCE_CREATE_3D},
                                              .resource_id = id,
                                              .target = target,
                                              .format = 1,     /* B8G8R8A8_UNORM */
                                              .bind = 1u << 3, /* sampler view */
                                              .width = width,
                                              .height = height,
                                              .depth = 1,
                                              .array_size = 1};

    g_assert_cmphex(frontend_command(f, &c, sizeof(c), NULL, 0), ==, OK);
}

/* What is no picture is not shown: a buffer may be wider than a message to QEMU holds pixels, and
 * virglrenderer ends when it is to read pixels of one. */
static void no_picture(struct fixture *x, gconstpointer data)
{
    const uint32_t invalid = VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER;
    struct frontend *f = &x->frontend;

    frontend_start_drawing(f, 1, 10);
    make_other(f, 7, 0, 1 << 20, 1); /* a buffer */
    make_other(f, 8, 2, 1 << 20, 1); /* a texture that no driver makes */
    set_scanout(f, 7, 0, 0, 1 << 20, 1, invalid);
    set_scanout(f, 7, 0, 0, 64, 1, invalid);
    set_scanout(f, 8, 0, 0, 1 << 20, 1, invalid);
    make_other(f, 9, 0, 1 << 14, 64);
    frontend_cursor(f, VIRTIO_GPU_CMD_UPDATE_CURSOR, 9, 0, 0, 0, 0);
    make_buffer(f, 5);
    set_scanout(f, 5, 0, 0, WIDTH, HEIGHT, OK);
    show(x, 3);
    frontend_assert_draws(f, 1, 10); /* the renderer is still the first one */
}

static bool cursor_is_shaped(struct viewer *v, const void *data)
{
    uint32_t colour = *(const uint32_t *)data;

    return v->cursor_visible && v->cursor[0] == colour && v->cursor[64 * 64 - 1] == colour;
}

static bool cursor_is_at(struct viewer *v, const void *data)
{
    uint32_t x = *(const uint32_t *)data;

    return v->cursor_visible && v->cursor_x == x && v->cursor_y == x + 1;
}

static bool cursor_is_hidden(struct viewer *v, const void *data)
{
    return !v->cursor_visible;
}

static void cursor(struct fixture *x, gconstpointer data)
{
    static const float red[4] = {1, 0, 0, 1};
    const uint32_t green_argb = 0x8000ff00, red_argb = 0xffff0000;
    struct frontend *f = &x->frontend;
    uint32_t *pixels = (uint32_t *)(void *)(f->memory + FRONTEND_DATA);
    uint32_t at = 40;
    struct virtio_gpu_transfer_to_host_2d c = {
        .hdr = {.type = VIRTIO_GPU_CMD_TRANSFER_TO_HOST_2D}, .r = {0, 0, 64, 64}, .resource_id = 7};

    /* before anything is shown: kept until QEMU has a scanout for it */
    g_assert_cmphex(frontend_create_2d(f, 7, 64, 64), ==, OK);
    g_assert_cmphex(frontend_attach(f, 7, FRONTEND_DATA, 64 * 64 * 4), ==, OK);
    for (unsigned i = 0; i < 64 * 64; i++)
        pixels[i] = green_argb;
    g_assert_cmphex(frontend_command(f, &c, sizeof(c), NULL, 0), ==, OK);
    frontend_cursor(f, VIRTIO_GPU_CMD_UPDATE_CURSOR, 7, 30, 31, 3, 4);
    make_buffer(f, 5);
    set_scanout(f, 5, 0, 0, WIDTH, HEIGHT, OK);
    viewer_wait(&x->viewer, cursor_is_shaped, &green_argb);
    g_assert_cmpuint(x->viewer.hot_x, ==, 3);
    g_assert_cmpuint(x->viewer.hot_y, ==, 4);
    frontend_cursor(f, VIRTIO_GPU_CMD_MOVE_CURSOR, 0, 40, 41, 0, 0);
    viewer_wait(&x->viewer, cursor_is_at, &at);
    /* one that was rendered */
    g_assert_cmphex(frontend_context(f, VIRTIO_GPU_CMD_CTX_CREATE, 1), ==, OK);
    g_assert_cmphex(frontend_create_3d(f, 10, 64, 64), ==, OK);
    g_assert_cmphex(frontend_context_resource(f, VIRTIO_GPU_CMD_CTX_ATTACH_RESOURCE, 1, 10), ==,
                    OK);
    g_assert_cmphex(frontend_clear(f, 1, 10, red), ==, OK);
    frontend_cursor(f, VIRTIO_GPU_CMD_UPDATE_CURSOR, 10, 50, 51, 0, 0);
    viewer_wait(&x->viewer, cursor_is_shaped, &red_argb);
    /* hidden; and nonsense does no harm */
    frontend_cursor(f, VIRTIO_GPU_CMD_UPDATE_CURSOR, 0, 0, 0, 0, 0);
    viewer_wait(&x->viewer, cursor_is_hidden, NULL);
    frontend_cursor(f, VIRTIO_GPU_CMD_UPDATE_CURSOR, 4711, 0, 0, UINT32_MAX, UINT32_MAX);
    frontend_cursor(f, 0x999, 7, 0, 0, 0, 0);
    make_buffer(f, 6);
}

/* ---- without a copy ---- */

#define SHARED_WIDTH  400u
#define SHARED_HEIGHT 300u
#define UNSHARED      20u /* tests/frontend/fake_render.c */
#define SHORT         21u
#define ENDLESS       22u
#define TIMES(n)      (&(const unsigned){n})

static void set_up_shared(struct fixture *x, gconstpointer data)
{
    g_autofree char *renderer = g_strdup_printf("--renderer=%s", g_getenv("GPUP_TEST_FAKE_RENDER"));
    const char *argv[] = {g_getenv("GPUP_TEST_VGPU"), renderer,         "--vram=64M",
                          "--display=dmabuf",         "--hang-ms=1000", NULL};

    frontend_start_backend(&x->frontend, argv);
    viewer_start(&x->viewer, &x->frontend, GPOINTER_TO_UINT(data));
}

static bool has_dmabufs(struct viewer *v, const void *data)
{
    return v->dmabufs == *(const unsigned *)data;
}

static bool has_dmabuf_updates(struct viewer *v, const void *data)
{
    return v->dmabuf_updates >= *(const unsigned *)data;
}

static void make_rendered(struct frontend *f, uint32_t resource)
{
    g_assert_cmphex(frontend_create_3d(f, resource, SHARED_WIDTH, SHARED_HEIGHT), ==, OK);
}

/* A guest that flips between two buffers: each is exported once, shown each time. */
static void shared(struct fixture *x, gconstpointer data)
{
    struct frontend *f = &x->frontend;

    make_rendered(f, 10);
    make_rendered(f, 11);
    for (unsigned i = 1; i <= 6; i++) {
        uint32_t id = 10 + i % 2;

        set_scanout(f, id, 0, 0, SHARED_WIDTH, SHARED_HEIGHT, OK);
        viewer_wait(&x->viewer, has_dmabufs, &i);
        flush(f, id, 0, 0, SHARED_WIDTH, SHARED_HEIGHT);
        viewer_wait(&x->viewer, has_dmabuf_updates, &i);
    }
    g_assert_cmpuint(x->viewer.dmabuf_width, ==, SHARED_WIDTH);
    g_assert_cmpuint(x->viewer.dmabuf_height, ==, SHARED_HEIGHT);
    g_assert_cmpuint(x->viewer.dmabuf_stride, ==, SHARED_WIDTH * 4 + 256);
    g_assert_cmphex(x->viewer.dmabuf_fourcc, ==, 0x34325258);
    g_assert_cmpuint(x->viewer.updates, ==, 0);
    /* one that is written goes by pixels; the shared one is taken back first */
    make_buffer(f, 5);
    set_scanout(f, 5, 0, 0, WIDTH, HEIGHT, OK);
    show(x, 4);
    g_assert_cmpint(x->viewer.dmabuf, ==, -1);
    /* and back, on a new socket */
    set_scanout(f, 10, 0, 0, SHARED_WIDTH, SHARED_HEIGHT, OK);
    viewer_wait(&x->viewer, has_dmabufs, TIMES(8));
    frontend_pause(f);
    viewer_stop(&x->viewer);
    viewer_start(&x->viewer, f, GPOINTER_TO_UINT(data));
    frontend_resume(f);
    viewer_wait(&x->viewer, has_dmabufs, TIMES(1));
    g_assert_cmphex(frontend_unref(f, 10), ==, OK);
    viewer_wait(&x->viewer, has_dmabufs, TIMES(2));
    g_assert_cmpint(x->viewer.dmabuf, ==, -1);
}

static bool has_shared_size(struct viewer *v, const void *data)
{
    return v->width == SHARED_WIDTH && v->height == SHARED_HEIGHT && v->updates > 0;
}

/* What the driver does not share, or shares wrongly, goes by pixels. */
static void not_shared(struct fixture *x, gconstpointer data)
{
    make_rendered(&x->frontend, UNSHARED);
    set_scanout(&x->frontend, UNSHARED, 0, 0, SHARED_WIDTH, SHARED_HEIGHT, OK);
    viewer_wait(&x->viewer, has_shared_size, NULL);
    g_assert_cmpuint(x->viewer.dmabufs, ==, 0);
}

static void wrongly_shared(struct fixture *x, gconstpointer data)
{
    make_rendered(&x->frontend, SHORT);
    set_scanout(&x->frontend, SHORT, 0, 0, SHARED_WIDTH, SHARED_HEIGHT, OK);
    viewer_wait(&x->viewer, has_shared_size, NULL);
    g_assert_cmpuint(x->viewer.dmabufs, ==, 0);
}

/* Work on the GPU that does not end, while the renderer goes on answering commands. */
static void endless(struct fixture *x, gconstpointer data)
{
    struct frontend *f = &x->frontend;
    const struct virtio_gpu_transfer_host_3d fenced = {
        .hdr = {.type = VIRTIO_GPU_CMD_TRANSFER_TO_HOST_3D,
                .flags = VIRTIO_GPU_FLAG_FENCE,
                .fence_id = 1},
        .box = {.w = 1, .h = 1, .d = 1},
        .resource_id = ENDLESS};
    struct virtio_gpu_ctrl_hdr reply = {0};
    unsigned answered = 0;

    make_rendered(f, ENDLESS);
    g_assert_cmphex(frontend_attach(f, ENDLESS, FRONTEND_DATA, 4096), ==, OK);
    frontend_offer(f, &fenced, sizeof(fenced), NULL, 0, sizeof(reply));
    /* Each unref is answered by the renderer: it is not stuck. The fence's answer ends this; its
       place in the queue must not come round again before. */
    for (; reply.fence_id == 0; answered++) {
        const struct virtio_gpu_resource_create_3d create = {
            .hdr = {.type = VIRTIO_GPU_CMD_RESOURCE_CREATE_3D},
            .resource_id = 100,
            .target = 2,
            .format = 1,
            .width = 1,
            .height = 1,
            .depth = 1,
            .array_size = 1};
        const struct virtio_gpu_resource_unref unref = {
            .hdr = {.type = VIRTIO_GPU_CMD_RESOURCE_UNREF}, .resource_id = 100};
        bool room = answered < FRONTEND_QUEUE / 4 - 1;

        if (room) {
            g_usleep(60000);
            frontend_offer(f, &create, sizeof(create), NULL, 0, sizeof(reply));
            frontend_offer(f, &unref, sizeof(unref), NULL, 0, sizeof(reply));
        }
        for (unsigned i = 0; i < (room ? 2 : 1) && reply.fence_id == 0; i++)
            frontend_wait(f, &reply, sizeof(reply));
    }
    g_assert_cmpuint(answered, >, 2);
    g_assert_cmphex(reply.type, ==, VIRTIO_GPU_RESP_ERR_UNSPEC);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(path, func) g_test_add("/display/" path, struct fixture, NULL, set_up, func, tear_down)
    ADD("head", head);
    ADD("silent-viewer", silent_viewer);
    ADD("pictures", pictures);
    ADD("part", part);
    ADD("stop-and-cont", stop_and_cont);
    ADD("reset", reset);
    ADD("slow-viewer", slow_viewer);
    ADD("rendered", rendered);
    ADD("no-picture", no_picture);
    ADD("cursor", cursor);
#define ADD_SHARED(path, features, func)                                                           \
    g_test_add("/display/" path, struct fixture, GUINT_TO_POINTER(features), set_up_shared, func,  \
               tear_down)
    ADD_SHARED("shared", 0u, shared);
    ADD_SHARED("shared-with-order", (unsigned)DISPLAY_F_DMABUF2, shared);
    ADD_SHARED("not-shared", 0u, not_shared);
    ADD_SHARED("wrongly-shared", 0u, wrongly_shared);
    ADD_SHARED("endless", 0u, endless);
    return g_test_run();
}
