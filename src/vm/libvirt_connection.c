/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "vm/libvirt_connection.h"

#include "core/error.h"
#include "vm/libvirt_error.h"

#include <errno.h>
#include <libvirt/virterror.h>

/*
 * A thread makes the connection, since that may block, and makes it again when it has ended.
 * libvirt's own event loop implementation works in GLib's default main context: its callbacks come
 * on the main thread, which therefore never has to wait for anything of libvirt's.
 */

#define FIRST_PAUSE_MS   250
#define LONGEST_PAUSE_MS 5000
#define KEEPALIVE_S      5
#define KEEPALIVE_COUNT  3

/* Who is told. Events that are on their way hold it, and may outlive the manager. */
struct listener {
    gpup_manager_func func; /* NULL once the manager is gone; only used in its main context */
    void *data;
};

struct gpup_manager {
    char *uri;
    struct listener *listener;
    GMainContext *context;
    GThread *thread;
    int callbacks[2]; /* only used by the thread, and when it has ended */
    GMutex lock;      /* of what follows */
    GCond changed;
    virConnect *connection;
    char *error;
    guint events;
    bool lost, stop, ended;
};

struct report {
    struct listener *listener;
    enum gpup_vm_event event;
    char *uuid, *text;
};

static gboolean deliver(void *data)
{
    struct report *r = data;

    if (r->listener->func)
        r->listener->func(r->event, r->uuid, r->text, r->listener->data);
    return G_SOURCE_REMOVE;
}

static void report_free(void *data)
{
    struct report *r = data;

    g_atomic_rc_box_release(r->listener);
    g_free(r->uuid);
    g_free(r->text);
    g_free(r);
}

static void tell(struct gpup_manager *m, enum gpup_vm_event event, const char *uuid,
                 const char *text)
{
    struct report *r = g_new0(struct report, 1);
    g_autoptr(GSource) source = g_idle_source_new();

    r->listener = g_atomic_rc_box_acquire(m->listener);
    r->event = event;
    r->uuid = g_strdup(uuid);
    r->text = g_strdup(text);
    g_source_set_priority(source, G_PRIORITY_DEFAULT);
    g_source_set_callback(source, deliver, r, report_free);
    g_source_attach(source, m->context);
}

/* ---- libvirt's callbacks ---- */

static void tell_about(virDomain *domain, struct gpup_manager *m, enum gpup_vm_event event)
{
    char uuid[VIR_UUID_STRING_BUFLEN];

    if (virDomainGetUUIDString(domain, uuid) == 0)
        tell(m, event, uuid, NULL);
}

static int on_lifecycle(virConnect *connection, virDomain *domain, int event, int detail,
                        void *data)
{
    struct gpup_manager *m = data;
    /* one that runs without a definition is still there */
    bool gone = event == VIR_DOMAIN_EVENT_UNDEFINED && virDomainGetID(domain) == (unsigned)-1;

    tell_about(domain, m, gone ? GPUP_VM_GONE : GPUP_VM_CHANGED);
    g_mutex_lock(&m->lock);
    m->events++;
    g_cond_broadcast(&m->changed);
    g_mutex_unlock(&m->lock);
    return 0;
}

static void on_metadata(virConnect *connection, virDomain *domain, int type, const char *uri,
                        void *data)
{
    tell_about(domain, data, GPUP_VM_CHANGED);
}

/* Comes on whichever thread saw the connection end. */
static void on_close(virConnect *connection, int reason, void *data)
{
    struct gpup_manager *m = data;

    g_mutex_lock(&m->lock);
    m->lost = true;
    g_cond_broadcast(&m->changed);
    g_mutex_unlock(&m->lock);
}

/* libvirt prints errors by itself unless told otherwise. */
static void swallow(void *data, virError *error)
{
}

/* ---- the thread ---- */

