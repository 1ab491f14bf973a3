/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/error.h"
#include "sandbox/calls.h"
#include "vgpu/device.h"
#include "vgpu/lease.h"
#include "vgpu/log.h"
#include "vgpu/loop.h"
#include "vgpu/options.h"
#include "vgpu/starter.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <syslog.h>
#include <unistd.h>

#define REPORT_MS 250u
/* CPU time that is asked for at once. */
#define SLICE_NS 200000u

struct vgpu {
    const struct vgpu_options *options;
    struct vgpu_loop *loop;
    struct vgpu_device *device;
    struct lease *lease;     /* NULL: started by hand */
    struct starter *starter; /* NULL: gpupd starts the renderers */
    struct vgpu_source *report_timer;
    char vm[256];
};

static void want_renderer(void *data)
{
    struct vgpu *v = data;
    GPUP_AUTO_ERROR err = NULL;
    int sock, pidfd;

    if (v->lease)
        lease_want_renderer(v->lease);
    else if (starter_start(v->starter, &sock, &pidfd, &err) < 0)
        vgpu_device_no_renderer(v->device, gpup_error_message(err));
    else
        vgpu_device_renderer(v->device, sock, pidfd);
}

static void on_closed(void *data)
{
    vgpu_loop_quit(((struct vgpu *)data)->loop, 0);
}

static const struct vgpu_device_events device_events = {
    .want_renderer = want_renderer,
    .closed = on_closed,
};

static void on_renderer(void *data, int sock, int pidfd)
{
    vgpu_device_renderer(((struct vgpu *)data)->device, sock, pidfd);
}

static void on_no_renderer(void *data, const char *reason)
{
    vgpu_device_no_renderer(((struct vgpu *)data)->device, reason);
}

static bool has_renderer(void *data)
{
    struct vgpu *v = data;

    return v->device && vgpu_device_has_renderer(v->device);
}

static void on_gpu_time(void *data, const int *fds)
{
    vgpu_device_gpu_time(((struct vgpu *)data)->device, fds);
}

static void on_lost(void *data)
{
    struct vgpu *v = data;

    if (v->device)
        vgpu_device_gpu_time_lost(v->device);
}

static void on_granted(void *data, const struct gpup_msg_grant *grant)
{
    vgpu_device_set_vram(((struct vgpu *)data)->device, grant->vram);
}

static const struct lease_events lease_events = {
    .renderer = on_renderer,
    .no_renderer = on_no_renderer,
    .has_renderer = has_renderer,
    .gpu_time = on_gpu_time,
    .lost = on_lost,
    .granted = on_granted,
};

static void on_report(void *data)
{
    struct vgpu *v = data;
    struct vgpu_usage usage;
    struct gpup_msg_usage m = {0};

    vgpu_device_usage(v->device, &usage);
    m.vram_used = usage.quota.used;
    m.vram_peak = usage.quota.peak;
    m.refused = usage.quota.refused;
    m.stream_errors = usage.stream_errors;
    m.commands = usage.commands;
    m.submits = usage.submits;
    m.frames = usage.frames;
    m.renderer_deaths = usage.renderer_deaths;
    m.contexts = usage.contexts;
    m.resources = usage.resources;
    m.renderer_hangs = usage.renderer_hangs;
    lease_report(v->lease, &m);
    vgpu_timer_arm(v->report_timer, REPORT_MS);
}

/* Makes the socket and takes the first connection on it; QEMU makes no other. */
static int accept_front_end(const char *path, struct gpup_error **err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int listener, fd = -1;

    if (strlen(path) >= sizeof(address.sun_path))
        return gpup_error_set(err, ENAMETOOLONG, "%s: a socket's path has at most %zu characters",
                              path, sizeof(address.sun_path) - 1);
    memcpy(address.sun_path, path, strlen(path));
    listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (listener >= 0 && bind(listener, (struct sockaddr *)&address, sizeof(address)) == 0 &&
        listen(listener, 1) == 0)
        fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0)
        gpup_error_set(err, errno, "%s: %s", path, strerror(errno));
    else
        unlink(path);
    if (listener >= 0)
        close(listener);
    return fd;
}

static enum vgpu_display display_of(uint32_t flags)
{
    if (!(flags & GPUP_GRANT_DISPLAY))
        return VGPU_DISPLAY_OFF;
    return flags & GPUP_GRANT_SHARED ? VGPU_DISPLAY_SHARED : VGPU_DISPLAY_PIXELS;
}

