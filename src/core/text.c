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

/* How many bytes at p are a character that does not belong into a line of text. */
static size_t unprintable(const unsigned char *p)
{
    if (p[0] < 0x20 || p[0] == 0x7f)
        return 1;
    if (p[0] == 0xc2 && p[1] >= 0x80 && p[1] <= 0x9f) /* U+0080..U+009F */
        return 2;
    if (p[0] == 0xe2 && p[1] == 0x80 && p[2] >= 0xa8 && p[2] <= 0xae) /* U+2028..U+202E */
        return 3;
    if (p[0] == 0xe2 && p[1] == 0x81 && p[2] >= 0xa6 && p[2] <= 0xa9) /* U+2066..U+2069 */
        return 3;
    return 0;
}

void gpup_text_clean(char *text, bool multiline)
{
    char *to = text;

    while (*text) {
        size_t n = multiline && *text == '\n' ? 0 : unprintable((const unsigned char *)text);

        *to = *text;
        if (n > 0)
            *to = '?';
        to++;
        text += n > 0 ? n : 1;
    }
    *to = '\0';
}
