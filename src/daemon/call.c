/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/call.h"

#include "core/error.h"
#include "daemon/authority.h"
#include "daemon/caller.h"
#include "gpu/task.h"

#include <errno.h>
#include <string.h>

#define TIMEOUT   "timeout"
#define TIMEOUT_S 60

static const char *error_name(const struct gpup_error *error)
{
    switch (error->code) {
    case EINVAL:
    case ERANGE:
        return "org.gpup1.Error.Invalid";
    case EBUSY:
    case ENOSPC:
    case EAGAIN:
    case ECANCELED: /* gpupd is ending */
        return "org.gpup1.Error.Busy";
    case ENOENT:
        return "org.gpup1.Error.NotFound";
    case EOPNOTSUPP:
        return "org.gpup1.Error.NotSupported";
    default:
        return "org.gpup1.Error.Failed";
    }
}

void gpup_return_error(GDBusMethodInvocation *invocation, const struct gpup_error *error)
{
    /* takes the reference that the caller has */
    g_dbus_method_invocation_return_dbus_error(invocation, error_name(error), error->message);
}

static void call_free(void *data)
{
    struct gpup_call *call = data;

    if (call->data_free)
        call->data_free(call->data);
    g_clear_pointer(&call->options, g_hash_table_unref);
    g_ptr_array_unref(call->lines);
    g_free(call->gpu_key);
    g_free(call->user);
    g_object_unref(call->invocation);
    g_free(call);
}

void gpup_call_line(struct gpup_call *call, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    g_ptr_array_add(call->lines, g_strdup_vprintf(fmt, args));
    va_end(args);
}

void gpup_call_finish(struct gpup_call *call)
{
    GVariantBuilder builder;

    g_variant_builder_init(&builder, G_VARIANT_TYPE("as"));
    for (guint i = 0; i < call->lines->len; i++)
        g_variant_builder_add(&builder, "s", call->lines->pdata[i]);
    g_dbus_method_invocation_return_value(g_object_ref(call->invocation),
                                          g_variant_new("(as)", &builder));
    call_free(call);
}

void gpup_call_answer(struct gpup_call *call, GVariant *answer)
{
    g_dbus_method_invocation_return_value(g_object_ref(call->invocation), answer);
    call_free(call);
}

void gpup_call_fail(struct gpup_call *call, struct gpup_error *error)
{
    gpup_return_error(g_object_ref(call->invocation), error);
    gpup_error_free(error);
    call_free(call);
}

bool gpup_call_flag(struct gpup_call *call, const char *option)
{
    GVariant *value = g_hash_table_lookup(call->options, option);

    return value && g_variant_get_boolean(value);
}

bool gpup_call_is_dry(struct gpup_call *call)
{
    return gpup_call_flag(call, "dry-run");
}

unsigned gpup_call_timeout(struct gpup_call *call)
{
    GVariant *value = g_hash_table_lookup(call->options, TIMEOUT);

    return value ? g_variant_get_uint32(value) : TIMEOUT_S;
}

static bool is_allowed(const char *const *allowed, const char *name, GVariant *value)
{
    for (; *allowed; allowed++) {
        size_t n = strlen(*allowed) - 2;

        if (strlen(name) == n && strncmp(*allowed, name, n) == 0)
            return strcmp(g_variant_get_type_string(value), *allowed + n + 1) == 0;
    }
    return false;
}

static int check_timeout(guint32 seconds, struct gpup_error **err)
{
    if (seconds >= 1 && seconds <= GPUP_TIMEOUT_MAX_S)
        return 0;
    return gpup_error_set(err, EINVAL, "a guest is waited for 1 to %u seconds, not %u",
                          GPUP_TIMEOUT_MAX_S, seconds);
}

/* The options are the last parameter, where a method has any. */
static int read_options(struct gpup_call *call, const char *const *allowed, struct gpup_error **err)
{
    gsize n = g_variant_n_children(call->parameters);
    g_autoptr(GVariant) last = n > 0 ? g_variant_get_child_value(call->parameters, n - 1) : NULL;
    GVariantIter iter;
    const char *name;
    GVariant *value;
    int ret = 0;

    if (!last || !g_variant_is_of_type(last, G_VARIANT_TYPE_VARDICT))
        return 0;
    g_variant_iter_init(&iter, last);
    while (g_variant_iter_next(&iter, "{&sv}", &name, &value)) {
        if (ret == 0 && !is_allowed(allowed, name, value))
            ret = gpup_error_set(err, EINVAL, "there is no option '%s' of type %s", name,
                                 g_variant_get_type_string(value));
        else if (ret == 0 && strcmp(name, TIMEOUT) == 0)
            ret = check_timeout(g_variant_get_uint32(value), err);
        g_hash_table_insert(call->options, g_strdup(name), value);
    }
    return ret;
}

