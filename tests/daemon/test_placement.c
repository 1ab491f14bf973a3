/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/placement.h"
#include "daemon/priority.h"

#include <glib.h>
#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define THREADS 5u

struct process {
    pid_t pid;
    int pidfd;
    pid_t tids[THREADS]; /* in their order in /proc, which is that of their numbers */
};

static void *tell_and_wait(void *data)
{
    pid_t tid = gettid();

    g_assert_cmpint(write(*(int *)data, &tid, sizeof(tid)), ==, sizeof(tid));
    for (;;)
        pause();
    return NULL;
}

_Noreturn static void be_process(int pipe)
{
    pthread_t thread;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (unsigned i = 1; i < THREADS; i++)
        pthread_create(&thread, NULL, tell_and_wait, &pipe);
    tell_and_wait(&pipe);
    _exit(0);
}

static int compare(const void *a, const void *b)
{
    return *(const pid_t *)a - *(const pid_t *)b;
}

static void start(struct process *p)
{
    int fds[2];

    g_assert_cmpint(pipe(fds), ==, 0);
    p->pid = fork();
    g_assert_cmpint(p->pid, >=, 0);
    if (p->pid == 0)
        be_process(fds[1]);
    p->pidfd = (int)syscall(SYS_pidfd_open, p->pid, 0);
    g_assert_cmpint(p->pidfd, >=, 0);
    for (unsigned i = 0; i < THREADS; i++)
        g_assert_cmpint(read(fds[0], &p->tids[i], sizeof(pid_t)), ==, sizeof(pid_t));
    qsort(p->tids, THREADS, sizeof(pid_t), compare);
    close(fds[0]);
    close(fds[1]);
}

static void end(struct process *p)
{
    kill(p->pid, SIGKILL);
    waitpid(p->pid, NULL, 0);
    close(p->pidfd);
}

static cpu_set_t of_thread(pid_t tid)
{
    cpu_set_t set;

    g_assert_cmpint(sched_getaffinity(tid, sizeof(set), &set), ==, 0);
    return set;
}

/* Each thread is on one CPU of its own while there are so many, and has had all in the end. */
static void moved_on(void)
{
    struct gpup_placement p;
    struct process process;
    cpu_set_t had[THREADS];

    gpup_placement_look(&p);
    g_assert_cmpuint(p.n, >=, 1);
    start(&process);
    for (unsigned k = 0; k < THREADS; k++)
        CPU_ZERO(&had[k]);
    for (unsigned turn = 0; turn < p.n; turn++) {
        cpu_set_t together;

        CPU_ZERO(&together);
        gpup_placement_move(&p, process.pid, process.pidfd, turn);
        for (unsigned k = 0; k < THREADS; k++) {
            cpu_set_t one = of_thread(process.tids[k]);

            g_assert_cmpint(CPU_COUNT(&one), ==, 1);
            CPU_OR(&together, &together, &one);
            CPU_OR(&had[k], &had[k], &one);
        }
        g_assert_cmpuint((unsigned)CPU_COUNT(&together), ==, MIN(THREADS, p.n));
    }
    gpup_placement_let_go(&p, process.pid, process.pidfd);
    for (unsigned k = 0; k < THREADS; k++) {
        cpu_set_t now = of_thread(process.tids[k]);

        g_assert_true(CPU_EQUAL(&had[k], &p.all));
        g_assert_true(CPU_EQUAL(&now, &p.all));
    }
    end(&process);
}

/* A number that has been given to somebody else: that one is left where it is. */
static void not_another(void)
{
    struct process ended, other;
    g_autofree char *session = NULL, *path = NULL, *session_after = NULL;
    struct gpup_placement p;
    cpu_set_t before, after;

    gpup_placement_look(&p);
    start(&ended);
    start(&other);
    path = g_strdup_printf("/proc/%d/autogroup", (int)other.pid);
    g_file_get_contents(path, &session, NULL, NULL); /* no kernel has to have it */
    kill(ended.pid, SIGKILL);
    waitpid(ended.pid, NULL, 0);
    before = of_thread(other.pid);
    gpup_placement_move(&p, other.pid, ended.pidfd, 0);
    after = of_thread(other.pid);
    g_assert_true(CPU_EQUAL(&before, &after));
    gpup_priority_set(other.pid, ended.pidfd, -1, 0, true);
    g_assert_cmpint(sched_getscheduler(other.pid), ==, SCHED_OTHER);
    g_file_get_contents(path, &session_after, NULL, NULL);
    g_assert_cmpstr(session_after, ==, session);
    close(ended.pidfd);
    end(&other);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/placement/moved-on", moved_on);
    g_test_add_func("/placement/not-another", not_another);
    return g_test_run();
}
