/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/renderer.h"

#include "core/error.h"
#include "fault/fault.h"
#include "sandbox/sandbox.h"

#include <errno.h>
#include <pwd.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define SOCKET_TARGET 3

void gpup_renderer_spec_free(struct gpup_renderer_spec *spec)
{
    if (!spec)
        return;
    if (spec->cgroup_fd >= 0)
        close(spec->cgroup_fd);
    g_free(spec->program);
    g_free(spec->user);
    g_free(spec->node);
    g_free(spec);
}

/* The renderers' own user. Started by hand as somebody else, gpupd can only use that one. */
static int find_user(const char *user, struct sandbox_spec *sandbox, struct gpup_error **err)
{
    struct passwd entry, *found = NULL;
    char buffer[4096];

    if (geteuid() != 0)
        return 0;
    if (getpwnam_r(user, &entry, buffer, sizeof(buffer), &found) != 0 || !found)
        return gpup_error_set(err, ENOENT,
                              "the user %s does not exist: run systemd-sysusers, or add it as a "
                              "system user without a shell",
                              user);
    sandbox->set_ids = true;
    sandbox->uid = found->pw_uid;
    sandbox->gid = found->pw_gid;
    return 0;
}

/* A render node belongs to a group ("render") that the renderer then has. */
static void add_node_group(struct sandbox_spec *sandbox, const char *node, gid_t *group)
{
    struct stat st;

    if (!node || stat(node, &st) < 0)
        return;
    *group = st.st_gid;
    sandbox->groups = group;
    sandbox->n_groups = 1;
}

static int spawn(const struct gpup_renderer_spec *spec, int sock, struct gpup_renderer *renderer,
                 struct gpup_error **err)
{
    g_autofree char *node_option = g_strdup_printf("--render-node=%s", spec->node);
    g_autofree char *threads = g_strdup_printf("LP_NUM_THREADS=%u", spec->threads);
    char name[] = "gpup-render", socket_option[] = "--socket-fd=3";
    char *argv[] = {name, socket_option, spec->node ? node_option : NULL, NULL};
#ifdef GPUP_FAULT_POINTS
    char *envp[] = {threads, gpup_fault_environment(), NULL};
#else
    char *envp[] = {spec->node ? NULL : threads, NULL};
#endif
    const char *nodes[] = {spec->node, NULL};
    const struct sandbox_fd fds[] = {{.fd = sock, .target = SOCKET_TARGET}};
    struct sandbox_spec sandbox = {
        .path = spec->program,
        .argv = argv,
        .envp = envp,
        .fds = fds,
        .n_fds = 1,
        .device_nodes = spec->node ? nodes : NULL,
        .namespaces = true,
        .cgroup_fd = spec->cgroup_fd,
        .memory = spec->memory,
    };
    gid_t group;

    if (find_user(spec->user, &sandbox, err) < 0)
        return -ENOENT;
    add_node_group(&sandbox, spec->node, &group);
    return sandbox_spawn(&sandbox, &renderer->pid, &renderer->pidfd, &renderer->degraded, err);
}

int gpup_renderer_start(const struct gpup_renderer_spec *spec, struct gpup_renderer *renderer,
                        struct gpup_error **err)
{
    int pair[2];
    int ret;

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return gpup_error_set(err, errno, "no socket for a renderer can be made: %s",
                              g_strerror(errno));
    ret = spawn(spec, pair[1], renderer, err);
    close(pair[1]);
    if (ret < 0) {
        close(pair[0]);
        return gpup_error_wrap(err, "starting %s", spec->program);
    }
    renderer->sock = pair[0];
    return 0;
}
