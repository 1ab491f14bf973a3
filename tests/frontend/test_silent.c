/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "frontend.h"

#include <errno.h>
#include <glib.h>
#include <signal.h>
#include <string.h>

/* Renderers that stay connected and are silent: the guest gets its answers, and a stop its end. */

#define OK      VIRTIO_GPU_RESP_OK_NODATA
#define START_S 30 /* a start may take that long, if a command may not */

static void start(struct frontend *f, const char *render, const char *hang)
{
    const char *options[] = {"--vram=64M", hang, NULL};

    g_setenv("GPUP_TEST_RENDER", g_getenv(render), TRUE);
    frontend_start(f, options);
}

static double ms_since(gint64 began)
{
    return (double)(g_get_monotonic_time() - began) / 1000;
}

static uint32_t ask_info(struct frontend *f, uint32_t *id)
{
    struct virtio_gpu_get_capset_info c = {.hdr = {.type = VIRTIO_GPU_CMD_GET_CAPSET_INFO}};
    struct virtio_gpu_resp_capset_info reply = {0};
    uint32_t type = frontend_command(f, &c, sizeof(c), &reply, sizeof(reply));

    *id = reply.capset_id;
    return type;
}

static uint32_t ask_content(struct frontend *f)
{
    struct virtio_gpu_get_capset c = {
        .hdr = {.type = VIRTIO_GPU_CMD_GET_CAPSET}, .capset_id = 2, .capset_version = 2};
    struct {
        struct virtio_gpu_ctrl_hdr hdr;
        unsigned char data[1400];
    } reply;

    return frontend_command(f, &c, sizeof(c), &reply, sizeof(reply));
}

/* It was ended, and not merely replaced. */
static void wait_for_end(pid_t renderer)
{
    gint64 until = g_get_monotonic_time() + 90 * G_USEC_PER_SEC;

    while (kill(renderer, 0) == 0) {
        g_assert_cmpint(g_get_monotonic_time(), <, until);
        g_usleep(10000);
    }
    g_assert_cmpint(errno, ==, ESRCH);
}

static pid_t wait_for_renderer(const struct frontend *f)
{
    gint64 until = g_get_monotonic_time() + 90 * G_USEC_PER_SEC;
    pid_t renderer;

    while ((renderer = frontend_renderer(f)) <= 0)
        g_assert_cmpint(g_get_monotonic_time(), <, until);
    return renderer;
}

/* From the beginning, and once the capability sets were told: what was told is answered at once,
 * and another is started when it has been given up. */
static void during_the_start(void)
{
    const struct virtio_gpu_get_capset_info info = {
        .hdr = {.type = VIRTIO_GPU_CMD_GET_CAPSET_INFO}};
    const struct virtio_gpu_get_capset content = {
        .hdr = {.type = VIRTIO_GPU_CMD_GET_CAPSET}, .capset_id = 2, .capset_version = 2};
    gint64 began = g_get_monotonic_time();
    struct frontend machines[2] = {0};
    pid_t renderers[2];
    uint32_t id;

    start(&machines[0], "GPUP_TEST_SILENT_0", "--hang-ms=100");
    start(&machines[1], "GPUP_TEST_SILENT_1", "--hang-ms=100");
    for (unsigned i = 0; i < 2; i++)
        renderers[i] = wait_for_renderer(&machines[i]);
    g_assert_cmphex(ask_info(&machines[1], &id), ==, VIRTIO_GPU_RESP_OK_CAPSET_INFO);
    g_assert_cmpuint(id, ==, 2);
    frontend_offer(&machines[0], &info, sizeof(info), NULL, 0, 64);
    frontend_offer(&machines[1], &content, sizeof(content), NULL, 0, 1500);
    for (unsigned i = 0; i < 2; i++) {
        wait_for_end(renderers[i]);
        g_assert_cmpfloat(ms_since(began), >, START_S * 1000 - 500);
        g_assert_cmpint(wait_for_renderer(&machines[i]), !=, renderers[i]);
    }
    for (unsigned i = 0; i < 2; i++)
        frontend_stop(&machines[i]);
}

static void after_it_was_ready(void)
{
    const uint32_t nop = 0;
    struct frontend f = {0};
    gint64 began;
    pid_t renderer;
    uint32_t id;

    start(&f, "GPUP_TEST_SILENT_2", "--hang-ms=5000");
    g_assert_cmphex(ask_info(&f, &id), ==, VIRTIO_GPU_RESP_OK_CAPSET_INFO);
    g_assert_cmphex(ask_content(&f), ==, VIRTIO_GPU_RESP_OK_CAPSET);
    renderer = frontend_renderer(&f);
    began = g_get_monotonic_time();
    g_assert_cmphex(frontend_context(&f, VIRTIO_GPU_CMD_CTX_CREATE, 1), ==, OK);
    g_assert_cmphex(frontend_create_3d(&f, 10, 64, 64), ==, OK);
    g_assert_cmphex(frontend_submit(&f, 1, &nop, 1), ==, VIRTIO_GPU_RESP_ERR_UNSPEC);
    g_assert_cmpfloat(ms_since(began), >, 4900);
    wait_for_end(renderer);
    g_assert_cmphex(frontend_unref(&f, 10), ==, OK);
    g_assert_cmphex(frontend_context(&f, VIRTIO_GPU_CMD_CTX_CREATE, 2), ==, OK);
    frontend_pause(&f); /* does not wait for it for ever */
    frontend_resume(&f);
    frontend_stop(&f);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/silent/during-the-start", during_the_start);
    g_test_add_func("/silent/after-it-was-ready", after_it_was_ready);
    return g_test_run();
}
