/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

void gpup_fd_close(int *fd)
{
    int saved = errno;

    if (*fd >= 0)
        close(*fd);
    *fd = -1;
    errno = saved;
}

int gpup_file_write(int dir, const char *path, const char *text)
{
    GPUP_AUTO_FD fd = openat(dir, path, O_WRONLY | O_CLOEXEC | O_NOCTTY);
    ssize_t n = fd >= 0 ? write(fd, text, strlen(text)) : -1;

    if (n < 0)
        return -errno;
    return (size_t)n == strlen(text) ? 0 : -EIO;
}
