/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/placement.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

void gpup_placement_look(struct gpup_placement *p)
{
    p->n = 0;
    if (sched_getaffinity(getpid(), sizeof(p->all), &p->all) == 0) /* fails beyond 1024 CPUs */
        p->n = (unsigned)CPU_COUNT(&p->all);
}

/* The one with this number, around. */
static cpu_set_t one_of(const struct gpup_placement *p, unsigned number)
{
    unsigned left = number % p->n;
    cpu_set_t one;

    CPU_ZERO(&one);
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, &p->all) || left-- > 0)
            continue;
        CPU_SET(cpu, &one);
        break;
    }
    return one;
}

/* Its threads. The process still is who it was after the folder was opened, so it is its folder. */
static DIR *open_threads(pid_t pid, int pidfd)
{
    char path[32];
    DIR *dir;

    snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
    dir = opendir(path);
    if (dir && syscall(SYS_pidfd_send_signal, pidfd, 0, NULL, 0) == 0)
        return dir;
    if (dir)
        closedir(dir);
    return NULL;
}

static pid_t next_thread(DIR *dir)
{
    struct dirent *entry;

    while ((entry = readdir(dir))) {
        pid_t tid = (pid_t)strtol(entry->d_name, NULL, 10);

        if (tid > 0)
            return tid;
    }
    return 0;
}

void gpup_placement_move(const struct gpup_placement *p, pid_t pid, int pidfd, unsigned number,
                         unsigned width)
{
    DIR *dir = p->n > 0 && width > 0 ? open_threads(pid, pidfd) : NULL;
    pid_t tid;

    if (!dir)
        return;
    for (unsigned k = 0; (tid = next_thread(dir)) > 0; k++) {
        cpu_set_t one = one_of(p, number + k % width);

        sched_setaffinity(tid, sizeof(one), &one); /* one that ended meanwhile needs none */
    }
    closedir(dir);
}

void gpup_placement_let_go(const struct gpup_placement *p, pid_t pid, int pidfd)
{
    DIR *dir = p->n > 0 ? open_threads(pid, pidfd) : NULL;
    pid_t tid;

    if (!dir)
        return;
    while ((tid = next_thread(dir)) > 0)
        sched_setaffinity(tid, sizeof(p->all), &p->all);
    closedir(dir);
}
