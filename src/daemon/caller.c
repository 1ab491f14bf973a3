/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/caller.h"

#include <pwd.h>
#include <unistd.h>

#define BUS_TIMEOUT_MS 5000

struct question {
    void (*done)(const char *name, void *data);
    void *data;
};

static char *user_name(guint32 uid)
{
    struct passwd entry, *found = NULL;
    char buffer[16384];

    if (getpwuid_r(uid, &entry, buffer, sizeof(buffer), &found) == 0 && found)
        return g_strdup(found->pw_name);
    return g_strdup_printf("uid %u", uid);
}

char *gpup_caller_name(const char *proc, guint32 uid, guint32 pid)
{
    g_autofree char *path = g_strdup_printf("%s/%u/loginuid", proc, pid);
    g_autofree char *text = NULL;
    g_autofree char *user = user_name(uid);
    g_autofree char *login = NULL;
    guint64 id;

    if (pid == 0 || !g_file_get_contents(path, &text, NULL, NULL) ||
        !g_ascii_string_to_unsigned(g_strstrip(text), 10, 0, G_MAXUINT32, &id, NULL) ||
        id == G_MAXUINT32 || id == uid)
        return g_steal_pointer(&user);
    login = user_name((guint32)id);
    return g_strdup_printf("%s (%s)", user, login);
}

static void on_credentials(GObject *source, GAsyncResult *result, void *data)
{
    struct question *q = data;
    g_autoptr(GVariant) reply =
        g_dbus_connection_call_finish(G_DBUS_CONNECTION(source), result, NULL);
    g_autoptr(GVariant) entries = reply ? g_variant_get_child_value(reply, 0) : NULL;
    g_autofree char *name = NULL;
    guint32 uid, pid = 0;

    if (entries && g_variant_lookup(entries, "UnixUserID", "u", &uid)) {
        g_variant_lookup(entries, "ProcessID", "u", &pid);
        name = gpup_caller_name("/proc", uid, pid);
    }
    q->done(name ? name : "unknown", q->data);
    g_free(q);
}

void gpup_caller_find(GDBusMethodInvocation *invocation, void (*done)(const char *name, void *data),
                      void *data)
{
    struct question *q = g_new0(struct question, 1);

    q->done = done;
    q->data = data;
    g_dbus_connection_call(
        g_dbus_method_invocation_get_connection(invocation), "org.freedesktop.DBus",
        "/org/freedesktop/DBus", "org.freedesktop.DBus", "GetConnectionCredentials",
        g_variant_new("(s)", g_dbus_method_invocation_get_sender(invocation)),
        G_VARIANT_TYPE("(a{sv})"), G_DBUS_CALL_FLAGS_NONE, BUS_TIMEOUT_MS, NULL, on_credentials, q);
}
