/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "vgpu/log.h"

#include "core/text.h"

#include <stdarg.h>
#include <stdio.h>
#include <syslog.h>

void vgpu_log(int level, const char *fmt, ...)
{
    char text[1024];
    va_list args;

    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    gpup_text_clean(text, false);
    fprintf(stderr, "gpup-vgpu: %s\n", text);
    syslog(level, "%s", text);
}
