/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/priority.h"

#include "core/file.h"
#include "daemon/process_threads.h"

#include <fcntl.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Real-time priorities (sched(7)): of the threads of a renderer that comes first, and of our own
 * that holds it to that. */
#define FIRST_REALTIME 1
#define OURS_REALTIME  2
/* sched_setattr(2), flags */
#define RESET_ON_FORK 1u
/* Without the right to that, nice(2): in the kernel's weights about nine times the usual. */
#define FIRST_NICE  (-10)
#define LOWEST_NICE (-20)
/* The same for a cgroup. */
#define FIRST_WEIGHT 9u
#define MOST_WEIGHT  10000u
/* The time that a thread asks for at once, from Linux 6.12 on: whoever asks for less comes sooner,
 * and keeps others waiting for less. The kernel's own is 3 ms: a frame needs several threads to
 * wake one after the other, each of which might wait for so long. */
#define FIRST_SLICE_NS 200000u
#define USUAL_SLICE_NS 700000u

/* sched_setattr(2); glibc has it from 2.41 on. */
struct attributes {
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime, deadline, period;
};

/* gpupd's own, which its renderers were started with: whoever runs gpupd at another priority than
 * is usual means that for all it starts. */
static int usual_nice(void)
{
    return getpriority(PRIO_PROCESS, (id_t)getpid());
}

static int first_nice(int usual)
{
    int nice = usual + FIRST_NICE;

    return nice < LOWEST_NICE ? LOWEST_NICE : nice;
}

unsigned gpup_priority_cpu_weight(uint64_t weight)
{
    weight /= 1000;
    if (weight < 1)
        return 1;
    return weight > MOST_WEIGHT ? MOST_WEIGHT : (unsigned)weight;
}

/* Its threads that it starts later are not first: it could hide some from us. */
static bool set_realtime(pid_t tid)
{
    const struct attributes a = {
        .size = sizeof(a), .policy = SCHED_RR, .flags = RESET_ON_FORK, .priority = FIRST_REALTIME};

    return syscall(SYS_sched_setattr, tid, &a, 0) == 0;
}

static void set_niceness(pid_t tid, bool first)
{
    const struct attributes a = {.size = sizeof(a),
                                 .policy = SCHED_OTHER,
                                 .nice = first ? first_nice(usual_nice()) : usual_nice(),
                                 .runtime = first ? FIRST_SLICE_NS : USUAL_SLICE_NS};

    syscall(SYS_sched_setattr, tid, &a, 0);
}

void gpup_priority_thread_first(void)
{
    const struct sched_param ours = {.sched_priority = OURS_REALTIME};

    /* niceness counts among the threads of one group only: whoever else's are many more */
    if (sched_setscheduler(0, SCHED_RR | SCHED_RESET_ON_FORK, &ours) < 0)
        set_niceness(gettid(), true);
}

/* False: the process has ended. */
static bool set_threads(pid_t pid, int pidfd, bool first)
{
    DIR *threads = gpup_process_threads(pid, pidfd);
    pid_t tid;

    if (!threads)
        return false;
    while ((tid = gpup_process_thread_next(threads)) > 0) {
        if (!first || !set_realtime(tid))
            set_niceness(tid, first);
    }
    closedir(threads);
    return true;
}

/* A priority that cannot be set costs time, not correctness: nothing is said of it. */
static void write_number(int folder, const char *path, int number)
{
    char text[16];

    snprintf(text, sizeof(text), "%d", number);
    gpup_file_write(folder, path, text);
}

/* sched(7): "/autogroup-N nice M". A renderer has a session of its own. */
static void set_session(pid_t pid, bool first)
{
    char path[32], text[64];
    int fd = open("/proc/self/autogroup", O_RDONLY | O_CLOEXEC), usual;
    ssize_t n = fd >= 0 ? read(fd, text, sizeof(text) - 1) : -1;

    if (fd >= 0)
        close(fd);
    if (n <= 0)
        return;
    text[n] = '\0';
    /* NOLINTNEXTLINE(cert-err34-c): the kernel wrote it */
    if (sscanf(text, "/autogroup-%*u nice %d", &usual) != 1)
        return;
    snprintf(path, sizeof(path), "/proc/%d/autogroup", (int)pid);
    write_number(AT_FDCWD, path, first ? first_nice(usual) : usual);
}

static void set_cgroup(int cgroup_fd, uint64_t weight, bool first)
{
    unsigned value = gpup_priority_cpu_weight(weight);

    if (first)
        value = value * FIRST_WEIGHT > MOST_WEIGHT ? MOST_WEIGHT : value * FIRST_WEIGHT;
    write_number(cgroup_fd, "cpu.weight", (int)value);
}

void gpup_priority_set(pid_t pid, int pidfd, int cgroup_fd, uint64_t weight, bool first)
{
    if (!set_threads(pid, pidfd, first))
        return;
    set_session(pid, first);
    if (cgroup_fd >= 0)
        set_cgroup(cgroup_fd, weight, first);
}
