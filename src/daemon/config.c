/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/config.h"

#include "core/error.h"
#include "core/units.h"

#include <errno.h>
#include <string.h>

#define MAX_CPUS 4096u

typedef int (*setter)(const char *text, const char *group, struct gpup_config *config,
                      struct gpup_error **err);

static int number(const char *text, unsigned most, unsigned *value, struct gpup_error **err)
{
    guint64 n;

    if (!g_ascii_string_to_unsigned(text, 10, 0, most, &n, NULL))
        return gpup_error_set(err, EINVAL, "'%s' is not a number from 0 to %u", text, most);
    *value = (unsigned)n;
    return 0;
}

static int set_policy(const char *text, const char *group, struct gpup_config *c,
                      struct gpup_error **err)
{
    if (gpup_policy_from_name(text, &c->policy) < 0)
        return gpup_error_set(err, EINVAL, "'%s' is not a policy: it is spread or pack", text);
    return 0;
}

static int set_hang(const char *text, const char *group, struct gpup_config *c,
                    struct gpup_error **err)
{
    return number(text, 3600, &c->hang_seconds, err);
}

static int set_gpu_time(const char *text, const char *group, struct gpup_config *c,
                        struct gpup_error **err)
{
    static const char *const names[] = {[GPUP_TIME_WEIGHTED] = "weighted",
                                        [GPUP_TIME_BEST_EFFORT] = "best-effort",
                                        [GPUP_TIME_EQUAL_SHARE] = "equal-share",
                                        [GPUP_TIME_FIXED_SHARE] = "fixed-share"};

    for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
        if (strcmp(text, names[i]) == 0) {
            c->gpu_time = (enum gpup_time_policy)i;
            return 0;
        }
    }
    return gpup_error_set(err, EINVAL,
                          "'%s' is no way of dividing GPU time: it is weighted, best-effort, "
                          "equal-share or fixed-share",
                          text);
}

static int set_slice(const char *text, const char *group, struct gpup_config *c,
                     struct gpup_error **err)
{
    return number(text, 100, &c->slice_ms, err);
}

static int set_enabled(const char *text, const char *group, struct gpup_config *c,
                       struct gpup_error **err)
{
    if (strcmp(text, "true") != 0 && strcmp(text, "false") != 0)
        return gpup_error_set(err, EINVAL, "'%s' is neither true nor false", text);
    c->software = strcmp(text, "true") == 0;
    return 0;
}

static int set_software_memory(const char *text, const char *group, struct gpup_config *c,
                               struct gpup_error **err)
{
    return gpup_parse_size(text, &c->software_memory, err);
}

static int set_cpus(const char *text, const char *group, struct gpup_config *c,
                    struct gpup_error **err)
{
    return number(text, MAX_CPUS, &c->software_cpus, err);
}

static int set_gpu_memory(const char *text, const char *group, struct gpup_config *c,
                          struct gpup_error **err)
{
    guint64 *bytes = g_new0(guint64, 1);
    uint64_t value = 0;
    int ret = gpup_parse_size(text, &value, err);

    *bytes = value;
    g_hash_table_insert(c->memory_by_gpu, g_strdup(group + strlen("gpu ")), bytes);
    return ret;
}

static int set_pci_ids(const char *text, const char *group, struct gpup_config *c,
                       struct gpup_error **err)
{
    g_auto(GStrv) words = g_strsplit_set(text, " ,;", 0);
    g_autoptr(GPtrArray) ids = g_ptr_array_new_with_free_func(g_free);

    for (char **word = words; *word; word++) {
        if (!**word)
            continue;
        if (strlen(*word) != 9 || (*word)[4] != ':' ||
            strspn(*word, "0123456789abcdefABCDEF") != 4 ||
            strspn(*word + 5, "0123456789abcdefABCDEF") != 4)
            return gpup_error_set(err, EINVAL,
                                  "'%s' is not a PCI id such as 8086:56c0 (lspci -nn shows them)",
                                  *word);
        g_ptr_array_add(ids, g_ascii_strdown(*word, -1));
    }
    g_ptr_array_add(ids, NULL);
    g_strfreev(c->pci_ids);
    c->pci_ids = (char **)g_ptr_array_steal(ids, NULL);
    return 0;
}

static int add_setting(struct gpup_config *c, const char *group, const char *name,
                       const char *value)
{
    const char *gpu = group + strlen("gpu ");
    GHashTable *settings = g_hash_table_lookup(c->settings_by_gpu, gpu);

    if (!settings) {
        settings = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
        g_hash_table_insert(c->settings_by_gpu, g_strdup(gpu), settings);
    }
    g_hash_table_replace(settings, g_strdup(name), g_strdup(value));
    return 0;
}

static int set_kind(const char *text, const char *group, struct gpup_config *c,
                    struct gpup_error **err)
{
    enum gpup_kind kind;

    if (gpup_kind_from_name(text, &kind) < 0 || kind == GPUP_KIND_PASSTHROUGH)
        return gpup_error_set(err, EINVAL, "'%s' is no kind of partition: it is sriov or virtio",
                              text);
    return add_setting(c, group, "kind", text);
}

static int set_priority(const char *text, const char *group, struct gpup_config *c,
                        struct gpup_error **err)
{
    if (strcmp(text, "low") != 0 && strcmp(text, "normal") != 0)
        return gpup_error_set(err, EINVAL, "'%s' is no priority of VFs: it is low or normal", text);
    return add_setting(c, group, "sched-priority", text);
}

