/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/placement.h"

#include "daemon/process_threads.h"

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

void gpup_placement_move(const struct gpup_placement *p, pid_t pid, int pidfd, unsigned number)
{
    DIR *dir = p->n > 0 ? gpup_process_threads(pid, pidfd) : NULL;
    pid_t tid;

    if (!dir)
        return;
    for (unsigned k = 0; (tid = gpup_process_thread_next(dir)) > 0; k++) {
        cpu_set_t one = one_of(p, number + k);

        sched_setaffinity(tid, sizeof(one), &one); /* one that ended meanwhile needs none */
    }
    closedir(dir);
}

void gpup_placement_let_go(const struct gpup_placement *p, pid_t pid, int pidfd)
{
    DIR *dir = p->n > 0 ? gpup_process_threads(pid, pidfd) : NULL;
    pid_t tid;

    if (!dir)
        return;
    while ((tid = gpup_process_thread_next(dir)) > 0)
        sched_setaffinity(tid, sizeof(p->all), &p->all);
    closedir(dir);
}
