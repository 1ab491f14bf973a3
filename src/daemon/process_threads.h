/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_DAEMON_PROCESS_THREADS_H
#define GPUP_DAEMON_PROCESS_THREADS_H

#include <dirent.h>
#include <sys/types.h>

/*
 * The threads of a process that is known by its pidfd: NULL when it has ended, also where another
 * one has its number by now. The caller closes it. A thread that ends meanwhile is no error.
 */
DIR *gpup_process_threads(pid_t pid, int pidfd);
/* The next one's number; 0: no more. */
pid_t gpup_process_thread_next(DIR *threads);

#endif
