/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "vgpu/log.h"

#include "core/text.h"
#include "vgpu/loop.h"

#include <stdarg.h>
#include <stdio.h>
#include <syslog.h>

static void say(int level, const char *text)
{
    fprintf(stderr, "gpup-vgpu: %s\n", text);
    syslog(level, "%s", text);
}

bool vgpu_log_may(struct vgpu_log_budget *b, uint64_t now_ms, unsigned int *left_out)
{
    uint64_t more = (now_ms - b->refilled_ms) / VGPU_LOG_REFILL_MS;

    *left_out = 0;
    if (more > 0) {
        b->spent -= more < b->spent ? (unsigned int)more : b->spent;
        b->refilled_ms = now_ms;
    }
    if (b->spent >= VGPU_LOG_BURST) {
        b->left_out++;
        return false;
    }
    b->spent++;
    *left_out = b->left_out;
    b->left_out = 0;
    return true;
}

void vgpu_log(int level, const char *fmt, ...)
{
    static struct vgpu_log_budget budget;
    unsigned int left_out;
    char text[1024];
    va_list args;

    if (!vgpu_log_may(&budget, vgpu_loop_now_ms(), &left_out))
        return;
    if (left_out > 0) {
        snprintf(text, sizeof(text), "(%u messages were left out)", left_out);
        say(level, text);
    }
    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    gpup_text_clean(text, false);
    say(level, text);
}
