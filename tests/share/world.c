/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "world.h"

#include "core/error.h"
#include "core/units.h"
#include "daemon/server.h"
#include "tree.h"

#include <fcntl.h>
#include <glib-unix.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define START_S  30
#define CONTEXTS 16u /* of one that has many */

struct world_memory {
    _Atomic uint32_t gpupd_ready, connected;
    struct world_share share[WORLD_MOST]; /* what world_change() asks for */
    struct world_client client[WORLD_MOST];
};

struct world {
    struct world_setup setup;
    struct world_memory *memory;
    char *dir, *run, *state, *socket;
    pid_t gpupd, client[WORLD_MOST];
};

uint64_t world_now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static void sleep_until(uint64_t ns)
{
    struct timespec t = {(time_t)(ns / 1000000000), (long)(ns % 1000000000)};

    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) != 0)
        continue;
}

void world_sleep_ms(unsigned ms)
{
    sleep_until(world_now() + ms * UINT64_C(1000000));
}

static void wait_for_change(_Atomic uint32_t *word, uint32_t from, int timeout_ms)
{
    const struct timespec t = {timeout_ms / 1000, timeout_ms % 1000 * 1000000L};

    syscall(SYS_futex, word, FUTEX_WAIT, from, timeout_ms < 0 ? NULL : &t, NULL, 0);
}

static void set_word(_Atomic uint32_t *word, uint32_t value)
{
    atomic_store(word, value);
    syscall(SYS_futex, word, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
}

static char *adapter_id(size_t i)
{
    return g_strdup_printf("aaaaaaaa-0000-4000-8000-%012zu", i);
}

/* That of the session, which counts between sessions (sched(7), autogroup). */
static bool own_nice(int *nice)
{
    g_autofree char *own = NULL;

    return g_file_get_contents("/proc/self/autogroup", &own, NULL, NULL) &&
           sscanf(own, "/autogroup-%*u nice %d", nice) == 1;
}

static void set_session_nice(pid_t pid, int nice)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/autogroup", (int)pid);
    FILE *file = fopen(path, "we");

    if (!file)
        return;
    fprintf(file, "%d", nice);
    fclose(file);
}

void world_own_session(void)
{
    int nice;
    bool known = own_nice(&nice);

    setsid();
    if (known)
        set_session_nice(getpid(), nice);
}

static void become_child(const struct world *w)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (w->setup.quiet)
        dup2(open("/dev/null", O_WRONLY), STDERR_FILENO);
}

/* ---- gpupd ---- */

static char *domain_xml(const struct world *w, size_t i)
{
    const struct world_share *s = &w->memory->share[i];
    unsigned vram = w->setup.vram_mib ? w->setup.vram_mib : 64;
    g_autofree char *id = adapter_id(i);

    return g_strdup_printf(
        "<domain id='%zu'><name>vm%zu</name><uuid>bbbbbbbb-0000-4000-8000-%012zu</uuid><metadata>"
        "<g:adapter xmlns:g='urn:gpup:adapter:1' id='%s' kind='virtio' vram-optimal='%u' "
        "compute-min='%u' compute-optimal='%u' compute-max='%u'/></metadata><devices><video>"
        "<model type='vga'/></video><video><model type='virtio'><acceleration "
        "rendernode='/run/gpup/vm/%s'/></model></video></devices></domain>",
        i + 1, i, i, id, vram << 20, s->min * 10000, s->weight * 10000, s->cap * 10000, id);
}

struct gpupd {
    struct world *world;
    struct gpup_host *host;
    struct gpup_server *server;
};

static void ignore_change(void *data)
{
}

static void on_lease(void *data)
{
    struct gpupd *g = data;
    uint32_t n = 0;

    for (size_t i = 0; g->server && i < g->world->setup.n; i++) {
        g_autofree char *id = adapter_id(i);

        n += gpup_server_is_alive(id, g->server);
    }
    atomic_store(&g->world->memory->connected, n);
}

/* SIGUSR1: the shares in the world's memory are asked for. */
static gboolean on_change(void *data)
{
    struct gpupd *g = data;

    for (size_t i = 0; i < g->world->setup.n; i++) {
        const struct world_share *s = &g->world->memory->share[i];
        g_autofree char *id = adapter_id(i);
        struct gpup_claim *claim = gpup_host_claim(g->host, id);

        claim->grant.share[GPUP_COMPUTE] =
            (struct gpup_share){s->min * 10000, s->weight * 10000, s->cap * 10000};
        gpup_server_regrant(g->server, id);
    }
    set_word(&g->world->memory->gpupd_ready, 1);
    return G_SOURCE_CONTINUE;
}

