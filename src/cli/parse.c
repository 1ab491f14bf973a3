/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/cli.h"

#include <stdio.h>
#include <string.h>

static int show_help(GOptionContext *context)
{
    g_autofree char *text = g_option_context_get_help(context, TRUE, NULL);

    fputs(text, stdout);
    return GPUP_EXIT_DONE;
}

/* GOption leaves the "--" that ends the options where nothing after it looks like one. */
static void drop_separator(struct cli_args *args)
{
    for (int i = 1; i < args->argc; i++) {
        if (strcmp(args->argv[i], "--") != 0)
            continue;
        memmove(&args->argv[i], &args->argv[i + 1], sizeof(char *) * (size_t)(args->argc - i));
        args->argc--;
        return;
    }
}

static int parse_error(const struct cli_args *args, const GOptionEntry *entries,
                       const GError *error)
{
    const char *option = strchr(error->message, '-');
    g_autoptr(GPtrArray) names = g_ptr_array_new();
    const char *nearest;

    for (const GOptionEntry *e = entries; e && e->long_name; e++)
        g_ptr_array_add(names, (gpointer)e->long_name);
    g_ptr_array_add(names, (gpointer) "help");
    g_ptr_array_add(names, NULL);
    if (!g_error_matches(error, G_OPTION_ERROR, G_OPTION_ERROR_UNKNOWN_OPTION) || !option)
        return cli_usage_error(args, "%s", error->message);
    nearest = g_str_has_prefix(option, "--")
                  ? cli_nearest(option + 2, (const char *const *)names->pdata)
                  : NULL;
    if (nearest)
        return cli_usage_error(args, "unknown option %s: did you mean --%s?", option, nearest);
    return cli_usage_error(args, "unknown option %s", option);
}

int cli_parse(struct cli_args *args, const GOptionEntry *entries, int min, int max)
{
    gboolean help = FALSE;
    const GOptionEntry help_entry[] = {
        {"help", 'h', 0, G_OPTION_ARG_NONE, &help, "Say this and do nothing", NULL},
        {0},
    };
    g_autoptr(GOptionContext) context = g_option_context_new(args->command->arguments);
    g_autoptr(GError) error = NULL;

    g_set_prgname(args->path);
    g_option_context_set_help_enabled(context, FALSE);
    g_option_context_set_summary(context, args->command->summary);
    if (entries)
        g_option_context_add_main_entries(context, entries, NULL);
    g_option_context_add_main_entries(context, help_entry, NULL);
    if (!g_option_context_parse(context, &args->argc, &args->argv, &error))
        return parse_error(args, entries, error);
    if (help)
        return show_help(context);
    drop_separator(args);
    if (args->argc - 1 < min)
        return cli_usage_error(args, "which? Expected: %s %s", args->path,
                               args->command->arguments);
    if (args->argc - 1 > max)
        return cli_usage_error(args, "unexpected argument '%s'", args->argv[max + 1]);
    for (int i = 1; i < args->argc; i++) {
        if (*args->argv[i] == '\0')
            return cli_usage_error(args, "an empty argument names nothing");
    }
    return CLI_GO_ON;
}

int cli_parse_list(struct cli_args *args, const char *names_help, struct cli_list_options *options)
{
    const GOptionEntry entries[] = {
        {"name", 0, 0, G_OPTION_ARG_NONE, &options->names, names_help, NULL},
        CLI_OPTION_JSON(&options->as_json),
        {0},
    };
    int code = cli_parse(args, entries, 0, 0);

    if (code == CLI_GO_ON && options->names && options->as_json)
        return cli_usage_error(args, "--name and --json do not go together");
    return code;
}

int cli_parse_seconds(const struct cli_args *args, const char *text, guint32 *seconds)
{
    guint64 value = 0;

    if (text && !g_ascii_string_to_unsigned(text, 10, 1, G_MAXUINT32, &value, NULL))
        return cli_usage_error(args, "'%s' is not a number of seconds", text);
    *seconds = (guint32)value;
    return CLI_GO_ON;
}
