/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/error.h"
#include "daemon/ending.h"
#include "daemon/restart.h"
#include "gpu/task.h"

#include <dlfcn.h>
#include <glib/gstdio.h>
#include <libvirt/libvirt.h>
#include <string.h>

/*
 * gpupd is told to end while a worker waits for a guest to shut down, or for a libvirt that hangs:
 * what is under way is cut off in order, and the next gpupd goes on with it. libvirt is its own
 * test driver, of which one function is replaced here.
 */

#define VM      "test" /* runs in test:///default */
#define UUID    "6695eb01-f6a4-8304-79aa-97f2502e193f"
#define WAIT_MS 20000

struct fixture {
    char *dir, *file, *conf;
    struct gpup_daemon daemon;
    bool ended; /* without being freed, where that may not be done */
};

/* ---- a guest that takes its time ---- */

enum guest {
    GUEST_ENDS,
    GUEST_STAYS,
    LIBVIRT_HANGS
};

static gint guest; /* atomic */
static gint asked; /* atomic: how often it was asked to shut down */

/* In libvirt's place. */
int virDomainShutdown(virDomain *domain)
{
    int (*real)(virDomain *) = (int (*)(virDomain *))dlsym(RTLD_NEXT, "virDomainShutdown");

    g_atomic_int_inc(&asked);
    g_main_context_wakeup(NULL);
    while (g_atomic_int_get(&guest) == LIBVIRT_HANGS)
        g_usleep(1000);
    return g_atomic_int_get(&guest) == GUEST_ENDS ? real(domain) : 0;
}

/* ---- a gpupd ---- */

static void on_vms(void *data)
{
    struct gpup_daemon *d = data;

    if (d->restarts)
        gpup_restarts_resume(d->restarts);
}

static void start(struct fixture *f)
{
    struct gpup_daemon *d = &f->daemon;

    *d = (struct gpup_daemon){
        .folders = {.state = f->dir, .run = f->dir, .libvirt_run = f->dir, .sysfs = f->dir}};
    g_assert_cmpint(gpup_config_read(f->conf, &d->config, NULL), ==, 0);
    d->host = gpup_host_new(&d->config, &d->folders, NULL, NULL, NULL);
    g_assert_nonnull(d->host);
    d->events = gpup_events_new(f->dir);
    d->restarts = gpup_restarts_new(d);
    d->vms = gpup_vms_new("test:///default", on_vms, d);
    f->ended = false;
}

static void stop(struct fixture *f)
{
    struct gpup_daemon *d = &f->daemon;

    gpup_restarts_free(d->restarts);
    gpup_vms_free(d->vms);
    gpup_events_free(d->events);
    gpup_host_free(d->host);
    gpup_config_clear(&d->config);
    f->ended = true;
}

static gboolean too_late(void *data)
{
    g_error("%s", (const char *)data);
    return G_SOURCE_REMOVE;
}

static void serve_until(const char *what, bool (*condition)(struct fixture *f), struct fixture *f)
{
    guint timer = g_timeout_add(WAIT_MS, too_late, (void *)what);

    while (!condition(f))
        g_main_context_iteration(NULL, TRUE);
    g_source_remove(timer);
}

static void set_up(struct fixture *f, gconstpointer data)
{
    g_autofree char *folder = NULL;

    f->dir = g_dir_make_tmp("gpup-ending-XXXXXX", NULL);
    folder = g_build_filename(f->dir, "restarts", NULL);
    f->file = g_build_filename(folder, UUID, NULL);
    f->conf = g_build_filename(f->dir, "gpup.conf", NULL);
    g_atomic_int_set(&asked, 0);
    start(f);
}

static void tear_down(struct fixture *f, gconstpointer data)
{
    char *argv[] = {(char *)"rm", (char *)"-rf", f->dir, NULL};

    if (!f->ended) {
        g_assert_true(gpup_daemon_end(&f->daemon));
        stop(f);
    }
    g_spawn_sync(NULL, argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL, NULL, NULL, NULL);
    g_free(f->file);
    g_free(f->conf);
    g_free(f->dir);
}

/* ---- restarts ---- */

/* As a gpupd leaves it that was killed: so many seconds are left for the guest. */
static void write_restart(struct fixture *f, const char *version, const char *domain, gint64 left_s)
{
    g_autofree char *text = g_strdup_printf(
        "[restart]\nversion=%s\nvm=" VM "\nuser=alice\ndomain=%s\nuntil=%" G_GINT64_FORMAT "\n",
        version, domain, g_get_monotonic_time() + left_s * G_USEC_PER_SEC);

    g_assert_true(g_file_set_contents(f->file, text, -1, NULL));
}

static bool is_asked(struct fixture *f)
{
    return g_atomic_int_get(&asked) > 0;
}

static bool is_done(struct fixture *f)
{
    return gpup_vms_known(f->daemon.vms) && f->daemon.working == 0 &&
           !g_file_test(f->file, G_FILE_TEST_EXISTS);
}

static char *last_event(struct fixture *f, const char *vm)
{
    g_autoptr(GVariant) list =
        g_variant_ref_sink(gpup_events_list(f->daemon.events, 1, 0, NULL, vm));
    g_autoptr(GVariant) event = NULL;
    char *text = NULL;

    if (g_variant_n_children(list) == 0)
        return g_strdup("");
    event = g_variant_get_child_value(list, 0);
    g_assert_true(g_variant_lookup(event, "text", "s", &text));
    return text;
}

