/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_CORE_TEXT_H
#define GPUP_CORE_TEXT_H

#include <stdbool.h>
#include <stddef.h>

/* A growing string for messages. A failed allocation leaves what was there and is remembered. */
struct gpup_text {
    char *text; /* terminated, or NULL while empty */
    size_t length;
    bool failed;
};

void gpup_text_add(struct gpup_text *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* The string, now the caller's (free it); never NULL unless memory ran out. */
char *gpup_text_take(struct gpup_text *t);
void gpup_text_clear(struct gpup_text *t);

/*
 * Makes what somebody else has named (a VM) fit for a log or a terminal, in place: '?' stands for
 * control characters (of ASCII and of ISO 8859-1 in UTF-8), for separators of lines, and for what
 * turns the direction of writing. multiline: newlines stay.
 */
void gpup_text_clean(char *text, bool multiline);

#define GPUP_AUTO_TEXT __attribute__((cleanup(gpup_text_clear))) struct gpup_text

#endif
