/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "frontend.h"

#include <glib.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

/*
 * The renderer dies, again and again: killed, killed with work in flight, hung, crashed by a
 * command stream. Each time what was asked is answered, another renderer comes, and new contexts
 * draw. Each test does that GPUP_CRASH_ROUNDS (10) times.
 */

#define OK      VIRTIO_GPU_RESP_OK_NODATA
#define MACHINE 16u /* VMs at once */
/* Deaths in a row before a device process slows down: that is tested elsewhere. */
#define DEATHS 3u
#define FENCES 20u

/* On a busy machine a command may take seconds: only where a limit is needed it is short. */
static const char *const patient[] = {"--vram=64M", "--hang-ms=60000", NULL};
static const char *const impatient[] = {"--vram=64M", "--hang-ms=10000", NULL};

static const float blue[4] = {0.25f, 0.5f, 0.75f, 1.0f};

static unsigned rounds(void)
{
    const char *text = g_getenv("GPUP_CRASH_ROUNDS");

    return text ? (unsigned)strtoul(text, NULL, 10) : 10;
}

static void offer_work(struct frontend *f, uint32_t context)
{
    const struct virtio_gpu_transfer_host_3d c = {
        .hdr = {.type = VIRTIO_GPU_CMD_TRANSFER_FROM_HOST_3D,
                .flags = VIRTIO_GPU_FLAG_FENCE,
                .fence_id = 77,
                .ctx_id = context},
        .box = {0, 0, 0, FRONTEND_WIDTH, FRONTEND_HEIGHT, 1},
        .resource_id = 10,
        .stride = FRONTEND_WIDTH * 4};

    frontend_offer(f, &c, sizeof(c), NULL, 0, sizeof(c.hdr));
}

static void wait_for_answers(struct frontend *f, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        struct virtio_gpu_ctrl_hdr reply;

        g_assert_cmpuint(frontend_wait(f, &reply, sizeof(reply)), ==, sizeof(reply));
        g_assert_cmpuint(reply.flags, ==, VIRTIO_GPU_FLAG_FENCE);
        g_assert_cmpuint(reply.fence_id, ==, 77);
    }
}

/* ---- ways to die ---- */

static void killed(struct frontend *f, uint32_t context)
{
    g_assert_cmpint(kill(frontend_renderer(f), SIGKILL), ==, 0);
}

static void killed_in_flight(struct frontend *f, uint32_t context)
{
    for (unsigned i = 0; i < FENCES; i++) {
        offer_work(f, context);
        if (i == FENCES / 2)
            killed(f, context);
    }
    wait_for_answers(f, FENCES);
}

static void hung(struct frontend *f, uint32_t context)
{
    g_assert_cmpint(kill(frontend_renderer(f), SIGSTOP), ==, 0);
    for (unsigned i = 0; i < FENCES; i++)
        offer_work(f, context);
}

static rlim_t data_of(pid_t pid)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/status", pid);
    g_autofree char *text = NULL;
    const char *line;

    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    line = strstr(text, "VmData:");
    g_assert_nonnull(line);
    return (rlim_t)g_ascii_strtoull(line + strlen("VmData:"), NULL, 10) << 10;
}

/* The driver runs out of its own memory, which is not much, in the middle of a stream. */
static void crashed_by_a_stream(struct frontend *f, uint32_t context)
{
    pid_t renderer = frontend_renderer(f);
    struct rlimit limit = {data_of(renderer) + (4 << 20), 0};
    uint32_t stream[2 * 64];

    limit.rlim_max = limit.rlim_cur;
    g_assert_cmpint(prlimit(renderer, RLIMIT_DATA, &limit, NULL), ==, 0);
    for (uint32_t i = 0; i < 64; i++) {
        stream[i * 2] = 29 | 1u << 16; /* CREATE_SUB_CTX */
        stream[i * 2 + 1] = 100 + i;
    }
    frontend_submit(f, context, stream, G_N_ELEMENTS(stream));
}

/* ---- and what comes after ---- */

/* Until the death is noticed the old context still takes streams. */
static void wait_for_death(struct frontend *f, uint32_t context)
{
    gint64 until = g_get_monotonic_time() + 60 * G_USEC_PER_SEC;

    while (frontend_clear(f, context, 10, blue) == OK)
        g_assert_cmpint(g_get_monotonic_time(), <, until);
}

/* Each machine's renderer dies; the seconds until it draws again go to `took`. */
static void die_once(struct frontend *machines, uint32_t context,
                     void (*die)(struct frontend *f, uint32_t context), GArray *took)
{
    for (unsigned i = 0; i < MACHINE; i++) {
        frontend_start_drawing(&machines[i], context, 10);
        frontend_assert_draws(&machines[i], context, 10);
    }
    for (unsigned i = 0; i < MACHINE && die == hung; i++) /* all wait at the same time */
        die(&machines[i], context);
    for (unsigned i = 0; i < MACHINE; i++) {
        struct frontend *f = &machines[i];
        gint64 began;
        double seconds;

        if (die == hung)
            wait_for_answers(f, FENCES);
        else
            die(f, context);
        began = g_get_monotonic_time();
        wait_for_death(f, context);
        g_assert_cmphex(frontend_unref(f, 10), ==, OK);
        frontend_start_drawing(f, context + 100, 10);
        frontend_assert_draws(f, context + 100, 10);
        seconds = (double)(g_get_monotonic_time() - began) / G_USEC_PER_SEC;
        g_array_append_val(took, seconds);
        /* the old one refuses until it is destroyed, then its number is free */
        g_assert_cmphex(frontend_clear(f, context, 10, blue), !=, OK);
        g_assert_cmphex(frontend_context(f, VIRTIO_GPU_CMD_CTX_DESTROY, context), ==, OK);
        g_assert_cmphex(frontend_unref(f, 10), ==, OK);
    }
}

static int by_size(const void *a, const void *b)
{
    const double *x = a, *y = b;

    return *x < *y ? -1 : *x > *y;
}

static void repeat(gconstpointer data)
{
    void (*die)(struct frontend * f, uint32_t context) = data;
    GArray *took = g_array_new(FALSE, FALSE, sizeof(double));

    while (took->len < rounds()) {
        struct frontend machines[MACHINE];

        memset(machines, 0, sizeof(machines));
        for (unsigned i = 0; i < MACHINE; i++)
            frontend_start(&machines[i], die == hung ? impatient : patient);
        for (uint32_t i = 1; i <= DEATHS && took->len < rounds(); i++)
            die_once(machines, i, die, took);
        for (unsigned i = 0; i < MACHINE; i++)
            frontend_stop(&machines[i]);
    }
    qsort(took->data, took->len, sizeof(double), by_size);
    g_test_message("%u deaths; drawing again after %.0f ms (median), %.0f ms at most", took->len,
                   1000 * g_array_index(took, double, took->len / 2),
                   1000 * g_array_index(took, double, took->len - 1));
    if (!FRONTEND_SANITIZED) /* a second, on a machine that has nothing else to do */
        g_assert_cmpfloat(g_array_index(took, double, took->len / 2), <, 3);
    g_array_unref(took);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *path;
        void (*die)(struct frontend *f, uint32_t context);
    } tests[] = {
        {"/crashes/killed", killed},
        {"/crashes/in-flight", killed_in_flight},
        {"/crashes/hung", hung},
        {"/crashes/stream", crashed_by_a_stream},
    };

    g_test_init(&argc, &argv, NULL);
    for (size_t i = 0; i < G_N_ELEMENTS(tests); i++)
        g_test_add_data_func(tests[i].path, (gconstpointer)tests[i].die, repeat);
    return g_test_run();
}
