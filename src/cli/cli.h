/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_CLI_CLI_H
#define GPUP_CLI_CLI_H

#include "core/error.h"

#include <glib.h>

struct cli_args;

/* One word after `gpup`, with what it runs or the words that may follow it. */
struct cli_command {
    const char *name;
    const char *arguments; /* of the usage line: "GPU [N]" */
    const char *summary;   /* one sentence */
    int (*run)(struct cli_args *args);
    const struct cli_command *children; /* up to one without a name; NULL: it runs something */
};

/* What a command was called with. argv[0] is its path, "gpup gpu partition". */
struct cli_args {
    const struct cli_command *command;
    const char *path;
    int argc;
    char **argv;
};

#define CLI_GO_ON (-1)

/*
 * Reads options (and --help) and leaves at least `min` and at most `max` arguments in
 * args->argv[1]... CLI_GO_ON, or the exit code when there is nothing more to do.
 */
int cli_parse(struct cli_args *args, const GOptionEntry *entries, int min, int max);

/* Options that several commands have, for the entries of cli_parse(): a gboolean each. */
#define CLI_OPTION_JSON(to)                                                                        \
    {                                                                                              \
        "json", 0, 0, G_OPTION_ARG_NONE, to, "Print JSON", NULL                                    \
    }
#define CLI_OPTION_DRY_RUN(to)                                                                     \
    {                                                                                              \
        "dry-run", 0, 0, G_OPTION_ARG_NONE, to, "Say what would be done, change nothing", NULL     \
    }

struct cli_list_options {
    gboolean names, as_json; /* not both */
};
/* cli_parse() for a command that lists. names_help: what --name prints. */
int cli_parse_list(struct cli_args *args, const char *names_help, struct cli_list_options *options);

/* The value of an option that is a number of seconds, at least 1; NULL: 0. CLI_GO_ON or the exit
 * code. */
int cli_parse_seconds(const struct cli_args *args, const char *text, guint32 *seconds);

/* The name in `names` that `word` is most likely a mistyping of, or NULL. */
const char *cli_nearest(const char *word, const char *const *names);

/* Says what is wrong with how the command was called. GPUP_EXIT_USAGE. */
int cli_usage_error(const struct cli_args *args, const char *fmt, ...) G_GNUC_PRINTF(2, 3);
/* Says why nothing was done. Its exit code. */
int cli_error(const struct gpup_error *err);
/* The same for a D-Bus call. action: the polkit action that it needs, or NULL when it reads. */
int cli_bus_error(const GError *error, const char *action);
int cli_not_running(void);
int cli_fail(const char *fmt, ...) G_GNUC_PRINTF(1, 2);
/* Something to know that is no failure: "note: ..." on stderr. */
void cli_note(const char *fmt, ...) G_GNUC_PRINTF(1, 2);

/* "" instead of NULL: what an older gpupd does not say. */
const char *cli_text(const char *text);
/* For a terminal: without characters that are not text, such as a VM's name may have. The caller's.
 */
char *cli_clean(const char *text);

/* Hyper-V's cmdlet of that name, in any case, with any dash; or NULL. */
const struct cli_command *cli_cmdlet(const char *word);
/* Appends their names; borrowed. */
void cli_cmdlet_names(GPtrArray *names);

int cli_status(struct cli_args *args);
int cli_gpu_list(struct cli_args *args);
int cli_gpu_show(struct cli_args *args);
int cli_gpu_partition(struct cli_args *args);
int cli_gpu_passthrough(struct cli_args *args);
int cli_check(struct cli_args *args);
int cli_vm_list(struct cli_args *args);
int cli_vm_show(struct cli_args *args);
int cli_vm_start(struct cli_args *args);
int cli_vm_stop(struct cli_args *args);
int cli_assign(struct cli_args *args);
int cli_unassign(struct cli_args *args);
int cli_explain(struct cli_args *args);
int cli_events(struct cli_args *args);
int cli_top(struct cli_args *args);
int cli_metrics(struct cli_args *args);
int cli_rescan(struct cli_args *args);

#endif
