/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "sandbox/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/file.h"
#include "sandbox/calls.h"
#include "sandbox/jail.h"

#define NAMESPACES                                                                                 \
    ((uint64_t)(CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWNET | CLONE_NEWUTS))
#define START_TIMEOUT_MS 10000
/* Descriptors of the program: gpupd looks at each of them when it meters a GPU. */
#define MOST_FILES 1024u

/* What the child tells through the pipe, in one write: before exec, and again if that fails. */
struct report {
    unsigned int degraded;
    struct jail_failure failure; /* error 0: none */
};

static void reset_signals(void)
{
    struct sigaction action = {.sa_handler = SIG_DFL};
    sigset_t none;

    for (int sig = 1; sig < NSIG; sig++)
        sigaction(sig, &action, NULL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

static void child_tell(int pipe_fd, const struct report *report)
{
    (void)!write(pipe_fd, report, sizeof(*report));
}

static void limit_memory(uint64_t bytes)
{
#if !SANDBOX_SANITIZED
    const struct rlimit limit = {bytes, bytes};

    if (bytes > 0)
        setrlimit(RLIMIT_DATA, &limit);
#endif
}

_Noreturn static void child(const struct sandbox_spec *spec, uint64_t flags, uid_t uid, gid_t gid,
                            int pipe_fd, struct report *report)
{
    const struct rlimit no_core = {0, 0}; /* a core file would hold the guest's memory */
    const struct rlimit files = {MOST_FILES, MOST_FILES};
    char exec_path[JAIL_PATH_SIZE];
    const char *path = spec->path;
    bool same_user = false, ok;

    reset_signals();
    setsid();
    setrlimit(RLIMIT_CORE, &no_core);
    setrlimit(RLIMIT_NOFILE, &files);
    limit_memory(spec->memory);
    ok = jail_arrange_descriptors(spec, &pipe_fd, &report->failure);
    if (ok && (flags & CLONE_NEWUSER) && !jail_map_ids(uid, gid))
        ok = jail_fail(&report->failure, "mapping the user in its namespace");
    if (ok && (flags & CLONE_NEWNS)) {
        if (jail_private_root(spec, exec_path))
            path = exec_path;
        else
            report->degraded |= SANDBOX_NO_PRIVATE_ROOT;
    }
    /* Only root can become somebody else; that it does is not up to chance. */
    ok = ok && jail_drop_privileges(spec, uid != 0, &same_user, &report->failure);
    if (same_user)
        report->degraded |= SANDBOX_SAME_USER;
    if (ok) {
        child_tell(pipe_fd, report);
        execve(path, spec->argv, spec->envp);
        jail_fail(&report->failure, "executing it");
    }
    child_tell(pipe_fd, report);
    _exit(127);
}

static pid_t clone_child(uint64_t flags, int cgroup_fd, int *pidfd)
{
    struct clone_args args = {
        .flags = flags | CLONE_PIDFD | (cgroup_fd >= 0 ? CLONE_INTO_CGROUP : 0),
        .pidfd = (uint64_t)(uintptr_t)pidfd,
        .exit_signal = SIGCHLD,
        .cgroup = cgroup_fd >= 0 ? (uint64_t)cgroup_fd : 0,
    };
    pid_t pid = (pid_t)syscall(SYS_clone3, &args, sizeof(args));

    /* The kernel tells the number before it looks at the cgroup. After a failure the number is free
     * again: closing it would close what another thread has opened meanwhile. */
    if (pid < 0)
        *pidfd = -1;
    return pid;
}

/* Waits for the child's words. 0: it runs. */
static int hear(int pipe_fd, struct report *report)
{
    bool heard = false;

    for (;;) {
        struct pollfd poll_fd = {.fd = pipe_fd, .events = POLLIN};
        struct report next;
        ssize_t n;
        int r = poll(&poll_fd, 1, START_TIMEOUT_MS);

        if (r < 0 && errno == EINTR)
            continue;
        if (r <= 0)
            return -ETIMEDOUT;
        n = read(pipe_fd, &next, sizeof(next));
        if (n < 0 && errno == EINTR)
            continue;
        if (n != (ssize_t)sizeof(next))
            return heard ? 0 : -ECHILD;
        *report = next;
        heard = true;
        if (report->failure.error)
            return -report->failure.error;
    }
}

static void kill_and_reap(pid_t pid)
{
    kill(pid, SIGKILL);
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        continue;
}

/* One try with these namespaces. *cloned tells whether the kernel gave a process at all. */
static int attempt(const struct sandbox_spec *spec, uint64_t flags, int cgroup_fd, pid_t *pid,
                   int *pidfd, struct report *report, bool *cloned)
{
    GPUP_AUTO_FD read_end = -1;
    GPUP_AUTO_FD write_end = -1;
    GPUP_AUTO_FD child_fd = -1;
    uid_t uid = geteuid();
    gid_t gid = getegid();
    int pipe_fds[2], r;
    pid_t child_pid;

    *cloned = false;
    if (pipe2(pipe_fds, O_CLOEXEC) < 0)
        return -errno;
    read_end = pipe_fds[0];
    write_end = pipe_fds[1];
    child_pid = clone_child(flags, cgroup_fd, &child_fd);
    if (child_pid < 0)
        return -errno;
    if (child_pid == 0)
        child(spec, flags, uid, gid, write_end, report);
    *cloned = true;
    gpup_fd_close(&write_end);
    r = hear(read_end, report);
    if (r < 0) {
        kill_and_reap(child_pid);
        return r;
    }
    *pid = child_pid;
    *pidfd = child_fd;
    child_fd = -1;
    return 0;
}

static int check(const struct sandbox_spec *spec, struct gpup_error **err)
{
    if (!spec->path || spec->path[0] != '/')
        return gpup_error_set(err, EINVAL,
                              "the program to start in a sandbox must be given by an "
                              "absolute path");
    if (access(spec->path, X_OK) < 0)
        return gpup_error_set(err, errno, "cannot execute %s: %s; is gpup installed completely?",
                              spec->path, strerror(errno));
    return 0;
}

int sandbox_spawn(const struct sandbox_spec *spec, pid_t *pid, int *pidfd, unsigned int *degraded,
                  struct gpup_error **err)
{
    const struct {
        uint64_t flags;
        bool cgroup;
        unsigned int lost;
    } tries[] = {
        {NAMESPACES, true, 0},
        {NAMESPACES | CLONE_NEWUSER, true, 0},
        {0, true, SANDBOX_NO_NAMESPACES | SANDBOX_NO_PRIVATE_ROOT},
        {NAMESPACES, false, SANDBOX_NO_CGROUP},
        {NAMESPACES | CLONE_NEWUSER, false, SANDBOX_NO_CGROUP},
        {0, false, SANDBOX_NO_CGROUP | SANDBOX_NO_NAMESPACES | SANDBOX_NO_PRIVATE_ROOT},
    };
    struct report report = {0};
    int r = check(spec, err);

    if (r < 0)
        return r;
    for (size_t i = 0; i < sizeof(tries) / sizeof(*tries); i++) {
        bool cgroup = tries[i].cgroup && spec->cgroup_fd >= 0, cloned;

        if (tries[i].flags && !spec->namespaces)
            continue;
        /* In a user namespace root stays root towards the host: its own user is worth more. */
        if ((tries[i].flags & CLONE_NEWUSER) && geteuid() == 0 && spec->set_ids)
            continue;
        if (!tries[i].cgroup && spec->cgroup_fd < 0)
            break;
        memset(&report, 0, sizeof(report));
        report.degraded = spec->namespaces ? tries[i].lost : tries[i].lost & SANDBOX_NO_CGROUP;
        r = attempt(spec, tries[i].flags, cgroup ? spec->cgroup_fd : -1, pid, pidfd, &report,
                    &cloned);
        if (r == 0) {
            if (degraded)
                *degraded =
                    report.degraded | (sandbox_can_restrict_calls() ? 0 : SANDBOX_NO_SECCOMP);
            return 0;
        }
        /* Another try may help where namespaces or the cgroup were refused, not for the rest. */
        if (cloned && !(tries[i].flags & CLONE_NEWUSER))
            break;
    }
    if (report.failure.error)
        return gpup_error_set(err, report.failure.error, "cannot start %s: %s: %s", spec->path,
                              report.failure.step, strerror(report.failure.error));
    return gpup_error_set(err, -r, "cannot start %s: %s", spec->path, strerror(-r));
}

const char *sandbox_degraded_text(enum sandbox_degraded bit)
{
    switch (bit) {
    case SANDBOX_NO_NAMESPACES:
        return "it shares the host's namespaces (network, processes, IPC), because the kernel "
               "refused new ones";
    case SANDBOX_NO_PRIVATE_ROOT:
        return "it sees the host's file system as far as its user may";
    case SANDBOX_SAME_USER:
        return "it runs as the same user as its parent";
    case SANDBOX_NO_SECCOMP:
        return "it may make any system call, because the kernel has no seccomp filters";
    case SANDBOX_NO_CGROUP:
        return "it has no control group of its own, so its memory and CPU time are not limited "
               "by the kernel";
    }
    return "unknown";
}
