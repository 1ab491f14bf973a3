/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/caller.h"

#include <pwd.h>
#include <unistd.h>

#define BUS_TIMEOUT_MS 5000

struct question {
    void (*done)(const char *name, void *data);
    void *data;
    guint32 uid, pid;
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

/* A user's name may come from a directory service that takes its time: not on the main thread. */
static void name_in_thread(GTask *task, void *source, void *data, GCancellable *cancellable)
{
    struct question *q = data;

    g_task_return_pointer(task, gpup_caller_name("/proc", q->uid, q->pid), g_free);
}

static void on_name(GObject *source, GAsyncResult *result, void *data)
{
    struct question *q = data;
    g_autofree char *name = g_task_propagate_pointer(G_TASK(result), NULL);

    q->done(name, q->data);
    g_free(q);
}

static void on_credentials(GObject *source, GAsyncResult *result, void *data)
{
    struct question *q = data;
    g_autoptr(GVariant) reply =
        g_dbus_connection_call_finish(G_DBUS_CONNECTION(source), result, NULL);
    g_autoptr(GVariant) entries = reply ? g_variant_get_child_value(reply, 0) : NULL;
    g_autoptr(GTask) task = NULL;

    if (!entries || !g_variant_lookup(entries, "UnixUserID", "u", &q->uid)) {
        q->done("unknown", q->data);
        g_free(q);
        return;
    }
    g_variant_lookup(entries, "ProcessID", "u", &q->pid);
    task = g_task_new(NULL, NULL, on_name, q);
    g_task_set_task_data(task, q, NULL);
    g_task_run_in_thread(task, name_in_thread);
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
