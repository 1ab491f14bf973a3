/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

/* The group of a partition's renderer on the kernel that runs: its limit holds, or what cannot be
 * held is told. */

#define MIB   ((size_t)1 << 20)
#define LIMIT (64 * MIB)

static int in_group(int dir, const char *name, int flags)
{
    int fd = openat(dir, name, flags | O_CLOEXEC);

    g_assert_cmpint(fd, >=, 0);
    return fd;
}

static guint64 read_number(int dir, const char *name)
{
    char text[32] = "";
    int fd = in_group(dir, name, O_RDONLY);

    g_assert_cmpint(read(fd, text, sizeof(text) - 1), >, 0);
    close(fd);
    return g_ascii_strtoull(text, NULL, 10);
}

/* A process of the group that uses so much. Whether it was killed; the most that the group used. */
static bool is_killed(int dir, size_t size, guint64 *used)
{
    int done[2], go[2], status;
    char c = 0;
    pid_t pid;

    g_assert_cmpint(pipe(done), ==, 0);
    g_assert_cmpint(pipe(go), ==, 0);
    pid = fork();
    if (pid == 0) {
        int procs = openat(dir, "cgroup.procs", O_WRONLY);
        char *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        close(done[0]);
        close(go[1]);
        if (procs < 0 || write(procs, "0", 1) != 1 || memory == MAP_FAILED)
            _exit(1);
        for (size_t at = 0; at < size; at += 4096)
            memory[at] = 1;
        _exit(write(done[1], &c, 1) == 1 && read(go[0], &c, 1) == 1 ? 0 : 1);
    }
    close(done[1]);
    close(go[0]);
    (void)!read(done[0], &c, 1); /* it has what it wants, or is dead */
    *used = read_number(dir, "memory.current");
    (void)!write(go[1], &c, 1);
    close(done[0]);
    close(go[1]);
    g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
    if (WIFSIGNALED(status)) {
        g_assert_cmpint(WTERMSIG(status), ==, SIGKILL);
        return true;
    }
    g_assert_cmpint(WEXITSTATUS(status), ==, 0);
    return false;
}

static void test_memory(void)
{
    struct gpup_cgroups *groups = gpup_cgroups_new(NULL);
    g_autofree char *adapter = g_strdup_printf("test-%d", (int)getpid());
    const char *problem = gpup_cgroups_problem(groups);
    int dir = gpup_cgroups_open(groups, adapter, LIMIT, NULL, 1);
    guint64 used;

    if (!problem || !strstr(problem, "memory beside the quota is not limited")) {
        g_assert_cmpint(dir, >=, 0);
        g_assert_cmpuint(read_number(dir, "memory.max"), ==, LIMIT);
        g_assert_false(is_killed(dir, LIMIT / 4, &used));
        g_assert_cmpuint(used, >=, LIMIT / 4);
        /* what a host's swap takes is not held back */
        if (!is_killed(dir, 4 * LIMIT, &used))
            g_assert_cmpuint(used, <=, LIMIT);
    } else {
        g_test_message("%s", problem);
    }
    if (dir >= 0)
        close(dir);
    gpup_cgroups_remove(groups, adapter);
    gpup_cgroups_free(groups);
}

/* The kernel's files as plain ones: what is written to a partition's group. */
static void test_limits(void)
{
    g_autofree char *mount = g_dir_make_tmp("gpup-cgroup-XXXXXX", NULL);
    g_autofree char *capacity = g_build_filename(mount, "dmem.capacity", NULL);
    g_autofree char *own = NULL, *above = NULL, *group = NULL, *max = NULL, *pids = NULL;
    g_autofree char *control = NULL;
    g_autofree char *text = NULL;
    struct gpup_cgroups *groups;
    char *rm[] = {(char *)"rm", (char *)"-rf", mount, NULL};
    int dir;

    g_assert_true(g_file_get_contents("/proc/self/cgroup", &own, NULL, NULL));
    if (!strstr(own, "0::/")) {
        g_test_skip("this system has no cgroup v2");
        return;
    }
    above = g_path_get_dirname(g_strstrip(strstr(own, "0::/") + 3));
    group = g_build_filename(mount, strcmp(above, "/") == 0 ? "gpup.slice" : above, "partitions",
                             "partition-a", NULL);
    g_assert_cmpint(g_mkdir_with_parents(group, 0755), ==, 0);
    max = g_build_filename(group, "dmem.max", NULL);
    control = g_build_filename(group, "..", "cgroup.subtree_control", NULL);
    pids = g_build_filename(group, "pids.max", NULL);
    g_assert_true(g_file_set_contents(max, "", -1, NULL));
    g_assert_true(g_file_set_contents(pids, "", -1, NULL));
    g_assert_true(g_file_set_contents(capacity,
                                      "drm/0000:03:00.0/stolen 4096\n"
                                      "drm/0000:03:00.0/vram0 8514437120\n"
                                      "drm/0000:04:00.0/vram0 8514437120\n",
                                      -1, NULL));
    groups = gpup_cgroups_new(mount);
    dir = gpup_cgroups_open(groups, "a", LIMIT, NULL, 1);
    g_assert_cmpint(dir, >=, 0);
    g_assert_cmpuint(read_number(dir, "pids.max"), >=, 256);
    gpup_cgroups_limit_gpu(groups, "a", "0000:03:00.0", LIMIT);
    g_assert_true(g_file_get_contents(max, &text, NULL, NULL));
    g_assert_cmpstr(text, ==, "drm/0000:03:00.0/vram0 67108864");
    close(dir);
    g_assert_nonnull(
        gpup_cgroups_gpu_problem(groups, "0000:03:00.0")); /* it could not be turned on */
    gpup_cgroups_free(groups);
    g_assert_true(g_file_set_contents(control, "", -1, NULL));
    groups = gpup_cgroups_new(mount);
    g_assert_null(gpup_cgroups_gpu_problem(groups, "0000:03:00.0"));
    g_assert_nonnull(strstr(gpup_cgroups_gpu_problem(groups, "0000:05:00.0"), "dmem"));
    gpup_cgroups_free(groups);
    g_spawn_sync(NULL, rm, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL, NULL, NULL, NULL);
}

int main(int argc, char **argv)
{
    signal(SIGPIPE, SIG_IGN);
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/cgroup/memory", test_memory);
    g_test_add_func("/cgroup/limits", test_limits);
    return g_test_run();
}
