/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "frontend.h"

#include "vgpu/vhost_user_message.h"

#include <glib.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Guests that break the rules of the rings, change what is being read, offer without end or never
 * ask for an answer; and memory that comes and goes while they draw. */

#define OK     VIRTIO_GPU_RESP_OK_NODATA
#define SECOND (UINT64_C(256) << 20) /* a further region of guest memory */
#define PIECE  (UINT64_C(1) << 20)
#define WORK   (FRONTEND_DATA * 2) /* large requests are laid out here */

/* On a busy machine a command may take seconds: only where a limit is needed it is short. */
static const char *const patient[] = {"--vram=64M", "--hang-ms=60000", NULL};
static const char *const impatient[] = {"--vram=64M", "--hang-ms=4000", NULL};

static void set_up(struct frontend *f, gconstpointer data)
{
    frontend_start(f, data);
}

static void tear_down(struct frontend *f, gconstpointer data)
{
    frontend_stop(f);
}

static struct virtio_gpu_transfer_host_3d read_back(uint32_t context, uint32_t resource)
{
    return (struct virtio_gpu_transfer_host_3d){
        .hdr = {.type = VIRTIO_GPU_CMD_TRANSFER_FROM_HOST_3D,
                .flags = VIRTIO_GPU_FLAG_FENCE,
                .ctx_id = context},
        .box = {0, 0, 0, FRONTEND_WIDTH, FRONTEND_HEIGHT, 1},
        .resource_id = resource,
        .stride = FRONTEND_WIDTH * 4};
}

/* ---- rings ---- */

/* More requests than descriptors: the queue takes no more, whatever is offered. */
static void offers_without_end(struct frontend *f, gconstpointer data)
{
    struct virtio_gpu_transfer_host_3d c = read_back(1, 10);
    uint16_t before;

    frontend_start_drawing(f, 1, 10);
    before = f->used->idx;
    g_assert_cmpint(kill(frontend_renderer(f), SIGSTOP), ==, 0); /* nothing is answered */
    for (unsigned i = 0; i < 4 * FRONTEND_QUEUE; i++) {
        frontend_offer(f, &c, sizeof(c), NULL, 0, sizeof(c.hdr));
        frontend_ping(f);
    }
    frontend_pause(f); /* answers all */
    g_assert_cmpuint((uint16_t)(f->used->idx - before), <=, FRONTEND_QUEUE);
    frontend_reset(f);
    frontend_start_drawing(f, 1, 10);
    frontend_assert_draws(f, 1, 10);
}

/* A guest that broke its ring and is then reset: nothing of before comes after the reset. */
static void broken_ring_and_reset(struct frontend *f, gconstpointer data)
{
    struct virtio_gpu_transfer_host_3d c = read_back(1, 10);
    uint16_t before;

    frontend_start_drawing(f, 1, 10);
    before = f->used->idx;
    g_assert_cmpint(kill(frontend_renderer(f), SIGSTOP), ==, 0);
    frontend_offer(f, &c, sizeof(c), NULL, 0, sizeof(c.hdr));
    frontend_ping(f);
    f->avail->ring[f->avail->idx % FRONTEND_QUEUE] = FRONTEND_QUEUE; /* no such descriptor */
    frontend_offer_head(f, FRONTEND_QUEUE);
    frontend_ping(f);
    g_assert_cmpuint(frontend_request(f, VHOST_USER_RESET_DEVICE, NULL, 0, -1), ==, 0);
    g_assert_cmpuint(f->used->idx, ==, (uint16_t)(before + 1));
    frontend_reset(f);
    frontend_start_drawing(f, 1, 10);
    frontend_assert_draws(f, 1, 10);
}

static void describe(struct frontend *f, uint16_t i, uint64_t address, uint32_t length,
                     uint16_t flags, uint16_t next)
{
    f->desc[i] = (struct vring_desc){address, length, flags, next};
}

