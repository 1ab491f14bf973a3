/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/server.h"

#include "core/error.h"
#include "core/units.h"
#include "daemon/lease.h"
#include "daemon/peer.h"
#include "fault/fault.h"
#include "wire/seqpacket.h"

#include <errno.h>
#include <glib-unix.h>
#include <grp.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define MAX_CONNECTIONS 1024u
/* Of these, such as have not shown that they are a VM's device process, and are not root's. */
#define MAX_STRANGERS 64u
/* Messages of one connection in a second: gpup-vgpu sends five. */
#define MAX_MESSAGES 100u
/* Of refused strangers, each minute. */
#define MAX_LOGGED 10u
/* Until a connection is taken again, after the system had nothing left for one. */
#define PAUSE_MS 500u
#define MAX_XML  (1 << 20)

struct connection {
    struct gpup_server *server;
    int sock;
    guint source;
    struct gpup_lease *lease; /* NULL until its hello */
    struct waiting *waiting;  /* a hook that waits for its answer */
    bool trusted;             /* root's, or our own user's: the hook may be */
    guint64 number;           /* connections are counted */
    gint64 second;            /* the present one, and what has come in it */
    unsigned messages;
};

/* A start whose partition is being readied; the hook may go away meanwhile. */
struct waiting {
    struct connection *connection; /* NULL: it went */
    bool answered;
    char vm[sizeof(((struct gpup_msg_hook *)0)->vm)];
};

struct gpup_server {
    struct gpup_server_setup setup;
    char *path;
    int listener;
    guint source;            /* of the listener, or of the pause */
    GHashTable *connections; /* struct connection *, a set, owned */
    guint64 n_connections;   /* ever */
    gint64 minute;           /* the present one, and what was logged of strangers in it */
    unsigned logged;
    unsigned degraded;
};

union message {
    struct gpup_msg_header header;
    struct gpup_msg_plain plain;
    struct gpup_msg_hook hook;
    struct gpup_msg_hello hello;
    struct gpup_msg_usage usage;
};

static void connection_free(void *data)
{
    struct connection *c = data;

    g_clear_handle_id(&c->source, g_source_remove);
    close(c->sock);
    if (c->waiting)
        c->waiting->connection = NULL;
    if (c->lease) {
        c->lease->sock = -1;
        gpup_lease_kill_renderer(c->lease);
        gpup_lease_leave_arbiter(c->lease);
        gpup_lease_unref(c->lease);
    }
    g_free(c);
}

static void say(struct connection *c, int status, const char *text)
{
    struct gpup_msg_answer m = {.header = {.type = GPUP_MSG_ANSWER, .version = GPUP_GPUPD_VERSION},
                                .status = status};

    g_strlcpy(m.text, text, sizeof(m.text));
    gpup_seqpacket_send(c->sock, &m, sizeof(m), NULL, 0, MSG_DONTWAIT);
}

static struct connection *find(struct gpup_server *s, const char *adapter)
{
    GHashTableIter iter;
    void *key;

    g_hash_table_iter_init(&iter, s->connections);
    while (g_hash_table_iter_next(&iter, &key, NULL)) {
        struct connection *c = key;

        if (c->lease && strcmp(c->lease->adapter, adapter) == 0)
            return c;
    }
    return NULL;
}

/* What somebody says who may connect, and no more than that, does not fill the log. */
static void log_refusal(struct gpup_server *s, const char *why)
{
    gint64 minute = g_get_monotonic_time() / (60 * G_USEC_PER_SEC);

    if (minute != s->minute)
        s->logged = 0;
    s->minute = minute;
    if (s->logged++ < MAX_LOGGED)
        g_message("a process was refused: %s%s", why,
                  s->logged == MAX_LOGGED ? " (further ones of this minute are not logged)" : "");
}

/* ---- the hook ---- */

/* A regular file only: reading anything else could block. */
static char *read_xml(int fd, size_t *length, struct gpup_error **err)
{
    struct stat st;
    char *text;
    ssize_t n;

    if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size > MAX_XML) {
        gpup_error_set(err, EINVAL, "the hook sent no VM definition (1 MiB at most)");
        return NULL;
    }
    text = g_malloc((size_t)st.st_size + 1);
    n = pread(fd, text, (size_t)st.st_size, 0);
    *length = n > 0 ? (size_t)n : 0;
    text[*length] = '\0';
    return text;
}

