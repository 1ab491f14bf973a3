/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/text.h"

#include <glib.h>

static void grows(void)
{
    GPUP_AUTO_TEXT text = {0};
    g_autofree char *taken = NULL;

    gpup_text_add(&text, "%d and", 1);
    gpup_text_add(&text, " %s", "two");
    g_assert_cmpuint(text.length, ==, 9);
    taken = gpup_text_take(&text);
    g_assert_cmpstr(taken, ==, "1 and two");
    g_assert_null(text.text);
}

/* A name cannot look like another line, nor move a terminal's cursor or the text around it. */
static void cleans(void)
{
    static const struct {
        const char *name, *line, *lines;
    } cases[] = {
        {"desk1", "desk1", "desk1"},
        {"", "", ""},
        {"B\303\274ro \342\202\254", "B\303\274ro \342\202\254", "B\303\274ro \342\202\254"},
        {"a\nb", "a?b", "a\nb"},
        {"a\r\tb\177", "a??b?", "a??b?"},
        {"\033[2Ja", "?[2Ja", "?[2Ja"},
        {"a\302\233b\302\205", "a?b?", "a?b?"},
        {"a\342\200\250b\342\200\256c\342\201\246", "a?b?c?", "a?b?c?"},
        {"cut off \302", "cut off \302", "cut off \302"},
        {"cut off \342\200", "cut off \342\200", "cut off \342\200"},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *line = g_strdup(cases[i].name);
        g_autofree char *lines = g_strdup(cases[i].name);

        gpup_text_clean(line, false);
        gpup_text_clean(lines, true);
        g_assert_cmpstr(line, ==, cases[i].line);
        g_assert_cmpstr(lines, ==, cases[i].lines);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/text/grows", grows);
    g_test_add_func("/text/cleans", cleans);
    return g_test_run();
}
