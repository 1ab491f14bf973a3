/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/table.h"

#include "core/text.h"

#include <libsmartcols.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct cli_table {
    const struct cli_column *columns;
    size_t n_columns;
    GPtrArray *rows; /* GStrv of n_columns */
};

struct cli_table *cli_table_new(const struct cli_column *columns)
{
    struct cli_table *table = g_new0(struct cli_table, 1);

    table->columns = columns;
    while (columns[table->n_columns].name)
        table->n_columns++;
    table->rows = g_ptr_array_new_with_free_func((GDestroyNotify)g_strfreev);
    return table;
}

void cli_table_free(struct cli_table *table)
{
    g_ptr_array_unref(table->rows);
    g_free(table);
}

void cli_table_add(struct cli_table *table, const char *const *cells)
{
    char **row = g_new0(char *, table->n_columns + 1);

    for (size_t i = 0; i < table->n_columns; i++) {
        row[i] = g_strdup(cells[i] && *cells[i] ? cells[i] : "-");
        gpup_text_clean(row[i], false);
    }
    g_ptr_array_add(table->rows, row);
}

/* Columns that a text takes. */
static size_t width(const char *text)
{
    size_t w = 0;

    for (; *text; text = g_utf8_next_char(text)) {
        gunichar c = g_utf8_get_char(text);

        if (!g_unichar_iszerowidth(c))
            w += g_unichar_iswide(c) ? 2 : 1;
    }
    return w;
}

static void print_row(const struct cli_table *table, const char *const *cells, const size_t *widths)
{
    for (size_t i = 0; i < table->n_columns; i++) {
        size_t pad = widths[i] - width(cells[i]);

        fputs(cells[i], stdout);
        if (i + 1 < table->n_columns)
            printf("%*s", (int)pad + 2, "");
    }
    putchar('\n');
}

static void print_plain(const struct cli_table *table)
{
    g_autofree size_t *widths = g_new0(size_t, table->n_columns);
    g_autofree const char **header = g_new0(const char *, table->n_columns);

    for (size_t i = 0; i < table->n_columns; i++) {
        header[i] = table->columns[i].name;
        widths[i] = width(header[i]);
        for (guint r = 0; r < table->rows->len; r++) {
            const char *const *row = table->rows->pdata[r];

            widths[i] = MAX(widths[i], width(row[i]));
        }
    }
    print_row(table, header, widths);
    for (guint r = 0; r < table->rows->len; r++)
        print_row(table, table->rows->pdata[r], widths);
}

/* -ENOMEM and the like: the caller prints plainly instead. */
static int fill(struct libscols_table *tb, const struct cli_table *table)
{
    int ret = scols_table_set_column_separator(tb, "  ");

    for (size_t i = 0; ret == 0 && i < table->n_columns; i++) {
        struct libscols_column *column = scols_table_new_column(
            tb, table->columns[i].name, 0, table->columns[i].wraps ? SCOLS_FL_WRAP : 0);

        ret = column ? scols_cell_set_color(scols_column_get_header(column), "bold") : -1;
    }
    for (guint r = 0; ret == 0 && r < table->rows->len; r++) {
        struct libscols_line *line = scols_table_new_line(tb, NULL);
        char **row = table->rows->pdata[r];

        ret = line ? 0 : -1;
        for (size_t i = 0; ret == 0 && i < table->n_columns; i++)
            ret = scols_line_set_data(line, i, row[i]);
    }
    return ret;
}

/* no-color.org */
static bool may_color(void)
{
    const char *no_color = g_getenv("NO_COLOR");

    return !(no_color && *no_color) && g_strcmp0(g_getenv("TERM"), "dumb") != 0;
}

static int print_terminal(const struct cli_table *table)
{
    struct libscols_table *tb = scols_new_table();
    int ret;

    if (!tb)
        return -1;
    scols_table_enable_colors(tb, may_color());
    ret = fill(tb, table);
    fflush(stdout);
    if (ret == 0)
        ret = scols_print_table(tb);
    scols_unref_table(tb);
    return ret;
}

void cli_table_print(const struct cli_table *table)
{
    if (!isatty(STDOUT_FILENO) || print_terminal(table) != 0)
        print_plain(table);
}
