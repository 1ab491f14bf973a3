/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What is left when there is no memory for a message: never freed. */
static char no_memory_text[] = "out of memory";
static struct gpup_error no_memory = {.code = ENOMEM, .message = no_memory_text};

void gpup_error_free(struct gpup_error *err)
{
    if (!err || err == &no_memory)
        return;
    free(err->message);
    free(err);
}

static void replace(struct gpup_error **err, int code, char *message)
{
    struct gpup_error *fresh = message ? malloc(sizeof(*fresh)) : NULL;

    gpup_error_free(*err);
    if (!fresh) {
        free(message);
        *err = &no_memory;
        return;
    }
    fresh->code = code;
    fresh->message = message;
    *err = fresh;
}

int gpup_error_set(struct gpup_error **err, int code, const char *fmt, ...)
{
    char *message = NULL;
    va_list args;

    if (code <= 0)
        code = EIO;
    if (!err)
        return -code;
    va_start(args, fmt);
    if (vasprintf(&message, fmt, args) < 0)
        message = NULL;
    va_end(args);
    replace(err, code, message);
    return -code;
}

int gpup_error_wrap(struct gpup_error **err, const char *fmt, ...)
{
    char *prefix = NULL;
    char *message = NULL;
    va_list args;
    int code;

    if (!err)
        return -EIO;
    code = *err ? (*err)->code : EIO;
    va_start(args, fmt);
    if (vasprintf(&prefix, fmt, args) < 0)
        prefix = NULL;
    va_end(args);
    if (prefix && asprintf(&message, "%s: %s", prefix, gpup_error_message(*err)) < 0)
        message = NULL;
    free(prefix);
    replace(err, code, message);
    return -code;
}

int gpup_error_move(struct gpup_error **to, struct gpup_error *from)
{
    int code = from ? from->code : EIO;

    if (!to) {
        gpup_error_free(from);
        return -code;
    }
    gpup_error_free(*to);
    *to = from;
    return -code;
}

enum gpup_exit gpup_error_exit_code(const struct gpup_error *err)
{
    switch (err ? err->code : EIO) {
    case EINVAL:
    case ERANGE:
        return GPUP_EXIT_USAGE;
    case EBUSY:
    case ENOSPC:
    case EAGAIN:
        return GPUP_EXIT_NOT_NOW;
    default:
        return GPUP_EXIT_FAILED;
    }
}

const char *gpup_error_message(const struct gpup_error *err)
{
    return err && err->message ? err->message : "unknown error";
}
