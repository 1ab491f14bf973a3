/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/text.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void gpup_text_add(struct gpup_text *t, const char *fmt, ...)
{
    char *more = NULL, *grown;
    va_list args;
    int n;

    va_start(args, fmt);
    n = vasprintf(&more, fmt, args);
    va_end(args);
    if (n < 0) {
        t->failed = true;
        return;
    }
    grown = realloc(t->text, t->length + (size_t)n + 1);
    if (grown) {
        memcpy(grown + t->length, more, (size_t)n + 1);
        t->text = grown;
        t->length += (size_t)n;
    } else {
        t->failed = true;
    }
    free(more);
}

char *gpup_text_take(struct gpup_text *t)
{
    char *text = t->text ? t->text : strdup("");

    *t = (struct gpup_text){0};
    return text;
}

void gpup_text_clear(struct gpup_text *t)
{
    free(t->text);
    *t = (struct gpup_text){0};
}
