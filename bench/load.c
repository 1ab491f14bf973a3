/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "load.h"

#include "cpus.h"
#include "world.h"

#include <fcntl.h>
#include <glib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* More than that was taken: not clean, parts of all CPUs. */
#define MOST_STOLEN  0.01
#define MOST_FOREIGN 0.05

struct load {
    int stat;
    GArray *clocks; /* of our processes */
};

struct process {
    pid_t pid, parent;
};

/* proc(5): "PID (NAME) STATE PPID ..."; a name may hold anything. */
static pid_t parent_of(const char *pid)
{
    g_autofree char *path = g_build_filename("/proc", pid, "stat", NULL);
    g_autofree char *text = NULL;
    const char *after;
    int parent;

    if (!g_file_get_contents(path, &text, NULL, NULL))
        return 0;
    after = strrchr(text, ')');
    /* NOLINTNEXTLINE(cert-err34-c): the kernel wrote it */
    return after && sscanf(after + 1, " %*c %d", &parent) == 1 ? parent : 0;
}

static GArray *all_processes(void)
{
    GArray *all = g_array_new(FALSE, TRUE, sizeof(struct process));
    g_autoptr(GDir) dir = g_dir_open("/proc", 0, NULL);
    const char *name;

    while (dir && (name = g_dir_read_name(dir))) {
        struct process p = {.pid = (pid_t)strtol(name, NULL, 10)};

        if (p.pid <= 0)
            continue;
        p.parent = parent_of(name);
        g_array_append_val(all, p);
    }
    return all;
}

static void add_with_children(struct load *load, const GArray *all, pid_t pid)
{
    clockid_t clock;

    if (clock_getcpuclockid(pid, &clock) == 0)
        g_array_append_val(load->clocks, clock);
    for (guint i = 0; i < all->len; i++) {
        const struct process *p = &g_array_index(all, struct process, i);

        if (p->parent == pid)
            add_with_children(load, all, p->pid);
    }
}

struct load *load_new(void)
{
    struct load *load = g_new0(struct load, 1);
    g_autoptr(GArray) all = all_processes();

    load->stat = open("/proc/stat", O_RDONLY | O_CLOEXEC);
    g_assert_cmpint(load->stat, >=, 0);
    load->clocks = g_array_new(FALSE, TRUE, sizeof(clockid_t));
    add_with_children(load, all, getpid());
    return load;
}

void load_free(struct load *load)
{
    g_array_unref(load->clocks);
    close(load->stat);
    g_free(load);
}

/* proc(5): a line for each CPU. */
static void read_stat(const struct load *load, struct load_sample *sample)
{
    uint64_t tick = 1000000000 / (uint64_t)sysconf(_SC_CLK_TCK);
    char text[65536];
    ssize_t n = pread(load->stat, text, sizeof(text) - 1, 0);

    text[n > 0 ? n : 0] = '\0';
    for (const char *line = strstr(text, "\ncpu"); line; line = strstr(line + 1, "\ncpu")) {
        unsigned long long idle, iowait, steal;
        int cpu;

        /* NOLINTNEXTLINE(cert-err34-c): the kernel wrote it */
        if (sscanf(line, "\ncpu%d %*u %*u %*u %llu %llu %*u %*u %llu", &cpu, &idle, &iowait,
                   &steal) != 4 ||
            cpu >= CPU_SETSIZE || !CPU_ISSET(cpu, cpus_allowed()))
            continue;
        sample->stolen += steal * tick;
        sample->idle += (idle + iowait) * tick;
    }
}

void load_take(const struct load *load, struct load_sample *sample)
{
    *sample = (struct load_sample){.ns = world_now()};
    read_stat(load, sample);
    for (guint i = 0; i < load->clocks->len; i++) {
        struct timespec t = {0};

        clock_gettime(g_array_index(load->clocks, clockid_t, i), &t);
        sample->ours += (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
    }
}

static double part(uint64_t from, uint64_t to, double whole)
{
    return to > from ? (double)(to - from) / whole : 0;
}

struct taken load_taken(const struct load_sample *from, const struct load_sample *to)
{
    double whole = (double)(to->ns - from->ns) * (double)cpus_count();
    struct taken taken = {0};

    if (to->ns <= from->ns)
        return taken;
    taken.stolen = part(from->stolen, to->stolen, whole);
    taken.idle = part(from->idle, to->idle, whole);
    /* the clocks of processes go on while the hypervisor lets nothing run */
    taken.foreign = MAX(0, 1 - taken.idle - part(from->ours, to->ours, whole));
    return taken;
}

bool load_is_clean(const struct load_sample *from, const struct load_sample *to)
{
    struct taken taken = load_taken(from, to);

    return taken.stolen <= MOST_STOLEN && taken.foreign <= MOST_FOREIGN;
}
