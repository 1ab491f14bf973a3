/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gpu/change.h"

#include "core/error.h"

#include <errno.h>
#include <string.h>

/* Looking at the hardware: what the PCI core lists, then what each driver tells. */

static void clear_entry(void *data)
{
    struct gpup_entry *entry = data;

    gpup_gpu_free(entry->gpu);
}

/* By id, the software GPU last. */
int gpup_compare_entries(const void *a, const void *b)
{
    const struct gpup_gpu *x = ((const struct gpup_entry *)a)->gpu;
    const struct gpup_gpu *y = ((const struct gpup_entry *)b)->gpu;
    bool x_software = strcmp(x->id, "software") == 0;
    bool y_software = strcmp(y->id, "software") == 0;

    return x_software != y_software ? x_software - y_software : strcmp(x->id, y->id);
}

void gpup_gpu_set_problem(struct gpup_gpu *gpu, enum gpup_mode mode, const char *reason)
{
    char *copy = strdup(reason); /* it may be the present one */

    free(gpu->reason);
    gpu->reason = copy;
    gpu->mode = mode;
}

/* ---- functions of the PCI bus ---- */

static const struct gpup_provider *provider_for(const struct gpup_system *system,
                                                const struct gpup_pci *pci)
{
    for (size_t i = 0; gpup_providers[i]; i++) {
        if (gpup_providers[i]->claims && gpup_providers[i]->claims(system, pci))
            return gpup_providers[i];
    }
    return NULL;
}

/* The key that it had with its own driver. */
static void keep_key(const struct gpup_system *system, struct gpup_gpu *gpu)
{
    g_autofree char *key =
        system->whole_key ? system->whole_key(gpu->id, gpu->pci_id, system->data) : NULL;

    if (!key)
        return;
    free(gpu->key);
    gpu->key = strdup(key);
}

static void add_functions(const struct gpup_system *system, GArray *entries)
{
    g_autoptr(GPtrArray) list = gpup_pci_list(system);

    for (guint i = 0; i < list->len; i++) {
        struct gpup_entry entry = {.provider = provider_for(system, list->pdata[i]), .stuck = -1};

        if (!entry.provider)
            continue;
        entry.gpu = gpup_pci_gpu(system, list->pdata[i]);
        entry.gpu->kind = entry.provider->kind;
        if (entry.gpu->kind == GPUP_KIND_PASSTHROUGH)
            keep_key(system, entry.gpu);
        g_array_append_val(entries, entry);
    }
}

static void add_probed(const struct gpup_system *system, GArray *entries)
{
    for (size_t i = 0; gpup_providers[i]; i++) {
        g_autoptr(GPtrArray) found = g_ptr_array_new();
        GPUP_AUTO_ERROR err = NULL;

        if (gpup_providers[i]->probe && gpup_providers[i]->probe(system, found, &err) < 0)
            g_warning("looking for %s GPUs: %s", gpup_providers[i]->name, gpup_error_message(err));
        for (guint k = 0; k < found->len; k++) {
            struct gpup_entry entry = {found->pdata[k], gpup_providers[i], -1};

            g_array_append_val(entries, entry);
        }
    }
}

/* ---- what drivers tell ---- */

struct question {
    struct gpup_entry *entry;
    struct gpup_job *job;
    GThread *thread;
};

static void *ask(void *data)
{
    struct question *q = data;
    g_autoptr(gpup_facts) facts = NULL;
    GPUP_AUTO_ERROR err = NULL;
    struct gpup_gpu *gpu = q->entry->gpu;
    int ret = gpup_job_run(q->job, &facts, NULL, &q->entry->stuck, &err);

    if (ret == 0 && facts) {
        gpup_facts_apply(facts, gpu, true);
        gpu->foreign = gpu->n_slots > 0;
    } else {
        gpup_gpu_set_problem(gpu, ret == -ETIMEDOUT ? GPUP_MODE_WEDGED : GPUP_MODE_UNUSABLE,
                             gpup_error_message(err));
    }
    return NULL;
}