static int serve_op(struct gpup_server *s, const struct gpup_msg_hook *hook, const char *xml,
                    size_t length, struct gpup_error **err)
{
    char adapter[37];
    int ret;

    switch (hook->op) {
    case GPUP_HOOK_STARTED:
        GPUP_FAULT("gpupd.started.asked");
        gpup_host_started(s->setup.host, xml, length);
        GPUP_FAULT("gpupd.started.saved");
        return 0;
    case GPUP_HOOK_RELEASE:
        GPUP_FAULT("gpupd.release.asked");
        gpup_host_release(s->setup.host, xml, length, adapter);
        GPUP_FAULT("gpupd.release.freed");
        if (*adapter)
            gpup_server_drop(s, adapter);
        return 0;
    case GPUP_HOOK_RECONNECT:
        GPUP_FAULT("gpupd.reconnect.asked");
        ret = gpup_host_reconnect(s->setup.host, xml, length, err);
        GPUP_FAULT("gpupd.reconnect.saved");
        return ret;
    case GPUP_HOOK_MIGRATE:
        return gpup_error_set(err, EOPNOTSUPP,
                              "%s has a partition of a GPU, whose state cannot be moved: shut "
                              "the VM down, and start it on the other host",
                              hook->vm);
    case GPUP_HOOK_RESTORE:
        return gpup_error_set(err, EOPNOTSUPP,
                              "%s has a partition of a GPU, whose state cannot be restored: "
                              "remove the saved state (virsh managedsave-remove %s) and start it",
                              hook->vm, hook->vm);
    default:
        return gpup_error_set(
            err, EINVAL, "unknown hook operation %u: after an upgrade, systemctl restart gpupd",
            hook->op);
    }
}

static void answer_hook(struct connection *c, const char *vm, const struct gpup_error *err)
{
    if (err)
        gpup_events_add(c->server->setup.events, GPUP_EVENT_REFUSED, GPUP_BY_LIBVIRT, NULL, vm,
                        "%s", gpup_error_message(err));
    say(c, err ? -err->code : 0, err ? gpup_error_message(err) : "");
}

static void prepared(const struct gpup_error *err, void *data)
{
    struct waiting *w = data;
    struct connection *c = w->connection;

    w->answered = true;
    GPUP_FAULT("gpupd.prepare.saved");
    if (!c) {
        g_message("%s: its start was given up before its partition was ready", w->vm);
        g_free(w);
        return;
    }
    answer_hook(c, w->vm, err);
    if (c->waiting == w) { /* later: the hook's connection waited for this */
        g_hash_table_remove(c->server->connections, c);
        g_free(w);
    }
}

/* True: the answer comes later. */
static bool prepare(struct connection *c, const struct gpup_msg_hook *hook, const char *xml,
                    size_t length)
{
    struct waiting *w = g_new0(struct waiting, 1);

    w->connection = c;
    g_strlcpy(w->vm, hook->vm, sizeof(w->vm));
    GPUP_FAULT("gpupd.prepare.asked");
    gpup_host_prepare(c->server->setup.host, xml, length, gpup_server_is_alive, c->server, prepared,
                      w);
    if (w->answered) {
        g_free(w);
        return false;
    }
    c->waiting = w;
    return true;
}

/* True: the answer comes later. */
static bool on_hook(struct connection *c, struct gpup_msg_hook *hook, int fd)
{
    GPUP_AUTO_ERROR err = NULL;
    g_autofree char *xml = NULL;
    size_t length;

    hook->vm[sizeof(hook->vm) - 1] = '\0';
    if (!c->trusted) {
        log_refusal(c->server, "only root may say that a VM starts");
        say(c, -EACCES, "only root may say that a VM starts");
        return false;
    }
    xml = read_xml(fd, &length, &err);
    if (xml && hook->op == GPUP_HOOK_PREPARE)
        return prepare(c, hook, xml, length);
    if (xml)
        serve_op(c->server, hook, xml, length, &err);
    answer_hook(c, hook->vm, err);
    return false;
}

/* ---- gpup-vgpu ---- */

