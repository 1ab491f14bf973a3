/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/lease.h"

#include "core/error.h"
#include "core/units.h"
#include "daemon/peer.h"
#include "daemon/renderer.h"
#include "fault/fault.h"
#include "gpu/task.h"
#include "sandbox/sandbox.h"
#include "wire/gpu_time.h"
#include "wire/render.h"
#include "wire/seqpacket.h"

#include <errno.h>
#include <fcntl.h>
#include <gio/gio.h>
#include <glib-unix.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* A device process that is fine starts few renderers; one that was taken over starts no storm. */
#define WINDOW_US  (20 * G_USEC_PER_SEC)
#define MAX_STARTS 20u
#define REAP_S     1
/* Of a gpup-vgpu that does not tell what it speaks with renderers. */
#define UNTOLD_VERSION 2u

static struct gpup_msg_header header(uint32_t type)
{
    return (struct gpup_msg_header){.type = type, .version = GPUP_GPUPD_VERSION};
}

static void answer(struct gpup_lease *lease, int status, const char *text)
{
    struct gpup_msg_answer m = {.header = header(GPUP_MSG_ANSWER), .status = status};

    g_strlcpy(m.text, text, sizeof(m.text));
    gpup_seqpacket_send(lease->sock, &m, sizeof(m), NULL, 0, MSG_DONTWAIT);
}

static void fill_grant(const struct gpup_server_setup *setup, const struct gpup_claim *claim,
                       struct gpup_msg_grant *m)
{
    const struct gpup_share *compute = &claim->grant.share[GPUP_COMPUTE];

    *m = (struct gpup_msg_grant){
        .header = header(GPUP_MSG_GRANT),
        .vram = claim->grant.share[GPUP_VRAM].min,
        .compute_min = (uint32_t)compute->min,
        .compute_weight = (uint32_t)compute->weight,
        .compute_cap = (uint32_t)compute->cap,
        .hang_ms = gpup_host_config(setup->host)->hang_seconds * 1000,
        .flags = (claim->display != GPUP_DISPLAY_OFF ? GPUP_GRANT_DISPLAY : 0) |
                 (claim->display == GPUP_DISPLAY_DMABUF ? GPUP_GRANT_SHARED : 0),
    };
    g_strlcpy(m->vm, claim->vm, sizeof(m->vm));
    gpup_host_partition_name(setup->host, claim, m->partition, sizeof(m->partition));
}

/* When a process was started: field 22 of /proc/PID/stat, counted behind the name, which may hold
 * anything. 0: there is none. */
static guint64 start_time(pid_t pid)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/stat", (int)pid);
    g_autofree char *text = NULL;
    g_auto(GStrv) fields = NULL;
    const char *rest;

    if (!g_file_get_contents(path, &text, NULL, NULL))
        return 0;
    rest = strrchr(text, ')');
    fields = g_strsplit(rest ? rest : "", " ", 22);
    return g_strv_length(fields) > 20 ? g_ascii_strtoull(fields[20], NULL, 10) : 0;
}

/* The renderer that an earlier gpupd started for this claim, if that very process still runs. */
static int open_recorded(const struct gpup_claim *claim)
{
    int pidfd;

    if (claim->renderer <= 0)
        return -1;
    pidfd = (int)syscall(SYS_pidfd_open, claim->renderer, 0);
    if (pidfd >= 0 && start_time(claim->renderer) == claim->renderer_start)
        return pidfd;
    if (pidfd >= 0)
        close(pidfd);
    return -1;
}

/* A later gpupd must know whom it may kill: nobody else is asked. */
static void record(struct gpup_lease *lease)
{
    struct gpup_claim *claim = gpup_host_claim(lease->setup.host, lease->adapter);
    GPUP_AUTO_ERROR err = NULL;

    if (!claim)
        return;
    claim->renderer = gpup_lease_renderer_pid(lease);
    claim->renderer_start = start_time(claim->renderer);
    if (gpup_claim_save(lease->setup.folders->run, claim, &err) < 0)
        g_warning("%s: its reservation cannot be written: %s", claim->vm, gpup_error_message(err));
}

pid_t gpup_lease_renderer_pid(const struct gpup_lease *lease)
{
    g_autofree char *path = g_strdup_printf("/proc/self/fdinfo/%d", lease->renderer);
    g_autofree char *text = NULL;
    const char *line;

    if (lease->renderer < 0 || !g_file_get_contents(path, &text, NULL, NULL))
        return 0;
    line = strstr(text, "\nPid:");
    return line ? (pid_t)MAX(g_ascii_strtoll(line + 5, NULL, 10), 0) : 0;
}

