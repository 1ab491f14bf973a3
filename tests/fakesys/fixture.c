/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "fixture.h"

#include "core/error.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#define WAIT_US (60 * G_USEC_PER_SEC)

/* For the helper: a busy machine takes long, and what is to hang has a time of its own. */
#define PATIENCE_MS 60000

static void spawn_machine(struct fake *f)
{
    g_autofree char *program = g_strdup(g_getenv("GPUP_FAKESYS"));
    char *argv[] = {program, f->mount, NULL};
    g_autofree char *control = g_build_filename(f->mount, "control", NULL);
    g_autoptr(GError) error = NULL;

    g_assert_nonnull(program);
    g_spawn_async(NULL, argv, NULL, G_SPAWN_DO_NOT_REAP_CHILD, NULL, NULL, &f->pid, &error);
    g_assert_no_error(error);
    for (int i = 0; !g_file_test(control, G_FILE_TEST_EXISTS); i++) {
        g_assert_cmpint(i, <, 10000);
        g_assert_cmpint(waitpid(f->pid, NULL, WNOHANG), ==, 0); /* it says why on stderr */
        g_usleep(1000);
    }
}

static unsigned wanted(const char *key, void *data)
{
    return ((struct fake *)data)->wanted;
}

void fake_set_up(struct fake *f, gconstpointer data)
{
    f->mount = g_dir_make_tmp("gpup-fakesys-XXXXXX", NULL);
    f->sysfs = g_build_filename(f->mount, "sys", NULL);
    f->proc = g_build_filename(f->mount, "proc", NULL);
    f->dev = g_build_filename(f->mount, "dev", NULL);
    f->memory = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    f->settings =
        g_hash_table_new_full(g_str_hash, g_str_equal, g_free, (GDestroyNotify)g_hash_table_unref);
    f->system = (struct gpup_system){.sysfs = f->sysfs,
                                     .proc = f->proc,
                                     .dev = f->dev,
                                     .helper = g_getenv("GPUP_GPU_HELPER"),
                                     .timeout_ms = PATIENCE_MS,
                                     .pci_ids = f->pci_ids,
                                     .wanted = wanted,
                                     .data = f,
                                     .memory_by_gpu = f->memory,
                                     .settings_by_gpu = f->settings};
    g_setenv("GPUP_FAKESYS_MOUNT", f->mount, TRUE);
    spawn_machine(f);
}

void fake_tear_down(struct fake *f, gconstpointer data)
{
    gpup_inventory_free(f->inventory);
    if (umount2(f->mount, MNT_DETACH) < 0) {
        const char *argv[] = {"fusermount3", "-uz", f->mount, NULL};

        g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL, NULL, NULL,
                     NULL);
    }
    kill(f->pid, SIGKILL);
    waitpid(f->pid, NULL, 0);
    g_rmdir(f->mount);
    g_hash_table_unref(f->memory);
    g_hash_table_unref(f->settings);
    g_free(f->mount);
    g_free(f->sysfs);
    g_free(f->proc);
    g_free(f->dev);
}

void fake_order(struct fake *f, const char *fmt, ...)
{
    g_autofree char *path = g_build_filename(f->mount, "control", NULL);
    g_autofree char *text = NULL;
    va_list args;
    int fd;

    va_start(args, fmt);
    text = g_strdup_vprintf(fmt, args);
    va_end(args);
    fd = open(path, O_WRONLY | O_CLOEXEC);
    g_assert_cmpint(fd, >=, 0);
    if (write(fd, text, strlen(text)) != (ssize_t)strlen(text))
        g_error("fakesys refused '%s': %s", text, g_strerror(errno));
    close(fd);
}

char *fake_read(struct fake *f, const char *fmt, ...)
{
    g_autofree char *name = NULL;
    g_autofree char *path = NULL;
    char *text = NULL;
    va_list args;

    va_start(args, fmt);
    name = g_strdup_vprintf(fmt, args);
    va_end(args);
    path = g_build_filename(f->mount, name, NULL);
    if (!g_file_get_contents(path, &text, NULL, NULL))
        return NULL;
    return g_strchomp(text);
}

bool fake_exists(struct fake *f, const char *fmt, ...)
{
    g_autofree char *name = NULL;
    g_autofree char *path = NULL;
    va_list args;

    va_start(args, fmt);
    name = g_strdup_vprintf(fmt, args);
    va_end(args);
    path = g_build_filename(f->mount, name, NULL);
    return g_file_test(path, G_FILE_TEST_EXISTS);
}

