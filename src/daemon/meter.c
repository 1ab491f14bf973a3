/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/meter.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

void gpup_meter_open_cpu(struct gpup_meter *m, pid_t pid, int cgroup_fd)
{
    uint64_t ns;

    *m = (struct gpup_meter){.kind = GPUP_METER_GROUP, .pid = pid, .file = -1};
    if (cgroup_fd >= 0)
        m->file = openat(cgroup_fd, "cpu.stat", O_RDONLY | O_CLOEXEC);
    if (m->file >= 0 && gpup_meter_read(m, &ns))
        return;
    gpup_meter_close(m);
    m->kind = pid > 0 ? GPUP_METER_PROCESS : GPUP_METER_NONE;
    m->pid = pid;
}

void gpup_meter_close(struct gpup_meter *m)
{
    if (m->kind != GPUP_METER_NONE && m->file >= 0)
        close(m->file);
    *m = (struct gpup_meter){.file = -1};
}

/* Documentation/admin-guide/cgroup-v2.rst: "usage_usec N" is there without any controller. */
static bool read_group(const struct gpup_meter *m, uint64_t *ns)
{
    static const char key[] = "usage_usec ";
    char text[512];
    ssize_t n = pread(m->file, text, sizeof(text) - 1, 0);
    const char *at;

    if (n <= 0)
        return false;
    text[n] = '\0';
    at = strstr(text, key);
    if (!at)
        return false;
    *ns = strtoull(at + sizeof(key) - 1, NULL, 10) * 1000;
    return true;
}

/* The clock that clock_getcpuclockid(3) gives, without its look whether the process is there. */
static bool read_process(const struct gpup_meter *m, uint64_t *ns)
{
    struct timespec t;

    if (clock_gettime((clockid_t)(~(unsigned)m->pid << 3 | 2u), &t) < 0)
        return false;
    *ns = (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
    return true;
}

/*
 * Documentation/gpu/drm-usage-stats.rst: each file description of a GPU has a text in fdinfo with
 * lines such as
 *     drm-pdev:       0000:03:00.0
 *     drm-client-id:  42
 *     drm-engine-render: 1234567 ns
 * Descriptions of the same client tell the same numbers. Engines for video are other resources.
 */
#define MOST_CLIENTS 64u

struct clients {
    uint64_t id[MOST_CLIENTS];
    unsigned n;
};

static bool is_new(struct clients *clients, uint64_t id)
{
    for (unsigned i = 0; i < clients->n; i++) {
        if (clients->id[i] == id)
            return false;
    }
    if (clients->n < MOST_CLIENTS)
        clients->id[clients->n++] = id;
    return true;
}

static bool draws(const char *engine, size_t length)
{
    static const char *const video[] = {"video", "enc", "dec", "vcn", "uvd", "vce", "jpeg", "vpe"};

    for (size_t i = 0; i < sizeof(video) / sizeof(*video); i++) {
        if (memmem(engine, length, video[i], strlen(video[i])))
            return false;
    }
    return strncmp(engine, "capacity-", strlen("capacity-")) != 0;
}

/* The value of a line "KEY:  VALUE" of text, or NULL. */
static const char *value_of(const char *text, const char *key)
{
    const char *at = strstr(text, key);

    if (!at)
        return NULL;
    at += strlen(key);
    return at + strspn(at, " \t");
}

static bool add_client(const struct gpup_meter *m, const char *text, struct clients *clients,
                       uint64_t *ns)
{
    static const char key[] = "drm-engine-";
    const char *pdev = value_of(text, "drm-pdev:"), *id = value_of(text, "drm-client-id:");
    bool any = false;

    if (!pdev || strncmp(pdev, m->gpu, strlen(m->gpu)) != 0)
        return false;
    for (const char *at = strstr(text, key); at; at = strstr(at + 1, key)) {
        const char *name = at + strlen(key), *colon = strchr(name, ':');

        any |= colon != NULL;
    }
    if (!any || (id && !is_new(clients, strtoull(id, NULL, 10))))
        return any;
    for (const char *at = strstr(text, key); at; at = strstr(at + 1, key)) {
        const char *name = at + strlen(key), *colon = strchr(name, ':');

        if (colon && draws(name, (size_t)(colon - name)))
            *ns += strtoull(colon + 1, NULL, 10);
    }
    return true;
}

static bool read_drm(const struct gpup_meter *m, uint64_t *ns)
{
    int fd = openat(m->file, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    struct clients clients = {.n = 0};
    struct dirent *entry;
    bool known = false;

    if (!dir) {
        if (fd >= 0)
            close(fd);
        return false;
    }
    *ns = 0;
    while ((entry = readdir(dir))) {
        char text[4096];
        ssize_t n;
        int file;

        if (entry->d_name[0] < '0' || entry->d_name[0] > '9')
            continue;
        file = openat(fd, entry->d_name, O_RDONLY | O_CLOEXEC);
        n = file >= 0 ? read(file, text, sizeof(text) - 1) : -1;
        if (file >= 0)
            close(file);
        if (n <= 0)
            continue;
        text[n] = '\0';
        known |= add_client(m, text, &clients, ns);
    }
    closedir(dir);
    return known;
}

void gpup_meter_open_drm(struct gpup_meter *m, const char *proc, pid_t pid, const char *bdf)
{
    char path[256];

    *m = (struct gpup_meter){.kind = GPUP_METER_DRM, .pid = pid, .file = -1};
    snprintf(m->gpu, sizeof(m->gpu), "%s", bdf);
    snprintf(path, sizeof(path), "%s/%d/fdinfo", proc, (int)pid);
    m->file = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (m->file < 0)
        gpup_meter_close(m);
}

bool gpup_meter_read(const struct gpup_meter *m, uint64_t *ns)
{
    switch (m->kind) {
    case GPUP_METER_GROUP:
        return read_group(m, ns);
    case GPUP_METER_PROCESS:
        return read_process(m, ns);
    case GPUP_METER_DRM:
        return read_drm(m, ns);
    case GPUP_METER_NONE:
        break;
    }
    return false;
}
