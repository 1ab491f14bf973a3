/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/process_threads.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

DIR *gpup_process_threads(pid_t pid, int pidfd)
{
    char path[32];
    DIR *dir;

    snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
    dir = opendir(path);
    /* it still is who it was after the folder was opened, so the folder is its own */
    if (dir && syscall(SYS_pidfd_send_signal, pidfd, 0, NULL, 0) == 0)
        return dir;
    if (dir)
        closedir(dir);
    return NULL;
}

pid_t gpup_process_thread_next(DIR *threads)
{
    struct dirent *entry;

    while ((entry = readdir(threads))) {
        pid_t tid = (pid_t)strtol(entry->d_name, NULL, 10);

        if (tid > 0)
            return tid;
    }
    return 0;
}
