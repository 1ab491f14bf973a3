/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_CLI_TABLE_H
#define GPUP_CLI_TABLE_H

#include <glib.h>
#include <stdbool.h>

/*
 * Rows of text in aligned columns. On a terminal by libsmartcols, with a bold header and,
 * where it is narrow, some columns wrapped; anywhere else plain text, two spaces between columns,
 * nothing cut.
 */
struct cli_table;

struct cli_column {
    const char *name;
    bool wraps; /* its text may take several lines */
};

/* columns: up to one without a name; kept. */
struct cli_table *cli_table_new(const struct cli_column *columns);
/* One cell for each column, copied; an empty one is shown as "-". */
void cli_table_add(struct cli_table *table, const char *const *cells);
void cli_table_print(const struct cli_table *table);
void cli_table_free(struct cli_table *table);

typedef struct cli_table cli_table; /* for g_autoptr */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(cli_table, cli_table_free)

#endif
