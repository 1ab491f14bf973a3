/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/restart.h"

#include "core/error.h"
#include "daemon/call.h"
#include "daemon/keyfile.h"
#include "fault/fault.h"
#include "gpu/task.h"

#include <errno.h>
#include <gio/gio.h>

#define GROUP           "restart"
#define ENDING_CHECKS   20
#define ENDING_CHECK_US 100000
/* So long after its guest should have ended nobody counts on its start any more. */
#define FORGOTTEN_US (600 * G_USEC_PER_SEC)

struct restart {
    char *uuid, *vm, *user;
    int domain;   /* libvirt's number of the run that is to end */
    gint64 until; /* when its guest is to have ended (monotonic, us) */
};

struct gpup_restarts {
    struct gpup_daemon *daemon;
    gint left; /* atomic: some were cut off */
    GMutex lock;
    GHashTable *busy; /* UUIDs of those that a worker is at, under the lock */
};

static void restart_free(struct restart *r)
{
    g_free(r->uuid);
    g_free(r->vm);
    g_free(r->user);
    g_free(r);
}
typedef struct restart restart_t;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(restart_t, restart_free)

/* ---- on disk ---- */

static char *path_of(const struct gpup_restarts *all, const char *uuid)
{
    return g_build_filename(all->daemon->folders.run, "restarts", uuid, NULL);
}

static int save(const struct gpup_restarts *all, const struct restart *r, struct gpup_error **err)
{
    g_autofree char *path = path_of(all, r->uuid);
    g_autoptr(GKeyFile) file = g_key_file_new();

    g_key_file_set_integer(file, GROUP, "version", GPUP_KEYFILE_VERSION);
    g_key_file_set_string(file, GROUP, "vm", r->vm);
    g_key_file_set_string(file, GROUP, "user", r->user);
    g_key_file_set_integer(file, GROUP, "domain", r->domain);
    g_key_file_set_int64(file, GROUP, "until", r->until);
    return gpup_keyfile_write(path, file, err);
}

static void tell(const struct gpup_restarts *all, const char *vm, const char *text)
{
    gpup_events_add(all->daemon->events, GPUP_EVENT_PROBLEM, GPUP_BY_GPUPD, NULL, vm,
                    "a restart that was cut off is not gone on with: %s", text);
}

static bool is_whole(const struct restart *r)
{
    gint64 latest = g_get_monotonic_time() + GPUP_TIMEOUT_MAX_S * G_GINT64_CONSTANT(1000000);

    return r->vm && r->user && r->domain > 0 && r->until > 0 && r->until <= latest;
}

/* NULL: it was set aside. */
static struct restart *load(const struct gpup_restarts *all, const char *uuid)
{
    g_autofree char *path = path_of(all, uuid);
    g_autoptr(GKeyFile) file = NULL;
    GPUP_AUTO_ERROR err = NULL;
    struct restart *r;

    if (gpup_keyfile_read(path, GROUP, &file, &err) < 0) {
        tell(all, NULL, gpup_error_message(err));
        return NULL;
    }
    r = g_new0(struct restart, 1);
    r->uuid = g_strdup(uuid);
    r->vm = g_key_file_get_string(file, GROUP, "vm", NULL);
    r->user = g_key_file_get_string(file, GROUP, "user", NULL);
    r->domain = g_key_file_get_integer(file, GROUP, "domain", NULL);
    r->until = g_key_file_get_int64(file, GROUP, "until", NULL);
    if (!is_whole(r)) {
        gpup_keyfile_set_aside(path, "something is missing in it, or makes no sense", &err);
        tell(all, r->vm, gpup_error_message(err));
        g_clear_pointer(&r, restart_free);
    }
    return r;
}

static void forget(const struct gpup_restarts *all, const char *uuid)
{
    g_autofree char *path = path_of(all, uuid);
    GPUP_AUTO_ERROR err = NULL;

    if (gpup_keyfile_remove(path, &err) < 0)
        g_warning("%s", gpup_error_message(err));
}

