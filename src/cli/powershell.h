/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_CLI_POWERSHELL_H
#define GPUP_CLI_POWERSHELL_H

#include "cli/cli.h"

#include <stdbool.h>

/*
 * Arguments as PowerShell's cmdlets take them (about_Parameters): -Name VALUE or -Name:VALUE, in
 * any case, shortened where it is unambiguous; switches without a value or with :true or :false.
 * What web pages and word processors make of - and " is taken for these.
 */

struct ps_parameter {
    const char *name;
    bool is_switch;
    const char *refusal; /* it is known, but not taken: what to do instead; else NULL */
    char *value;         /* NULL: not given. A switch: "true" or "false" */
};

/* parameters: up to one without a name. The first argument without a name is the value of the first
 * parameter. CLI_GO_ON, or the exit code when there is nothing more to do. */
int ps_parse(struct cli_args *args, struct ps_parameter *parameters);
void ps_clear(struct ps_parameter *parameters);
bool ps_is_set(const struct ps_parameter *parameter); /* a switch */

/* The word with its typographic dashes as "-". */
char *ps_plain_dashes(const char *word);
/* Splits "a, b" as PowerShell does a list. */
char **ps_list(const char *value);
/* PowerShell's wildcards * and ?, in any case. */
bool ps_matches(const char *pattern, const char *text);

#endif
