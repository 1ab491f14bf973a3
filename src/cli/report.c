/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/cli.h"
#include "core/text.h"

#include <gio/gio.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define NOT_RUNNING "gpupd is not running: systemctl start gpupd"

/* What goes to a terminal first says what was done before the failure. */
static void say(const char *prefix, const char *text)
{
    g_autofree char *clean = cli_clean(text);

    fflush(stdout);
    fprintf(stderr, "%s: %s\n", prefix, clean);
}

char *cli_clean(const char *text)
{
    char *clean = g_strdup(text);

    gpup_text_clean(clean, true);
    return clean;
}

const char *cli_text(const char *text)
{
    return text ? text : "";
}

int cli_usage_error(const struct cli_args *args, const char *fmt, ...)
{
    g_autofree char *text = NULL;
    g_autofree char *whole = NULL;
    va_list ap;

    va_start(ap, fmt);
    text = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    whole = g_strdup_printf("%s\nSee %s --help", text, args->path);
    say("gpup", whole);
    return GPUP_EXIT_USAGE;
}

int cli_error(const struct gpup_error *err)
{
    say("gpup", gpup_error_message(err));
    return gpup_error_exit_code(err);
}

int cli_fail(const char *fmt, ...)
{
    g_autofree char *text = NULL;
    va_list ap;

    va_start(ap, fmt);
    text = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    say("gpup", text);
    return GPUP_EXIT_FAILED;
}

void cli_note(const char *fmt, ...)
{
    g_autofree char *text = NULL;
    va_list ap;

    va_start(ap, fmt);
    text = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    say("note", text);
}

int cli_not_running(void)
{
    return cli_fail("%s", NOT_RUNNING);
}

static int denied(const char *message, const char *action)
{
    /* a refusal by the bus itself is about rules of its configuration: no help to a person */
    const char *reason = g_str_has_prefix(message, "Rejected ") ? "not allowed" : message;

    if (!action)
        return cli_fail("%s\nRun it as root", reason);
    if (strstr(reason, action)) /* gpupd says what to do */
        return cli_fail("%s", reason);
    return cli_fail("%s\nRun it as root, or have the polkit action %s allowed", reason, action);
}

int cli_bus_error(const GError *error, const char *action)
{
    g_autofree char *name = g_dbus_error_get_remote_error(error);
    g_autoptr(GError) plain = g_error_copy(error);

    g_dbus_error_strip_remote_error(plain);
    if (g_error_matches(error, G_DBUS_ERROR, G_DBUS_ERROR_SERVICE_UNKNOWN) ||
        g_error_matches(error, G_DBUS_ERROR, G_DBUS_ERROR_NAME_HAS_NO_OWNER))
        return cli_not_running();
    if (g_error_matches(error, G_DBUS_ERROR, G_DBUS_ERROR_ACCESS_DENIED))
        return denied(plain->message, action);
    if (g_error_matches(error, G_DBUS_ERROR, G_DBUS_ERROR_NO_REPLY) ||
        g_error_matches(error, G_IO_ERROR, G_IO_ERROR_CLOSED))
        return cli_fail("gpupd ended before it answered, so this may be half done: "
                        "journalctl -u gpupd says why");
    if (g_error_matches(error, G_IO_ERROR, G_IO_ERROR_TIMED_OUT) ||
        g_error_matches(error, G_DBUS_ERROR, G_DBUS_ERROR_TIMEOUT))
        return cli_fail("gpupd does not answer: systemctl status gpupd");
    if (g_error_matches(error, G_DBUS_ERROR, G_DBUS_ERROR_UNKNOWN_METHOD) ||
        g_error_matches(error, G_DBUS_ERROR, G_DBUS_ERROR_UNKNOWN_INTERFACE))
        return cli_fail("gpupd does not know this: it is of another version than this gpup (%s)",
                        GPUP_VERSION);
    say("gpup", plain->message);
    if (g_strcmp0(name, "org.gpup1.Error.Invalid") == 0)
        return GPUP_EXIT_USAGE;
    return g_strcmp0(name, "org.gpup1.Error.Busy") == 0 ? GPUP_EXIT_NOT_NOW : GPUP_EXIT_FAILED;
}
