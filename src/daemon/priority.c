/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/priority.h"

#include <dirent.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

/* nice(2): in the kernel's weights about nine times the usual. */
#define FIRST_NICE  (-10)
#define LOWEST_NICE (-20)
/* The time that a thread asks for at once, from Linux 6.12 on: whoever asks for less comes sooner.
 * 0: as much as is usual. */
#define FIRST_SLICE_NS 200000u

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

static int first_nice(void)
{
    int nice = usual_nice() + FIRST_NICE;

    return nice < LOWEST_NICE ? LOWEST_NICE : nice;
}

void gpup_priority_thread_first(void)
{
    setpriority(PRIO_PROCESS, (id_t)gettid(), first_nice());
}

void gpup_priority_set(pid_t pid, bool first)
{
    const struct attributes a = {.size = sizeof(a),
                                 .policy = SCHED_OTHER,
                                 .nice = first ? first_nice() : usual_nice(),
                                 .runtime = first ? FIRST_SLICE_NS : 0};
    char path[32];
    struct dirent *entry;
    DIR *dir;

    snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
    dir = opendir(path);
    while (dir && (entry = readdir(dir))) {
        int tid = (int)strtol(entry->d_name, NULL, 10);

        if (tid > 0)
            syscall(SYS_sched_setattr, tid, &a, 0);
    }
    if (dir)
        closedir(dir);
}
