/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "sandbox/calls.h"

#include "core/error.h"
#include "sandbox/jail.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

/* What both kinds of process need: memory, waiting, messages on descriptors they have. */
static const int common_calls[] = {
    SCMP_SYS(read),
    SCMP_SYS(readv),
    SCMP_SYS(pread64),
    SCMP_SYS(write),
    SCMP_SYS(writev),
    SCMP_SYS(lseek),
    SCMP_SYS(close),
    SCMP_SYS(fstat),
    SCMP_SYS(newfstatat), /* glibc's fstat */
    SCMP_SYS(statx),
    SCMP_SYS(ftruncate),
    SCMP_SYS(dup),
    SCMP_SYS(poll),
    SCMP_SYS(ppoll),
    SCMP_SYS(epoll_create1),
    SCMP_SYS(epoll_ctl),
    SCMP_SYS(epoll_wait),
    SCMP_SYS(epoll_pwait),
    SCMP_SYS(eventfd2),
    SCMP_SYS(timerfd_create),
    SCMP_SYS(timerfd_settime),
    SCMP_SYS(memfd_create),
    SCMP_SYS(sendmsg),
    SCMP_SYS(sendto),
    SCMP_SYS(recvmsg),
    SCMP_SYS(recvfrom),
    SCMP_SYS(shutdown),
    SCMP_SYS(brk),
    SCMP_SYS(munmap),
    SCMP_SYS(mremap),
    SCMP_SYS(madvise),
    SCMP_SYS(futex),
    SCMP_SYS(sched_yield),
    SCMP_SYS(clock_gettime),
    SCMP_SYS(clock_getres),
    SCMP_SYS(clock_nanosleep),
    SCMP_SYS(nanosleep),
    SCMP_SYS(gettimeofday),
    SCMP_SYS(getrandom),
    SCMP_SYS(getpid),
    SCMP_SYS(gettid),
    SCMP_SYS(rt_sigaction),
    SCMP_SYS(rt_sigprocmask),
    SCMP_SYS(rt_sigreturn),
    SCMP_SYS(sigaltstack),
    SCMP_SYS(restart_syscall),
    SCMP_SYS(exit),
    SCMP_SYS(exit_group),
};

/* Ends a renderer by the descriptor gpupd gave; what a descriptor is not given for, is not reached.
 */
static const int vgpu_calls[] = {
    SCMP_SYS(connect), /* to gpupd again; see the rule for socket() */
#ifdef GPUP_FAULT_POINTS
    SCMP_SYS(rename), /* src/fault/fault.c */
    SCMP_SYS(access),
#endif
    SCMP_SYS(pidfd_send_signal),
    SCMP_SYS(getpeername),
    SCMP_SYS(getsockopt),
    SCMP_SYS(setsockopt),
};

/* Loading drivers (what files there are is the jail's affair), threads. */
static const int render_calls[] = {
    SCMP_SYS(open),
    SCMP_SYS(openat),
    SCMP_SYS(stat),
    SCMP_SYS(lstat),
    SCMP_SYS(statfs),
    SCMP_SYS(fstatfs),
    SCMP_SYS(access),
    SCMP_SYS(faccessat),
    SCMP_SYS(faccessat2),
    SCMP_SYS(readlink),
    SCMP_SYS(readlinkat),
    SCMP_SYS(getcwd),
    SCMP_SYS(getdents64),
    SCMP_SYS(fadvise64),
    SCMP_SYS(mmap),
    SCMP_SYS(mprotect),
    SCMP_SYS(mincore),
    SCMP_SYS(msync),
    SCMP_SYS(membarrier),
    SCMP_SYS(pipe2),
    SCMP_SYS(dup2),
    SCMP_SYS(dup3),
    SCMP_SYS(kcmp), /* Mesa: is it the same device? */
    SCMP_SYS(set_tid_address),
    SCMP_SYS(set_robust_list),
    SCMP_SYS(rseq),
    SCMP_SYS(arch_prctl),
    SCMP_SYS(uname),
    SCMP_SYS(sysinfo),
    SCMP_SYS(getuid),
    SCMP_SYS(geteuid),
    SCMP_SYS(getgid),
    SCMP_SYS(getegid),
    SCMP_SYS(getresuid),
    SCMP_SYS(getresgid),
    SCMP_SYS(getppid),
    SCMP_SYS(getrlimit),
    SCMP_SYS(getrusage),
    SCMP_SYS(times),
    SCMP_SYS(getcpu),
    SCMP_SYS(getpriority),
    SCMP_SYS(sched_getaffinity),
    SCMP_SYS(sched_setaffinity),
    SCMP_SYS(sched_getparam),
    SCMP_SYS(sched_getscheduler),
    SCMP_SYS(sched_setscheduler), /* Mesa's background threads make themselves less important */
    SCMP_SYS(sched_get_priority_min),
    SCMP_SYS(sched_get_priority_max),
    SCMP_SYS(timer_create),
    SCMP_SYS(timer_settime),
    SCMP_SYS(timer_delete),
};