/* Each of these chains is answered with nothing, and the next command is served. */
static void loops_and_worse(struct frontend *f, gconstpointer data)
{
    struct vring_desc *table = (void *)(f->memory + WORK);
    enum {
        N = VRING_DESC_F_NEXT,
        W = VRING_DESC_F_WRITE,
        I = VRING_DESC_F_INDIRECT
    };

    for (unsigned i = 0; i < 10; i++) {
        memset(table, 0, 1024 * sizeof(*table));
        describe(f, 0, WORK, 16, 0, 0);
        switch (i) {
        case 0: /* to itself */
            describe(f, 0, WORK, 16, N, 0);
            break;
        case 1: /* a long way round */
            for (uint16_t k = 0; k < FRONTEND_QUEUE; k++)
                describe(f, k, WORK, 16, N, (uint16_t)((k + 1) % FRONTEND_QUEUE));
            break;
        case 2: /* round inside of a table */
            for (uint16_t k = 0; k < 1024; k++)
                table[k] = (struct vring_desc){WORK, 16, N, (uint16_t)((k + 1) % 1024)};
            describe(f, 0, WORK, 1024 * 16, I, 0);
            break;
        case 3: /* a table of tables */
            table[0] = (struct vring_desc){WORK, 16, I, 0};
            describe(f, 0, WORK, 16, I, 0);
            break;
        case 4: /* a table behind the end of memory */
            describe(f, 0, FRONTEND_MEMORY - 16, 32, I, 0);
            break;
        case 5: /* a table of no entry */
            describe(f, 0, WORK, 0, I, 0);
            break;
        case 6: /* a huge one */
            describe(f, 0, WORK, UINT32_MAX & ~15u, I, 0);
            break;
        case 7: /* around the end of all addresses */
            describe(f, 0, UINT64_MAX - 15, 32, 0, 0);
            break;
        case 8: /* answer before question */
            describe(f, 0, WORK, 16, N | W, 1);
            describe(f, 1, WORK, 16, 0, 0);
            break;
        case 9: /* a link that leaves the table */
            describe(f, 0, WORK, 16, N, 0xffff);
            break;
        }
        frontend_offer_head(f, 0);
        g_assert_cmpuint(frontend_wait(f, NULL, 0), ==, 0);
    }
    frontend_start_drawing(f, 1, 10);
    frontend_assert_draws(f, 1, 10);
}

struct flood {
    struct frontend *frontend;
    bool stop;
};

/* Offers what is malformed as fast as it is refused. */
static void *flood(void *data)
{
    struct flood *flood = data;
    struct frontend *f = flood->frontend;
    const uint64_t one = 1;

    describe(f, 0, UINT64_MAX, 16, 0, 0);
    memset(f->avail->ring, 0, FRONTEND_QUEUE * sizeof(f->avail->ring[0]));
    while (!__atomic_load_n(&flood->stop, __ATOMIC_RELAXED)) {
        uint16_t used = __atomic_load_n(&f->used->idx, __ATOMIC_ACQUIRE);

        __atomic_store_n(&f->avail->idx, (uint16_t)(used + FRONTEND_QUEUE), __ATOMIC_RELEASE);
        if (write(f->kick, &one, sizeof(one)) < 0)
            g_assert_not_reached();
    }
    return NULL;
}

/* The front-end is served all the same: QEMU waits for some of its answers. */
static void flooded_queue(struct frontend *f, gconstpointer data)
{
    struct flood flooding = {f, false};
    GThread *thread = g_thread_new("guest", flood, &flooding);
    gint64 began = g_get_monotonic_time();

    for (unsigned i = 0; i < 200; i++)
        frontend_ping(f);
    g_assert_cmpint(g_get_monotonic_time() - began, <, 60 * G_USEC_PER_SEC);
    __atomic_store_n(&flooding.stop, true, __ATOMIC_RELAXED);
    g_thread_join(thread);
    frontend_reset(f);
    frontend_start_drawing(f, 1, 10);
    frontend_assert_draws(f, 1, 10);
}