static void tell_arbiter(struct gpup_lease *lease)
{
    pid_t pid = gpup_lease_renderer_pid(lease);
    int group;

    if (!lease->arbiter)
        return;
    group = gpup_cgroups_open_of(lease->setup.cgroups, lease->adapter, pid);
    gpup_arbiter_set_renderer(lease->arbiter, lease->arbiter_number, pid, lease->renderer, group);
    if (group >= 0)
        close(group);
}

void gpup_lease_kill_renderer(struct gpup_lease *lease)
{
    if (lease->renderer < 0)
        return;
    if (lease->arbiter)
        gpup_arbiter_set_renderer(lease->arbiter, lease->arbiter_number, 0, -1, -1);
    syscall(SYS_pidfd_send_signal, lease->renderer, SIGKILL, NULL, 0);
    close(lease->renderer);
    lease->renderer = -1;
}

struct gpup_lease *gpup_lease_new(const struct gpup_server_setup *setup, int sock,
                                  const struct gpup_msg_hello *hello, unsigned *degraded,
                                  struct gpup_msg_grant *grant, struct gpup_error **err)
{
    struct gpup_claim *claim;
    struct gpup_lease *lease;
    struct gpup_peer peer;
    char adapter[sizeof(hello->adapter)];

    g_strlcpy(adapter, hello->adapter, sizeof(adapter));
    if (gpup_peer_of(sock, &peer, err) < 0)
        return NULL;
    claim = gpup_host_claim(setup->host, adapter);
    if (!claim) {
        gpup_error_set(err, ENOENT,
                       "no VM with this adapter is starting or running: is the hook in "
                       "/etc/libvirt/hooks/qemu.d/gpup executable? (restart libvirtd after "
                       "adding it)");
        return NULL;
    }
    if (gpup_peer_check(setup->folders->libvirt_run, claim->domain, &peer, err) < 0)
        return NULL;
    lease = g_rc_box_new0(struct gpup_lease);
    lease->setup = *setup;
    lease->sock = sock;
    lease->renderer = open_recorded(claim);
    if (!(hello->flags & GPUP_HELLO_ADOPT))
        gpup_lease_kill_renderer(lease); /* nobody could reach it */
    lease->degraded = degraded;
    lease->render_version = hello->render_version ? hello->render_version : UNTOLD_VERSION;
    g_strlcpy(lease->adapter, claim->adapter, sizeof(lease->adapter));
    lease->oom_kills = gpup_cgroups_oom_kills(setup->cgroups, lease->adapter);
    fill_grant(setup, claim, grant);
    return lease;
}

static void clear_lease(void *data)
{
    gpup_lease_kill_renderer(data);
}

void gpup_lease_unref(struct gpup_lease *lease)
{
    g_rc_box_release_full(lease, clear_lease);
}

/* ---- GPU time ---- */

void gpup_lease_join_arbiter(struct gpup_lease *lease)
{
    const struct gpup_msg_plain m = {.header = header(GPUP_MSG_GPU_TIME)};
    struct gpup_claim *claim = gpup_host_claim(lease->setup.host, lease->adapter);
    struct gpup_gpu *gpu = claim ? gpup_host_gpu_of(lease->setup.host, claim) : NULL;
    struct gpup_share_request request;
    int fds[GPUP_GPU_TIME_FDS];
    GPUP_AUTO_ERROR err = NULL;

    lease->takes_time = true;
    if (!gpu || !lease->setup.arbiters)
        return;
    request = gpup_arbiters_request(&claim->grant);
    lease->arbiter = gpup_arbiters_get(lease->setup.arbiters, gpu, &err);
    if (lease->arbiter)
        lease->arbiter_number = gpup_arbiter_add(lease->arbiter, &request, fds, &err);
    if (err)
        g_warning("%s: the compute share is not held: %s", claim->vm, gpup_error_message(err));
    if (!lease->arbiter || lease->arbiter_number < 0) {
        lease->arbiter = NULL;
        return;
    }
    gpup_seqpacket_send(lease->sock, &m, sizeof(m), fds, GPUP_GPU_TIME_FDS, MSG_DONTWAIT);
    for (int i = 0; i < GPUP_GPU_TIME_FDS; i++)
        close(fds[i]);
    tell_arbiter(lease);
}

void gpup_lease_leave_arbiter(struct gpup_lease *lease)
{
    if (lease->arbiter)
        gpup_arbiter_remove(lease->arbiter, lease->arbiter_number);
    lease->arbiter = NULL;
}

/* What its renderer may take for itself, in bytes. A GPU's own memory is not part of that: there
 * it bounds what lies beside it. */
