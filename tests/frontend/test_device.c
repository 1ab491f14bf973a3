/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "frontend.h"

#include <glib.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* The device process with its renderer (software), driven as a guest's kernel does it. */

#define OK       VIRTIO_GPU_RESP_OK_NODATA
#define WIDTH    FRONTEND_WIDTH
#define HEIGHT   FRONTEND_HEIGHT
#define PIXELS   FRONTEND_PIXELS
#define MIB      (1u << 20)
#define VRAM_MIB 64u

/* On a busy machine a command may take seconds: only where a limit is needed it is short. */
static const char *const patient[] = {"--vram=64M", "--hang-ms=60000", NULL};
static const char *const impatient[] = {"--vram=64M", "--hang-ms=10000", NULL};
static const char *const hurried[] = {"--vram=64M", "--hang-ms=500", NULL};
static const float blue[4] = {0.25f, 0.5f, 0.75f, 1.0f};

static void set_up(struct frontend *f, gconstpointer data)
{
    frontend_start(f, data);
}

static void tear_down(struct frontend *f, gconstpointer data)
{
    frontend_stop(f);
}

/* What a driver asks at its start. */
static void probing(struct frontend *f, gconstpointer data)
{
    struct virtio_gpu_ctrl_hdr display = {.type = VIRTIO_GPU_CMD_GET_DISPLAY_INFO};
    struct virtio_gpu_get_capset_info info = {.hdr = {.type = VIRTIO_GPU_CMD_GET_CAPSET_INFO},
                                              .capset_index = 1};
    struct virtio_gpu_get_capset get = {.hdr = {.type = VIRTIO_GPU_CMD_GET_CAPSET}, .capset_id = 2};
    struct virtio_gpu_cmd_get_edid get_edid = {.hdr = {.type = VIRTIO_GPU_CMD_GET_EDID}};
    struct virtio_gpu_resp_display_info heads;
    struct virtio_gpu_resp_capset_info capset;
    struct virtio_gpu_resp_edid edid;
    static unsigned char caps[16384];
    unsigned char sum = 0;
    uint32_t mib, bits;

    g_assert_cmphex(frontend_command(f, &display, sizeof(display), &heads, sizeof(heads)), ==,
                    VIRTIO_GPU_RESP_OK_DISPLAY_INFO);
    g_assert_cmpuint(heads.pmodes[0].enabled, ==, 0);
    g_assert_cmphex(frontend_command(f, &get_edid, sizeof(get_edid), &edid, sizeof(edid)), ==,
                    VIRTIO_GPU_RESP_OK_EDID);
    g_assert_cmpuint(edid.size, ==, 128);
    for (unsigned i = 0; i < 128; i++)
        sum = (unsigned char)(sum + edid.edid[i]);
    g_assert_cmpuint(sum, ==, 0);
    g_assert_cmphex(frontend_command(f, &info, sizeof(info), &capset, sizeof(capset)), ==,
                    VIRTIO_GPU_RESP_OK_CAPSET_INFO);
    g_assert_cmpuint(capset.capset_id, ==, 2);
    get.capset_version = capset.capset_max_version;
    g_assert_cmphex(frontend_command(f, &get, sizeof(get), caps, sizeof(caps)), ==,
                    VIRTIO_GPU_RESP_OK_CAPSET);
    /* virgl_caps_v2: the partition's memory, not the host's; then the renderer's name */
    memcpy(&mib, caps + 24 + 692, 4);
    memcpy(&bits, caps + 24 + 688, 4);
    g_assert_cmpuint(mib, ==, VRAM_MIB);
    g_assert_cmphex(bits & (1 << 2 | 1 << 3), ==, 1 << 2);
    g_assert_nonnull(strcasestr((char *)caps + 24 + 696, "llvmpipe"));
}

static void drawing(struct frontend *f, gconstpointer data)
{
    frontend_start_drawing(f, 1, 10);
    frontend_assert_draws(f, 1, 10);
    g_assert_cmphex(frontend_unref(f, 10), ==, OK);
    g_assert_cmphex(frontend_unref(f, 10), ==, VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID);
    g_assert_cmphex(frontend_context(f, VIRTIO_GPU_CMD_CTX_DESTROY, 1), ==, OK);
    g_assert_cmphex(frontend_clear(f, 1, 10, blue), ==, VIRTIO_GPU_RESP_ERR_INVALID_CONTEXT_ID);
}