/* ---- work without end ---- */

/* A backing in as many pieces as there may be, each `size` bytes long. */
static void attach_pieces(struct frontend *f, uint32_t resource, uint32_t n, uint32_t size,
                          uint64_t first, uint64_t step)
{
    struct virtio_gpu_resource_attach_backing *c = (void *)(f->memory + WORK);
    struct virtio_gpu_mem_entry *entries = (void *)(c + 1);

    *c = (struct virtio_gpu_resource_attach_backing){
        .hdr = {.type = VIRTIO_GPU_CMD_RESOURCE_ATTACH_BACKING},
        .resource_id = resource,
        .nr_entries = n};
    for (uint32_t i = 0; i < n; i++)
        entries[i] = (struct virtio_gpu_mem_entry){first + (i % 2 ? 0 : step), size, 0};
    frontend_offer_at(f, WORK, sizeof(*c) + n * sizeof(*entries), sizeof(c->hdr));
}

static uint32_t answer_of(struct frontend *f)
{
    struct virtio_gpu_ctrl_hdr header;

    g_assert_cmpuint(frontend_wait(f, &header, sizeof(header)), ==, sizeof(header));
    return header.type;
}

/* Copies line by line out of tens of thousands of pieces, a queue full of them: the front-end does
 * not wait for all that. */
static void slow_copies(struct frontend *f, gconstpointer data)
{
    const struct virtio_gpu_transfer_to_host_2d c = {
        .hdr = {.type = VIRTIO_GPU_CMD_TRANSFER_TO_HOST_2D},
        .r = {0, 0, 512, 16384},
        .resource_id = 5};
    gint64 began;

    g_assert_cmphex(frontend_create_2d(f, 5, 512, 16384), ==, OK); /* 32 MiB */
    attach_pieces(f, 5, 65536, 512, FRONTEND_DATA, 4096);
    g_assert_cmphex(answer_of(f), ==, OK);
    for (unsigned i = 0; i < 30; i++)
        frontend_offer(f, &c, sizeof(c), NULL, 0, sizeof(c.hdr));
    began = g_get_monotonic_time();
    frontend_ping(f);
    g_assert_cmpint(g_get_monotonic_time() - began, <, 20 * G_USEC_PER_SEC);
    for (unsigned i = 0; i < 30; i++)
        g_assert_cmphex(answer_of(f), ==, OK);
}

/* What all backings have in pieces is bounded, also by those that lie across two regions. */
static void pieces_of_backings(struct frontend *f, gconstpointer data)
{
    const unsigned limit = 64; /* of 65536 pieces each */
    int fd = memfd_create("guest", MFD_CLOEXEC);
    unsigned n = 0;

    g_assert_cmpint(ftruncate(fd, (off_t)PIECE), ==, 0);
    g_assert_cmpuint(frontend_add_memory(f, FRONTEND_MEMORY, PIECE, fd), ==, 0);
    for (uint32_t i = 1; i <= limit + 4; i++)
        g_assert_cmphex(frontend_create_2d(f, i, 16, 16), ==, OK);
    for (uint32_t i = 1; i < limit; i++) {
        attach_pieces(f, i, 65536, 64, FRONTEND_DATA, 4096);
        g_assert_cmphex(answer_of(f), ==, OK);
    }
    attach_pieces(f, limit, 30000, 64, FRONTEND_DATA, 4096);
    g_assert_cmphex(answer_of(f), ==, OK);
    attach_pieces(f, limit + 1, 32000, 64, FRONTEND_MEMORY - 32, 0); /* 64000, 35536 are left */
    n += answer_of(f) == OK;
    attach_pieces(f, limit + 2, 65536, 64, FRONTEND_DATA, 4096);
    n += answer_of(f) == OK;
    attach_pieces(f, limit + 3, 65536, 64, FRONTEND_DATA, 4096);
    n += answer_of(f) == OK;
    g_assert_cmpuint(n, ==, 0);
    close(fd);
}

