/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/cgroup.h"

#include "core/file.h"
#include "core/units.h"
#include "daemon/priority.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>

/* The kernel's Documentation/admin-guide/cgroup-v2.rst. */

#define PERIOD_US    100000u
#define GROUP_PREFIX "partition-"
/* Threads of a renderer: drivers start some for each CPU. */
#define MOST_THREADS "1024"

/* dmem, a GPU's own memory, is there since Linux 6.14. */
static const char *const controllers[] = {"cpu", "memory", "pids", "dmem"};

struct gpup_cgroups {
    char *mount;
    char *base; /* where partitions' groups are made; NULL: nowhere */
    bool cpu, memory, dmem;
    char *problem;
};

static bool write_file(const char *dir, const char *name, const char *text)
{
    g_autofree char *path = g_build_filename(dir, name, NULL);

    return gpup_file_write(AT_FDCWD, path, text) == 0;
}

/* The second field of the first cgroup2 line is where it is mounted. */
static char *find_mount(void)
{
    g_autofree char *text = NULL;
    g_auto(GStrv) lines = NULL;

    if (!g_file_get_contents("/proc/self/mounts", &text, NULL, NULL))
        return NULL;
    lines = g_strsplit(text, "\n", 0);
    for (char **line = lines; *line; line++) {
        g_auto(GStrv) fields = g_strsplit(*line, " ", 4);

        if (g_strv_length(fields) == 4 && strcmp(fields[2], "cgroup2") == 0)
            return g_strdup(fields[1]);
    }
    return NULL;
}

/* The cgroup v2 of a process ("self" for ours), as /proc names it. */
static char *group_of_process(const char *pid)
{
    g_autofree char *path = g_strdup_printf("/proc/%s/cgroup", pid);
    g_autofree char *text = NULL;
    const char *line;

    if (!g_file_get_contents(path, &text, NULL, NULL))
        return NULL;
    line = g_str_has_prefix(text, "0::") ? text : strstr(text, "\n0::");
    if (!line)
        return NULL;
    line += *line == '\n' ? 4 : 3;
    return g_strndup(line, strcspn(line, "\n"));
}

static bool enable(const char *base, const char *controller)
{
    g_autofree char *text = g_strconcat("+", controller, NULL);

    return write_file(base, "cgroup.subtree_control", text);
}

static void enable_all(const char *base)
{
    for (size_t i = 0; i < G_N_ELEMENTS(controllers); i++)
        enable(base, controllers[i]);
}

/*
 * Beside gpupd's own group, in the same slice: one with processes in it may hand no controllers
 * down, and a service whose group had any could not be started again while renderers live.
 */
static char *make_base(const char *mount)
{
    g_autofree char *own = group_of_process("self");
    g_autofree char *above = own ? g_path_get_dirname(own) : NULL;
    g_autofree char *slice = NULL;
    char *base;

    if (!own)
        return NULL;
    /* without a service manager everything is in the root group */
    slice = strcmp(above, "/") == 0 ? g_build_filename(mount, "gpup.slice", NULL)
                                    : g_build_filename(mount, above, NULL);
    if (strcmp(above, "/") == 0)
        enable_all(mount);
    g_mkdir(slice, 0755);
    enable_all(slice);
    base = g_build_filename(slice, "partitions", NULL);
    if (g_mkdir(base, 0755) == 0 || errno == EEXIST)
        return base;
    g_free(base);
    return NULL;
}

static void describe(struct gpup_cgroups *c)
{
    if (!c->base)
        c->problem = g_strdup("no cgroup v2 that gpupd may use: a renderer's memory beside the "
                              "quota is not limited");
    else if (!c->cpu || !c->memory)
        c->problem =
            g_strdup_printf("cgroup v2 without %s: %s",
                            !c->cpu && !c->memory ? "cpu and memory"
                            : c->cpu              ? "memory"
                                                  : "cpu",
                            c->memory ? "compute shares are held by gpupd alone"
                                      : "a renderer's memory beside the quota is not limited");
}

struct gpup_cgroups *gpup_cgroups_new(const char *mount)
{
    struct gpup_cgroups *c = g_atomic_rc_box_new0(struct gpup_cgroups);

    c->mount = mount ? g_strdup(mount) : find_mount();
    c->base = c->mount ? make_base(c->mount) : NULL;
    if (c->base) {
        enable(c->base, "pids");
        c->dmem = enable(c->base, "dmem");
        c->cpu = enable(c->base, "cpu");
        c->memory = enable(c->base, "memory");
    }
    describe(c);
    return c;
}

struct gpup_cgroups *gpup_cgroups_ref(struct gpup_cgroups *c)
{
    return g_atomic_rc_box_acquire(c);
}

static void clear(void *data)
{
    struct gpup_cgroups *c = data;

    g_free(c->mount);
    g_free(c->base);
    g_free(c->problem);
}

void gpup_cgroups_free(struct gpup_cgroups *c)
{
    if (c)
        g_atomic_rc_box_release_full(c, clear);
}

const char *gpup_cgroups_problem(const struct gpup_cgroups *c)
{
    return c->problem;
}

static char *group_of(struct gpup_cgroups *c, const char *adapter)
{
    g_autofree char *name = g_strconcat(GROUP_PREFIX, adapter, NULL);

    return g_build_filename(c->base, name, NULL);
}