/* True: it is answered. */
static bool fail_when_ending(struct gpup_call *call)
{
    struct gpup_error *error = NULL;

    if (!call->daemon->ending)
        return false;
    gpup_error_set(&error, ECANCELED, "gpupd is ending: try again in a moment");
    gpup_call_fail(call, error);
    return true;
}

static void on_user(const char *name, void *data)
{
    struct gpup_call *call = data;

    call->user = g_strdup(name);
    if (!fail_when_ending(call))
        call->run(call);
}

static void authorised(void *data)
{
    struct gpup_call *call = data;

    gpup_caller_find(call->invocation, on_user, call);
}

static void also_authorised(void *data)
{
    struct gpup_call *call = data;

    if (!fail_when_ending(call))
        call->run(call);
}

void gpup_call_also(struct gpup_call *call, const char *action,
                    void (*next)(struct gpup_call *call))
{
    call->run = next;
    gpup_authority_check(call->invocation, action, also_authorised, call_free, call);
}

void gpup_call_start(struct gpup_daemon *daemon, GDBusMethodInvocation *invocation,
                     const char *action, const char *gpu_key, const char *const *allowed,
                     void (*run)(struct gpup_call *call))
{
    struct gpup_call *call = g_new0(struct gpup_call, 1);
    struct gpup_error *error = NULL;

    call->daemon = daemon;
    call->invocation = invocation; /* a handler owns it */
    call->parameters = g_dbus_method_invocation_get_parameters(invocation);
    call->options =
        g_hash_table_new_full(g_str_hash, g_str_equal, g_free, (GDestroyNotify)g_variant_unref);
    call->gpu_key = g_strdup(gpu_key);
    call->lines = g_ptr_array_new_with_free_func(g_free);
    call->run = run;
    if (read_options(call, allowed, &error) < 0)
        gpup_call_fail(call, error);
    else
        gpup_authority_check(invocation, action, authorised, call_free, call);
}

/* ---- work ---- */

static void work_in_thread(GTask *task, void *source, void *data, GCancellable *cancellable)
{
    struct gpup_call *call = data;
    struct gpup_error *error = NULL;

    call->work(call, &error);
    g_task_return_pointer(task, error, (GDestroyNotify)gpup_error_free);
}

static void work_done(GObject *source, GAsyncResult *result, void *data)
{
    struct gpup_call *call = data;
    struct gpup_error *error = g_task_propagate_pointer(G_TASK(result), NULL);

    call->daemon->working--;
    if (error)
        gpup_call_fail(call, error);
    else if (call->worked)
        call->worked(call);
    else
        gpup_call_finish(call);
}

void gpup_call_work(struct gpup_call *call,
                    int (*work)(struct gpup_call *call, struct gpup_error **err),
                    void (*worked)(struct gpup_call *call))
{
    g_autoptr(GTask) task = g_task_new(NULL, NULL, work_done, call);

    call->work = work;
    call->worked = worked;
    call->daemon->working++;
    g_task_set_task_data(task, call, NULL);
    gpup_task_run(task, work_in_thread);
}

/* ---- what is tried again ---- */

struct repeat {
    struct gpup_daemon *daemon;
    struct gpup_call *call;
    bool (*again)(struct gpup_call *call);
};

static void repeat_free(void *data)
{
    struct repeat *r = data;

    r->daemon->working--;
    g_free(r);
}

static gboolean repeat(void *data)
{
    struct repeat *r = data;

    return !fail_when_ending(r->call) && r->again(r->call) ? G_SOURCE_CONTINUE : G_SOURCE_REMOVE;
}

void gpup_call_repeat(struct gpup_call *call, unsigned ms, bool (*again)(struct gpup_call *call))
{
    struct gpup_daemon *daemon = call->daemon;
    struct repeat *r;

    if (!again(call))
        return;
    r = g_new(struct repeat, 1);
    *r = (struct repeat){daemon, call, again};
    daemon->working++;
    g_timeout_add_full(G_PRIORITY_DEFAULT, ms, repeat, r, repeat_free);
}
