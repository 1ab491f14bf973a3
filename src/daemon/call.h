/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_DAEMON_CALL_H
#define GPUP_DAEMON_CALL_H

#include "daemon/daemon.h"

#include <gio/gio.h>

struct gpup_error;

/*
 * One method call that changes something: authorised, then done on the main thread, or partly by a
 * worker, then answered with its lines or its error.
 */
struct gpup_call {
    struct gpup_daemon *daemon;
    GDBusMethodInvocation *invocation;
    GVariant *parameters;                /* of the call, borrowed */
    GHashTable *options;                 /* name -> GVariant *: what was given */
    char *gpu_key;                       /* of a method of a GPU, or NULL */
    char *user;                          /* who called, for people */
    GPtrArray *lines;                    /* char *: the answer */
    void (*run)(struct gpup_call *call); /* once authorised; ends in gpup_call_finish() */
    int (*work)(struct gpup_call *call, struct gpup_error **err); /* in a worker thread */
    void (*worked)(struct gpup_call *call);                       /* after it succeeded */
    void *data;                                                   /* of `work` */
    unsigned waited;                                              /* times, for hardware */
    GDestroyNotify data_free;
};

/* Checks `action`, reads the options (the last parameter), then runs. `allowed`: the options'
 * names, each ended by its type's letter ("dry-run:b"), ended by NULL. */
void gpup_call_start(struct gpup_daemon *daemon, GDBusMethodInvocation *invocation,
                     const char *action, const char *gpu_key, const char *const *allowed,
                     void (*run)(struct gpup_call *call));

/* The caller needs `action` as well: runs `next` once it is allowed, else answers. */
void gpup_call_also(struct gpup_call *call, const char *action,
                    void (*next)(struct gpup_call *call));

bool gpup_call_flag(struct gpup_call *call, const char *option);
/* Its option "timeout": how many seconds a guest is waited for. */
#define GPUP_TIMEOUT_MAX_S 86400u
unsigned gpup_call_timeout(struct gpup_call *call);

/* Runs `work` in a thread, then `worked` (NULL: answers). A failure answers with it. */
void gpup_call_work(struct gpup_call *call,
                    int (*work)(struct gpup_call *call, struct gpup_error **err),
                    void (*worked)(struct gpup_call *call));

/* Calls `again`, at once and then every so many ms, until it returns false: then it has answered,
 * or gone on. */
void gpup_call_repeat(struct gpup_call *call, unsigned ms, bool (*again)(struct gpup_call *call));

/* Nothing but saying what would be done. */
bool gpup_call_is_dry(struct gpup_call *call);

void gpup_call_line(struct gpup_call *call, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
/* Answers with the lines and frees the call. */
void gpup_call_finish(struct gpup_call *call);
/* Answers with something else (floating, or the call's own) and frees the call. */
void gpup_call_answer(struct gpup_call *call, GVariant *answer);
/* Answers with the error (which is freed) and frees the call. */
void gpup_call_fail(struct gpup_call *call, struct gpup_error *error);

/* The D-Bus error of ours that an error is. */
void gpup_return_error(GDBusMethodInvocation *invocation, const struct gpup_error *error);

#endif
