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

static const struct {
    const char *group; /* "gpu " stands for every group that begins so */
    const char *key;
    setter set;
} settings[] = {
    {"gpup", "policy", set_policy},       {"gpup", "hang-seconds", set_hang},
    {"software", "enabled", set_enabled}, {"software", "memory", set_software_memory},
    {"software", "cpus", set_cpus},       {"gpu ", "memory", set_gpu_memory},
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

    *c = (struct gpup_config){.policy = GPUP_POLICY_SPREAD,
                              .hang_seconds = 10,
                              .software = true,
                              .memory_by_gpu =
                                  g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free)};
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
}