/* Nothing waits for the guest any more, and the restart is the next gpupd's. */
static void while_a_guest_shuts_down(struct fixture *f, gconstpointer data)
{
    g_autofree char *text = NULL;

    g_atomic_int_set(&guest, GUEST_STAYS);
    write_restart(f, "1", "1", 600);
    serve_until("the guest is asked to shut down", is_asked, f);
    g_assert_true(gpup_daemon_end(&f->daemon));
    g_assert_true(g_file_test(f->file, G_FILE_TEST_EXISTS));
    stop(f);
    g_atomic_int_set(&guest, GUEST_ENDS);
    start(f);
    serve_until("the next gpupd goes on with it", is_done, f);
    text = last_event(f, VM);
    g_assert_cmpstr(text, ==, VM ": shut down and started again, after that had been cut off");
}

/* It is not waited for for ever, and nothing that its thread uses is freed. */
static void while_libvirt_hangs(struct fixture *f, gconstpointer data)
{
    gint64 began;

    g_atomic_int_set(&guest, LIBVIRT_HANGS);
    write_restart(f, "1", "1", 600);
    serve_until("the guest is asked to shut down", is_asked, f);
    began = g_get_monotonic_time();
    g_assert_false(gpup_daemon_end(&f->daemon));
    g_assert_cmpint(g_get_monotonic_time() - began, <, 60 * G_USEC_PER_SEC);
    g_assert_true(g_file_test(f->file, G_FILE_TEST_EXISTS));
    g_atomic_int_set(&guest, GUEST_ENDS);
    g_assert_true(gpup_daemon_end(&f->daemon)); /* now it could */
    stop(f);
}

/* What cannot be meant is not done: it would be waited for for years. */
static void damaged(struct fixture *f, gconstpointer data)
{
    static const struct {
        const char *version, *domain;
        gint64 left_s;
    } cases[] = {{"1", "1", G_GINT64_CONSTANT(1) << 40},
                 {"1", "1", 90000},
                 {"1", "0", 60},
                 {"1", "x", 60},
                 {"1", "99999999999999", 60},
                 {"0", "1", 60},
                 {"2", "1", 60}};

    g_atomic_int_set(&guest, GUEST_ENDS);
    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *text = NULL;

        write_restart(f, cases[i].version, cases[i].domain, cases[i].left_s);
        serve_until("it is set aside", is_done, f);
        text = last_event(f, NULL);
        g_assert_nonnull(strstr(text, "set aside"));
        g_assert_true(gpup_daemon_end(&f->daemon));
        stop(f);
        start(f);
    }
    g_assert_cmpint(g_atomic_int_get(&asked), ==, 0);
}

/* Nobody counts on it any more. */
static void forgotten(struct fixture *f, gconstpointer data)
{
    write_restart(f, "1", "1", -700);
    serve_until("it is forgotten", is_done, f);
    g_assert_cmpint(g_atomic_int_get(&asked), ==, 0);
}

/* ---- many that wait ---- */

#define MANY 200

struct crowd {
    GMutex lock;
    GCond changed;
    bool go_home;
};

static void wait_in_thread(GTask *task, void *source, void *data, GCancellable *cancellable)
{
    struct crowd *c = data;

    g_mutex_lock(&c->lock);
    while (!c->go_home)
        g_cond_wait(&c->changed, &c->lock);
    g_mutex_unlock(&c->lock);
    g_task_return_boolean(task, TRUE);
}

static void pass_in_thread(GTask *task, void *source, void *data, GCancellable *cancellable)
{
    g_task_return_boolean(task, TRUE);
}

static void one_done(GObject *source, GAsyncResult *result, void *data)
{
    (*(gint *)data)--;
}

static void run(GTaskThreadFunc func, struct crowd *c, gint *left)
{
    g_autoptr(GTask) task = g_task_new(NULL, NULL, one_done, left);

    g_task_set_task_data(task, c, NULL);
    (*left)++;
    gpup_task_run(task, func);
}

static void serve_until_none(const char *what, const gint *left)
{
    guint timer = g_timeout_add(WAIT_MS, too_late, (void *)what);

    while (*left > 0)
        g_main_context_iteration(NULL, TRUE);
    g_source_remove(timer);
}

/* Guests that take their time to shut down hold up nobody. */
static void crowd(void)
{
    struct crowd c = {0};
    gint waiting = 0, passing = 0;

    for (int i = 0; i < MANY; i++)
        run(wait_in_thread, &c, &waiting);
    run(pass_in_thread, &c, &passing);
    serve_until_none("whoever comes after many that wait is served", &passing);
    g_assert_cmpint(waiting, ==, MANY);
    g_mutex_lock(&c.lock);
    c.go_home = true;
    g_cond_broadcast(&c.changed);
    g_mutex_unlock(&c.lock);
    serve_until_none("they end", &waiting);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add("/ending/guest", struct fixture, NULL, set_up, while_a_guest_shuts_down, tear_down);
    g_test_add("/ending/hang", struct fixture, NULL, set_up, while_libvirt_hangs, tear_down);
    g_test_add("/restarts/damaged", struct fixture, NULL, set_up, damaged, tear_down);
    g_test_add("/restarts/forgotten", struct fixture, NULL, set_up, forgotten, tear_down);
    g_test_add_func("/tasks/crowd", crowd);
    return g_test_run();
}
