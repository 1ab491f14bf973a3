/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/error.h"
#include "daemon/bus.h"
#include "daemon/ending.h"
#include "daemon/provisional.h"
#include "daemon/reconcile.h"
#include "daemon/release.h"
#include "daemon/restart.h"

#include <glib-unix.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define BUS_NAME    "org.gpup1"
#define RECONCILE_S 5

struct options {
    char *config, *state, *run, *libvirt_run, *libvirt_uri, *renderer, *render_user, *group;
    char *sysfs, *gpu_helper;
    gboolean version, release;
};

struct gpupd {
    struct gpup_daemon daemon;
    struct options options;
    GMainLoop *loop;
    guint name;
    int status;
};

static void on_changed(void *data)
{
    struct gpupd *g = data;

    if (g->daemon.bus)
        gpup_bus_refresh(g->daemon.bus);
    if (g->daemon.unmovable)
        gpup_provisional_check(&g->daemon);
}

static void on_vms_changed(void *data)
{
    struct gpupd *g = data;

    if (g->daemon.server)
        gpup_reconcile(&g->daemon);
    if (g->daemon.restarts)
        gpup_restarts_resume(g->daemon.restarts);
    on_changed(g);
}

static gboolean on_reconcile(void *data)
{
    struct gpupd *g = data;

    if (g->daemon.ending)
        return G_SOURCE_CONTINUE;
    gpup_sweep(&g->daemon);
    if (gpup_reconcile(&g->daemon))
        gpup_vms_refresh(g->daemon.vms);
    if (g->daemon.restarts)
        gpup_restarts_resume(g->daemon.restarts);
    gpup_host_try_again(g->daemon.host);
    return G_SOURCE_CONTINUE;
}

static void fail(struct gpupd *g, const char *text)
{
    fprintf(stderr, "gpupd: %s\n", text);
    g->status = GPUP_EXIT_FAILED;
    g_main_loop_quit(g->loop);
}

static void on_bus(GDBusConnection *connection, const char *name, void *data)
{
    struct gpupd *g = data;
    GPUP_AUTO_ERROR err = NULL;

    g->daemon.bus = gpup_bus_new(&g->daemon, connection, &err);
    if (!g->daemon.bus)
        fail(g, gpup_error_message(err));
}

static void on_name_lost(GDBusConnection *connection, const char *name, void *data)
{
    fail(data, connection ? "another gpupd owns " BUS_NAME " on the bus, or its policy does not "
                            "let this user own it"
                          : "the system bus cannot be reached: is dbus running?");
}

static gboolean on_signal(void *data)
{
    struct gpupd *g = data;

    g_main_loop_quit(g->loop);
    return G_SOURCE_CONTINUE;
}

static void on_reset(const char *address, void *data)
{
    struct gpup_daemon *d = data;
    const struct gpup_gpu *gpu = gpup_host_gpu_at(d->host, address);

    if (!gpu)
        return;
    gpup_health_add(d->health, gpu->key, GPUP_TROUBLE_RESET);
    gpup_events_add(d->events, GPUP_EVENT_RESET, "kernel", gpup_gpu_short_id(gpu), NULL,
                    "%s was reset by its driver %s: journalctl -k says why", gpup_gpu_short_id(gpu),
                    gpu->driver ? gpu->driver : "");
}

static void on_bound(const char *address, void *data)
{
    gpup_host_driver_bound(((struct gpup_daemon *)data)->host, address);
}

static void watch_resets(struct gpup_daemon *d)
{
    GPUP_AUTO_ERROR err = NULL;

    d->resets = gpup_resets_new(on_reset, on_bound, d, &err);
    if (!d->resets)
        g_warning("%s", gpup_error_message(err));
}

static void tell_start(struct gpup_daemon *d)
{
    GPtrArray *problems = gpup_host_problems(d->host);
    guint adopted = g_hash_table_size(gpup_host_claims(d->host));

    gpup_events_add(d->events, GPUP_EVENT_GPUPD, GPUP_BY_GPUPD, NULL, NULL,
                    "gpupd %s started, with %u running VM%s taken up again", GPUP_VERSION, adopted,
                    adopted == 1 ? "" : "s");
    for (guint i = 0; i < problems->len; i++)
        gpup_events_add(d->events, GPUP_EVENT_PROBLEM, GPUP_BY_GPUPD, NULL, NULL, "%s",
                        (const char *)problems->pdata[i]);
}