static void ask_capset(struct frontend *f)
{
    struct virtio_gpu_get_capset_info info = {.hdr = {.type = VIRTIO_GPU_CMD_GET_CAPSET_INFO}};
    struct virtio_gpu_resp_capset_info reply;

    g_assert_cmphex(frontend_command(f, &info, sizeof(info), &reply, sizeof(reply)), ==,
                    VIRTIO_GPU_RESP_OK_CAPSET_INFO);
    g_assert_cmpuint(reply.capset_max_size, >, 0);
}

/* The end of a process that is not our child. */
static void wait_for_end(pid_t pid)
{
    int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    struct pollfd p = {.fd = pidfd, .events = POLLIN};

    if (pidfd < 0)
        return;
    g_assert_cmpint(poll(&p, 1, 20000), ==, 1);
    close(pidfd);
    while (kill(pid, 0) == 0) /* its parent has yet to hear of it */
        g_usleep(1000);
}

/* Nobody draws: no renderer takes memory. Whoever draws again gets one, and nothing is lost. */
static void idle(struct frontend *f, gconstpointer data)
{
    pid_t renderer;

    ask_capset(f);
    renderer = frontend_renderer(f);
    g_assert_cmpint(renderer, >, 0);
    wait_for_end(renderer);
    ask_capset(f);
    g_assert_cmphex(frontend_create_2d(f, 5, WIDTH, HEIGHT), ==, OK);
    g_assert_cmpint(frontend_renderer(f), ==, -1);
    frontend_start_drawing(f, 1, 10);
    frontend_assert_draws(f, 1, 10);
    /* a resource that was drawn keeps it, without a context too */
    renderer = frontend_renderer(f);
    g_assert_cmphex(frontend_context(f, VIRTIO_GPU_CMD_CTX_DESTROY, 1), ==, OK);
    g_usleep(4 * G_USEC_PER_SEC); /* nothing is to happen */
    g_assert_cmpint(frontend_renderer(f), ==, renderer);
    g_assert_cmphex(frontend_unref(f, 10), ==, OK);
    wait_for_end(renderer);
}