/* All at once: one that hangs takes no time from the others. */
static void ask_all(const struct gpup_system *system, GArray *entries, GHashTable *stuck)
{
    g_autofree struct question *questions = g_new0(struct question, entries->len + 1);

    for (guint i = 0; i < entries->len; i++) {
        struct gpup_entry *entry = gpup_entry_at(entries, i);

        if (!entry->provider->describe)
            continue;
        if (stuck && g_hash_table_contains(stuck, entry->gpu->id)) {
            gpup_gpu_set_problem(entry->gpu, GPUP_MODE_WEDGED,
                                 "its driver hangs in an earlier operation; see dmesg");
            continue;
        }
        questions[i].entry = entry;
        questions[i].job =
            gpup_job_new(system, entry->provider, entry->gpu, GPUP_OP_DESCRIBE, 0, NULL);
        questions[i].thread = g_thread_new("gpu", ask, &questions[i]);
    }
    for (guint i = 0; i < entries->len; i++) {
        if (questions[i].thread)
            g_thread_join(questions[i].thread);
        gpup_job_free(questions[i].job);
    }
}

/* ---- one GPU, one entry ---- */

static const char *setting(const struct gpup_system *system, const struct gpup_gpu *gpu,
                           const char *name)
{
    GHashTable *settings = gpup_pci_configured(system->settings_by_gpu, gpu);

    return settings ? g_hash_table_lookup(settings, name) : NULL;
}

/* Of a GPU that can be shared either way: what gpup.conf says, else hardware partitions where they
 * can be had, else virtio. */
static bool is_better(const struct gpup_system *system, const struct gpup_gpu *a,
                      const struct gpup_gpu *b)
{
    const char *kind = setting(system, a, "kind");
    bool a_works = a->mode != GPUP_MODE_UNUSABLE;
    bool b_works = b->mode != GPUP_MODE_UNUSABLE;

    if (kind && a->kind != b->kind)
        return strcmp(gpup_kind_name(a->kind), kind) == 0;
    if (a_works != b_works)
        return a_works;
    return a->kind == GPUP_KIND_SRIOV;
}

static void merge_doubles(const struct gpup_system *system, GArray *entries)
{
    for (guint i = 0; i + 1 < entries->len;) {
        struct gpup_entry *a = gpup_entry_at(entries, i), *b = gpup_entry_at(entries, i + 1);

        if (strcmp(a->gpu->id, b->gpu->id) != 0)
            i++;
        else
            g_array_remove_index(entries, is_better(system, a->gpu, b->gpu) ? i + 1 : i);
    }
}

/* Some makers give all cards one serial number: then the address has to tell them apart. */
static void separate_keys(GArray *entries)
{
    for (guint i = 0; i < entries->len; i++) {
        struct gpup_gpu *gpu = gpup_entry_at(entries, i)->gpu;
        bool doubled = false;

        for (guint k = i + 1; k < entries->len; k++) {
            struct gpup_gpu *other = gpup_entry_at(entries, k)->gpu;

            if (strcmp(gpu->key, other->key) == 0) {
                g_autofree char *key = g_strdup_printf("%s@%s", other->key, other->id);

                free(other->key);
                other->key = strdup(key);
                doubled = true;
            }
        }
        if (doubled) {
            g_autofree char *key = g_strdup_printf("%s@%s", gpu->key, gpu->id);

            free(gpu->key);
            gpu->key = strdup(key);
        }
    }
}

GArray *gpup_probe(const struct gpup_system *system, GHashTable *stuck)
{
    GArray *entries = g_array_new(FALSE, TRUE, sizeof(struct gpup_entry));

    g_array_set_clear_func(entries, clear_entry);
    add_functions(system, entries);
    ask_all(system, entries, stuck);
    add_probed(system, entries);
    g_array_sort(entries, gpup_compare_entries);
    merge_doubles(system, entries);
    separate_keys(entries);
    return entries;
}