static int start(struct gpupd *g, struct gpup_error **err)
{
    struct gpup_daemon *d = &g->daemon;
    struct gpup_server_setup setup;

    d->folders = (struct gpup_folders){.state = g->options.state,
                                       .run = g->options.run,
                                       .libvirt_run = g->options.libvirt_run,
                                       .sysfs = g->options.sysfs,
                                       .gpu_helper = g->options.gpu_helper};
    if (gpup_config_read(g->options.config, &d->config, err) < 0)
        return -EINVAL;
    d->unmovable = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    d->cgroups = gpup_cgroups_new(NULL);
    d->host = gpup_host_new(&d->config, &d->folders, on_changed, g, err);
    if (!d->host)
        return -EIO;
    d->events = gpup_events_new(g->options.state);
    d->health = gpup_health_new(g->options.run);
    tell_start(d);
    watch_resets(d);
    gpup_host_record(d->host, d->events, d->health);
    d->arbiters = gpup_arbiters_new(&d->config);
    setup = (struct gpup_server_setup){.host = d->host,
                                       .arbiters = d->arbiters,
                                       .cgroups = d->cgroups,
                                       .events = d->events,
                                       .health = d->health,
                                       .folders = &d->folders,
                                       .renderer = g->options.renderer,
                                       .render_user = g->options.render_user,
                                       .group = g->options.group,
                                       .changed = on_changed,
                                       .data = g};
    d->adopted = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    d->server = gpup_server_new(&setup, err);
    if (!d->server)
        return -EIO;
    d->restarts = gpup_restarts_new(d);
    d->vms = gpup_vms_new(g->options.libvirt_uri, on_vms_changed, g);
    g->name = g_bus_own_name(G_BUS_TYPE_SYSTEM, BUS_NAME, G_BUS_NAME_OWNER_FLAGS_NONE, on_bus, NULL,
                             on_name_lost, g, NULL);
    g_timeout_add_seconds(RECONCILE_S, on_reconcile, g);
    g_unix_signal_add(SIGTERM, on_signal, g);
    g_unix_signal_add(SIGINT, on_signal, g);
    return 0;
}

static void stop(struct gpupd *g)
{
    struct gpup_daemon *d = &g->daemon;

    if (d->vms && !gpup_daemon_end(d)) {
        g_message("something that was under way does not end: the next gpupd sees to it");
        gpup_health_flush(d->health);
        _exit(g->status);
    }
    g_clear_handle_id(&g->name, g_bus_unown_name);
    gpup_bus_free(d->bus);
    d->bus = NULL;
    gpup_server_free(d->server);
    d->server = NULL;
    gpup_arbiters_free(d->arbiters);
    if (d->unmovable)
        gpup_provisional_end(d);
    g_clear_pointer(&d->restarts, gpup_restarts_free);
    g_clear_pointer(&d->vms, gpup_vms_free);
    g_clear_pointer(&d->adopted, g_hash_table_unref);
    gpup_host_free(d->host);
    gpup_resets_free(d->resets);
    gpup_events_free(d->events);
    gpup_health_free(d->health);
    gpup_cgroups_free(d->cgroups);
    gpup_config_clear(&d->config);
}

static int release(const struct options *o)
{
    int n = gpup_release_renderers(o->renderer);

    if (n >= 0)
        return GPUP_EXIT_DONE;
    fprintf(stderr,
            "gpupd: renderers keep their priority and CPUs until gpupd is started: /proc cannot be "
            "read: %s\n",
            strerror(-n));
    return GPUP_EXIT_FAILED;
}