static uint64_t memory_of(const struct gpup_claim *claim)
{
    return claim->grant.share[GPUP_VRAM].min + SANDBOX_RENDERER_OVERHEAD;
}

/* Files that it has mapped (its program, libraries) count in its group too. At the group's limit
 * the kernel drops these and reads them again and again before it ends anything: what a renderer
 * takes for itself must meet RLIMIT_DATA first. */
#define FILES (UINT64_C(256) << 20)

/* What its renderer's group is limited to. The kernel may take its time over that: it is set by
 * threads, of which each has its own copy. */
struct limits {
    struct gpup_cgroups *cgroups;
    char adapter[37];
    uint64_t memory;
    struct gpup_share compute; /* of this many CPUs; of 0: it is a GPU's, and not set here */
    unsigned cpus;
    char *gpu; /* its address, or NULL: it has no memory of its own */
    uint64_t vram;
};

static void limits_free(void *data)
{
    struct limits *limits = data;

    gpup_cgroups_free(limits->cgroups);
    g_free(limits->gpu);
    g_free(limits);
}

static unsigned cpus_of(const struct gpup_lease *lease)
{
    unsigned cpus = gpup_host_config(lease->setup.host)->software_cpus;

    return cpus > 0 ? cpus : g_get_num_processors();
}

static struct limits *limits_new(const struct gpup_lease *lease, const struct gpup_claim *claim,
                                 const struct gpup_gpu *gpu)
{
    struct limits *limits = g_new0(struct limits, 1);

    *limits = (struct limits){.cgroups = gpup_cgroups_ref(lease->setup.cgroups),
                              .memory = memory_of(claim) + FILES,
                              .compute = claim->grant.share[GPUP_COMPUTE],
                              .cpus = gpu->node ? 0 : cpus_of(lease),
                              .gpu = gpu->node ? g_strdup(gpu->id) : NULL,
                              /* beside what is charged a driver has something of its own there */
                              .vram = claim->grant.share[GPUP_VRAM].min + FILES};
    g_strlcpy(limits->adapter, claim->adapter, sizeof(limits->adapter));
    return limits;
}

/* The group with these limits; open, or -1. */
static int open_group(const struct limits *limits)
{
    int group = gpup_cgroups_open(limits->cgroups, limits->adapter, limits->memory,
                                  limits->cpus > 0 ? &limits->compute : NULL, limits->cpus);

    if (group >= 0 && limits->gpu)
        gpup_cgroups_limit_gpu(limits->cgroups, limits->adapter, limits->gpu, limits->vram);
    return group;
}

/* A running renderer's own memory follows its grant. Where we may not change it the next one gets
 * what it should have. */
static void limit_memory(struct gpup_lease *lease, uint64_t memory)
{
    const struct rlimit own = {memory, memory};
    pid_t pid = gpup_lease_renderer_pid(lease);

    if (pid <= 0 || lease->memory == memory)
        return;
    if (prlimit(pid, RLIMIT_DATA, &own, NULL) == 0)
        lease->memory = memory;
    else
        g_message("renderer of adapter %s: its memory is limited anew with its next start: %s",
                  lease->adapter, g_strerror(errno));
}

static void limit_in_thread(GTask *task, void *source, void *data, GCancellable *cancellable)
{
    int group = open_group(data);

    if (group >= 0)
        close(group);
    g_task_return_boolean(task, TRUE);
}

static void limit_renderer(struct gpup_lease *lease);

/* One at a time, so that the last one counts. */
static void limited(GObject *source, GAsyncResult *result, void *data)
{
    struct gpup_lease *lease = data;
    bool again = lease->limit_again;

    lease->limiting = lease->limit_again = false;
    if (again && lease->sock >= 0)
        limit_renderer(lease);
    gpup_lease_unref(lease);
}

static void limit_group(struct gpup_lease *lease, const struct gpup_claim *claim,
                        const struct gpup_gpu *gpu)
{
    g_autoptr(GTask) task = NULL;

    lease->limit_again = lease->limiting || lease->starting;
    if (lease->limit_again)
        return;
    lease->limiting = true;
    task = g_task_new(NULL, NULL, limited, g_rc_box_acquire(lease));
    g_task_set_task_data(task, limits_new(lease, claim, gpu), limits_free);
    gpup_task_run(task, limit_in_thread);
}

static void limit_renderer(struct gpup_lease *lease)
{
    struct gpup_claim *claim = gpup_host_claim(lease->setup.host, lease->adapter);
    struct gpup_gpu *gpu = claim ? gpup_host_gpu_of(lease->setup.host, claim) : NULL;

    if (!gpu)
        return;
    if (lease->renderer >= 0 || lease->starting)
        limit_group(lease, claim, gpu);
    limit_memory(lease, memory_of(claim));
}