static void on_prepared(const struct gpup_error *err, void *data)
{
    if (err)
        gpup_error_set(data, err->code, "%s", err->message);
}

static void prepare_vms(struct world *w, struct gpup_host *host)
{
    for (size_t i = 0; i < w->setup.n; i++) {
        g_autofree char *xml = domain_xml(w, i);
        g_autofree char *id = adapter_id(i);
        struct gpup_error *err = NULL;

        if (gpup_host_claim(host, id))
            continue;
        gpup_host_prepare(host, xml, strlen(xml), NULL, NULL, on_prepared, &err);
        if (err)
            g_error("vm%zu: %s", i, gpup_error_message(err));
        gpup_host_started(host, xml, strlen(xml));
    }
}

static void partition_software(struct world *w, struct gpup_host *host)
{
    g_autoptr(GPtrArray) lines = g_ptr_array_new_with_free_func(g_free);
    size_t n;
    struct gpup_gpu *const *gpus = gpup_host_gpus(host, &n);
    struct gpup_gpu *software = gpus[n - 1];

    g_assert_cmpstr(software->id, ==, "software");
    if (software->n_slots != w->setup.n)
        g_assert_cmpint(
            gpup_host_partition(host, software, (unsigned)w->setup.n, false, lines, NULL), ==, 0);
}

_Noreturn static void run_gpupd(struct world *w)
{
    const struct gpup_folders folders = {w->state, w->run, w->dir};
    struct gpupd g = {.world = w};
    struct gpup_server_setup setup = {.folders = &folders,
                                      .renderer = g_getenv("GPUP_TEST_RENDER"),
                                      .render_user = "nobody",
                                      .changed = on_lease,
                                      .data = &g};
    struct gpup_config config;
    struct gpup_error *err = NULL;

    g_assert_cmpint(gpup_config_read("/nonexistent", &config, NULL), ==, 0);
    config.software_memory = UINT64_C(4) << 30;
    setup.host = g.host = gpup_host_new(&config, &folders, ignore_change, NULL, &err);
    g_assert_nonnull(g.host);
    partition_software(w, g.host);
    prepare_vms(w, g.host);
    setup.cgroups = gpup_cgroups_new("/nonexistent"); /* the machine's are not touched */
    setup.arbiters = w->setup.no_arbiter ? NULL : gpup_arbiters_new(&config);
    if (w->setup.in_turn || w->setup.stay) {
        const struct gpup_arbiter_setup other = {.capacity =
                                                     w->setup.in_turn ? 1 : g_get_num_processors(),
                                                 .in_turn = w->setup.in_turn,
                                                 .slice_ns = w->setup.slice_ms * UINT64_C(1000000),
                                                 .stay = w->setup.stay};

        gpup_arbiters_put(setup.arbiters, "software", gpup_arbiter_new(&other, NULL));
    }
    g.server = gpup_server_new(&setup, &err);
    g_assert_nonnull(g.server);
    g_unix_signal_add(SIGUSR1, on_change, &g);
    set_word(&w->memory->gpupd_ready, 1);
    g_main_loop_run(g_main_loop_new(NULL, FALSE));
    _exit(0);
}

void world_start_gpupd(struct world *w)
{
    atomic_store(&w->memory->gpupd_ready, 0);
    atomic_store(&w->memory->connected, 0);
    w->gpupd = fork();
    g_assert_cmpint(w->gpupd, >=, 0);
    if (w->gpupd == 0) {
        become_child(w);
        run_gpupd(w);
    }
    for (int i = 0; i < START_S * 10 && !atomic_load(&w->memory->gpupd_ready); i++)
        wait_for_change(&w->memory->gpupd_ready, 0, 100);
    g_assert_true(atomic_load(&w->memory->gpupd_ready));
}

void world_kill_gpupd(struct world *w)
{
    int status;

    kill(w->gpupd, SIGKILL);
    g_assert_cmpint(waitpid(w->gpupd, &status, 0), ==, w->gpupd);
    g_assert_true(WIFSIGNALED(status));
    g_assert_cmpint(WTERMSIG(status), ==, SIGKILL); /* it ran until now */
}

bool world_is_connected(struct world *w, unsigned n)
{
    return atomic_load(&w->memory->connected) == n;
}

void world_change(struct world *w, size_t i, const struct world_share *share)
{
    w->memory->share[i] = *share;
    atomic_store(&w->memory->gpupd_ready, 0);
    kill(w->gpupd, SIGUSR1);
    while (!atomic_load(&w->memory->gpupd_ready))
        wait_for_change(&w->memory->gpupd_ready, 0, 100);
}

/* ---- a VM ---- */