static int parse(int argc, char **argv, struct options *o)
{
    const GOptionEntry entries[] = {
        {"config", 0, 0, G_OPTION_ARG_FILENAME, &o->config,
         "configuration (" GPUP_SYSCONFDIR "/gpup/gpup.conf)", "FILE"},
        {"state-dir", 0, 0, G_OPTION_ARG_FILENAME, &o->state,
         "what outlives a reboot (/var/lib/gpup)", "DIR"},
        {"run-dir", 0, 0, G_OPTION_ARG_FILENAME, &o->run, "socket and reservations (/run/gpup)",
         "DIR"},
        {"libvirt-uri", 0, 0, G_OPTION_ARG_STRING, &o->libvirt_uri,
         "which libvirt (qemu:///system)", "URI"},
        {"libvirt-run-dir", 0, 0, G_OPTION_ARG_FILENAME, &o->libvirt_run,
         "pid files of VMs' helpers (/run/libvirt/qemu)", "DIR"},
        {"renderer", 0, 0, G_OPTION_ARG_FILENAME, &o->renderer,
         "program (" GPUP_LIBEXECDIR "/gpup-render)", "FILE"},
        {"sysfs", 0, 0, G_OPTION_ARG_FILENAME, &o->sysfs, "where GPUs are looked for (/sys)",
         "DIR"},
        {"gpu-helper", 0, 0, G_OPTION_ARG_FILENAME, &o->gpu_helper,
         "program (" GPUP_LIBEXECDIR "/gpup-gpu-helper)", "FILE"},
        {"render-user", 0, 0, G_OPTION_ARG_STRING, &o->render_user,
         "whom renderers run as (" GPUP_RENDER_USER ")", "USER"},
        {"group", 0, 0, G_OPTION_ARG_STRING, &o->group,
         "who may connect beside root (libvirt-qemu)", "GROUP"},
        {"release-renderers", 0, 0, G_OPTION_ARG_NONE, &o->release,
         "undo what a gpupd that was killed had set of renderers, and end", NULL},
        {"version", 0, 0, G_OPTION_ARG_NONE, &o->version, "print the version", NULL},
        {NULL},
    };
    g_autoptr(GOptionContext) context = g_option_context_new(NULL);
    g_autoptr(GError) error = NULL;

    *o = (struct options){.config = g_strdup(GPUP_SYSCONFDIR "/gpup/gpup.conf"),
                          .state = g_strdup("/var/lib/gpup"),
                          .run = g_strdup("/run/gpup"),
                          .libvirt_run = g_strdup("/run/libvirt/qemu"),
                          .libvirt_uri = g_strdup("qemu:///system"),
                          .renderer = g_strdup(GPUP_LIBEXECDIR "/gpup-render"),
                          .render_user = g_strdup(GPUP_RENDER_USER),
                          .group = g_strdup("libvirt-qemu")};
    g_option_context_add_main_entries(context, entries, NULL);
    g_option_context_set_summary(context, "Partitions this host's GPUs for its virtual machines.\n"
                                          "systemd starts it; gpup(1) talks to it.");
    if (!g_option_context_parse(context, &argc, &argv, &error) || argc > 1) {
        fprintf(stderr, "gpupd: %s; see gpupd --help\n",
                error ? error->message : "it takes no arguments");
        return GPUP_EXIT_USAGE;
    }
    if (o->release)
        return release(o);
    if (!o->version)
        return -1;
    puts("gpupd " GPUP_VERSION);
    return GPUP_EXIT_DONE;
}

static void options_clear(struct options *o)
{
    g_free(o->config);
    g_free(o->state);
    g_free(o->run);
    g_free(o->libvirt_run);
    g_free(o->libvirt_uri);
    g_free(o->renderer);
    g_free(o->render_user);
    g_free(o->group);
    g_free(o->sysfs);
    g_free(o->gpu_helper);
}

int main(int argc, char **argv)
{
    struct gpupd g = {0};
    GPUP_AUTO_ERROR err = NULL;
    int code;

    setlocale(LC_CTYPE, ""); /* of what --help says */
    signal(SIGPIPE, SIG_IGN);
    code = parse(argc, argv, &g.options);
    if (code < 0) {
        g.loop = g_main_loop_new(NULL, FALSE);
        if (start(&g, &err) < 0) {
            fprintf(stderr, "gpupd: %s\n", gpup_error_message(err));
            g.status = GPUP_EXIT_FAILED;
        } else {
            g_main_loop_run(g.loop);
        }
        stop(&g);
        g_main_loop_unref(g.loop);
        code = g.status;
    }
    options_clear(&g.options);
    return code;
}