static void set_cpu(const char *dir, const struct gpup_share *compute, unsigned n_cpus)
{
    guint64 quota = compute->cap * n_cpus * PERIOD_US / GPUP_PPM_FULL;
    g_autofree char *weight_text = g_strdup_printf("%u", gpup_priority_cpu_weight(compute->weight));
    g_autofree char *max =
        compute->cap >= GPUP_PPM_FULL
            ? g_strdup("max")
            : g_strdup_printf("%" G_GUINT64_FORMAT " %u", MAX(quota, 1000), PERIOD_US);

    if (!write_file(dir, "cpu.weight", weight_text) || !write_file(dir, "cpu.max", max))
        g_warning("%s: the CPU share cannot be set: %s", dir, g_strerror(errno));
}

int gpup_cgroups_open(struct gpup_cgroups *c, const char *adapter, uint64_t memory,
                      const struct gpup_share *compute, unsigned n_cpus)
{
    g_autofree char *dir = NULL;

    if (!c->base)
        return -1;
    dir = group_of(c, adapter);
    if (g_mkdir(dir, 0755) < 0 && errno != EEXIST) {
        g_warning("%s cannot be made, so its renderer runs without a group: %s", dir,
                  g_strerror(errno));
        return -1;
    }
    if (c->memory) {
        g_autofree char *text = g_strdup_printf("%" G_GUINT64_FORMAT, (guint64)memory);

        if (!write_file(dir, "memory.max", text))
            g_warning("%s: the memory limit cannot be set: %s", dir, g_strerror(errno));
    }
    if (c->cpu && compute)
        set_cpu(dir, compute, n_cpus);
    write_file(dir, "pids.max", MOST_THREADS);
    return open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

/* "drm/0000:03:00.0/vram0 8514437120" */
static void limit_region(const char *dir, const char *line, const char *prefix, uint64_t bytes)
{
    const char *end = strchr(line, ' ');
    g_autofree char *text = NULL;

    if (!end || !g_str_has_prefix(line, prefix))
        return;
    text = g_strdup_printf("%.*s %" G_GUINT64_FORMAT, (int)(end - line), line, (guint64)bytes);
    if (!write_file(dir, "dmem.max", text))
        g_warning("%s: the GPU's memory cannot be limited: %s", dir, g_strerror(errno));
}

/* The memories that drivers let the kernel hold, one a line; NULL: none. */
static char **capacity(struct gpup_cgroups *c)
{
    g_autofree char *path = c->base ? g_build_filename(c->mount, "dmem.capacity", NULL) : NULL;
    g_autofree char *text = NULL;

    return path && g_file_get_contents(path, &text, NULL, NULL) ? g_strsplit(text, "\n", 0) : NULL;
}

void gpup_cgroups_limit_gpu(struct gpup_cgroups *c, const char *adapter, const char *bdf,
                            uint64_t bytes)
{
    g_autofree char *dir = c->base ? group_of(c, adapter) : NULL;
    g_autofree char *prefix = g_strdup_printf("drm/%s/vram", bdf);
    g_auto(GStrv) lines = capacity(c);

    for (char **line = lines; line && *line; line++)
        limit_region(dir, *line, prefix, bytes);
}

const char *gpup_cgroups_gpu_problem(struct gpup_cgroups *c, const char *bdf)
{
    g_autofree char *prefix = g_strdup_printf("drm/%s/vram", bdf);
    g_auto(GStrv) lines = c->dmem ? capacity(c) : NULL;

    for (char **line = lines; line && *line; line++) {
        if (g_str_has_prefix(*line, prefix))
            return NULL;
    }
    return "the kernel does not limit what its driver takes of its memory beside the quota (dmem: "
           "Linux 6.14, and a driver that takes part)";
}

int gpup_cgroups_open_of(struct gpup_cgroups *c, const char *adapter, pid_t pid)
{
    g_autofree char *number = g_strdup_printf("%d", (int)pid);
    g_autofree char *group = c->base && pid > 0 ? group_of_process(number) : NULL;
    g_autofree char *name = g_strconcat(GROUP_PREFIX, adapter, NULL);
    g_autofree char *last = group ? g_path_get_basename(group) : NULL;
    g_autofree char *dir = NULL;

    if (!last || strcmp(last, name) != 0)
        return -1;
    dir = group_of(c, adapter);
    return open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

uint64_t gpup_cgroups_oom_kills(struct gpup_cgroups *c, const char *adapter)
{
    g_autofree char *dir = c->base ? group_of(c, adapter) : NULL;
    g_autofree char *path = dir ? g_build_filename(dir, "memory.events", NULL) : NULL;
    g_autofree char *text = NULL;
    const char *line;

    if (!path || !g_file_get_contents(path, &text, NULL, NULL))
        return 0;
    line = strstr(text, "\noom_kill ");
    return line ? g_ascii_strtoull(line + strlen("\noom_kill "), NULL, 10) : 0;
}

static void remove_group(const char *dir)
{
    write_file(dir, "cgroup.kill", "1");
    g_rmdir(dir);
}

void gpup_cgroups_remove(struct gpup_cgroups *c, const char *adapter)
{
    g_autofree char *dir = c->base ? group_of(c, adapter) : NULL;

    /* its processes may take a moment to be gone: then it is swept, or used again */
    if (dir && g_file_test(dir, G_FILE_TEST_IS_DIR))
        remove_group(dir);
}

void gpup_cgroups_sweep(struct gpup_cgroups *c, bool (*is_used)(const char *adapter, void *data),
                        void *data)
{
    g_autoptr(GDir) entries = c->base ? g_dir_open(c->base, 0, NULL) : NULL;
    const char *name;

    while (entries && (name = g_dir_read_name(entries))) {
        g_autofree char *dir = g_build_filename(c->base, name, NULL);

        if (g_str_has_prefix(name, GROUP_PREFIX) && !is_used(name + strlen(GROUP_PREFIX), data))
            remove_group(dir);
    }
}