void fake_set(struct fake *f, const char *gpu, const char *name, const char *value)
{
    GHashTable *settings = g_hash_table_lookup(f->settings, gpu);

    if (!settings) {
        settings = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
        g_hash_table_insert(f->settings, g_strdup(gpu), settings);
    }
    g_hash_table_replace(settings, g_strdup(name), g_strdup(value));
}

void fake_set_memory(struct fake *f, const char *gpu, uint64_t bytes)
{
    guint64 *value = g_new0(guint64, 1);

    *value = bytes;
    g_hash_table_replace(f->memory, g_strdup(gpu), value);
}

void fake_start(struct fake *f)
{
    gpup_inventory_free(f->inventory);
    f->inventory = gpup_inventory_new(&f->system, NULL);
    g_assert_nonnull(f->inventory);
}

struct gpup_gpu *fake_gpu(struct fake *f, const char *id)
{
    size_t n;
    struct gpup_gpu *const *gpus = gpup_inventory_gpus(f->inventory, &n);

    for (size_t i = 0; i < n; i++) {
        if (strcmp(gpus[i]->id, id) == 0)
            return gpus[i];
    }
    return NULL;
}

static int answer(int ret, struct gpup_error *err, char **message)
{
    if (message) {
        g_free(*message);
        *message = g_strdup(ret < 0 ? gpup_error_message(err) : "");
    } else if (ret < 0) {
        g_test_message("%s", gpup_error_message(err));
    }
    gpup_error_free(err);
    return ret;
}

int fake_partition(struct fake *f, const char *id, unsigned n, char **message)
{
    struct gpup_error *err = NULL;
    int ret = gpup_inventory_partition(f->inventory, fake_gpu(f, id), n, &err);

    return answer(ret, err, message);
}

struct prepared {
    bool done;
    int code;
    char *message;
};

static void on_prepared(const struct gpup_error *err, void *data)
{
    struct prepared *p = data;

    p->done = true;
    p->code = err ? -err->code : 0;
    p->message = g_strdup(err ? err->message : "");
}

int fake_prepare(struct fake *f, const char *id, unsigned slot, uint64_t vram, uint64_t compute,
                 char **message)
{
    const struct gpup_grant grant = {{{vram, vram, vram}, {compute, compute, 1000000}}};
    struct prepared p = {0};
    struct gpup_error *err = NULL;
    struct gpup_gpu *gpu = fake_gpu(f, id);
    g_autofree char *adapter = g_strdup(FAKE_ADAPTER);
    gint64 until = g_get_monotonic_time() + WAIT_US;

    adapter[35] = (char)('0' + slot % 10);
    if (gpup_inventory_take(f->inventory, gpu, slot, adapter, "desk1", &grant, &err) < 0)
        return answer(-EBUSY, err, message);
    gpup_inventory_prepare(f->inventory, gpu, slot, on_prepared, &p);
    while (!p.done && g_get_monotonic_time() < until)
        g_main_context_iteration(NULL, TRUE);
    g_assert_true(p.done);
    if (message) {
        g_free(*message);
        *message = p.message;
    } else {
        if (p.code < 0)
            g_test_message("%s", p.message);
        g_free(p.message);
    }
    return p.code;
}

bool fake_give_back(struct fake *f, const char *id, unsigned slot)
{
    struct gpup_slot *s = &fake_gpu(f, id)->slots[slot];
    gint64 until = g_get_monotonic_time() + WAIT_US;

    gpup_inventory_give_back(f->inventory, fake_gpu(f, id), slot, NULL);
    while (g_get_monotonic_time() < until) {
        if (gpup_slot_is_free(s))
            return true;
        if (s->vm && !g_str_has_prefix(s->vm, "(being cleared"))
            return false;
        g_main_context_iteration(NULL, TRUE);
    }
    g_assert_not_reached();
}

static gboolean wake(void *data)
{
    return G_SOURCE_CONTINUE;
}

void fake_wait(struct fake *f, bool (*done)(struct fake *f))
{
    gint64 until = g_get_monotonic_time() + WAIT_US;
    guint timer = g_timeout_add(10, wake, NULL);

    while (!done(f)) {
        g_assert_cmpint(g_get_monotonic_time(), <, until);
        g_main_context_iteration(NULL, TRUE);
    }
    g_source_remove(timer);
}