/* Commands that ask for no answer and never end: the renderer is ended all the same. */
static void hung_without_a_fence(struct frontend *f, gconstpointer data)
{
    struct virtio_gpu_transfer_host_3d c = read_back(1, 10);
    pid_t renderer;
    int pidfd;

    c.hdr.flags = 0;
    frontend_start_drawing(f, 1, 10);
    renderer = frontend_renderer(f);
    pidfd = (int)syscall(SYS_pidfd_open, renderer, 0);
    g_assert_cmpint(pidfd, >=, 0);
    g_assert_cmpint(kill(renderer, SIGSTOP), ==, 0);
    g_assert_cmphex(frontend_command(f, &c, sizeof(c), NULL, 0), ==, OK);
    g_assert_cmpint(poll(&(struct pollfd){.fd = pidfd, .events = POLLIN}, 1, 60000), ==, 1);
    close(pidfd);
    g_assert_cmphex(frontend_unref(f, 10), ==, OK);
    frontend_start_drawing(f, 2, 10);
    frontend_assert_draws(f, 2, 10);
}

/* ---- the driver's own memory ---- */

static uint64_t limit_of(pid_t pid)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/limits", pid);
    g_autofree char *text = NULL;
    const char *line;

    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    line = strstr(text, "Max data size");
    g_assert_nonnull(line);
    return g_ascii_strtoull(line + strlen("Max data size"), NULL, 10);
}

/* KiB of its own that a process has used so far, at most. */
static uint64_t own_memory(pid_t pid)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/status", pid);
    g_autofree char *text = NULL;
    const char *line;

    if (!g_file_get_contents(path, &text, NULL, NULL))
        return 0;
    line = strstr(text, "RssAnon:");
    return line ? g_ascii_strtoull(line + strlen("RssAnon:"), NULL, 10) : 0;
}

/* A stream that makes no resource but has the driver allocate, a whole GL context for each command:
 * the limit holds, the renderer ends at it at the latest, and the guest starts anew. */
static void allocating_stream(struct frontend *f, gconstpointer data)
{
    uint64_t limit, used, most = 0;
    uint32_t made = 0;
    pid_t renderer;

    frontend_start_drawing(f, 1, 10);
    renderer = frontend_renderer(f);
    limit = limit_of(renderer);
    if (FRONTEND_SANITIZED) /* whose shadow memory is no less than all: not limited */
        return;
    g_assert_cmpuint(limit, ==, (UINT64_C(64) + 1024) << 20);
    while (frontend_renderer(f) == renderer && made < 4096) {
        uint32_t stream[2 * 16];

        for (unsigned i = 0; i < 16; i++) {
            stream[i * 2] = 29 | 1u << 16; /* CREATE_SUB_CTX */
            stream[i * 2 + 1] = 100 + made++;
        }
        if (frontend_submit(f, 1, stream, G_N_ELEMENTS(stream)) != OK)
            break;
        used = own_memory(renderer);
        most = MAX(most, used);
    }
    g_test_message("%u contexts, %" G_GUINT64_FORMAT " MiB of %" G_GUINT64_FORMAT " MiB", made,
                   most >> 10, limit >> 20);
    g_assert_cmpuint(most << 10, <=, limit);
    frontend_reset(f);
    frontend_start_drawing(f, 1, 10);
    frontend_assert_draws(f, 1, 10);
}

/* ---- memory ---- */

static int add_second(struct frontend *f)
{
    int fd = memfd_create("second", MFD_CLOEXEC);

    g_assert_cmpint(ftruncate(fd, (off_t)PIECE), ==, 0);
    g_assert_cmpuint(frontend_add_memory(f, SECOND, PIECE, fd), ==, 0);
    return fd;
}

