/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/host_internal.h"

#include "core/error.h"
#include "daemon/store.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

void gpup_host_tell(struct gpup_host *h)
{
    if (h->changed)
        h->changed(h->data);
}

void gpup_host_record(struct gpup_host *h, struct gpup_events *events, struct gpup_health *health)
{
    h->events = events;
    h->health = health;
}

struct gpup_gpu *const *gpup_host_gpus(struct gpup_host *h, size_t *n)
{
    return gpup_inventory_gpus(h->inventory, n);
}

GPtrArray *gpup_host_problems(struct gpup_host *h)
{
    return h->problems;
}

const struct gpup_config *gpup_host_config(struct gpup_host *h)
{
    return h->config;
}

const char *gpup_host_sysfs(struct gpup_host *h)
{
    return h->system.sysfs;
}

struct gpup_gpu *gpup_host_gpu_by_key(struct gpup_host *h, const char *key)
{
    size_t n;
    struct gpup_gpu *const *gpus = gpup_host_gpus(h, &n);

    for (size_t i = 0; i < n; i++) {
        if (strcmp(gpus[i]->key, key) == 0)
            return gpus[i];
    }
    return NULL;
}

struct gpup_gpu *gpup_host_gpu_at(struct gpup_host *h, const char *id)
{
    size_t n;
    struct gpup_gpu *const *gpus = gpup_host_gpus(h, &n);

    for (size_t i = 0; i < n; i++) {
        if (strcmp(gpus[i]->id, id) == 0)
            return gpus[i];
    }
    return NULL;
}

struct gpup_gpu *gpup_host_gpu_of(struct gpup_host *h, const struct gpup_claim *claim)
{
    return gpup_host_gpu_by_key(h, claim->gpu);
}

void gpup_host_partition_name(struct gpup_host *h, const struct gpup_claim *claim, char *buf,
                              size_t size)
{
    struct gpup_gpu *gpu = gpup_host_gpu_of(h, claim);

    snprintf(buf, size, "%s/%u", gpu ? gpup_gpu_short_id(gpu) : claim->gpu, claim->slot);
}

/* ---- what an administrator has to know ---- */

void gpup_host_problem(struct gpup_host *h, const char *text)
{
    g_warning("%s", text);
    g_ptr_array_add(h->problems, g_strdup(text));
}

void gpup_host_add_problem(struct gpup_host *h, const char *fmt, ...)
{
    g_autofree char *text = NULL;
    va_list args;

    va_start(args, fmt);
    text = g_strdup_vprintf(fmt, args);
    va_end(args);
    gpup_host_problem(h, text);
}

void gpup_host_add_problems(struct gpup_host *h, GPtrArray *texts)
{
    for (guint i = 0; i < texts->len; i++)
        gpup_host_problem(h, texts->pdata[i]);
}

void gpup_host_drop_problem(struct gpup_host *h, const char *text)
{
    guint i;

    if (g_ptr_array_find_with_equal_func(h->problems, text, g_str_equal, &i))
        g_ptr_array_remove_index(h->problems, i);
}

/* ---- life ---- */

static unsigned wanted_count(const char *key, void *data)
{
    return gpup_store_peek_count(((const struct gpup_folders *)data)->state, key);
}

static char *whole_key(const char *address, const char *pci_id, void *data)
{
    return gpup_store_whole_key(((const struct gpup_folders *)data)->state, address, pci_id);
}

static void inventory_changed(void *data)
{
    gpup_host_apply_to_recovered(data);
    gpup_host_note_cleared(data);
    gpup_host_check_cleared(data);
    gpup_host_tell(data);
}

static int make_folders(const struct gpup_folders *folders, struct gpup_error **err)
{
    /* libvirt looks at vm/ADAPTER; the rest is nobody's business */
    static const struct {
        const char *name;
        mode_t mode;
    } below[] = {{"reservations", 0700}, {"vm", 0755}, {"underway", 0700}, {"restarts", 0700}};

    if (g_mkdir_with_parents(folders->run, 0755) < 0 ||
        g_mkdir_with_parents(folders->state, 0700) < 0)
        return gpup_error_set(err, errno, "the folders %s and %s cannot be made: %s", folders->run,
                              folders->state, g_strerror(errno));
    for (size_t i = 0; i < G_N_ELEMENTS(below); i++) {
        g_autofree char *path = g_build_filename(folders->run, below[i].name, NULL);

        if (g_mkdir_with_parents(path, 0755) < 0 || chmod(path, below[i].mode) < 0)
            return gpup_error_set(err, errno, "the folder %s cannot be made: %s", path,
                                  g_strerror(errno));
    }
    return 0;
}

struct gpup_host *gpup_host_new(const struct gpup_config *config,
                                const struct gpup_folders *folders, gpup_host_changed changed,
                                void *data, struct gpup_error **err)
{
    struct gpup_host *h;

    if (make_folders(folders, err) < 0)
        return NULL;
    h = g_new0(struct gpup_host, 1);
    h->config = config;
    h->folders = folders;
    h->system = (struct gpup_system){.sysfs = folders->sysfs ? folders->sysfs : "/sys",
                                     .dev = folders->dev ? folders->dev : "/dev",
                                     .proc = folders->proc ? folders->proc : "/proc",
                                     .helper = folders->gpu_helper,
                                     .pci_ids = (const char *const *)config->pci_ids,
                                     .settings_by_gpu = config->settings_by_gpu,
                                     .wanted = wanted_count,
                                     .whole_key = whole_key,
                                     .data = (void *)folders,
                                     .software = config->software,
                                     .software_memory = config->software_memory,
                                     .software_cpus = config->software_cpus,
                                     .memory_by_gpu = config->memory_by_gpu};
    h->claims =
        g_hash_table_new_full(g_str_hash, g_str_equal, NULL, (GDestroyNotify)gpup_claim_free);
    h->wedged = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    h->clearing = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    h->again = gpup_host_again_table();
    h->problems = g_ptr_array_new_with_free_func(g_free);
    h->pending = g_ptr_array_new();
    h->waiting = g_ptr_array_new();
    h->inventory = gpup_inventory_new(&h->system, err);
    if (!h->inventory) {
        gpup_host_free(h);
        return NULL;
    }
    gpup_host_apply_stored(h, true);
    gpup_host_apply_to_recovered(h); /* none yet: those that are wedged are remembered */
    gpup_host_adopt_claims(h);
    gpup_host_clear_on(h);
    gpup_inventory_on_change(h->inventory, inventory_changed, h);
    h->changed = changed;
    h->data = data;
    return h;
}

bool gpup_host_is_busy(struct gpup_host *h)
{
    return gpup_inventory_is_busy(h->inventory);
}

void gpup_host_free(struct gpup_host *h)
{
    if (!h)
        return;
    gpup_host_orphan_pending(h);
    g_hash_table_unref(h->claims);
    g_hash_table_unref(h->wedged);
    g_hash_table_unref(h->clearing);
    g_hash_table_unref(h->again);
    g_ptr_array_unref(h->problems);
    gpup_inventory_free(h->inventory);
    g_free(h);
}