static virConnect *connect_once(struct gpup_manager *m)
{
    virConnect *c = virConnectOpen(m->uri);

    if (!c)
        return NULL;
    virConnectSetKeepAlive(c, KEEPALIVE_S, KEEPALIVE_COUNT);
    virConnectRegisterCloseCallback(c, on_close, m, NULL);
    /* a driver without events (test) still serves calls */
    m->callbacks[0] = virConnectDomainEventRegisterAny(
        c, NULL, VIR_DOMAIN_EVENT_ID_LIFECYCLE, VIR_DOMAIN_EVENT_CALLBACK(on_lifecycle), m, NULL);
    m->callbacks[1] =
        virConnectDomainEventRegisterAny(c, NULL, VIR_DOMAIN_EVENT_ID_METADATA_CHANGE,
                                         VIR_DOMAIN_EVENT_CALLBACK(on_metadata), m, NULL);
    return c;
}

/* Callbacks outlive a connection that a worker still holds, or that libvirt shares. */
static void disconnect(struct gpup_manager *m, virConnect *c)
{
    for (size_t i = 0; i < G_N_ELEMENTS(m->callbacks); i++) {
        if (m->callbacks[i] >= 0)
            virConnectDomainEventDeregisterAny(c, m->callbacks[i]);
    }
    virConnectUnregisterCloseCallback(c, on_close);
    virConnectClose(c);
}

bool gpup_connection_is_ending(struct gpup_manager *m)
{
    bool stop;

    g_mutex_lock(&m->lock);
    stop = m->stop;
    g_mutex_unlock(&m->lock);
    return stop;
}

static void wait_until_lost(struct gpup_manager *m)
{
    g_mutex_lock(&m->lock);
    while (!m->lost && !m->stop)
        g_cond_wait(&m->changed, &m->lock);
    g_mutex_unlock(&m->lock);
}

/* Puts the connection in place (or takes it out, NULL) and says so, unless it was said already. */
static void publish(struct gpup_manager *m, virConnect *connection, const char *error)
{
    virConnect *old;
    bool same;

    g_mutex_lock(&m->lock);
    same = !connection && !m->connection && g_strcmp0(m->error, error) == 0;
    old = m->connection;
    m->connection = connection;
    if (!connection)
        m->lost = false; /* a new one may be lost by now */
    g_free(m->error);
    m->error = g_strdup(error);
    g_cond_broadcast(&m->changed);
    g_mutex_unlock(&m->lock);
    if (old)
        disconnect(m, old);
    if (!same)
        tell(m, connection ? GPUP_MANAGER_CONNECTED : GPUP_MANAGER_LOST, NULL, error);
}

static void pause_for(struct gpup_manager *m, int ms)
{
    gint64 until = g_get_monotonic_time() + (gint64)ms * 1000;

    g_mutex_lock(&m->lock);
    while (!m->stop && g_cond_wait_until(&m->changed, &m->lock, until))
        continue;
    g_mutex_unlock(&m->lock);
}

/* Here and not by who frees it: a libvirtd that hangs would be waited for. */
static void finish(struct gpup_manager *m)
{
    virConnect *c;

    g_mutex_lock(&m->lock);
    c = m->connection;
    m->connection = NULL;
    g_mutex_unlock(&m->lock);
    if (c)
        disconnect(m, c);
    g_mutex_lock(&m->lock);
    m->ended = true;
    g_mutex_unlock(&m->lock);
    g_main_context_wakeup(m->context);
}

static void *run(void *data)
{
    struct gpup_manager *m = data;
    int pause = FIRST_PAUSE_MS;

    while (!gpup_connection_is_ending(m)) {
        virConnect *c = connect_once(m);

        if (!c) {
            publish(m, NULL, virGetLastErrorMessage());
            pause_for(m, pause);
            pause = MIN(pause * 2, LONGEST_PAUSE_MS);
            continue;
        }
        pause = FIRST_PAUSE_MS;
        publish(m, c, NULL);
        wait_until_lost(m);
        if (!gpup_connection_is_ending(m))
            publish(m, NULL, "the connection to libvirtd ended");
    }
    finish(m);
    return NULL;
}

/* ---- from outside ---- */

virConnect *gpup_connection_get(struct gpup_manager *m, struct gpup_error **err)
{
    virConnect *c;

    g_mutex_lock(&m->lock);
    c = m->lost || m->stop ? NULL : m->connection;
    if (c)
        virConnectRef(c);
    else if (m->stop)
        gpup_error_set(err, ECANCELED, "gpupd is ending: try again in a moment");
    else
        gpup_error_set(err, ENOTCONN, "libvirt cannot be reached (%s): is libvirtd running?",
                       m->error ? m->error : "not yet connected");
    g_mutex_unlock(&m->lock);
    return c;
}