static void tell_outdated(struct connection *c)
{
    struct gpup_claim *claim = gpup_host_claim(c->server->setup.host, c->lease->adapter);
    const char *why = gpup_lease_outdated(c->lease);

    if (claim && why)
        gpup_events_add(c->server->setup.events, GPUP_EVENT_PROBLEM, GPUP_BY_GPUPD, NULL, claim->vm,
                        "%s: %s", claim->vm, why);
}

static bool on_hello(struct connection *c, const struct gpup_msg_hello *hello)
{
    struct gpup_server *s = c->server;
    GPUP_AUTO_ERROR err = NULL;
    struct gpup_msg_grant grant;
    struct connection *old;

    GPUP_FAULT("gpupd.hello.asked");
    c->lease = gpup_lease_new(&s->setup, c->sock, hello, &s->degraded, &grant, &err);
    if (!c->lease) {
        log_refusal(s, gpup_error_message(err));
        say(c, -EACCES, gpup_error_message(err));
        return false;
    }
    g_hash_table_steal(s->connections, c); /* an earlier connection of the same gives way */
    old = find(s, c->lease->adapter);
    if (old)
        g_hash_table_remove(s->connections, old);
    g_hash_table_add(s->connections, c);
    tell_outdated(c);
    s->setup.changed(s->setup.data);
    GPUP_FAULT("gpupd.hello.granted");
    if (gpup_seqpacket_send(c->sock, &grant, sizeof(grant), NULL, 0, MSG_DONTWAIT) < 0)
        return false;
    if (hello->flags & GPUP_HELLO_GPU_TIME)
        gpup_lease_join_arbiter(c->lease);
    return true;
}

static void tell_trouble(struct gpup_server *s, const struct gpup_claim *claim,
                         struct gpup_gpu *gpu, const struct gpup_troubles *fresh, const char *ended)
{
    const char *id = gpu ? gpup_gpu_short_id(gpu) : claim->gpu;
    char size[GPUP_UNIT_BUF];

    if (fresh->count[GPUP_TROUBLE_HANG] > 0)
        gpup_events_add(s->setup.events, GPUP_EVENT_HANG, GPUP_BY_GUEST, id, claim->vm,
                        "%s: its renderer did not finish a command within %u s and was replaced",
                        claim->vm, gpup_host_config(s->setup.host)->hang_seconds);
    if (fresh->count[GPUP_TROUBLE_DEATH] > fresh->count[GPUP_TROUBLE_HANG])
        gpup_events_add(s->setup.events, GPUP_EVENT_RENDERER, GPUP_BY_GUEST, id, claim->vm,
                        "%s: its renderer ended%s%s%s and was replaced", claim->vm,
                        *ended ? " (" : "", ended, *ended ? ")" : "");
    if (fresh->count[GPUP_TROUBLE_MEMORY] > 0)
        gpup_events_add(s->setup.events, GPUP_EVENT_LIMIT, GPUP_BY_GUEST, id, claim->vm,
                        "%s: its guest was refused memory beyond the %s of its partition",
                        claim->vm,
                        gpup_format_size(claim->grant.share[GPUP_VRAM].min, size, sizeof(size)));
}

static void on_usage(struct connection *c, const struct gpup_msg_usage *usage)
{
    struct gpup_server *s = c->server;
    struct gpup_claim *claim = gpup_host_claim(s->setup.host, c->lease->adapter);
    struct gpup_troubles fresh;

    c->lease->usage = *usage;
    if (!claim || !s->setup.health)
        return;
    gpup_health_report(s->setup.health, claim->gpu, claim->adapter, claim->nonce, usage, &fresh);
    tell_trouble(s, claim, gpup_host_gpu_of(s->setup.host, claim), &fresh, c->lease->ended);
    if (fresh.count[GPUP_TROUBLE_DEATH] > 0)
        *c->lease->ended = '\0';
}

static bool is_usage(const union message *m, ssize_t n)
{
    return m->header.type == GPUP_MSG_USAGE && n >= (ssize_t)GPUP_USAGE_MIN &&
           n <= (ssize_t)sizeof(m->usage);
}

