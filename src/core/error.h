/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_CORE_ERROR_H
#define GPUP_CORE_ERROR_H

/*
 * The one error contract of all gpup code: a function that can fail returns a negative errno (or
 * NULL) and fills its trailing `struct gpup_error **`. The message is for a person: it names the
 * thing, why, and the way out. A caller that adds what it was doing wraps the message.
 *
 * `err` may always be NULL: then only the return value tells.
 */

struct gpup_error {
    int code;      /* positive errno value */
    char *message; /* owned, never NULL, no trailing newline; may hold several lines */
};

/* Exit codes of every gpup program. */
enum gpup_exit {
    GPUP_EXIT_DONE = 0,
    GPUP_EXIT_FAILED = 1,
    GPUP_EXIT_USAGE = 2,   /* what was asked for is not a valid request */
    GPUP_EXIT_NOT_NOW = 3, /* busy, nothing free: the same request may succeed later */
};

/*
 * Fills *err (when err is not NULL; an error already there is replaced) and returns -code.
 * `code` is a positive errno value. Out of memory leaves a static message, never NULL.
 */
int gpup_error_set(struct gpup_error **err, int code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Puts "TEXT: " before the message of *err, keeps its code, and returns -code (-EIO if unset). */
int gpup_error_wrap(struct gpup_error **err, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* Moves `from` into *to (or frees it when to is NULL) and returns -code. */
int gpup_error_move(struct gpup_error **to, struct gpup_error *from);

void gpup_error_free(struct gpup_error *err); /* NULL is allowed */

/* The exit code for an error: EINVAL/ERANGE usage; EBUSY/ENOSPC/EAGAIN not now; else failed. */
enum gpup_exit gpup_error_exit_code(const struct gpup_error *err);

/* The message, or "unknown error" for NULL. Borrowed. */
const char *gpup_error_message(const struct gpup_error *err);

static inline void gpup_error_freep(struct gpup_error **err)
{
    gpup_error_free(*err);
    *err = 0;
}
#define GPUP_AUTO_ERROR __attribute__((cleanup(gpup_error_freep))) struct gpup_error *

#endif
