/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_CORE_FILE_H
#define GPUP_CORE_FILE_H

/* Closes a descriptor, if there is one, and leaves -1 in its place. Leaves errno as it is. */
void gpup_fd_close(int *fd);
/* A descriptor that is closed when its scope ends; -1 where there is none (any more). */
#define GPUP_AUTO_FD __attribute__((cleanup(gpup_fd_close))) int

/*
 * Writes a value into a file of the kernel (sysfs, procfs, cgroupfs) as these take it: the file is
 * there, and all of the text comes in one write. `path` is of the folder `dir` (AT_FDCWD: of the
 * working folder). 0 or a negative errno. Allocates nothing; may block for as long as the kernel
 * does.
 */
int gpup_file_write(int dir, const char *path, const char *text);

#endif