static void unknown(virConnect *connection, const char *word, struct gpup_error **err)
{
    virDomain **domains = NULL;
    int n = virConnectListAllDomains(connection, &domains, 0);
    GString *names = g_string_new(NULL);

    for (int i = 0; i < n; i++) {
        if (i < 10)
            g_string_append_printf(names, "%s%s", i ? ", " : "", virDomainGetName(domains[i]));
        virDomainFree(domains[i]);
    }
    free(domains);
    if (n > 10)
        g_string_append_printf(names, " and %d more", n - 10);
    if (n > 0)
        gpup_error_set(err, ENOENT, "no VM '%s': there are %s", word, names->str);
    else
        gpup_error_set(err, ENOENT, "no VM '%s': libvirt has none", word);
    g_string_free(names, TRUE);
}

static virDomain *look_up(virConnect *connection, const char *word, struct gpup_error **err)
{
    virDomain *domain = virDomainLookupByName(connection, word);

    if (!domain && virGetLastErrorCode() == VIR_ERR_NO_DOMAIN && g_uuid_string_is_valid(word))
        domain = virDomainLookupByUUIDString(connection, word);
    if (!domain && virGetLastErrorCode() == VIR_ERR_NO_DOMAIN)
        unknown(connection, word, err);
    else if (!domain)
        gpup_libvirt_error(err, word);
    return domain;
}

int gpup_connection_open_domain(struct gpup_manager *manager, const char *vm,
                                connect_t **connection, domain_t **domain, struct gpup_error **err)
{
    GPUP_AUTO_ERROR why = NULL;

    *connection = gpup_connection_get(manager, err);
    if (!*connection)
        return -ENOTCONN;
    *domain = look_up(*connection, vm, &why);
    return *domain ? 0 : gpup_error_move(err, g_steal_pointer(&why));
}

guint gpup_connection_events(struct gpup_manager *m)
{
    guint events;

    g_mutex_lock(&m->lock);
    events = m->events;
    g_mutex_unlock(&m->lock);
    return events;
}

void gpup_connection_wait(struct gpup_manager *m, guint seen, gint64 until)
{
    g_mutex_lock(&m->lock);
    while (m->events == seen && m->connection && !m->lost && !m->stop &&
           g_cond_wait_until(&m->changed, &m->lock, until))
        continue;
    g_mutex_unlock(&m->lock);
}

struct gpup_manager *gpup_manager_new(const char *uri, gpup_manager_func func, void *data)
{
    struct gpup_manager *m = g_new0(struct gpup_manager, 1);
    static gsize registered;

    if (g_once_init_enter(&registered)) {
        virSetErrorFunc(NULL, swallow);
        virEventRegisterDefaultImpl();
        g_once_init_leave(&registered, 1);
    }
    m->uri = g_strdup(uri ? uri : "qemu:///system");
    m->listener = g_atomic_rc_box_new0(struct listener);
    m->listener->func = func;
    m->listener->data = data;
    m->context = g_main_context_ref_thread_default();
    g_mutex_init(&m->lock);
    g_cond_init(&m->changed);
    m->thread = g_thread_new("libvirt", run, m);
    return m;
}

void gpup_manager_end(struct gpup_manager *m)
{
    g_mutex_lock(&m->lock);
    m->stop = true;
    g_cond_broadcast(&m->changed);
    g_mutex_unlock(&m->lock);
}

bool gpup_manager_has_ended(struct gpup_manager *m)
{
    bool ended;

    g_mutex_lock(&m->lock);
    ended = m->ended;
    g_mutex_unlock(&m->lock);
    return ended;
}

void gpup_manager_free(struct gpup_manager *m)
{
    if (!m)
        return;
    m->listener->func = NULL;
    gpup_manager_end(m);
    g_thread_join(m->thread);
    g_atomic_rc_box_release(m->listener);
    g_main_context_unref(m->context);
    g_mutex_clear(&m->lock);
    g_cond_clear(&m->changed);
    g_free(m->error);
    g_free(m->uri);
    g_free(m);
}
