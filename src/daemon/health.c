/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/health.h"

#include "core/error.h"
#include "daemon/keyfile.h"

#include <stdbool.h>
#include <string.h>

#define GROUP      "health"
#define GPU_PREFIX "gpu "
#define VM_PREFIX  "adapter "
#define FLUSH_MS   1000

static const char *const names[GPUP_TROUBLES] = {
    [GPUP_TROUBLE_DEATH] = "renderer-deaths",
    [GPUP_TROUBLE_HANG] = "hangs",
    [GPUP_TROUBLE_RESET] = "resets",
    [GPUP_TROUBLE_MEMORY] = "refused-memory",
    [GPUP_TROUBLE_COMMAND] = "refused-commands",
    [GPUP_TROUBLE_START] = "refused-starts",
};

/* What an adapter's device process had told when its GPU's total was last written. */
struct report {
    char nonce[37];
    struct gpup_troubles told;
};

struct gpup_health {
    char *path;
    gint64 since;
    GHashTable *gpus;    /* key -> struct gpup_troubles * */
    GHashTable *reports; /* adapter -> struct report * */
    guint flush;
};

const char *gpup_trouble_name(enum gpup_trouble trouble)
{
    return names[trouble];
}

static struct gpup_troubles *of_gpu(struct gpup_health *h, const char *key)
{
    struct gpup_troubles *t = g_hash_table_lookup(h->gpus, key);

    if (!t) {
        t = g_new0(struct gpup_troubles, 1);
        g_hash_table_insert(h->gpus, g_strdup(key), t);
    }
    return t;
}

static struct report *of_adapter(struct gpup_health *h, const char *adapter, const char *nonce)
{
    struct report *r = g_hash_table_lookup(h->reports, adapter);

    if (!r) {
        r = g_new0(struct report, 1);
        g_hash_table_insert(h->reports, g_strdup(adapter), r);
    }
    if (strcmp(r->nonce, nonce) != 0)
        *r = (struct report){0};
    g_strlcpy(r->nonce, nonce, sizeof(r->nonce));
    return r;
}

/* ---- the file ---- */

static void save_counts(GKeyFile *file, const char *group, const struct gpup_troubles *t)
{
    for (int i = 0; i < GPUP_TROUBLES; i++)
        g_key_file_set_uint64(file, group, names[i], t->count[i]);
}

static void load_counts(GKeyFile *file, const char *group, struct gpup_troubles *t)
{
    for (int i = 0; i < GPUP_TROUBLES; i++)
        t->count[i] = g_key_file_get_uint64(file, group, names[i], NULL);
}

void gpup_health_flush(struct gpup_health *h)
{
    g_autoptr(GKeyFile) file = g_key_file_new();
    GPUP_AUTO_ERROR err = NULL;
    GHashTableIter iter;
    void *key, *value;

    g_clear_handle_id(&h->flush, g_source_remove);
    g_key_file_set_integer(file, GROUP, "version", GPUP_KEYFILE_VERSION);
    g_key_file_set_int64(file, GROUP, "since", h->since);
    g_hash_table_iter_init(&iter, h->gpus);
    while (g_hash_table_iter_next(&iter, &key, &value)) {
        g_autofree char *group = g_strconcat(GPU_PREFIX, key, NULL);

        save_counts(file, group, value);
    }
    g_hash_table_iter_init(&iter, h->reports);
    while (g_hash_table_iter_next(&iter, &key, &value)) {
        g_autofree char *group = g_strconcat(VM_PREFIX, key, NULL);

        g_key_file_set_string(file, group, "nonce", ((struct report *)value)->nonce);
        save_counts(file, group, &((struct report *)value)->told);
    }
    if (gpup_keyfile_write(h->path, file, &err) < 0)
        g_warning("%s", gpup_error_message(err));
}

static gboolean flush_now(void *data)
{
    struct gpup_health *h = data;

    h->flush = 0;
    gpup_health_flush(h);
    return G_SOURCE_REMOVE;
}

/* Soon: totals and reports are written together, so that nothing is counted twice however gpupd
 * ends. */
