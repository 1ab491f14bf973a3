/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "vgpu/starter.h"

#include "core/error.h"
#include "sandbox/sandbox.h"
#include "vgpu/log.h"
#include "wire/seqpacket.h"

#include <errno.h>
#include <linux/close_range.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <syslog.h>
#include <unistd.h>

#define SOCKET_TARGET 3
#define ANSWER_MS     15000 /* more than the sandbox gives a start */

struct starter {
    int sock;
    pid_t pid;
    bool ahead; /* the first one was not asked for: it comes by itself */
    const char *program, *render_node;
    uint64_t vram;
};

struct starter_answer {
    int status; /* 0: two descriptors come with it; or a negative errno */
    char text[500];
};

/* ---- in the starter ---- */

static int spawn(const struct starter *s, int sock, int *pidfd, struct gpup_error **err)
{
    char socket_option[] = "--socket-fd=3";
    char node_option[300];
    char name[] = "gpup-render";
    const char *node = s->render_node;
    char *argv[] = {name, socket_option, node ? node_option : NULL, NULL};
    char *envp[] = {NULL};
    const char *nodes[] = {node, NULL};
    const struct sandbox_fd fds[] = {{.fd = sock, .target = SOCKET_TARGET}};
    const struct sandbox_spec spec = {
        .path = s->program,
        .argv = argv,
        .envp = envp,
        .fds = fds,
        .n_fds = 1,
        .device_nodes = node ? nodes : NULL,
        .namespaces = true,
        .cgroup_fd = -1,
        .memory = s->vram + SANDBOX_RENDERER_OVERHEAD,
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

static void start_one(const struct starter *s)
{
    struct starter_answer answer = {0};
    GPUP_AUTO_ERROR err = NULL;
    int pair[2], pidfd = -1;

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) {
        answer.status = gpup_error_set(&err, errno, "socketpair: %s", strerror(errno));
        pair[0] = pair[1] = -1;
    } else {
        answer.status = spawn(s, pair[1], &pidfd, &err);
        close(pair[1]);
    }
    if (answer.status < 0) {
        snprintf(answer.text, sizeof(answer.text), "%s", gpup_error_message(err));
        (void)gpup_seqpacket_send(s->sock, &answer, sizeof(answer), NULL, 0, 0);
    } else {
        const int fds[] = {pair[0], pidfd};

        (void)gpup_seqpacket_send(s->sock, &answer, sizeof(answer), fds, 2, 0);
        close(pidfd);
    }
    if (pair[0] >= 0)
        close(pair[0]);
}

_Noreturn static void serve(const struct starter *s)
{
    char request;

    prctl(PR_SET_NAME, "gpup-starter", 0, 0, 0);
    signal(SIGCHLD, SIG_IGN); /* nobody waits for renderers here: no zombies */
    start_one(s);             /* the guest's driver will want it at once */
    while (gpup_seqpacket_receive(s->sock, &request, sizeof(request), NULL, 0, NULL, 0) == 1)
        start_one(s);
    _exit(0);
}

/* ---- in gpup-vgpu ---- */

struct starter *starter_new(const char *program, const char *render_node, uint64_t vram,
                            struct gpup_error **err)
{
    struct starter *s = calloc(1, sizeof(*s));
    int pair[2];

    if (!s || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) {
        gpup_error_set(err, errno, "starting renderers: %s", strerror(errno));
        free(s);
        return NULL;
    }
    *s = (struct starter){.sock = pair[0],
                          .pid = -1,
                          .ahead = true,
                          .program = program,
                          .render_node = render_node,
                          .vram = vram};
    s->pid = fork();
    if (s->pid == 0) {
        s->sock = pair[1];
        /* QEMU's sockets above all: it would not see that gpup-vgpu ended */
        if (dup2(pair[1], SOCKET_TARGET) == SOCKET_TARGET) {
            s->sock = SOCKET_TARGET;
            close_range(SOCKET_TARGET + 1, ~0U, 0);
            serve(s);
        }
        _exit(127);
    }
    close(pair[1]);
    if (s->pid < 0) {
        gpup_error_set(err, errno, "starting renderers: %s", strerror(errno));
        starter_free(s);
        return NULL;
    }
    return s;
}

void starter_free(struct starter *s)
{
    if (!s)
        return;
    close(s->sock); /* it ends with it; whoever has us as a child gets it then */
    free(s);
}

int starter_start(struct starter *s, int *sock, int *pidfd, struct gpup_error **err)
{
    struct pollfd answer_comes = {.fd = s->sock, .events = POLLIN};
    struct starter_answer answer;
    const char request = 1;
    unsigned n_fds = 0;
    int fds[2];
    ssize_t n = s->ahead ? 0 : gpup_seqpacket_send(s->sock, &request, sizeof(request), NULL, 0, 0);

    s->ahead = false;
    if (n >= 0 && poll(&answer_comes, 1, ANSWER_MS) != 1)
        n = -ETIMEDOUT;
    if (n >= 0)
        n = gpup_seqpacket_receive(s->sock, &answer, sizeof(answer), fds, 2, &n_fds, MSG_DONTWAIT);
    if (n == sizeof(answer) && answer.status == 0 && n_fds == 2) {
        *sock = fds[0];
        *pidfd = fds[1];
        return 0;
    }
    for (unsigned i = 0; i < n_fds; i++)
        close(fds[i]);
    if (n != sizeof(answer))
        return gpup_error_set(err, n < 0 ? (int)-n : EPIPE,
                              "the process that starts renderers does not answer: %s",
                              n < 0 ? strerror((int)-n) : "it ended");
    answer.text[sizeof(answer.text) - 1] = '\0';
    return gpup_error_set(err, answer.status < 0 ? -answer.status : EIO, "starting %s: %s",
                          s->program, answer.text);
}