/* False: a worker is at it already. */
static bool begin(struct gpup_restarts *all, const char *uuid)
{
    bool added;

    g_mutex_lock(&all->lock);
    added = g_hash_table_add(all->busy, g_strdup(uuid));
    g_mutex_unlock(&all->lock);
    return added;
}

static void end(struct gpup_restarts *all, const char *uuid)
{
    g_mutex_lock(&all->lock);
    g_hash_table_remove(all->busy, uuid);
    g_mutex_unlock(&all->lock);
}

/* ---- doing it ---- */

/* By libvirt, or because gpupd ends. */
static bool is_cut_off(int ret)
{
    return ret == -ENOTCONN || ret == -ECANCELED;
}

/* That a guest has just ended by itself libvirt notices a moment later. */
static bool has_ended(struct gpup_manager *manager, const struct restart *r)
{
    for (int i = 0; i < ENDING_CHECKS; i++) {
        g_autoptr(gpup_vm) vm = NULL;

        if (i > 0)
            g_usleep(ENDING_CHECK_US);
        if (gpup_manager_get(manager, r->uuid, &vm, NULL) < 0)
            return false;
        if (!vm->active || vm->id != r->domain)
            return true;
    }
    return false;
}

static int not_restarted(const char *vm, struct gpup_error **err)
{
    return gpup_error_wrap(err,
                           "the change is made and takes effect at the next start of %s, "
                           "but it was not restarted",
                           vm);
}

static int stop(struct gpup_manager *manager, const struct restart *r, struct gpup_error **err)
{
    gint64 left = (r->until - g_get_monotonic_time()) / G_USEC_PER_SEC;
    int ret = gpup_manager_stop(manager, r->uuid, false, (unsigned)CLAMP(left, 1, G_MAXINT), err);

    if (ret == 0 || is_cut_off(ret))
        return ret;
    if (ret != -ETIMEDOUT && has_ended(manager, r)) {
        g_clear_pointer(err, gpup_error_free);
        return 0;
    }
    return not_restarted(r->vm, err);
}

/* From wherever it was cut off. */
static int go_through(struct gpup_manager *manager, const struct restart *r,
                      struct gpup_error **err)
{
    g_autoptr(gpup_vm) vm = NULL;
    int ret = gpup_manager_get(manager, r->uuid, &vm, err);

    if (ret == 0 && vm->active && vm->id != r->domain)
        return 0; /* it has been started again */
    if (ret == 0 && vm->active)
        ret = stop(manager, r, err);
    if (ret < 0)
        return ret;
    GPUP_FAULT("gpupd.restart.stopped");
    ret = gpup_manager_start(manager, r->uuid, NULL, err);
    GPUP_FAULT("gpupd.restart.started");
    if (ret == 0 || is_cut_off(ret))
        return ret;
    return gpup_error_wrap(err, "the change is made and %s was shut down, but it does not start",
                           r->vm);
}

/* Where it was cut off, it stays written down. */
static int run(struct gpup_restarts *all, const struct restart *r, struct gpup_error **err)
{
    GPUP_AUTO_ERROR why = NULL;
    int ret = go_through(gpup_vms_manager(all->daemon->vms), r, &why);

    if (!is_cut_off(ret)) {
        forget(all, r->uuid);
        return ret < 0 ? gpup_error_move(err, g_steal_pointer(&why)) : 0;
    }
    g_atomic_int_set(&all->left, 1);
    if (ret == -ECANCELED)
        return gpup_error_set(err, EAGAIN,
                              "the change is made, and gpupd ended while %s was being restarted: "
                              "it is gone on with as soon as gpupd runs again",
                              r->vm);
    return gpup_error_set(err, EAGAIN,
                          "the change is made, and libvirt went away while %s was being restarted "
                          "(%s): it is gone on with as soon as libvirt is back",
                          r->vm, gpup_error_message(why));
}

int gpup_restart(struct gpup_restarts *all, const char *name, const char *user, unsigned timeout_s,
                 struct gpup_error **err)
{
    g_autoptr(restart_t) r = g_new0(struct restart, 1);
    g_autoptr(gpup_vm) vm = NULL;
    int ret = gpup_manager_get(gpup_vms_manager(all->daemon->vms), name, &vm, err);

