/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/authority.h"

#include <polkit/polkit.h>

struct check {
    GDBusMethodInvocation *invocation;
    char *action;
    void (*done)(void *data);
    void (*drop)(void *data);
    void *data;
};

static void check_free(struct check *check)
{
    g_object_unref(check->invocation);
    g_free(check->action);
    g_free(check);
}

static void finish(struct check *check, gboolean allowed, const char *why)
{
    if (allowed) {
        check->done(check->data);
    } else {
        g_dbus_method_invocation_return_error(
            g_object_ref(check->invocation), G_DBUS_ERROR, G_DBUS_ERROR_ACCESS_DENIED,
            "polkit does not allow %s%s%s: run the command as root, or let an administrator allow "
            "that action",
            check->action, why ? ": " : "", why ? why : "");
        check->drop(check->data);
    }
    check_free(check);
}

static void on_uid(GObject *source, GAsyncResult *result, void *data)
{
    g_autoptr(GVariant) reply =
        g_dbus_connection_call_finish(G_DBUS_CONNECTION(source), result, NULL);
    guint32 uid = G_MAXUINT32;

    if (reply)
        g_variant_get(reply, "(u)", &uid);
    finish(data, uid == 0, "polkit cannot be asked");
}

static void ask_bus(struct check *check)
{
    g_dbus_connection_call(
        g_dbus_method_invocation_get_connection(check->invocation), "org.freedesktop.DBus",
        "/org/freedesktop/DBus", "org.freedesktop.DBus", "GetConnectionUnixUser",
        g_variant_new("(s)", g_dbus_method_invocation_get_sender(check->invocation)),
        G_VARIANT_TYPE("(u)"), G_DBUS_CALL_FLAGS_NONE, 5000, NULL, on_uid, check);
}

static void on_checked(GObject *source, GAsyncResult *result, void *data)
{
    struct check *check = data;
    g_autoptr(GError) error = NULL;
    g_autoptr(PolkitAuthorizationResult) answer =
        polkit_authority_check_authorization_finish(POLKIT_AUTHORITY(source), result, &error);

    if (!answer) {
        g_warning("polkit cannot be asked, so only root may change anything: %s", error->message);
        ask_bus(check);
        return;
    }
    finish(check, polkit_authorization_result_get_is_authorized(answer), NULL);
}

static void on_authority(GObject *source, GAsyncResult *result, void *data)
{
    struct check *check = data;
    g_autoptr(GError) error = NULL;
    g_autoptr(PolkitAuthority) authority = polkit_authority_get_finish(result, &error);
    g_autoptr(PolkitSubject) subject = NULL;
    GDBusMessage *message = g_dbus_method_invocation_get_message(check->invocation);
    gboolean interactive = (g_dbus_message_get_flags(message) &
                            G_DBUS_MESSAGE_FLAGS_ALLOW_INTERACTIVE_AUTHORIZATION) != 0;

    if (!authority) {
        g_warning("polkit cannot be asked, so only root may change anything: %s", error->message);
        ask_bus(check);
        return;
    }
    subject = polkit_system_bus_name_new(g_dbus_method_invocation_get_sender(check->invocation));
    polkit_authority_check_authorization(
        authority, subject, check->action, NULL,
        interactive ? POLKIT_CHECK_AUTHORIZATION_FLAGS_ALLOW_USER_INTERACTION
                    : POLKIT_CHECK_AUTHORIZATION_FLAGS_NONE,
        NULL, on_checked, check);
}

void gpup_authority_check(GDBusMethodInvocation *invocation, const char *action,
                          void (*done)(void *data), void (*drop)(void *data), void *data)
{
    struct check *check = g_new0(struct check, 1);

    check->invocation = g_object_ref(invocation);
    check->action = g_strdup(action);
    check->done = done;
    check->drop = drop;
    check->data = data;
    polkit_authority_get_async(NULL, on_authority, check);
}