static void changed(struct gpup_health *h)
{
    if (h->flush == 0)
        h->flush = g_timeout_add(FLUSH_MS, flush_now, h);
}

static void load(struct gpup_health *h)
{
    g_autoptr(GKeyFile) file = NULL;
    GPUP_AUTO_ERROR err = NULL;
    g_auto(GStrv) groups = NULL;
    gint64 since;

    if (!g_file_test(h->path, G_FILE_TEST_EXISTS))
        return;
    if (gpup_keyfile_read(h->path, GROUP, &file, &err) < 0) {
        g_warning("%s", gpup_error_message(err));
        return;
    }
    since = g_key_file_get_int64(file, GROUP, "since", NULL);
    if (since <= 0) {
        gpup_keyfile_set_aside(h->path, "it does not say since when it counts", &err);
        g_warning("%s", gpup_error_message(err));
        return;
    }
    h->since = MIN(since, h->since); /* the clock was set back */
    groups = g_key_file_get_groups(file, NULL);
    for (char **group = groups; *group; group++) {
        if (g_str_has_prefix(*group, GPU_PREFIX)) {
            load_counts(file, *group, of_gpu(h, *group + strlen(GPU_PREFIX)));
        } else if (g_str_has_prefix(*group, VM_PREFIX)) {
            g_autofree char *nonce = g_key_file_get_string(file, *group, "nonce", NULL);

            if (nonce)
                load_counts(file, *group, &of_adapter(h, *group + strlen(VM_PREFIX), nonce)->told);
        }
    }
}

struct gpup_health *gpup_health_new(const char *run_dir)
{
    struct gpup_health *h = g_new0(struct gpup_health, 1);

    h->path = g_build_filename(run_dir, "health", NULL);
    h->since = g_get_real_time();
    h->gpus = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    h->reports = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    load(h);
    changed(h); /* since when */
    return h;
}

void gpup_health_free(struct gpup_health *h)
{
    if (!h)
        return;
    if (h->flush)
        gpup_health_flush(h);
    g_hash_table_unref(h->gpus);
    g_hash_table_unref(h->reports);
    g_free(h->path);
    g_free(h);
}

/* ---- counting ---- */

void gpup_health_report(struct gpup_health *h, const char *key, const char *adapter,
                        const char *nonce, const struct gpup_msg_usage *usage,
                        struct gpup_troubles *fresh)
{
    const struct gpup_troubles now = {.count = {
                                          [GPUP_TROUBLE_DEATH] = usage->renderer_deaths,
                                          [GPUP_TROUBLE_HANG] = usage->renderer_hangs,
                                          [GPUP_TROUBLE_MEMORY] = usage->refused,
                                          [GPUP_TROUBLE_COMMAND] = usage->stream_errors,
                                      }};
    struct report *r = of_adapter(h, adapter, nonce);
    struct gpup_troubles *total = of_gpu(h, key);
    bool any = false;

    *fresh = (struct gpup_troubles){0};
    for (int i = 0; i < GPUP_TROUBLES; i++) {
        /* a guest may have taken its device process over: a count that falls says nothing */
        if (now.count[i] > r->told.count[i])
            fresh->count[i] = now.count[i] - r->told.count[i];
        if (__builtin_add_overflow(total->count[i], fresh->count[i], &total->count[i]))
            total->count[i] = G_MAXUINT64;
        any |= fresh->count[i] > 0;
    }
    r->told = now;
    if (any)
        changed(h);
}

void gpup_health_end(struct gpup_health *h, const char *adapter)
{
    if (g_hash_table_remove(h->reports, adapter))
        changed(h);
}

void gpup_health_add(struct gpup_health *h, const char *key, enum gpup_trouble trouble)
{
    of_gpu(h, key)->count[trouble]++;
    changed(h);
}

void gpup_health_get(struct gpup_health *h, const char *key, struct gpup_troubles *total)
{
    const struct gpup_troubles *t = g_hash_table_lookup(h->gpus, key);

    *total = t ? *t : (struct gpup_troubles){0};
}

gint64 gpup_health_since(struct gpup_health *h)
{
    return h->since;
}