    if (ret < 0)
        return not_restarted(name, err);
    *r = (struct restart){.uuid = g_strdup(vm->uuid),
                          .vm = g_strdup(vm->name),
                          .user = g_strdup(user),
                          .domain = vm->id,
                          .until = g_get_monotonic_time() + (gint64)timeout_s * G_USEC_PER_SEC};
    if (!begin(all, r->uuid))
        return gpup_error_set(err, EBUSY, "%s is being restarted already", r->vm);
    ret = save(all, r, err);
    GPUP_FAULT("gpupd.restart.noted");
    if (ret == 0)
        ret = run(all, r, err);
    end(all, r->uuid);
    return ret;
}

/* ---- going on ---- */

struct resumed {
    struct gpup_restarts *all;
    struct restart *restart;
};

static void resumed_free(void *data)
{
    struct resumed *r = data;

    restart_free(r->restart);
    g_free(r);
}

static void resume_in_thread(GTask *task, void *source, void *data, GCancellable *cancellable)
{
    struct resumed *r = data;
    struct gpup_error *err = NULL;

    run(r->all, r->restart, &err);
    g_task_return_pointer(task, err, (GDestroyNotify)gpup_error_free);
}

static void resumed(GObject *source, GAsyncResult *result, void *data)
{
    struct resumed *r = data;
    struct gpup_events *events = r->all->daemon->events;
    struct gpup_error *err = g_task_propagate_pointer(G_TASK(result), NULL);
    const char *vm = r->restart->vm;

    r->all->daemon->working--;
    end(r->all, r->restart->uuid);
    if (!err)
        gpup_events_add(events, GPUP_EVENT_POWER, r->restart->user, NULL, vm,
                        "%s: shut down and started again, after that had been cut off", vm);
    else if (err->code != EAGAIN)
        gpup_events_add(events, GPUP_EVENT_PROBLEM, GPUP_BY_GPUPD, NULL, vm, "%s: %s", vm,
                        gpup_error_message(err));
    gpup_error_free(err);
    resumed_free(r);
}

static void resume(struct gpup_restarts *all, const char *uuid)
{
    g_autoptr(restart_t) r = NULL;
    g_autoptr(GTask) task = NULL;
    struct resumed *data;

    if (!begin(all, uuid))
        return;
    r = load(all, uuid);
    if (!r || r->until < g_get_monotonic_time() - FORGOTTEN_US) {
        forget(all, uuid);
        end(all, uuid);
        return;
    }
    data = g_new0(struct resumed, 1);
    data->all = all;
    data->restart = g_steal_pointer(&r);
    task = g_task_new(NULL, NULL, resumed, data);
    g_task_set_task_data(task, data, NULL);
    all->daemon->working++;
    gpup_task_run(task, resume_in_thread);
}

void gpup_restarts_resume(struct gpup_restarts *all)
{
    g_autofree char *folder = NULL;
    g_autoptr(GDir) dir = NULL;
    const char *name;

    if (all->daemon->ending || !gpup_vms_known(all->daemon->vms) ||
        !g_atomic_int_compare_and_exchange(&all->left, 1, 0))
        return;
    folder = g_build_filename(all->daemon->folders.run, "restarts", NULL);
    dir = g_dir_open(folder, 0, NULL);
    while (dir && (name = g_dir_read_name(dir))) {
        if (g_uuid_string_is_valid(name))
            resume(all, name);
    }
}

struct gpup_restarts *gpup_restarts_new(struct gpup_daemon *daemon)
{
    struct gpup_restarts *all = g_new0(struct gpup_restarts, 1);

    all->daemon = daemon;
    all->left = 1;
    g_mutex_init(&all->lock);
    all->busy = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    return all;
}

void gpup_restarts_free(struct gpup_restarts *all)
{
    if (!all)
        return;
    g_hash_table_unref(all->busy);
    g_mutex_clear(&all->lock);
    g_free(all);
}