/* Regions come and go while commands are in flight that have nothing to do with them: all of these
 * are answered, and the renderer lives. */
static void memory_under_load(struct frontend *f, gconstpointer data)
{
    struct virtio_gpu_transfer_host_3d c = read_back(1, 10);
    pid_t renderer;

    frontend_start_drawing(f, 1, 10);
    g_assert_cmphex(frontend_create_3d(f, 11, FRONTEND_WIDTH, FRONTEND_HEIGHT), ==, OK);
    g_assert_cmphex(frontend_context_resource(f, VIRTIO_GPU_CMD_CTX_ATTACH_RESOURCE, 1, 11), ==,
                    OK);
    g_assert_cmphex(frontend_create_2d(f, 12, FRONTEND_WIDTH, FRONTEND_HEIGHT), ==, OK);
    renderer = frontend_renderer(f);
    for (unsigned round = 0; round < 100; round++) {
        int fd = add_second(f);

        g_assert_cmphex(frontend_attach(f, 11, SECOND, FRONTEND_PIXELS), ==, OK);
        g_assert_cmphex(frontend_attach(f, 12, SECOND, FRONTEND_PIXELS), ==, OK);
        for (unsigned i = 0; i < 20; i++) {
            c.hdr.fence_id = i;
            c.resource_id = i % 2 ? 11 : 10;
            frontend_offer(f, &c, sizeof(c), NULL, 0, sizeof(c.hdr));
        }
        g_assert_cmpuint(frontend_remove_memory(f, SECOND, PIECE), ==, 0);
        close(fd);
        for (unsigned i = 0; i < 20; i++) {
            struct virtio_gpu_ctrl_hdr reply;

            g_assert_cmpuint(frontend_wait(f, &reply, sizeof(reply)), ==, sizeof(reply));
            if (i % 2 == 0)
                g_assert_cmphex(reply.type, ==, OK);
        }
        /* the backings went with it; others can be attached */
        g_assert_cmphex(frontend_attach(f, 12, FRONTEND_DATA, FRONTEND_PIXELS), ==, OK);
        g_assert_cmphex(frontend_unref(f, 12), ==, OK);
        g_assert_cmphex(frontend_create_2d(f, 12, FRONTEND_WIDTH, FRONTEND_HEIGHT), ==, OK);
    }
    g_assert_cmpint(frontend_renderer(f), ==, renderer);
    frontend_assert_draws(f, 1, 10);
}

/* Requests that lie in what is taken away while they are in flight. */
static void requests_in_removed_memory(struct frontend *f, gconstpointer data)
{
    struct virtio_gpu_transfer_host_3d c = read_back(1, 10);

    frontend_start_drawing(f, 1, 10);
    for (unsigned round = 0; round < 20; round++) {
        int fd = add_second(f);

        g_assert_cmpint(pwrite(fd, &c, sizeof(c), 0), ==, sizeof(c));
        for (unsigned i = 0; i < 10; i++)
            frontend_offer_at(f, SECOND, sizeof(c), sizeof(c.hdr));
        g_assert_cmpuint(frontend_remove_memory(f, SECOND, PIECE), ==, 0);
        for (unsigned i = 0; i < 10; i++) {
            g_assert_cmpuint(frontend_wait(f, NULL, 0), <=, sizeof(c.hdr));
        }
        close(fd);
    }
    frontend_assert_draws(f, 1, 10);
}

/* A renderer that hangs does not keep memory that is taken away. */
static void removed_from_a_hung_renderer(struct frontend *f, gconstpointer data)
{
    int fd = add_second(f);

    frontend_start_drawing(f, 1, 10);
    g_assert_cmpint(kill(frontend_renderer(f), SIGSTOP), ==, 0);
    g_assert_cmpuint(frontend_remove_memory(f, SECOND, PIECE), ==, 0);
    close(fd);
    g_assert_cmphex(frontend_unref(f, 10), ==, OK);
    frontend_start_drawing(f, 2, 10);
    frontend_assert_draws(f, 2, 10);
}