void gpup_lease_regrant(struct gpup_lease *lease)
{
    struct gpup_claim *claim = gpup_host_claim(lease->setup.host, lease->adapter);
    struct gpup_share_request request;
    struct gpup_msg_grant m;

    if (!claim)
        return;
    fill_grant(&lease->setup, claim, &m);
    if (lease->takes_time) /* it knows what a grant without a question means too */
        gpup_seqpacket_send(lease->sock, &m, sizeof(m), NULL, 0, MSG_DONTWAIT);
    limit_renderer(lease);
    if (!lease->arbiter)
        return;
    request = gpup_arbiters_request(&claim->grant);
    gpup_arbiter_change(lease->arbiter, lease->arbiter_number, &request);
}

/* ---- starting one ---- */

struct start {
    struct gpup_lease *lease;
    struct gpup_renderer_spec *spec;
    struct limits *limits;
    struct gpup_renderer renderer;
    struct gpup_error *error;
};

static void start_free(void *data)
{
    struct start *start = data;

    gpup_renderer_spec_free(start->spec);
    limits_free(start->limits);
    gpup_error_free(start->error);
    gpup_lease_unref(start->lease);
    g_free(start);
}

static void start_in_thread(GTask *task, void *source, void *data, GCancellable *cancellable)
{
    struct start *start = data;

    start->spec->cgroup_fd = open_group(start->limits);
    g_task_return_int(task, gpup_renderer_start(start->spec, &start->renderer, &start->error));
}

static void describe_end(struct gpup_lease *lease, const siginfo_t *info)
{
    const char *name = sigabbrev_np(info->si_status);
    char *buf = lease->ended;
    const size_t size = sizeof(lease->ended);
    uint64_t oom_kills = gpup_cgroups_oom_kills(lease->setup.cgroups, lease->adapter);
    bool for_memory = oom_kills > lease->oom_kills;
    char limit[GPUP_UNIT_BUF];

    lease->oom_kills = oom_kills;
    if (info->si_code == CLD_EXITED)
        g_snprintf(buf, size, "exit status %d", info->si_status);
    else if (info->si_status == SIGKILL && for_memory)
        g_snprintf(buf, size, "SIGKILL: it took more memory than its limit of %s",
                   gpup_format_size(lease->memory, limit, sizeof(limit)));
    else if (info->si_status == SIGSYS)
        g_strlcpy(buf, "SIGSYS: a system call that its jail forbids", size);
    else
        g_snprintf(buf, size, "SIG%s", name ? name : "?");
}

/* A renderer of ours, until it is off the process table. */
struct ending {
    struct gpup_lease *lease;
    pid_t pid;
    int pidfd; /* or -1 */
};

static void ending_free(void *data)
{
    struct ending *ending = data;

    if (ending->pidfd >= 0)
        close(ending->pidfd);
    gpup_lease_unref(ending->lease);
    g_free(ending);
}

static gboolean reap(void *data)
{
    struct ending *ending = data;
    siginfo_t info = {0};

    if (waitid(P_PID, (id_t)ending->pid, &info, WEXITED | WNOHANG) == 0 && info.si_pid == 0)
        return G_SOURCE_CONTINUE;
    if (info.si_pid != 0)
        describe_end(ending->lease, &info);
    return G_SOURCE_REMOVE;
}

static gboolean on_ended(int pidfd, GIOCondition condition, void *data)
{
    return reap(data);
}

/* Whatever happens to the lease: it is reaped. */
static void watch_end(struct gpup_lease *lease, const struct gpup_renderer *renderer)
{
    struct ending *ending = g_new0(struct ending, 1);

    *ending = (struct ending){.lease = g_rc_box_acquire(lease),
                              .pid = renderer->pid,
                              .pidfd = fcntl(renderer->pidfd, F_DUPFD_CLOEXEC, 3)};
    if (ending->pidfd >= 0)
        g_unix_fd_add_full(G_PRIORITY_DEFAULT, ending->pidfd, G_IO_IN, on_ended, ending,
                           ending_free);
    else /* no descriptor is free */
        g_timeout_add_seconds_full(G_PRIORITY_DEFAULT, REAP_S, reap, ending, ending_free);
}

/* Each once: `gpup gpu show` has them all. */
static void tell_lacking(unsigned fresh)
{
    for (unsigned bit = 1; bit <= fresh; bit <<= 1) {
        if (fresh & bit)
            g_warning("renderers: %s", sandbox_degraded_text((enum sandbox_degraded)bit));
    }
}