static void record(struct world_client *c, uint64_t start)
{
    uint64_t n = atomic_load(&c->n_done);

    c->done[n % WORLD_LOG].start_ns = start;
    c->done[n % WORLD_LOG].end_ns = world_now();
    atomic_store(&c->n_done, n + 1);
}

static uint32_t context_of(const struct frontend *f, enum world_mode mode)
{
    return WORK_CONTEXT + (mode == WORLD_CONTEXTS ? f->fence % CONTEXTS : 0);
}

static void offer(struct frontend *f, struct world_client *c, enum world_mode mode)
{
    if (mode == WORLD_TRANSFER) {
        struct virtio_gpu_transfer_host_3d t = {
            .hdr = {.type = VIRTIO_GPU_CMD_TRANSFER_FROM_HOST_3D,
                    .flags = VIRTIO_GPU_FLAG_FENCE,
                    .fence_id = ++f->fence,
                    .ctx_id = WORK_CONTEXT},
            .box = {0, 0, 0, c->work.size, c->work.size, 1},
            .resource_id = 10,
            .stride = c->work.size * 4};

        frontend_offer(f, &t, sizeof(t), NULL, 0, sizeof(struct virtio_gpu_ctrl_hdr));
        return;
    }
    work_offer(f, &c->work, context_of(f, mode), mode != WORLD_UNFENCED);
}

/* Once in a stand-in's life. */
static void make_contexts(struct frontend *f, const struct world_client *c)
{
    for (uint32_t i = 1; i < CONTEXTS; i++)
        work_prepare_context(f, &c->work, WORK_CONTEXT + i);
}

/* Keeps the queue full for as long as that is wanted. */
static void be_greedy(struct frontend *f, struct world_client *c, enum world_mode mode)
{
    uint64_t started[FRONTEND_QUEUE] = {0};
    uint64_t offered = 0, answered = 0;
    unsigned queue = CLAMP(c->queue ? c->queue : 8, 1, FRONTEND_QUEUE / 2 - 1);

    if (mode == WORLD_CONTEXTS)
        make_contexts(f, c);
    while (atomic_load(&c->mode) == mode || answered < offered) {
        bool more = atomic_load(&c->mode) == mode;

        while (more && offered - answered < queue) {
            started[offered++ % FRONTEND_QUEUE] = world_now();
            offer(f, c, mode);
        }
        frontend_wait(f, NULL, 0);
        record(c, started[answered++ % FRONTEND_QUEUE]);
    }
}

static void be_light(struct frontend *f, struct world_client *c)
{
    uint64_t next = world_now();

    while (atomic_load(&c->mode) == WORLD_LIGHT) {
        uint64_t now = world_now();

        if (now < next)
            sleep_until(next);
        while (next + c->period_us * UINT64_C(1000) < now)
            next += c->period_us * UINT64_C(1000);
        work_offer(f, &c->work, WORK_CONTEXT, true);
        frontend_wait(f, NULL, 0);
        record(c, next);
        next += c->period_us * UINT64_C(1000);
    }
}

static void start_backend(struct world *w, size_t i, struct frontend *f)
{
    g_autofree char *id = adapter_id(i);
    g_autofree char *node = g_strdup_printf("--render-node=/run/gpup/vm/%s", id);
    g_autofree char *gpupd = g_strdup_printf("--gpupd-socket=%s", w->socket);
    const char *const options[] = {"--virgl", node, gpupd, NULL};

    if (!w->setup.backend) {
        frontend_start(f, options);
        return;
    }
    frontend_start_backend(f, w->setup.backend);
    atomic_store(&w->memory->client[i].backend, f->pid);
}

static void run_first(void)
{
    const struct sched_param ours = {.sched_priority = 2}; /* above renderers' */

    g_assert_cmpint(sched_setscheduler(0, SCHED_RR | SCHED_RESET_ON_FORK, &ours), ==, 0);
}

_Noreturn static void run_client(struct world *w, size_t i)
{
    struct world_client *c = &w->memory->client[i];
    g_autofree char *pid_file =
        g_strdup_printf("%s/%zu-vm%zu-video1-vhost-user-gpu.pid", w->dir, i + 1, i);
    struct frontend f = {.pid_file = pid_file};

    become_child(w);
    world_own_session();
    start_backend(w, i, &f);
    if (w->setup.guests_first)
        run_first();
    work_prepare(&f, &c->work);
    work_offer(&f, &c->work, WORK_CONTEXT, true); /* compiles the shaders */
    frontend_wait(&f, NULL, 0);
    for (;;) {
        enum world_mode mode = (enum world_mode)atomic_load(&c->mode);

        set_word(&c->state, mode);
        if (mode == WORLD_QUIT)
            break;
        if (mode == WORLD_IDLE)
            wait_for_change(&c->mode, mode, -1);
        else if (mode == WORLD_LIGHT)
            be_light(&f, c);
        else
            be_greedy(&f, c, mode);
    }
    close(f.sock);
    waitpid(f.pid, NULL, 0);
    _exit(0);
}