/* Settings of a GPU with few values, kept as they are. */
static int set_word(const char *name, const char *const *words, const char *text, const char *group,
                    struct gpup_config *c, struct gpup_error **err)
{
    g_autofree char *list = NULL;

    if (g_strv_contains(words, text))
        return add_setting(c, group, name, text);
    list = g_strjoinv(", ", (char **)words);
    return gpup_error_set(err, EINVAL, "'%s' is none of %s", text, list);
}

static int set_vgpu_class(const char *text, const char *group, struct gpup_config *c,
                          struct gpup_error **err)
{
    static const char *const words[] = {"Q", "B", "C", "A", NULL};

    return set_word("vgpu-class", words, text, group, c, err);
}

static int set_vgpu_mode(const char *text, const char *group, struct gpup_config *c,
                         struct gpup_error **err)
{
    static const char *const words[] = {"homogeneous", "heterogeneous", NULL};

    return set_word("vgpu-mode", words, text, group, c, err);
}

static int set_vgpu_scheduler(const char *text, const char *group, struct gpup_config *c,
                              struct gpup_error **err)
{
    static const char *const words[] = {"best-effort", "equal-share", "fixed-share", NULL};

    return set_word("vgpu-scheduler", words, text, group, c, err);
}

static int set_vgpu_slice(const char *text, const char *group, struct gpup_config *c,
                          struct gpup_error **err)
{
    unsigned ms;
    int ret = number(text, 30, &ms, err);

    return ret < 0 ? ret : add_setting(c, group, "vgpu-slice-ms", text);
}

static const struct {
    const char *group; /* "gpu " stands for every group that begins so */
    const char *key;
    setter set;
} settings[] = {
    {"gpup", "policy", set_policy},
    {"gpup", "hang-seconds", set_hang},
    {"gpup", "gpu-time", set_gpu_time},
    {"gpup", "slice-ms", set_slice},
    {"gpup", "pci-ids", set_pci_ids},
    {"software", "enabled", set_enabled},
    {"software", "memory", set_software_memory},
    {"software", "cpus", set_cpus},
    {"gpu ", "memory", set_gpu_memory},
    {"gpu ", "vgpu-class", set_vgpu_class},
    {"gpu ", "vgpu-mode", set_vgpu_mode},
    {"gpu ", "vgpu-scheduler", set_vgpu_scheduler},
    {"gpu ", "vgpu-slice-ms", set_vgpu_slice},
    {"gpu ", "sched-priority", set_priority},
    {"gpu ", "kind", set_kind},
};

static bool is_group(const char *pattern, const char *group)
{
    size_t n = strlen(pattern);

    return pattern[n - 1] == ' ' ? strncmp(group, pattern, n) == 0 && group[n]
                                 : strcmp(group, pattern) == 0;
}

static int read_key(GKeyFile *file, const char *group, const char *key, struct gpup_config *c,
                    struct gpup_error **err)
{
    g_autofree char *text = g_key_file_get_string(file, group, key, NULL);

    for (size_t i = 0; i < G_N_ELEMENTS(settings); i++) {
        int ret;

        if (!is_group(settings[i].group, group) || strcmp(settings[i].key, key) != 0)
            continue;
        ret = text ? settings[i].set(text, group, c, err)
                   : gpup_error_set(err, EINVAL, "the value cannot be read");
        return ret < 0 ? gpup_error_wrap(err, "[%s] %s", group, key) : 0;
    }
    return gpup_error_set(err, EINVAL, "[%s] %s: there is no such setting, see gpup.conf(5)", group,
                          key);
}

static int read_all(GKeyFile *file, struct gpup_config *c, struct gpup_error **err)
{
    g_auto(GStrv) groups = g_key_file_get_groups(file, NULL);
    int ret = 0;

    for (char **group = groups; ret == 0 && *group; group++) {
        g_auto(GStrv) keys = g_key_file_get_keys(file, *group, NULL, NULL);

        for (char **key = keys; ret == 0 && key && *key; key++)
            ret = read_key(file, *group, *key, c, err);
    }
    return ret;
}

int gpup_config_read(const char *path, struct gpup_config *c, struct gpup_error **err)
{
    g_autoptr(GKeyFile) file = g_key_file_new();
    g_autoptr(GError) error = NULL;

    *c = (struct gpup_config){
        .policy = GPUP_POLICY_SPREAD,
        .hang_seconds = 10,
        .software = true,
        .settings_by_gpu = g_hash_table_new_full(g_str_hash, g_str_equal, g_free,
                                                 (GDestroyNotify)g_hash_table_unref),
        .memory_by_gpu = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free)};
    if (!g_key_file_load_from_file(file, path, G_KEY_FILE_NONE, &error)) {
        if (g_error_matches(error, G_FILE_ERROR, G_FILE_ERROR_NOENT))
            return 0;
        return gpup_error_set(err, EINVAL, "%s: %s", path, error->message);
    }
    return read_all(file, c, err) < 0 ? gpup_error_wrap(err, "%s", path) : 0;
}

void gpup_config_clear(struct gpup_config *c)
{
    g_clear_pointer(&c->memory_by_gpu, g_hash_table_unref);
    g_clear_pointer(&c->settings_by_gpu, g_hash_table_unref);
    g_clear_pointer(&c->pci_ids, g_strfreev);
}