static void hand_over(struct gpup_lease *lease, struct gpup_renderer *renderer)
{
    const struct gpup_msg_plain m = {.header = header(GPUP_MSG_RENDERER)};
    const int fds[] = {renderer->sock, renderer->pidfd};

    GPUP_FAULT("gpupd.renderer.started");
    watch_end(lease, renderer);
    gpup_lease_kill_renderer(lease);
    lease->renderer = renderer->pidfd;
    tell_lacking(renderer->degraded & ~*lease->degraded);
    *lease->degraded |= renderer->degraded;
    record(lease);
    GPUP_FAULT("gpupd.renderer.recorded");
    tell_arbiter(lease);
    /* where it cannot be told (the lease has just ended), end of file ends the renderer */
    if (lease->sock >= 0)
        gpup_seqpacket_send(lease->sock, &m, sizeof(m), fds, 2, MSG_DONTWAIT);
    close(renderer->sock);
    GPUP_FAULT("gpupd.renderer.handed");
    lease->setup.changed(lease->setup.data);
}

static void started(GObject *source, GAsyncResult *result, void *data)
{
    struct start *start = g_task_get_task_data(G_TASK(result));
    struct gpup_lease *lease = start->lease;

    lease->starting = false;
    if (g_task_propagate_int(G_TASK(result), NULL) == 0) {
        hand_over(lease, &start->renderer);
        if (lease->sock < 0)
            gpup_lease_kill_renderer(lease);
        else if (lease->limit_again) /* its grant has changed meanwhile */
            limit_renderer(lease);
        return;
    }
    if (lease->sock < 0)
        return; /* its VM has ended meanwhile, and took it along */
    g_warning("renderer of adapter %s: %s", lease->adapter, gpup_error_message(start->error));
    answer(lease, -EIO, gpup_error_message(start->error));
}

static bool too_many(struct gpup_lease *lease)
{
    gint64 now = g_get_monotonic_time();

    if (now - lease->window > WINDOW_US) {
        lease->window = now;
        lease->starts = 0;
    }
    return ++lease->starts > MAX_STARTS;
}

static struct gpup_renderer_spec *make_spec(struct gpup_lease *lease,
                                            const struct gpup_claim *claim,
                                            const struct gpup_gpu *gpu)
{
    struct gpup_renderer_spec *spec = g_new0(struct gpup_renderer_spec, 1);

    spec->program = g_strdup(lease->setup.renderer);
    spec->user = g_strdup(lease->setup.render_user);
    spec->node = g_strdup(gpu->node);
    /* whatever its cap is now: that can be changed while it runs */
    spec->threads = cpus_of(lease);
    spec->cgroup_fd = -1;
    spec->memory = lease->memory = memory_of(claim);
    return spec;
}

const char *gpup_lease_outdated(const struct gpup_lease *lease)
{
    if (lease->render_version > GPUP_RENDER_VERSION)
        return "its device process is of a newer gpup than the one that is installed now, and can "
               "get no other renderer: shut the VM down and start it again";
    if (lease->render_version < GPUP_RENDER_OLDEST)
        return "gpup was upgraded while it runs, and its device process is too old for the "
               "renderers of this release: it draws as long as the renderer lives that it has; "
               "shut the VM down and start it again";
    return NULL;
}

void gpup_lease_want_renderer(struct gpup_lease *lease)
{
    struct gpup_claim *claim = gpup_host_claim(lease->setup.host, lease->adapter);
    struct gpup_gpu *gpu = claim ? gpup_host_gpu_of(lease->setup.host, claim) : NULL;
    g_autoptr(GTask) task = NULL;
    struct start *start;

    if (lease->starting)
        return; /* the answer to the first is the answer */
    if (gpup_lease_outdated(lease)) {
        answer(lease, -EPROTONOSUPPORT, gpup_lease_outdated(lease));
        return;
    }
    if (!gpu || too_many(lease)) {
        answer(lease, gpu ? -EBUSY : -ENODEV,
               gpu ? "too many renderers in a short time" : "the partition or its GPU is gone");
        return;
    }
    gpup_lease_kill_renderer(lease);
    start = g_new0(struct start, 1);
    start->lease = g_rc_box_acquire(lease);
    start->spec = make_spec(lease, claim, gpu);
    start->limits = limits_new(lease, claim, gpu);
    lease->starting = true;
    task = g_task_new(NULL, NULL, started, NULL);
    g_task_set_task_data(task, start, start_free);
    gpup_task_run(task, start_in_thread);
}
