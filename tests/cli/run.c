/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "run.h"

#include <string.h>

const char *run_gpup;

void result_clear(struct result *r)
{
    g_free(r->out);
    g_free(r->err);
}

struct run {
    gboolean done;
    struct result *result;
};

static void on_ended(GObject *object, GAsyncResult *async, gpointer data)
{
    struct run *run = data;
    g_autoptr(GError) error = NULL;

    g_subprocess_communicate_utf8_finish(G_SUBPROCESS(object), async, &run->result->out,
                                         &run->result->err, &error);
    g_assert_no_error(error);
    g_assert_true(g_subprocess_get_if_exited(G_SUBPROCESS(object)));
    run->result->code = g_subprocess_get_exit_status(G_SUBPROCESS(object));
    run->done = TRUE;
}

/* The arguments as a shell would split them. terminal: stdout is this one, else a pipe. */
struct result run_on(const char *address, const char *arguments, int terminal)
{
    g_autoptr(GSubprocessLauncher) launcher = NULL;
    g_autoptr(GSubprocess) process = NULL;
    g_autoptr(GError) error = NULL;
    g_auto(GStrv) argv = NULL;
    g_autofree char *line = g_strdup_printf("gpup %s", arguments);
    struct result result = {0};
    struct run run = {.result = &result};

    g_assert_true(g_shell_parse_argv(line, NULL, &argv, &error));
    g_free(argv[0]);
    argv[0] = g_strdup(run_gpup);
    launcher = g_subprocess_launcher_new(G_SUBPROCESS_FLAGS_STDERR_PIPE |
                                         (terminal < 0 ? G_SUBPROCESS_FLAGS_STDOUT_PIPE : 0));
    g_subprocess_launcher_setenv(launcher, "DBUS_SYSTEM_BUS_ADDRESS", address, TRUE);
    g_subprocess_launcher_setenv(launcher, "TERM", "xterm", TRUE);
    g_subprocess_launcher_setenv(launcher, "TZ", "UTC", TRUE);
    if (terminal >= 0)
        g_subprocess_launcher_take_stdout_fd(launcher, terminal);
    process = g_subprocess_launcher_spawnv(launcher, (const char *const *)argv, &error);
    g_assert_no_error(error);
    g_subprocess_launcher_close(launcher);
    g_subprocess_communicate_utf8_async(process, NULL, NULL, on_ended, &run);
    while (!run.done)
        g_main_context_iteration(NULL, TRUE);
    return result;
}

struct result run(struct standin *s, const char *arguments)
{
    g_string_truncate(s->asked, 0);
    return run_on(s->address, arguments, -1);
}

/* Runs, expects success with nothing on stderr, and returns what it printed. */
char *output(struct standin *s, const char *arguments)
{
    g_auto(cli_result) r = run(s, arguments);

    g_assert_cmpstr(r.err, ==, "");
    g_assert_cmpint(r.code, ==, 0);
    return g_steal_pointer(&r.out);
}

JsonNode *json(struct standin *s, const char *arguments)
{
    g_autofree char *text = output(s, arguments);
    g_autoptr(GError) error = NULL;
    JsonNode *node = json_from_string(text, &error);

    g_assert_no_error(error);
    return node;
}

/* The value at a JSONPath, printed as JSON in one line: "[...]" of all matches. */
char *at(JsonNode *node, const char *path)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(JsonNode) matches = json_path_query(path, node, &error);

    g_assert_no_error(error);
    return json_to_string(matches, FALSE);
}

/* Runs, expects this exit code, nothing on stdout, and exactly this on stderr. */
void assert_fails(struct standin *s, const char *arguments, int code, const char *err)
{
    g_auto(cli_result) r = run(s, arguments);

    g_assert_cmpstr(r.err, ==, err);
    g_assert_cmpstr(r.out, ==, "");
    g_assert_cmpint(r.code, ==, code);
}

/* Runs, expects success, and that gpupd was asked exactly this. */
void assert_asks(struct standin *s, const char *arguments, const char *asked)
{
    g_autofree char *out = output(s, arguments);

    g_assert_true(g_str_has_prefix(out, "first line\nsecond line\n"));
    g_assert_cmpstr(s->asked->str, ==, asked);
}
