/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_TESTS_RUN_H
#define GPUP_TESTS_RUN_H

#include "standin.h"

#include <json-glib/json-glib.h>

/* Runs the real gpup against the stand-in. */

extern const char *run_gpup; /* the program */

struct result {
    int code;
    char *out, *err;
};

void result_clear(struct result *result);

typedef struct result cli_result; /* for g_auto */
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(cli_result, result_clear)

/* The arguments as a shell would split them. terminal: stdout is this one, else a pipe. */
struct result run_on(const char *address, const char *arguments, int terminal);
struct result run(struct standin *s, const char *arguments);
/* Runs, expects success with nothing on stderr, and returns what it printed. */
char *output(struct standin *s, const char *arguments);
JsonNode *json(struct standin *s, const char *arguments);
/* The value at a JSONPath, printed as JSON in one line: "[...]" of all matches. */
char *at(JsonNode *node, const char *path);
/* Runs, expects this exit code, nothing on stdout, and exactly this on stderr. */
void assert_fails(struct standin *s, const char *arguments, int code, const char *err);
/* Runs, expects success, and that gpupd was asked exactly this. */
void assert_asks(struct standin *s, const char *arguments, const char *asked);

#define assert_at(node, path, expected)                                                            \
    do {                                                                                           \
        g_autofree char *found_ = at(node, path);                                                  \
        g_assert_cmpstr(found_, ==, expected);                                                     \
    } while (0)

#endif
