/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "viewer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*
 * vgpu-case CASE SECONDS PROGRAM [ARGUMENT...]
 *
 * Starts a vhost-user GPU back-end, drives it as QEMU and a guest's driver do, and prints one
 * figure: of which unit, tells the table below.
 */

#define OK     VIRTIO_GPU_RESP_OK_NODATA
#define DEPTH  16u /* commands in flight */
#define SMALL  32u
#define LARGE  16384u /* dwords of a stream */
#define WIDTH  1920u
#define HEIGHT 1080u

struct bench {
    struct frontend f;
    struct viewer viewer;
    gint64 started; /* us */
    double seconds;
};

static double elapsed(gint64 since)
{
    return (double)(g_get_monotonic_time() - since) / G_USEC_PER_SEC;
}

/* What a driver asks first; it waits for the answer. */
static void first_command(struct frontend *f)
{
    struct virtio_gpu_get_capset_info info = {.hdr = {.type = VIRTIO_GPU_CMD_GET_CAPSET_INFO}};
    struct virtio_gpu_resp_capset_info reply;

    g_assert_cmphex(frontend_command(f, &info, sizeof(info), &reply, sizeof(reply)), ==,
                    VIRTIO_GPU_RESP_OK_CAPSET_INFO);
}

static double start(struct bench *b)
{
    first_command(&b->f);
    return elapsed(b->started) * 1000;
}

/* One command at a time, answered before the next is sent. */
static double query(struct bench *b)
{
    gint64 since;
    unsigned n = 0;

    first_command(&b->f);
    since = g_get_monotonic_time();
    for (; elapsed(since) < b->seconds; n++)
        first_command(&b->f);
    return n / elapsed(since);
}

/* The life of a dumb buffer. */
static double dumb(struct bench *b)
{
    struct virtio_gpu_resource_detach_backing detach = {
        .hdr = {.type = VIRTIO_GPU_CMD_RESOURCE_DETACH_BACKING}, .resource_id = 5};
    gint64 since;
    unsigned n = 0;

    first_command(&b->f);
    since = g_get_monotonic_time();
    for (; elapsed(since) < b->seconds; n += 4) {
        g_assert_cmphex(frontend_create_2d(&b->f, 5, 64, 64), ==, OK);
        g_assert_cmphex(frontend_attach(&b->f, 5, FRONTEND_DATA, 64 * 64 * 4), ==, OK);
        g_assert_cmphex(frontend_command(&b->f, &detach, sizeof(detach), NULL, 0), ==, OK);
        g_assert_cmphex(frontend_unref(&b->f, 5), ==, OK);
    }
    return n / elapsed(since);
}

/* Commands that are not waited for, DEPTH in flight. */
static double flow(struct bench *b)
{
    struct virtio_gpu_get_capset_info info = {.hdr = {.type = VIRTIO_GPU_CMD_GET_CAPSET_INFO}};
    gint64 since;
    unsigned n = 0;

    first_command(&b->f);
    since = g_get_monotonic_time();
    for (unsigned i = 0; i < DEPTH; i++)
        frontend_offer(&b->f, &info, sizeof(info), NULL, 0, 64);
    for (; elapsed(since) < b->seconds; n++) {
        frontend_wait(&b->f, NULL, 0);
        frontend_offer(&b->f, &info, sizeof(info), NULL, 0, 64);
    }
    for (unsigned i = 0; i < DEPTH; i++)
        frontend_wait(&b->f, NULL, 0);
    return n / elapsed(since);
}

static void start_drawing(struct bench *b)
{
    first_command(&b->f);
    g_assert_cmphex(frontend_context(&b->f, VIRTIO_GPU_CMD_CTX_CREATE, 1), ==, OK);
    g_assert_cmphex(frontend_create_3d(&b->f, 10, 64, 64), ==, OK);
    g_assert_cmphex(frontend_context_resource(&b->f, VIRTIO_GPU_CMD_CTX_ATTACH_RESOURCE, 1, 10), ==,
                    OK);
    g_assert_cmphex(frontend_clear(&b->f, 1, 10, (const float[]){0, 0, 1, 1}), ==, OK);
}

/* Streams of state changes: fenced, as the kernel's driver does it, DEPTH in flight. */
static double submit(struct bench *b, uint32_t dwords)
{
    enum {
        SET_BLEND_COLOR = 14
    };
    struct virtio_gpu_cmd_submit c = {
        .hdr = {.type = VIRTIO_GPU_CMD_SUBMIT_3D, .flags = VIRTIO_GPU_FLAG_FENCE, .ctx_id = 1},
        .size = dwords * 4};
    g_autofree uint32_t *stream = g_new0(uint32_t, dwords);
    unsigned n = 0, inflight = 0;
    gint64 since;

    for (uint32_t i = 0; i + 5 <= dwords; i += 5)
        stream[i] = SET_BLEND_COLOR | 4u << 16;
    for (uint32_t i = dwords / 5 * 5; i < dwords; i++)
        stream[i] = 0; /* NOP */
    start_drawing(b);
    since = g_get_monotonic_time();
    while (elapsed(since) < b->seconds) {
        while (inflight < DEPTH) {
            c.hdr.fence_id = ++b->f.fence;
            frontend_offer(&b->f, &c, sizeof(c), stream, dwords * 4, 64);
            inflight++;
        }
        frontend_wait(&b->f, NULL, 0);
        inflight--;
        n++;
    }
    for (; inflight > 0; inflight--)
        frontend_wait(&b->f, NULL, 0);
    return n / elapsed(since);
}

