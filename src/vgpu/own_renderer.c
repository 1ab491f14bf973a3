/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "vgpu/own_renderer.h"

#include "core/error.h"
#include "sandbox/sandbox.h"
#include "vgpu/log.h"
#include "vgpu/loop.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <syslog.h>
#include <unistd.h>

#define SOCKET_TARGET 3

static int spawn(const char *program, const char *node, int sock, int *pidfd,
                 struct gpup_error **err)
{
    char socket_option[] = "--socket-fd=3";
    char node_option[300];
    char name[] = "gpup-render";
    char *argv[] = {name, socket_option, node ? node_option : NULL, NULL};
    char *envp[] = {NULL};
    const char *nodes[] = {node, NULL};
    const struct sandbox_fd fds[] = {{.fd = sock, .target = SOCKET_TARGET}};
    const struct sandbox_spec spec = {
        .path = program,
        .argv = argv,
        .envp = envp,
        .fds = fds,
        .n_fds = 1,
        .device_nodes = node ? nodes : NULL,
        .namespaces = true,
        .cgroup_fd = -1,
    };
    unsigned degraded = 0;
    pid_t pid;
    int ret;

    if (node && strncmp(node, "/dev/", 5) != 0)
        return gpup_error_set(err, EINVAL, "'%s' is not a render node: these are below /dev/dri",
                              node);
    if (node)
        snprintf(node_option, sizeof(node_option), "--render-node=%s", node);
    ret = sandbox_spawn(&spec, &pid, pidfd, &degraded, err);
    for (unsigned bit = 1; ret == 0 && bit <= degraded; bit <<= 1) {
        if (degraded & bit)
            vgpu_log(LOG_WARNING, "renderer: %s", sandbox_degraded_text(bit));
    }
    return ret;
}

struct own_child {
    struct own_child *next;
    struct own_renderers *all;
    struct vgpu_source *source;
    int pidfd;
};

static void forget(struct own_child *child)
{
    struct own_child **p = &child->all->children;

    while (*p != child)
        p = &(*p)->next;
    *p = child->next;
    vgpu_source_remove(child->source);
    if (child->pidfd >= 0)
        close(child->pidfd);
    free(child);
}

static void on_child_end(uint32_t events, void *data)
{
    struct own_child *child = data;

    waitid(P_PIDFD, (id_t)child->pidfd, &(siginfo_t){0}, WEXITED | WNOHANG);
    forget(child);
}

/* A child that cannot be watched stays a zombie until we end: no reason to do without it. */
static void reap_later(struct own_renderers *all, int pidfd)
{
    struct own_child *child = calloc(1, sizeof(*child));

    if (!child)
        return;
    child->all = all;
    child->next = all->children;
    all->children = child;
    child->pidfd = fcntl(pidfd, F_DUPFD_CLOEXEC, 3);
    if (child->pidfd >= 0)
        child->source = vgpu_loop_add(all->loop, child->pidfd, EPOLLIN, on_child_end, child, NULL);
    if (!child->source)
        forget(child);
}

void own_renderers_clear(struct own_renderers *all)
{
    while (all->children)
        forget(all->children);
}

int own_renderer_start(struct own_renderers *all, const char *program, const char *node, int *sock,
                       int *pidfd, struct gpup_error **err)
{
    int pair[2];
    int ret;

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return gpup_error_set(err, errno, "socketpair: %s", strerror(errno));
    ret = spawn(program, node, pair[1], pidfd, err);
    close(pair[1]);
    if (ret < 0) {
        close(pair[0]);
        return gpup_error_wrap(err, "starting %s", program);
    }
    reap_later(all, *pidfd);
    *sock = pair[0];
    return 0;
}