/* A whole new table with the rings in it, in the middle of work. */
static void whole_table_changes(struct frontend *f, gconstpointer data)
{
    struct vhost_user_mem_table table = {.n = 1,
                                         .regions = {{0, FRONTEND_MEMORY, 0x7f0000000000, 0}}};
    struct virtio_gpu_transfer_host_3d c = read_back(1, 10);

    frontend_start_drawing(f, 1, 10);
    for (unsigned round = 0; round < 10; round++) {
        for (unsigned i = 0; i < 10; i++)
            frontend_offer(f, &c, sizeof(c), NULL, 0, sizeof(c.hdr));
        g_assert_cmpuint(frontend_request(f, VHOST_USER_SET_MEM_TABLE, &table,
                                          8 + sizeof(table.regions[0]), f->memory_fd),
                         ==, 0);
        for (unsigned i = 0; i < 10; i++)
            frontend_wait(f, NULL, 0);
        g_assert_cmphex(frontend_attach(f, 10, FRONTEND_DATA, FRONTEND_PIXELS), ==, OK);
    }
    frontend_assert_draws(f, 1, 10);
}

/* ---- double fetches ---- */

struct race {
    unsigned char *place;
    size_t size;
    uint32_t seed;
    bool stop;
};

/* Another CPU of the guest, which changes what is being read: never the command's type. */
static void *change(void *data)
{
    struct race *race = data;
    static const uint32_t values[] = {0, 1, 2, 63, 64, 65, 4096, 65536, 0x7fffffff, 0xffffffff};

    while (!__atomic_load_n(&race->stop, __ATOMIC_RELAXED)) {
        uint32_t r = race->seed = race->seed * 1664525u + 1013904223u;
        size_t at = sizeof(struct virtio_gpu_ctrl_hdr) + (r >> 8) % (race->size / 4) * 4;

        __atomic_store_n((uint32_t *)(race->place + at), values[(r >> 24) % 10], __ATOMIC_RELAXED);
    }
    return NULL;
}

static void races(struct frontend *f, gconstpointer data)
{
    static const uint32_t types[] = {VIRTIO_GPU_CMD_RESOURCE_CREATE_2D,
                                     VIRTIO_GPU_CMD_RESOURCE_CREATE_3D,
                                     VIRTIO_GPU_CMD_RESOURCE_ATTACH_BACKING,
                                     VIRTIO_GPU_CMD_TRANSFER_TO_HOST_2D,
                                     VIRTIO_GPU_CMD_TRANSFER_TO_HOST_3D,
                                     VIRTIO_GPU_CMD_TRANSFER_FROM_HOST_3D,
                                     VIRTIO_GPU_CMD_SUBMIT_3D,
                                     VIRTIO_GPU_CMD_SET_SCANOUT,
                                     VIRTIO_GPU_CMD_RESOURCE_FLUSH,
                                     VIRTIO_GPU_CMD_GET_CAPSET,
                                     VIRTIO_GPU_CMD_RESOURCE_UNREF};
    struct race race = {f->memory + WORK, 256, 1, false};
    struct virtio_gpu_ctrl_hdr *header = (void *)race.place;
    GThread *thread;

    frontend_start_drawing(f, 1, 64);
    g_assert_cmphex(frontend_create_2d(f, 2, 64, 64), ==, OK);
    g_assert_cmphex(frontend_attach(f, 2, FRONTEND_DATA, 64 * 64 * 4), ==, OK);
    thread = g_thread_new("guest", change, &race);
    for (unsigned i = 0; i < 5000; i++) {
        *header = (struct virtio_gpu_ctrl_hdr){
            .type = types[i % G_N_ELEMENTS(types)], .ctx_id = 1, .flags = i / 16 & 1};
        frontend_offer_at(f, WORK, race.size + 32, 4096);
        g_assert_cmpuint(frontend_wait(f, NULL, 0), >=, sizeof(*header));
    }
    __atomic_store_n(&race.stop, true, __ATOMIC_RELAXED);
    g_thread_join(thread);
    frontend_reset(f);
    frontend_start_drawing(f, 1, 10);
    frontend_assert_draws(f, 1, 10);
}