static double small(struct bench *b)
{
    return submit(b, SMALL);
}

static double large(struct bench *b)
{
    return submit(b, LARGE);
}

static bool has_update(struct viewer *v, const void *data)
{
    return v->bytes >= *(const uint64_t *)data;
}

/* A whole picture transferred and flushed, until the viewer has it. */
static double picture(struct bench *b)
{
    struct virtio_gpu_transfer_to_host_2d t = {.hdr = {.type = VIRTIO_GPU_CMD_TRANSFER_TO_HOST_2D},
                                               .r = {0, 0, WIDTH, HEIGHT},
                                               .resource_id = 5};
    struct virtio_gpu_set_scanout s = {
        .hdr = {.type = VIRTIO_GPU_CMD_SET_SCANOUT}, .r = {0, 0, WIDTH, HEIGHT}, .resource_id = 5};
    struct virtio_gpu_resource_flush flush = {.hdr = {.type = VIRTIO_GPU_CMD_RESOURCE_FLUSH},
                                              .r = {0, 0, WIDTH, HEIGHT},
                                              .resource_id = 5};
    const uint64_t size = (uint64_t)WIDTH * HEIGHT * 4;
    uint64_t want = 0;
    unsigned n = 0;
    gint64 since;

    g_assert_cmphex(frontend_create_2d(&b->f, 5, WIDTH, HEIGHT), ==, OK);
    g_assert_cmphex(frontend_attach(&b->f, 5, FRONTEND_DATA, (uint32_t)size), ==, OK);
    g_assert_cmphex(frontend_command(&b->f, &s, sizeof(s), NULL, 0), ==, OK);
    g_assert_cmphex(frontend_command(&b->f, &flush, sizeof(flush), NULL, 0), ==, OK);
    want = size;
    viewer_wait(&b->viewer, has_update, &want);
    since = g_get_monotonic_time();
    for (; elapsed(since) < b->seconds; n++) {
        g_mutex_lock(&b->viewer.lock);
        want = b->viewer.bytes + size;
        g_mutex_unlock(&b->viewer.lock);
        g_assert_cmphex(frontend_command(&b->f, &t, sizeof(t), NULL, 0), ==, OK);
        g_assert_cmphex(frontend_command(&b->f, &flush, sizeof(flush), NULL, 0), ==, OK);
        viewer_wait(&b->viewer, has_update, &want);
    }
    return n / elapsed(since);
}

static double pss_kib(pid_t pid)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/smaps_rollup", pid);
    g_autofree char *text = NULL;
    const char *line;

    if (!g_file_get_contents(path, &text, NULL, NULL) || !(line = strstr(text, "\nPss:")))
        return 0;
    return g_ascii_strtod(line + 5, NULL);
}

/* The back-end with all its children, when the driver was loaded and nobody has drawn: the sum of
 * the proportional set sizes, MiB. */
static double idle(struct bench *b)
{
    g_autofree char *path = NULL, *text = NULL;
    g_auto(GStrv) children = NULL;
    double kib;

    first_command(&b->f);
    g_usleep((gulong)(b->seconds * G_USEC_PER_SEC));
    kib = pss_kib(b->f.pid);
    path = g_strdup_printf("/proc/%d/task/%d/children", b->f.pid, b->f.pid);
    if (g_file_get_contents(path, &text, NULL, NULL)) {
        children = g_strsplit(g_strstrip(text), " ", -1);
        for (char **c = children; *c; c++)
            kib += pss_kib((pid_t)g_ascii_strtoll(*c, NULL, 10));
    }
    return kib / 1024;
}

static const struct {
    const char *name;
    double (*run)(struct bench *b);
} cases[] = {
    {"start", start},     /* ms to the first answer */
    {"query", query},     /* round trips a second */
    {"dumb", dumb},       /* round trips a second */
    {"flow", flow},       /* commands a second */
    {"small", small},     /* streams a second */
    {"large", large},     /* streams a second */
    {"picture", picture}, /* pictures a second */
    {"idle", idle},       /* MiB */
};

int main(int argc, char **argv)
{
    struct bench b = {0};

    if (argc < 4) {
        fputs("usage: vgpu-case CASE SECONDS PROGRAM [ARGUMENT...]\n", stderr);
        return 2;
    }
    b.seconds = g_ascii_strtod(argv[2], NULL);
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        if (strcmp(cases[i].name, argv[1]) != 0)
            continue;
        b.started = g_get_monotonic_time();
        frontend_start_backend(&b.f, (const char *const *)argv + 3);
        viewer_start(&b.viewer, &b.f, 0);
        printf("%.3f\n", cases[i].run(&b));
        viewer_stop(&b.viewer);
        frontend_stop(&b.f);
        return 0;
    }
    fprintf(stderr, "vgpu-case: there is no case '%s'\n", argv[1]);
    return 2;
}