/* A 2D resource's content is there when the renderer reads it. */
static void dumb_buffers(struct frontend *f, gconstpointer data)
{
    struct virtio_gpu_transfer_to_host_2d transfer = {
        .hdr = {.type = VIRTIO_GPU_CMD_TRANSFER_TO_HOST_2D},
        .r = {0, 0, WIDTH, HEIGHT},
        .resource_id = 5};
    struct virtio_gpu_set_scanout scanout = {
        .hdr = {.type = VIRTIO_GPU_CMD_SET_SCANOUT}, .r = {0, 0, WIDTH, HEIGHT}, .resource_id = 5};

    g_assert_cmphex(frontend_create_2d(f, 5, WIDTH, HEIGHT), ==, OK);
    g_assert_cmphex(frontend_create_2d(f, 5, WIDTH, HEIGHT), ==,
                    VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID);
    g_assert_cmphex(frontend_command(f, &transfer, sizeof(transfer), NULL, 0), ==,
                    VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER); /* no backing */
    g_assert_cmphex(frontend_attach(f, 5, FRONTEND_DATA, PIXELS), ==, OK);
    memset(f->memory + FRONTEND_DATA, 0x5a, PIXELS);
    g_assert_cmphex(frontend_command(f, &transfer, sizeof(transfer), NULL, 0), ==, OK);
    transfer.offset = 4; /* the last line would end behind the backing */
    g_assert_cmphex(frontend_command(f, &transfer, sizeof(transfer), NULL, 0), ==,
                    VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
    g_assert_cmphex(frontend_command(f, &scanout, sizeof(scanout), NULL, 0), ==, OK);

    g_assert_cmphex(frontend_context(f, VIRTIO_GPU_CMD_CTX_CREATE, 1), ==, OK);
    g_assert_cmphex(frontend_context_resource(f, VIRTIO_GPU_CMD_CTX_ATTACH_RESOURCE, 1, 5), ==, OK);
    memset(f->memory + FRONTEND_DATA, 0, 16);
    g_assert_cmphex(frontend_transfer(f, VIRTIO_GPU_CMD_TRANSFER_FROM_HOST_3D, 1, 5, WIDTH, HEIGHT),
                    ==, OK);
    g_assert_cmphex(f->memory[FRONTEND_DATA], ==, 0x5a);
}

/* The limit holds, whatever the shape, and what is freed can be used again. */
static void memory_limit(struct frontend *f, gconstpointer data)
{
    for (unsigned round = 0; round < 3; round++) {
        unsigned n = 0;

        while (frontend_create_3d(f, 100 + n, 2048, 2048) == OK) /* 16 MiB each */
            n++;
        g_assert_cmpuint(n, ==, VRAM_MIB / 16);
        g_assert_cmphex(frontend_create_3d(f, 999, 2048, 2048), ==,
                        VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY);
        g_assert_cmphex(frontend_create_2d(f, 999, 16, 16), ==, VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY);
        while (n > 0)
            g_assert_cmphex(frontend_unref(f, 100 + --n), ==, OK);
    }
    g_assert_cmphex(frontend_create_3d(f, 999, UINT32_MAX, 65536), ==,
                    VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY);
    g_assert_cmphex(frontend_create_3d(f, 999, UINT32_MAX, UINT32_MAX), ==,
                    VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER); /* beyond 64 bits */
    g_assert_cmphex(frontend_create_2d(f, 999, UINT32_MAX, UINT32_MAX), ==,
                    VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
}

/* A 2D resource that a context draws with lies in two processes: both are charged, and what is
 * gone with a renderer, a reset or the resource is free. */
static void memory_of_copies(struct frontend *f, gconstpointer data)
{
    const uint32_t attach = VIRTIO_GPU_CMD_CTX_ATTACH_RESOURCE;

    for (uint32_t round = 1; round <= 3; round++) {
        g_assert_cmphex(frontend_context(f, VIRTIO_GPU_CMD_CTX_CREATE, round), ==, OK);
        for (uint32_t i = 0; i < 2; i++) { /* 16 MiB each, of 64 */
            g_assert_cmphex(frontend_create_2d(f, 20 + i, 2048, 2048), ==, OK);
            g_assert_cmphex(frontend_context_resource(f, attach, round, 20 + i), ==, OK);
            g_assert_cmphex(frontend_context_resource(f, attach, round, 20 + i), ==, OK);
        }
        g_assert_cmphex(frontend_create_2d(f, 30, 64, 64), ==, VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY);
        if (round == 1) {
            g_assert_cmphex(frontend_unref(f, 20), ==, OK);
            g_assert_cmphex(frontend_create_2d(f, 20, 2048, 1024), ==, OK);
            g_assert_cmphex(frontend_create_2d(f, 30, 2048, 2048), ==, OK);
            g_assert_cmphex(frontend_context_resource(f, attach, round, 30), ==,
                            VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY);
            g_assert_cmphex(frontend_context_resource(f, attach, round, 20), ==, OK);
            frontend_reset(f);
            continue;
        }
        g_assert_cmpint(kill(frontend_renderer(f), SIGKILL), ==, 0);
        while (frontend_context_resource(f, attach, round, 20) == OK) /* until it is noticed */
            continue;
        g_assert_cmphex(frontend_create_2d(f, 30, 2048, 4096), ==, OK);
        for (uint32_t i = 0; i < 2; i++)
            g_assert_cmphex(frontend_unref(f, 20 + i), ==, OK);
        g_assert_cmphex(frontend_unref(f, 30), ==, OK);
        g_assert_cmphex(frontend_context(f, VIRTIO_GPU_CMD_CTX_DESTROY, round), ==, OK);
    }
    g_assert_cmphex(frontend_create_2d(f, 30, 4096, 4096), ==, OK); /* all 64 MiB */
}

static void hostile_streams(struct frontend *f, gconstpointer data)
{
    const uint32_t create[] = {48 | 11u << 16, 0, 2, 1, 2, 2048, 2048, 1, 1, 0, 0, 0, 1};
    const uint32_t meminfo[] = {50 | 1u << 16, 10};
    const uint32_t video[] = {53 | 1u << 16, 1};
    const uint32_t unknown[] = {99};
    const uint32_t too_long[] = {7 | 9u << 16, 0};

    frontend_start_drawing(f, 1, 10);
    g_assert_cmphex(frontend_submit(f, 1, create, G_N_ELEMENTS(create)), ==,
                    VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
    g_assert_cmphex(frontend_submit(f, 1, meminfo, 2), ==, VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
    g_assert_cmphex(frontend_submit(f, 1, video, 2), ==, VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
    g_assert_cmphex(frontend_submit(f, 1, unknown, 1), ==, VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
    g_assert_cmphex(frontend_submit(f, 1, too_long, 2), ==, VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
    frontend_assert_draws(f, 1, 10);
}

static void hostile_commands(struct frontend *f, gconstpointer data)
{
    struct virtio_gpu_ctrl_hdr unknown = {.type = 0x777};
    struct virtio_gpu_cmd_submit submit = {.hdr = {.type = VIRTIO_GPU_CMD_SUBMIT_3D, .ctx_id = 1},
                                           .size = 4096};
    struct virtio_gpu_resource_attach_backing attach = {
        .hdr = {.type = VIRTIO_GPU_CMD_RESOURCE_ATTACH_BACKING}, .resource_id = 10};

    g_assert_cmphex(frontend_command(f, &unknown, sizeof(unknown), NULL, 0), ==,
                    VIRTIO_GPU_RESP_ERR_UNSPEC);
    g_assert_cmphex(frontend_command(f, &unknown, 3, NULL, 0), ==, VIRTIO_GPU_RESP_ERR_UNSPEC);
    frontend_start_drawing(f, 1, 10);
    g_assert_cmphex(frontend_command(f, &submit, sizeof(submit), NULL, 0), ==,
                    VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER); /* says more than it has */
    g_assert_cmphex(frontend_context(f, VIRTIO_GPU_CMD_CTX_CREATE, 1), ==,
                    VIRTIO_GPU_RESP_ERR_INVALID_CONTEXT_ID);
    g_assert_cmphex(frontend_context(f, VIRTIO_GPU_CMD_CTX_CREATE, 0), ==,
                    VIRTIO_GPU_RESP_ERR_INVALID_CONTEXT_ID);
    g_assert_cmphex(frontend_create_3d(f, 0, 1, 1), ==, VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID);
    g_assert_cmphex(frontend_attach(f, 10, FRONTEND_DATA, PIXELS), ==,
                    VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER); /* it has one */
    g_assert_cmphex(frontend_create_3d(f, 11, 1, 1), ==, OK);
    g_assert_cmphex(frontend_attach(f, 11, FRONTEND_MEMORY - 8, 16), ==,
                    VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER); /* outside of the memory */
    attach.resource_id = 11;
    attach.nr_entries = UINT32_MAX;
    g_assert_cmphex(frontend_command(f, &attach, sizeof(attach), NULL, 0), ==,
                    VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
    frontend_assert_draws(f, 1, 10);
}

/* Clears what a stream before this one made the context's target; its first pixel. */
static uint32_t clear_again(struct frontend *f, float green)
{
    uint32_t stream[] = {7 | 8u << 16, 4, 0, 0, 0, 0, 0, 0, 0};
    uint32_t pixel;

    memcpy(&stream[3], &green, sizeof(green));
    g_assert_cmphex(frontend_submit(f, 1, stream, G_N_ELEMENTS(stream)), ==, OK);
    memset(f->memory + FRONTEND_DATA, 0xee, PIXELS);
    g_assert_cmphex(
        frontend_transfer(f, VIRTIO_GPU_CMD_TRANSFER_FROM_HOST_3D, 1, 10, WIDTH, HEIGHT), ==, OK);
    memcpy(&pixel, f->memory + FRONTEND_DATA, sizeof(pixel));
    return pixel;
}

/* A program that starts or ends makes or destroys a context between two streams of another one. */
static void others_come_and_go(struct frontend *f, gconstpointer data)
{
    frontend_start_drawing(f, 1, 10);
    frontend_assert_draws(f, 1, 10);
    g_assert_cmphex(frontend_context(f, VIRTIO_GPU_CMD_CTX_CREATE, 2), ==, OK);
    g_assert_cmphex(clear_again(f, 1.0f), ==, 0x0000ff00);
    g_assert_cmphex(frontend_context(f, VIRTIO_GPU_CMD_CTX_DESTROY, 2), ==, OK);
    g_assert_cmphex(clear_again(f, 0.0f), ==, 0x00000000);
}

static void stop_and_cont(struct frontend *f, gconstpointer data)
{
    frontend_start_drawing(f, 1, 10);
    for (unsigned i = 0; i < 5; i++) {
        frontend_pause(f);
        g_assert_cmpuint(f->base, ==, f->seen);
        frontend_resume(f);
        frontend_assert_draws(f, 1, 10);
    }
}

static void reboot(struct frontend *f, gconstpointer data)
{
    for (unsigned i = 0; i < 3; i++) {
        frontend_start_drawing(f, 1, 10); /* the same numbers: nothing was left */
        frontend_assert_draws(f, 1, 10);
        g_assert_cmphex(frontend_create_3d(f, 11, 2048, 2048), ==, OK);
        frontend_reset(f);
    }
}

static void old_reboot(struct frontend *f, gconstpointer data)
{
    for (unsigned i = 0; i < 3; i++) {
        frontend_start_drawing(f, 1, 10);
        frontend_assert_draws(f, 1, 10);
        frontend_reset_silently(f);
    }
}

/* Killed, the renderer is replaced: old contexts refuse, new ones draw, memory is free again. */
static void killed_renderer(struct frontend *f, gconstpointer data)
{
    for (uint32_t i = 1; i <= 3; i++) {
        pid_t renderer;
        gint64 began;

        frontend_start_drawing(f, i, 10 * i);
        frontend_assert_draws(f, i, 10 * i);
        renderer = frontend_renderer(f);
        g_assert_cmpint(renderer, >, 0);
        began = g_get_monotonic_time();
        g_assert_cmpint(kill(renderer, SIGKILL), ==, 0);
        while (frontend_clear(f, i, 10 * i, blue) == OK) /* until it is noticed */
            g_assert_cmpint(g_get_monotonic_time() - began, <, 60 * G_USEC_PER_SEC);
        g_assert_cmphex(frontend_context(f, VIRTIO_GPU_CMD_CTX_DESTROY, i), ==, OK);
        g_assert_cmphex(frontend_context(f, VIRTIO_GPU_CMD_CTX_CREATE, 100 + i), ==, OK);
        g_test_message("back after %.0f ms", (double)(g_get_monotonic_time() - began) / 1000);
        g_assert_cmphex(frontend_create_3d(f, 100 * i, 2048, 2048 * 3), ==, OK); /* 48 MiB */
        g_assert_cmphex(frontend_unref(f, 100 * i), ==, OK);
        g_assert_cmphex(frontend_unref(f, 10 * i), ==, OK);
    }
}

/* One that hangs is ended when the limit has passed, and what it owed is answered. */
static void hung_renderer(struct frontend *f, gconstpointer data)
{
    gint64 began;

    frontend_start_drawing(f, 1, 10);
    frontend_assert_draws(f, 1, 10);
    g_assert_cmpint(kill(frontend_renderer(f), SIGSTOP), ==, 0);
    began = g_get_monotonic_time();
    g_assert_cmphex(frontend_clear(f, 1, 10, blue), ==, VIRTIO_GPU_RESP_ERR_UNSPEC);
    g_assert_cmpint(g_get_monotonic_time() - began, >, 500 * 1000);
    g_assert_cmpint(g_get_monotonic_time() - began, <, 60 * G_USEC_PER_SEC);
    g_assert_cmphex(frontend_unref(f, 10), ==, OK);
    frontend_start_drawing(f, 2, 20);
    frontend_assert_draws(f, 2, 20);
    /* and a stop does not wait for a hanging one for ever */
    g_assert_cmpint(kill(frontend_renderer(f), SIGSTOP), ==, 0);
    frontend_pause(f);
    frontend_resume(f);
    g_assert_cmphex(frontend_context(f, VIRTIO_GPU_CMD_CTX_DESTROY, 2), ==, OK);
}

/* One that is slow to start, as on a busy host, is waited for longer than for a command. */
static void slow_start(struct frontend *f, gconstpointer data)
{
    pid_t renderer;
    int pidfd;

    while ((renderer = frontend_renderer(f)) <= 0)
        g_usleep(1000);
    pidfd = (int)syscall(SYS_pidfd_open, renderer, 0);
    g_assert_cmpint(pidfd, >=, 0);
    g_assert_cmpint(kill(renderer, SIGSTOP), ==, 0);
    g_assert_cmpint(poll(&(struct pollfd){.fd = pidfd, .events = POLLIN}, 1, 1500), ==, 0);
    g_assert_cmpint(kill(renderer, SIGCONT), ==, 0);
    close(pidfd);
}

#define HEADER(opcode, object, length) ((uint32_t)(opcode) | (object) << 8 | (length) << 16)

/* What a guest has the GPU count (virgl_protocol.h: occlusion queries) is in its memory when the
 * fence behind it is answered, though the GPU is not done when it is asked for. */
static void queries(struct frontend *f, gconstpointer data)
{
    enum {
        CREATE_OBJECT = 1,
        DESTROY_OBJECT = 3,
        BEGIN_QUERY = 19,
        END_QUERY = 20,
        GET_QUERY_RESULT = 21,
        QUERY = 9,
        DONE = 1
    };
    const uint64_t at = FRONTEND_DATA + PIXELS;
    const struct virtio_gpu_resource_create_3d buffer = {
        .hdr = {.type = VIRTIO_GPU_CMD_RESOURCE_CREATE_3D},
        .resource_id = 20,
        .target = 0,
        .format = 64, /* R8_UNORM */
        .bind = 1 << 17,
        .width = 24,
        .height = 1,
        .depth = 1,
        .array_size = 1};
    const uint32_t begin[] = {HEADER(CREATE_OBJECT, QUERY, 4u), 30, 0, 0, 20,
                              HEADER(BEGIN_QUERY, 0u, 1u),      30};
    const uint32_t end[] = {HEADER(END_QUERY, 0u, 1u), 30, HEADER(GET_QUERY_RESULT, 0u, 2u), 30, 0};
    const uint32_t destroy[] = {HEADER(DESTROY_OBJECT, QUERY, 1u), 30};
    struct virtio_gpu_ctrl_hdr reply;

    frontend_start_drawing(f, 1, 10);
    g_assert_cmphex(frontend_create_3d(f, 11, 2048, 2048), ==, OK);
    g_assert_cmphex(frontend_context_resource(f, VIRTIO_GPU_CMD_CTX_ATTACH_RESOURCE, 1, 11), ==,
                    OK);
    g_assert_cmphex(frontend_command(f, &buffer, sizeof(buffer), &reply, sizeof(reply)), ==, OK);
    g_assert_cmphex(frontend_attach(f, 20, at, 24), ==, OK);
    g_assert_cmphex(frontend_context_resource(f, VIRTIO_GPU_CMD_CTX_ATTACH_RESOURCE, 1, 20), ==,
                    OK);
    g_assert_cmphex(frontend_clear(f, 1, 11, blue), ==, OK);
    for (unsigned round = 0; round < 20; round++) {
        memset(f->memory + at, 0xff, 24);
        g_assert_cmphex(frontend_submit(f, 1, begin, G_N_ELEMENTS(begin)), ==, OK);
        for (unsigned i = 0; i < round % 4; i++)
            g_assert_cmphex(frontend_clear(f, 1, 11, blue), ==, OK);
        g_assert_cmphex(frontend_submit(f, 1, end, G_N_ELEMENTS(end)), ==, OK);
        g_assert_cmpuint(*(uint32_t *)(void *)(f->memory + at), ==, DONE);
        g_assert_cmphex(frontend_submit(f, 1, destroy, G_N_ELEMENTS(destroy)), ==, OK);
    }
}

static gint64 cpu_ns(pid_t pid)
{
    struct timespec t;
    clockid_t clock;

    g_assert_cmpint(clock_getcpuclockid(pid, &clock), ==, 0);
    g_assert_cmpint(clock_gettime(clock, &t), ==, 0);
    return (gint64)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* Between two frames neither process uses the CPU, however the last fence came. */
static void still_between_frames(struct frontend *f, gconstpointer data)
{
    struct virtio_gpu_transfer_host_3d c = {.hdr = {.type = VIRTIO_GPU_CMD_TRANSFER_FROM_HOST_3D,
                                                    .flags = VIRTIO_GPU_FLAG_FENCE,
                                                    .ctx_id = 1},
                                            .box = {0, 0, 0, WIDTH, HEIGHT, 1},
                                            .resource_id = 10,
                                            .stride = WIDTH * 4};
    struct virtio_gpu_ctx_resource attach = {
        .hdr = {.type = VIRTIO_GPU_CMD_CTX_ATTACH_RESOURCE, .ctx_id = 1}, .resource_id = 10};
    const gint64 most = 2 * 1000000;

    frontend_start_drawing(f, 1, 10);
    for (unsigned round = 0; round < 400; round++) {
        gint64 renderer, device;

        frontend_offer(f, &c, sizeof(c), NULL, 0, sizeof(struct virtio_gpu_ctrl_hdr));
        for (unsigned i = 0; i < round % 24; i++)
            frontend_offer(f, &attach, sizeof(attach), NULL, 0, sizeof(struct virtio_gpu_ctrl_hdr));
        for (unsigned i = 0; i <= round % 24; i++)
            frontend_wait(f, NULL, 0);
        g_usleep(1000);              /* what is left to do */
        for (unsigned k = 0;; k++) { /* on a busy machine that may take longer */
            renderer = cpu_ns(frontend_renderer(f));
            device = cpu_ns(f->pid);
            g_usleep(3000);
            renderer = cpu_ns(frontend_renderer(f)) - renderer;
            device = cpu_ns(f->pid) - device;
            if (renderer < most && device < most)
                break;
            g_assert_cmpuint(k, <, 10);
        }
    }
}

/* A 2D resource outlives the renderer that knew it: the next one has what the guest drew. */
static void dumb_buffers_return(struct frontend *f, gconstpointer data)
{
    const uint32_t attach = VIRTIO_GPU_CMD_CTX_ATTACH_RESOURCE;

    g_assert_cmphex(frontend_create_2d(f, 5, WIDTH, HEIGHT), ==, OK);
    g_assert_cmphex(frontend_attach(f, 5, FRONTEND_DATA, PIXELS), ==, OK);
    for (uint32_t i = 1; i <= 3; i++) {
        memset(f->memory + FRONTEND_DATA, (int)(0x50 + i), PIXELS);
        g_assert_cmphex(frontend_context(f, VIRTIO_GPU_CMD_CTX_CREATE, i), ==, OK);
        g_assert_cmphex(frontend_context_resource(f, attach, i, 5), ==, OK);
        memset(f->memory + FRONTEND_DATA, 0, PIXELS);
        g_assert_cmphex(
            frontend_transfer(f, VIRTIO_GPU_CMD_TRANSFER_FROM_HOST_3D, i, 5, WIDTH, HEIGHT), ==,
            OK);
        g_assert_cmphex(f->memory[FRONTEND_DATA], ==, 0x50 + i);
        g_assert_cmphex(f->memory[FRONTEND_DATA + PIXELS - 1], ==, 0x50 + i);
        g_assert_cmpint(kill(frontend_renderer(f), SIGKILL), ==, 0);
        while (frontend_context_resource(f, attach, i, 5) == OK) /* until it is noticed */
            continue;
        g_assert_cmphex(frontend_create_2d(f, 5, WIDTH, HEIGHT), ==,
                        VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID); /* it is there */
    }
    g_assert_cmphex(frontend_unref(f, 5), ==, OK);
}

static void make_context_in_time(struct frontend *f, uint32_t context)
{
    gint64 until = g_get_monotonic_time() + 60 * G_USEC_PER_SEC;

    while (frontend_context(f, VIRTIO_GPU_CMD_CTX_CREATE, context) != OK) {
        g_assert_cmpint(g_get_monotonic_time(), <, until);
        g_usleep(20000);
    }
}

/* One whose renderers end one soon after the other waits ever longer for the next (8 s here); what
 * needs one is refused meanwhile, and what does not goes on. */
static void slow_down(struct frontend *f, gconstpointer data)
{
    for (uint32_t i = 1; i <= 8; i++) {
        make_context_in_time(f, i);
        g_assert_cmpint(kill(frontend_renderer(f), SIGKILL), ==, 0);
        while (frontend_clear(f, i, 10, blue) != VIRTIO_GPU_RESP_ERR_INVALID_CONTEXT_ID)
            continue;
        g_assert_cmphex(frontend_context(f, VIRTIO_GPU_CMD_CTX_DESTROY, i), ==, OK);
    }
    g_assert_cmphex(frontend_context(f, VIRTIO_GPU_CMD_CTX_CREATE, 9), ==,
                    VIRTIO_GPU_RESP_ERR_UNSPEC);
    g_assert_cmphex(frontend_create_2d(f, 5, WIDTH, HEIGHT), ==, OK);
    make_context_in_time(f, 9);
}

/* Commands that lie waiting in the queue while the renderer dies are all answered, in order. */
static void killed_with_work_in_flight(struct frontend *f, gconstpointer data)
{
    struct virtio_gpu_transfer_host_3d c = {.hdr = {.type = VIRTIO_GPU_CMD_TRANSFER_FROM_HOST_3D,
                                                    .flags = VIRTIO_GPU_FLAG_FENCE,
                                                    .ctx_id = 1},
                                            .box = {0, 0, 0, WIDTH, HEIGHT, 1},
                                            .resource_id = 10,
                                            .stride = WIDTH * 4};

    for (uint32_t round = 1; round <= 3; round++) {
        frontend_start_drawing(f, round, 10);
        c.hdr.ctx_id = round;
        for (unsigned i = 0; i < 20; i++) {
            c.hdr.fence_id = i;
            frontend_offer(f, &c, sizeof(c), NULL, 0, sizeof(struct virtio_gpu_ctrl_hdr));
            if (i == 10)
                g_assert_cmpint(kill(frontend_renderer(f), SIGKILL), ==, 0);
        }
        for (unsigned i = 0; i < 20; i++) {
            struct virtio_gpu_ctrl_hdr reply;

            g_assert_cmpuint(frontend_wait(f, &reply, sizeof(reply)), ==, sizeof(reply));
            g_assert_cmpuint(reply.flags, ==, VIRTIO_GPU_FLAG_FENCE);
            g_assert_cmpuint(reply.fence_id, ==, i);
        }
        while (frontend_unref(f, 10) != OK) /* until the death is noticed */
            continue;
    }
}

int main(int argc, char **argv)
{
    static const struct {
        const char *path;
        void (*func)(struct frontend *, gconstpointer);
        const char *const *options; /* NULL: patient */
    } tests[] = {
        {"/device/probing", probing},
        {"/device/drawing", drawing},
        {"/device/idle", idle},
        {"/device/queries", queries},
        {"/device/still", still_between_frames},
        {"/device/life/dumb-buffers", dumb_buffers},
        {"/device/memory-limit", memory_limit},
        {"/device/memory-of-copies", memory_of_copies},
        {"/device/hostile-streams", hostile_streams},
        {"/device/hostile-commands", hostile_commands},
        {"/device/others-come-and-go", others_come_and_go},
        {"/device/life/stop-cont", stop_and_cont},
        {"/device/life/reboot", reboot},
        {"/device/life/old-reboot", old_reboot},
        {"/device/killed-renderer", killed_renderer},
        {"/device/life/killed-in-flight", killed_with_work_in_flight},
        {"/device/hung-renderer", hung_renderer, impatient},
        {"/device/dumb-buffers-return", dumb_buffers_return},
        {"/device/slow-down", slow_down},
        {"/device/slow-start", slow_start, hurried},
    };

    g_test_init(&argc, &argv, NULL);
    for (size_t i = 0; i < G_N_ELEMENTS(tests); i++)
        g_test_add(tests[i].path, struct frontend, tests[i].options ? tests[i].options : patient,
                   set_up, tests[i].func, tear_down);
    return g_test_run();
}