/* Another CPU of the guest, which changes the descriptors, an indirect table and the ring's entries
 * while they are walked through. */
static void *change_rings(void *data)
{
    struct race *race = data;
    struct frontend *f = (void *)race->place;
    static const uint64_t addresses[] = {WORK,          FRONTEND_MEMORY - 8, UINT64_MAX - 8, 0,
                                         FRONTEND_DATA, FRONTEND_MEMORY,     8192,           12288};
    static const uint32_t lengths[] = {0, 1, 16, 24, 32, 4096, 0x10000, UINT32_MAX};

    while (!__atomic_load_n(&race->stop, __ATOMIC_RELAXED)) {
        uint32_t r = race->seed = race->seed * 1664525u + 1013904223u;
        struct vring_desc *d =
            r & 1 ? &f->desc[r >> 8 & 7] : (struct vring_desc *)(f->memory + WORK) + (r >> 8 & 7);

        d->addr = addresses[r >> 12 & 7];
        d->len = lengths[r >> 16 & 7];
        d->flags = r >> 20 & 7;
        d->next = r >> 24 & 15;
        if (r >> 28 == 0)
            f->avail->ring[r >> 8 & (FRONTEND_QUEUE - 1)] = r >> 24 & 7;
    }
    return NULL;
}

static void ring_races(struct frontend *f, gconstpointer data)
{
    for (uint32_t round = 1; round <= 20; round++) {
        struct race race = {(void *)f, 0, round, false};
        struct virtio_gpu_ctrl_hdr *header = (void *)(f->memory + WORK);
        GThread *thread;

        frontend_start_drawing(f, 1, 10);
        *header = (struct virtio_gpu_ctrl_hdr){.type = VIRTIO_GPU_CMD_GET_EDID};
        thread = g_thread_new("guest", change_rings, &race);
        for (unsigned i = 0; i < 200; i++) {
            frontend_offer_head(f, (uint16_t)(i % 8));
            frontend_ping(f);
        }
        __atomic_store_n(&race.stop, true, __ATOMIC_RELAXED);
        g_thread_join(thread);
        frontend_reset(f);
    }
    frontend_start_drawing(f, 1, 10);
    frontend_assert_draws(f, 1, 10);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *path;
        void (*func)(struct frontend *, gconstpointer);
        const char *const *options; /* NULL: patient */
    } tests[] = {
        {"/hostile/ring/offers-without-end", offers_without_end, impatient},
        {"/hostile/ring/broken-and-reset", broken_ring_and_reset, impatient},
        {"/hostile/ring/loops", loops_and_worse},
        {"/hostile/ring/flooded", flooded_queue},
        {"/hostile/load/slow-copies", slow_copies},
        {"/hostile/load/pieces", pieces_of_backings},
        {"/hostile/load/hung-without-fence", hung_without_a_fence, impatient},
        {"/hostile/load/allocating-stream", allocating_stream},
        {"/hostile/memory/under-load", memory_under_load},
        {"/hostile/memory/requests-in-it", requests_in_removed_memory},
        {"/hostile/memory/hung-renderer", removed_from_a_hung_renderer, impatient},
        {"/hostile/memory/whole-table", whole_table_changes},
        {"/hostile/double-fetch/commands", races},
        {"/hostile/double-fetch/rings", ring_races},
    };

    g_test_init(&argc, &argv, NULL);
    for (size_t i = 0; i < G_N_ELEMENTS(tests); i++)
        g_test_add(tests[i].path, struct frontend, tests[i].options ? tests[i].options : patient,
                   set_up, tests[i].func, tear_down);
    return g_test_run();
}
