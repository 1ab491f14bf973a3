/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/release.h"

#include "core/file.h"
#include "daemon/placement.h"
#include "daemon/priority.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* What proc(5) adds to the name of a program whose file is gone. */
#define DELETED " (deleted)"

/* The folder's process runs a program of this name, whose file is ours. In its jail it has another
 * path, and after an upgrade it is another file. */
static bool runs(int proc, const char *pid, const char *program)
{
    char path[NAME_MAX + sizeof("/exe")], found[PATH_MAX], *end;
    const char *name;
    struct stat st;
    ssize_t n;

    snprintf(path, sizeof(path), "%s/exe", pid);
    n = readlinkat(proc, path, found, sizeof(found) - 1);
    if (n < 0 || fstatat(proc, path, &st, 0) < 0 || st.st_uid != geteuid())
        return false;
    found[n] = '\0';
    end = strstr(found, DELETED);
    if (end)
        *end = '\0';
    name = strrchr(found, '/');
    return name && strcmp(name + 1, program) == 0;
}

static bool release(int proc, const char *name, const char *program)
{
    pid_t pid = (pid_t)strtol(name, NULL, 10);
    struct gpup_placement placement;
    int pidfd = pid > 0 ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;
    bool found = pidfd >= 0 && runs(proc, name, program);

    if (found) {
        gpup_placement_look(&placement);
        gpup_placement_let_go(&placement, pid, pidfd);
        gpup_priority_set(pid, pidfd, -1, 0, false);
    }
    gpup_fd_close(&pidfd);
    return found;
}

int gpup_release_renderers(const char *renderer)
{
    const char *slash = strrchr(renderer, '/'), *program = slash ? slash + 1 : renderer;
    struct dirent *entry;
    DIR *proc = opendir("/proc");
    int n = 0;

    if (!proc)
        return -errno;
    while ((entry = readdir(proc)))
        n += release(dirfd(proc), entry->d_name, program);
    closedir(proc);
    return n;
}
