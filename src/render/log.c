/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "render/render.h"
#include "sandbox/jail.h"

/* A guest can make the renderer complain without end; the log is not its disk quota. */
#define MAX_LOG_LINES 64
#define MAX_LOG_LINE  200

static int log_fd = STDERR_FILENO;

void log_alone(void)
{
    int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    int own = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);

    /* a sanitizer's report is for standard error */
    if (null >= 0 && own >= 0 && !SANDBOX_SANITIZED && dup2(null, STDERR_FILENO) >= 0)
        log_fd = own;
    else if (own >= 0)
        close(own);
    if (null >= 0)
        close(null);
}

void log_error(const char *text)
{
    dprintf(log_fd, "gpup-render: %s\n", text);
}

void log_guest(const char *text)
{
    static unsigned int lines;
    char line[MAX_LOG_LINE];
    size_t n = 0;

    if (lines >= MAX_LOG_LINES)
        return;
    if (++lines == MAX_LOG_LINES)
        text = "(further messages of the renderer are dropped)";
    for (; *text && *text != '\n' && n < sizeof(line) - 1; text++) {
        line[n] = *text;
        if (*text < ' ' || *text > '~')
            line[n] = '?';
        n++;
    }
    line[n] = '\0';
    log_error(line);
}