static int allow(scmp_filter_ctx filter, const int *calls, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        int ret = seccomp_rule_add(filter, SCMP_ACT_ALLOW, calls[i], 0);

        /* one that this architecture does not have */
        if (ret < 0 && ret != -EDOM)
            return ret;
    }
    return 0;
}

#define ALLOW(filter, calls) allow(filter, calls, sizeof(calls) / sizeof((calls)[0]))

/*
 * Whether a descriptor blocks belongs to the open file, which processes of more trust share with
 * us (eventfds): nobody may make one block that did not, nor ask for signals of it.
 */
static int allow_fcntl(scmp_filter_ctx filter)
{
    static const int commands[] = {F_DUPFD, F_DUPFD_CLOEXEC, F_GETFD,    F_SETFD,
                                   F_GETFL, F_ADD_SEALS,     F_GET_SEALS};
    int ret = 0;

    for (size_t i = 0; i < sizeof(commands) / sizeof(*commands) && ret == 0; i++)
        ret = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(fcntl), 1,
                               SCMP_A1(SCMP_CMP_EQ, (scmp_datum_t)commands[i]));
    if (ret == 0)
        ret = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(fcntl), 2,
                               SCMP_A1(SCMP_CMP_EQ, F_SETFL),
                               SCMP_A2(SCMP_CMP_MASKED_EQ, O_NONBLOCK | O_ASYNC, O_NONBLOCK));
    return ret;
}

/* A GPU's own, not those of every file (FIONBIO, FIOASYNC, terminals'), which are numbered in 0x54
 * at the second byte: a number of another kind differs from that in one bit at least. The kernel
 * looks at 32 bits only, so bits are compared, not the number. */
static int allow_ioctl(scmp_filter_ctx filter)
{
    int ret = 0;

    for (unsigned bit = 8; bit < 16 && ret == 0; bit++) {
        const scmp_datum_t mask = 1u << bit;

        ret = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(ioctl), 1,
                               SCMP_A1(SCMP_CMP_MASKED_EQ, mask, ~(scmp_datum_t)0x5400 & mask));
    }
    return ret;
}

static int allow_vgpu(scmp_filter_ctx filter)
{
    int ret = ALLOW(filter, vgpu_calls);

    /* no network, no netlink */
    if (ret == 0)
        ret = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(socket), 1,
                               SCMP_A0(SCMP_CMP_EQ, AF_UNIX));
    if (ret == 0)
        ret = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 1,
                               SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
    if (ret == 0)
        ret = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(mprotect), 1,
                               SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
    return ret;
}

static int allow_render(scmp_filter_ctx filter, bool gpu)
{
    const pid_t self = getpid();
    int ret = ALLOW(filter, render_calls);

    /* threads, not processes */
    if (ret == 0)
        ret = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(clone), 1,
                               SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD, CLONE_THREAD));
    /* its flags lie in memory, where they cannot be checked: glibc then takes clone() */
    if (ret == 0)
        ret = seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
    /* abort() */
    if (ret == 0)
        ret = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1,
                               SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)self));
    if (ret == 0)
        ret = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(prctl), 1,
                               SCMP_A0(SCMP_CMP_EQ, PR_SET_NAME));
    if (ret == 0)
        ret = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(prlimit64), 2,
                               SCMP_A0(SCMP_CMP_EQ, 0), SCMP_A2(SCMP_CMP_EQ, 0));
    if (ret == 0 && gpu)
        ret = allow_ioctl(filter);
    return ret;
}

bool sandbox_can_restrict_calls(void)
{
    unsigned int action = SECCOMP_RET_ERRNO;

    return syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) == 0;
}

int sandbox_restrict_calls(enum sandbox_calls calls, struct gpup_error **err)
{
    scmp_filter_ctx filter;
    int ret;

    if (!sandbox_can_restrict_calls())
        return gpup_error_set(err, ENOSYS, "this kernel has no seccomp filters");
    if (SANDBOX_SANITIZED)
        return 0;
    filter = seccomp_init(SCMP_ACT_ERRNO(EPERM));
    if (!filter)
        return gpup_error_set(err, ENOMEM, "out of memory");
    seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1);
    ret = ALLOW(filter, common_calls);
    if (ret == 0)
        ret = allow_fcntl(filter);
    if (ret == 0)
        ret = calls == SANDBOX_CALLS_VGPU ? allow_vgpu(filter)
                                          : allow_render(filter, calls == SANDBOX_CALLS_RENDER_GPU);
    if (ret == 0)
        ret = seccomp_load(filter);
    seccomp_release(filter);
    return ret < 0 ? gpup_error_set(err, -ret, "restricting the system calls: %s", strerror(-ret))
                   : 0;
}