static int get_grant(struct vgpu *v, struct vgpu_grant *grant, struct gpup_error **err)
{
    const struct vgpu_options *o = v->options;
    struct gpup_msg_grant m;

    if (!o->adapter) {
        *grant = (struct vgpu_grant){o->vram, o->hang_ms, "the VM", o->display};
        v->starter = starter_new(o->renderer, o->render_node, o->vram, err);
        return v->starter ? 0 : -EIO;
    }
    v->lease = lease_new(v->loop, o->gpupd_socket, o->adapter, &lease_events, v, &m, err);
    if (!v->lease)
        return -EACCES;
    snprintf(v->vm, sizeof(v->vm), "%s", m.vm);
    *grant = (struct vgpu_grant){m.vram, m.hang_ms, v->vm, display_of(m.flags)};
    v->report_timer = vgpu_loop_add_timer(v->loop, on_report, v, err);
    if (!v->report_timer)
        return -EIO;
    vgpu_log(LOG_INFO, "%s: partition %s, %llu MiB", m.vm, m.partition,
             (unsigned long long)(m.vram >> 20));
    return 0;
}

/* From here on nothing is opened or started, whatever the guest may make of us. */
static int give_up_calls(struct gpup_error **err)
{
    if (sandbox_can_restrict_calls())
        return sandbox_restrict_calls(SANDBOX_CALLS_VGPU, err);
    vgpu_log(LOG_WARNING, "this kernel has no seccomp filters: gpup-vgpu may make any system call");
    return 0;
}

/*
 * Each command and each answer passes through here, in some microseconds. A thread that asks for a
 * short slice comes before those that want to compute for longer (Linux 6.12; before, this changes
 * nothing), without getting more CPU time than they: it needs no privilege. A policy that somebody
 * has given us stays. sched_setattr(2), which glibc has from 2.41 on.
 */
static void ask_for_short_slices(void)
{
    const struct {
        uint32_t size, policy;
        uint64_t flags;
        int32_t nice;
        uint32_t priority;
        uint64_t runtime, deadline, period;
    } attributes = {.size = sizeof(attributes),
                    .policy = SCHED_OTHER,
                    .nice = getpriority(PRIO_PROCESS, 0),
                    .runtime = SLICE_NS};

    if (sched_getscheduler(0) == SCHED_OTHER)
        syscall(SYS_sched_setattr, 0, &attributes, 0);
}

static int serve(struct vgpu *v, struct gpup_error **err)
{
    struct vgpu_grant grant;
    int fd = v->options->fd;
    int ret = get_grant(v, &grant, err);

    if (ret < 0)
        return ret;
    ask_for_short_slices(); /* the starter was made before: renderers are to compute for long */
    if (fd < 0)
        fd = accept_front_end(v->options->socket_path, err);
    if (fd < 0)
        return fd;
    v->device = vgpu_device_new(v->loop, fd, &grant, &device_events, v, err);
    if (!v->device || give_up_calls(err) < 0)
        return -EIO;
    if (v->report_timer)
        vgpu_timer_arm(v->report_timer, REPORT_MS);
    return vgpu_loop_run(v->loop);
}

static int run(const struct vgpu_options *options)
{
    struct vgpu v = {.options = options};
    GPUP_AUTO_ERROR err = NULL;
    int ret;

    signal(SIGPIPE, SIG_IGN);
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    v.loop = vgpu_loop_new(&err);
    ret = v.loop ? serve(&v, &err) : -EIO;
    if (ret < 0)
        vgpu_log(LOG_ERR, "%s", gpup_error_message(err));
    vgpu_device_free(v.device);
    lease_free(v.lease);
    starter_free(v.starter);
    vgpu_loop_free(v.loop);
    return ret < 0 ? GPUP_EXIT_FAILED : GPUP_EXIT_DONE;
}

/* libvirt asks the first registered back-end for every vhost-user video device of the host: one
 * that is not gpup's gets what it would have had without gpup. */
static int execute_stock(char **argv)
{
    execv(GPUP_STOCK_BACKEND, argv);
    vgpu_log(LOG_ERR,
             "this video device is not one of gpup's, and QEMU's own back-end %s cannot be "
             "executed: %s. Install it, or take the device out of the VM",
             GPUP_STOCK_BACKEND, strerror(errno));
    return GPUP_EXIT_FAILED;
}

int main(int argc, char **argv)
{
    struct vgpu_options options;
    int code = vgpu_options_parse(argc, argv, &options);

    if (code >= 0)
        return code;
    if (options.print_capabilities) {
        puts("{\"type\": \"gpu\", \"features\": [\"render-node\", \"virgl\"]}");
        return GPUP_EXIT_DONE;
    }
    if (!options.adapter && options.vram == 0)
        return execute_stock(argv);
    return run(&options);
}
