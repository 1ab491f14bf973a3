/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/powershell.h"

#include <stdio.h>
#include <string.h>

static bool is_dash(gunichar c)
{
    return (c >= 0x2010 && c <= 0x2015) || c == 0x2212;
}

static bool is_quote(gunichar c)
{
    return c == 0x2018 || c == 0x2019 || c == 0x201c || c == 0x201d;
}

char *ps_plain_dashes(const char *word)
{
    GString *text = g_string_new(NULL);

    for (; *word; word = g_utf8_next_char(word)) {
        gunichar c = g_utf8_get_char(word);

        g_string_append_unichar(text, is_dash(c) ? '-' : c);
    }
    return g_string_free(text, FALSE);
}

/* Without the typographic quotes around it, which no shell takes for quotes. */
static char *unquoted(const char *value)
{
    const char *end = value + strlen(value);

    if (is_quote(g_utf8_get_char(value)))
        value = g_utf8_next_char(value);
    if (end > value && is_quote(g_utf8_get_char(g_utf8_prev_char(end))))
        end = g_utf8_prev_char(end);
    return g_strndup(value, (gsize)(end - value));
}

char **ps_list(const char *value)
{
    g_auto(GStrv) parts = g_strsplit(value, ",", -1);
    g_autoptr(GStrvBuilder) builder = g_strv_builder_new();

    for (char **part = parts; *part; part++) {
        g_autofree char *plain = unquoted(g_strstrip(*part));

        if (*plain)
            g_strv_builder_add(builder, plain);
    }
    return g_strv_builder_end(builder);
}

bool ps_matches(const char *pattern, const char *text)
{
    g_autofree char *p = g_utf8_casefold(pattern, -1);
    g_autofree char *t = g_utf8_casefold(text, -1);

    return g_pattern_match_simple(p, t);
}

/* ---- parameters ---- */

static int help(const struct cli_args *args, const struct ps_parameter *parameters)
{
    size_t column = 0;

    printf("Usage:\n  %s", args->path);
    for (const struct ps_parameter *p = parameters; p->name; p++) {
        size_t width = strlen(p->name) + (p->is_switch ? 4 : 10);

        if (p->refusal)
            continue;
        if (column + width > 70 || column == 0) {
            printf("\n   ");
            column = 0;
        }
        printf(p->is_switch ? " [-%s]" : " [-%s VALUE]", p->name);
        column += width;
    }
    printf(
        "\n\n%s\n\nNames in any case. Sizes: 500MB, 2GB (powers of 1024), or bytes; shares of the\n"
        "GPU: 25%%. gpup(1) and " GPUP_DOCDIR
        "/hyper-v.md\nsay what each is in gpup's own words.\n",
        args->command->summary);
    return GPUP_EXIT_DONE;
}

static struct ps_parameter *find(struct ps_parameter *parameters, const char *name, bool *ambiguous)
{
    struct ps_parameter *found = NULL;

    *ambiguous = false;
    for (struct ps_parameter *p = parameters; p->name; p++) {
        if (g_ascii_strcasecmp(p->name, name) == 0) {
            *ambiguous = false;
            return p;
        }
        if (*name && g_ascii_strncasecmp(p->name, name, strlen(name)) == 0) {
            *ambiguous |= found != NULL;
            found = p;
        }
    }
    return found;
}

static int unknown(const struct cli_args *args, const struct ps_parameter *parameters,
                   const char *name, bool ambiguous)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new();
    const char *nearest;

    for (const struct ps_parameter *p = parameters; p->name; p++)
        g_ptr_array_add(names, (gpointer)p->name);
    g_ptr_array_add(names, NULL);
    if (ambiguous)
        return cli_usage_error(args, "-%s could be several parameters: write more of it", name);
    nearest = cli_nearest(name, (const char *const *)names->pdata);
    if (nearest)
        return cli_usage_error(args, "there is no parameter -%s: did you mean -%s?", name, nearest);
    return cli_usage_error(args, "there is no parameter -%s here", name);
}

static int set_switch(const struct cli_args *args, struct ps_parameter *p, const char *value)
{
    const char *word = value && *value == '$' ? value + 1 : value;

    if (!word || g_ascii_strcasecmp(word, "true") == 0)
        p->value = g_strdup("true");
    else if (g_ascii_strcasecmp(word, "false") == 0)
        p->value = g_strdup("false");
    else if (!*word) /* what a shell leaves of $true and $false */
        return cli_usage_error(args, "-%s: write -%s:true or -%s:false, without the $", p->name,
                               p->name, p->name);
    else
        return cli_usage_error(args, "-%s: '%s' is neither true nor false", p->name, word);
    return CLI_GO_ON;
}

/* The next argument is a parameter itself, not a value. */
static bool is_parameter(struct ps_parameter *parameters, const char *word)
{
    const char *name = g_utf8_next_char(word);
    bool ambiguous;

    return (*word == '-' || is_dash(g_utf8_get_char(word))) && g_ascii_isalpha(*name) &&
           (find(parameters, name, &ambiguous) || ambiguous);
}

/* One parameter, with its value behind a colon or, in *next, as the next argument. */
static int set_parameter(const struct cli_args *args, struct ps_parameter *parameters,
                         const char *word, const char *next, bool *used_next)
{
    const char *colon = strchr(word, ':');
    g_autofree char *name = colon ? g_strndup(word, (gsize)(colon - word)) : g_strdup(word);
    bool ambiguous;
    struct ps_parameter *p = find(parameters, name, &ambiguous);

    if (!p || ambiguous)
        return unknown(args, parameters, name, ambiguous);
    if (p->refusal)
        return cli_usage_error(args, "-%s: %s", p->name, p->refusal);
    if (p->value)
        return cli_usage_error(args, "-%s was given twice", p->name);
    if (p->is_switch)
        return set_switch(args, p, colon ? colon + 1 : NULL);
    if (!colon && (!next || is_parameter(parameters, next)))
        return cli_usage_error(args, "-%s needs a value", p->name);
    *used_next = !colon;
    p->value = unquoted(colon ? colon + 1 : next);
    if (!*p->value)
        return cli_usage_error(args, "-%s: an empty value names nothing", p->name);
    return CLI_GO_ON;
}

static bool asks_for_help(const char *word)
{
    return strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0 || strcmp(word, "-?") == 0;
}

int ps_parse(struct cli_args *args, struct ps_parameter *parameters)
{
    int code = CLI_GO_ON;

    for (int i = 1; i < args->argc; i++) {
        if (asks_for_help(args->argv[i]))
            return help(args, parameters);
    }
    for (int i = 1; code == CLI_GO_ON && i < args->argc; i++) {
        const char *word = args->argv[i];
        const char *next = i + 1 < args->argc ? args->argv[i + 1] : NULL;
        bool used_next = false;

        if (*word == '-' || is_dash(g_utf8_get_char(word))) {
            code = set_parameter(args, parameters, g_utf8_next_char(word), next, &used_next);
            i += used_next;
        } else if (parameters->value || parameters->refusal) {
            code = cli_usage_error(args, "unexpected argument '%s'", word);
        } else {
            parameters->value = unquoted(word);
        }
    }
    return code;
}

void ps_clear(struct ps_parameter *parameters)
{
    for (; parameters->name; parameters++)
        g_clear_pointer(&parameters->value, g_free);
}

bool ps_is_set(const struct ps_parameter *parameter)
{
    return g_strcmp0(parameter->value, "true") == 0;
}