/* False: the connection is over. */
static bool on_message(struct connection *c, union message *m, ssize_t n, int fd)
{
    if (n < (ssize_t)sizeof(m->header) || m->header.version != GPUP_GPUPD_VERSION)
        return false;
    if (c->waiting)
        return false; /* it has said what it had to say */
    if (!c->lease) {
        if (m->header.type == GPUP_MSG_HOOK && n == sizeof(m->hook))
            return on_hook(c, &m->hook, fd);
        if (m->header.type == GPUP_MSG_HELLO && n == sizeof(m->hello))
            return on_hello(c, &m->hello);
        return false; /* a hook asks one thing and goes */
    }
    if (m->header.type == GPUP_MSG_WANT_RENDERER && n == sizeof(m->plain))
        gpup_lease_want_renderer(c->lease);
    else if (is_usage(m, n))
        on_usage(c, &m->usage);
    else
        return false;
    return true;
}

/* One that never stops talking would leave no time for others. */
static bool is_flood(struct connection *c)
{
    gint64 second = g_get_monotonic_time() / G_USEC_PER_SEC;

    if (second != c->second)
        c->messages = 0;
    c->second = second;
    if (++c->messages <= MAX_MESSAGES)
        return false;
    log_refusal(c->server, "it sent more messages than a device process has to");
    return true;
}

static gboolean on_readable(int sock, GIOCondition condition, void *data)
{
    struct connection *c = data;
    struct gpup_server *s = c->server;
    union message m = {0};
    int fd = -1;
    ssize_t n = gpup_seqpacket_receive(sock, &m, sizeof(m), &fd, 1, NULL, MSG_DONTWAIT);
    bool goes_on = n == -EAGAIN || (n > 0 && !is_flood(c) && on_message(c, &m, n, fd));

    if (fd >= 0)
        close(fd);
    if (goes_on)
        return G_SOURCE_CONTINUE;
    c->source = 0;
    g_hash_table_remove(s->connections, c);
    s->setup.changed(s->setup.data);
    return G_SOURCE_REMOVE;
}

static bool is_trusted(int sock)
{
    struct gpup_peer peer;

    return gpup_peer_of(sock, &peer, NULL) == 0 && (peer.uid == 0 || peer.uid == geteuid());
}

/* They may connect, and say nothing: whoever of them came first goes, so that there is always room
 * for the hook and for the next VM's. */
static void limit_strangers(struct gpup_server *s)
{
    struct connection *first = NULL;
    GHashTableIter iter;
    unsigned n = 0;
    void *key;

    g_hash_table_iter_init(&iter, s->connections);
    while (g_hash_table_iter_next(&iter, &key, NULL)) {
        struct connection *c = key;

        if (c->trusted || c->lease)
            continue;
        n++;
        if (!first || c->number < first->number)
            first = c;
    }
    if (n > MAX_STRANGERS)
        g_hash_table_remove(s->connections, first);
}

static gboolean on_connection(int listener, GIOCondition condition, void *data);

static gboolean listen_again(void *data)
{
    struct gpup_server *s = data;

    s->source = g_unix_fd_add(s->listener, G_IO_IN, on_connection, s);
    return G_SOURCE_REMOVE;
}

/* The connection stays in the queue, and would be tried again without end. */
static gboolean pause_listening(struct gpup_server *s)
{
    g_warning("%s: a connection waits: %s", s->path, g_strerror(errno));
    s->source = g_timeout_add(PAUSE_MS, listen_again, s);
    return G_SOURCE_REMOVE;
}

static gboolean on_connection(int listener, GIOCondition condition, void *data)
{
    struct gpup_server *s = data;
    int sock = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    struct connection *c;

    if (sock < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM))
        return pause_listening(s);
    if (sock < 0)
        return G_SOURCE_CONTINUE;
    if (g_hash_table_size(s->connections) >= MAX_CONNECTIONS) {
        close(sock);
        return G_SOURCE_CONTINUE;
    }
    c = g_new0(struct connection, 1);
    c->server = s;
    c->sock = sock;
    c->number = s->n_connections++;
    c->trusted = is_trusted(sock);
    c->source = g_unix_fd_add(sock, G_IO_IN | G_IO_HUP, on_readable, c);
    g_hash_table_add(s->connections, c);
    limit_strangers(s);
    return G_SOURCE_CONTINUE;
}

/* ---- what others ask ---- */

bool gpup_server_is_alive(const char *adapter, void *server)
{
    return find(server, adapter) != NULL;
}