void world_set_mode(struct world *w, size_t i, enum world_mode mode)
{
    struct world_client *c = &w->memory->client[i];

    set_word(&c->mode, mode);
    for (;;) {
        uint32_t state = atomic_load(&c->state);

        if (state == (uint32_t)mode)
            return;
        g_assert_cmpint(waitpid(w->client[i], NULL, WNOHANG), ==, 0);
        wait_for_change(&c->state, state, 100);
    }
}

struct world_client *world_client(struct world *w, size_t i)
{
    return &w->memory->client[i];
}

/* ---- measuring ---- */

/* gpupd writes down which one it started. */
pid_t world_renderer(struct world *w, size_t i)
{
    g_autofree char *id = adapter_id(i);
    g_autofree char *path = g_build_filename(w->run, "reservations", id, NULL);
    g_autoptr(GKeyFile) file = g_key_file_new();

    if (w->setup.backend)
        return (pid_t)atomic_load(&w->memory->client[i].backend);
    if (!g_key_file_load_from_file(file, path, 0, NULL))
        return 0;
    return (pid_t)g_key_file_get_integer(file, "reservation", "renderer", NULL);
}

static uint64_t cpu_ns(pid_t pid)
{
    struct timespec t = {0};
    clockid_t clock;

    if (pid > 0 && clock_getcpuclockid(pid, &clock) == 0)
        clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

uint64_t world_charged(struct world *w, size_t i)
{
    return cpu_ns(world_renderer(w, i));
}

uint64_t world_gpupd_cpu(struct world *w)
{
    return cpu_ns(w->gpupd);
}

double world_work(struct world *w, size_t i, uint64_t from, uint64_t to)
{
    struct world_client *c = &w->memory->client[i];
    uint64_t n = atomic_load(&c->n_done), previous = 0;
    double work = 0;

    for (uint64_t k = n > WORLD_LOG ? n - WORLD_LOG : 0; k < n; k++) {
        uint64_t end = c->done[k % WORLD_LOG].end_ns;
        /* it runs when the one before it is done */
        uint64_t start = MAX(c->done[k % WORLD_LOG].start_ns, previous);

        previous = end;
        if (end > from && start < to && end > start)
            work += (double)(MIN(end, to) - MAX(start, from)) / (double)(end - start);
    }
    return work;
}

/* ---- life ---- */

static void start_client(struct world *w, size_t i)
{
    w->memory->client[i].work = w->setup.work;
    w->memory->client[i].state = WORLD_QUIT;
    w->client[i] = fork();
    g_assert_cmpint(w->client[i], >=, 0);
    if (w->client[i] == 0)
        run_client(w, i);
}

/* With the arbiter their priority is gpupd's; so it is to be without: a renderer's session has an
 * own one (sched(7), autogroup). */
static void same_priority(struct world *w)
{
    int nice;

    if (!own_nice(&nice))
        return;
    for (size_t i = 0; i < w->setup.n; i++)
        set_session_nice(world_renderer(w, i), nice);
}

struct world *world_new(const struct world_setup *setup)
{
    struct world *w = g_new0(struct world, 1);

    w->setup = *setup;
    w->dir = g_dir_make_tmp("gpup-world-XXXXXX", NULL);
    g_assert_nonnull(w->dir);
    w->run = g_build_filename(w->dir, "run", NULL);
    w->state = g_build_filename(w->dir, "state", NULL);
    w->socket = g_build_filename(w->run, "gpupd.sock", NULL);
    w->memory =
        mmap(NULL, sizeof(*w->memory), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    g_assert_true(w->memory != MAP_FAILED);
    memcpy(w->memory->share, setup->share, sizeof(setup->share));
    world_start_gpupd(w);
    for (size_t i = 0; i < setup->n; i++)
        start_client(w, i);
    for (size_t i = 0; i < setup->n; i++)
        world_set_mode(w, i, WORLD_IDLE);
    if (setup->no_arbiter)
        same_priority(w);
    return w;
}

void world_free(struct world *w)
{
    for (size_t i = 0; i < w->setup.n; i++)
        set_word(&w->memory->client[i].mode, WORLD_QUIT);
    for (size_t i = 0; i < w->setup.n; i++)
        waitpid(w->client[i], NULL, 0);
    world_kill_gpupd(w);
    munmap(w->memory, sizeof(*w->memory));
    remove_tree(w->dir);
    g_free(w->dir);
    g_free(w->run);
    g_free(w->state);
    g_free(w->socket);
    g_free(w);
}