bool gpup_server_usage(struct gpup_server *s, const char *adapter, struct gpup_msg_usage *usage,
                       pid_t *renderer_pid)
{
    struct connection *c = find(s, adapter);

    if (!c)
        return false;
    *usage = c->lease->usage;
    *renderer_pid = gpup_lease_renderer_pid(c->lease);
    return true;
}

const char *gpup_server_problem(struct gpup_server *s, const char *adapter)
{
    struct connection *c = find(s, adapter);

    return c ? gpup_lease_outdated(c->lease) : NULL;
}

bool gpup_server_time(struct gpup_server *s, const char *adapter, struct gpup_arbiter_usage *usage)
{
    struct connection *c = find(s, adapter);

    return c && c->lease->arbiter &&
           gpup_arbiter_usage(c->lease->arbiter, c->lease->arbiter_number, usage);
}

void gpup_server_regrant(struct gpup_server *s, const char *adapter)
{
    struct connection *c = find(s, adapter);

    if (c)
        gpup_lease_regrant(c->lease);
}

void gpup_server_drop(struct gpup_server *s, const char *adapter)
{
    struct connection *c = find(s, adapter);

    if (c)
        g_hash_table_remove(s->connections, c);
    if (s->setup.health)
        gpup_health_end(s->setup.health, adapter);
    gpup_cgroups_remove(s->setup.cgroups, adapter);
}

unsigned gpup_server_degraded(struct gpup_server *s)
{
    return s->degraded;
}

/* ---- life ---- */

/* The folder is root's: nobody else can put a socket there. */
static void open_to_group(const char *path, const char *name)
{
    struct group entry, *found = NULL;
    char buffer[16384];

    if (!name || getgrnam_r(name, &entry, buffer, sizeof(buffer), &found) != 0 || !found)
        return;
    if (chown(path, (uid_t)-1, found->gr_gid) < 0)
        g_warning("%s cannot be given to the group %s, so no VM's device process reaches gpupd: %s",
                  path, name, g_strerror(errno));
}

static int listen_at(const char *path, const char *group, struct gpup_error **err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int sock;

    if (strlen(path) >= sizeof(address.sun_path))
        return gpup_error_set(err, ENAMETOOLONG, "%s: a socket's path has at most %zu characters",
                              path, sizeof(address.sun_path) - 1);
    sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (sock < 0)
        return gpup_error_set(err, errno, "no socket for libvirt's hook can be made: %s",
                              g_strerror(errno));
    g_strlcpy(address.sun_path, path, sizeof(address.sun_path));
    unlink(path);
    if (bind(sock, (struct sockaddr *)&address, sizeof(address)) < 0 || chmod(path, 0660) < 0 ||
        listen(sock, SOMAXCONN) < 0) {
        gpup_error_set(err, errno, "the socket %s cannot be made: %s", path, g_strerror(errno));
        close(sock);
        return -EIO;
    }
    open_to_group(path, group);
    return sock;
}

struct gpup_server *gpup_server_new(const struct gpup_server_setup *setup, struct gpup_error **err)
{
    struct gpup_server *s = g_new0(struct gpup_server, 1);

    s->setup = *setup;
    s->connections = g_hash_table_new_full(NULL, NULL, connection_free, NULL);
    s->path = g_build_filename(setup->folders->run, "gpupd.sock", NULL);
    s->listener = listen_at(s->path, setup->group, err);
    if (s->listener < 0) {
        gpup_server_free(s);
        return NULL;
    }
    s->source = g_unix_fd_add(s->listener, G_IO_IN, on_connection, s);
    return s;
}

/* Connections end without their renderers being killed: gpup-vgpu keeps them. */
static void leave_renderer(void *key, void *value, void *data)
{
    struct connection *c = key;

    if (c->lease && c->lease->renderer >= 0) {
        close(c->lease->renderer);
        c->lease->renderer = -1;
    }
}

void gpup_server_free(struct gpup_server *s)
{
    if (!s)
        return;
    g_clear_handle_id(&s->source, g_source_remove);
    g_hash_table_foreach(s->connections, leave_renderer, NULL);
    g_hash_table_unref(s->connections);
    if (s->listener >= 0) {
        close(s->listener);
        unlink(s->path);
    }
    g_free(s->path);
    g_free(s);
}
