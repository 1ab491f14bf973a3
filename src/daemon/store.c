/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/store.h"

#include "core/error.h"
#include "daemon/keyfile.h"

#include <errno.h>
#include <string.h>

#define GROUP "gpu"

static char *path_of(const char *dir, const char *key)
{
    g_autofree char *name = gpup_keyfile_name(key);
    g_autofree char *file = g_strconcat(name, ".conf", NULL);

    return g_build_filename(dir, "gpus", file, NULL);
}

/* The entry of a GPU, with what any has, in a folder that is there; NULL with the error. */
static GKeyFile *new_entry(const char *path, const struct gpup_gpu *gpu, struct gpup_error **err)
{
    g_autofree char *folder = g_path_get_dirname(path);
    GKeyFile *file;

    if (g_mkdir_with_parents(folder, 0700) < 0) {
        gpup_error_set(err, errno, "the folder %s cannot be made: %s", folder, g_strerror(errno));
        return NULL;
    }
    file = g_key_file_new();
    g_key_file_set_integer(file, GROUP, "version", GPUP_KEYFILE_VERSION);
    g_key_file_set_string(file, GROUP, "key", gpu->key);
    g_key_file_set_string(file, GROUP, "id", gpu->id);
    g_key_file_set_string(file, GROUP, "name", gpu->name);
    return file;
}

int gpup_store_set_count(const char *dir, const struct gpup_gpu *gpu, unsigned count,
                         struct gpup_error **err)
{
    g_autofree char *path = path_of(dir, gpu->key);
    g_autoptr(GKeyFile) file = NULL;

    if (count == 0)
        return gpup_keyfile_remove(path, err);
    file = new_entry(path, gpu, err);
    if (!file)
        return -EIO;
    g_key_file_set_uint64(file, GROUP, "count", count);
    if (gpu->kind == GPUP_KIND_SRIOV && gpu->elastic)
        g_key_file_set_uint64(file, GROUP, "memory", gpu->resource[GPUP_VRAM].total);
    return gpup_keyfile_write(path, file, err);
}

int gpup_store_get_count(const char *dir, const struct gpup_gpu *gpu, unsigned *count,
                         struct gpup_error **err)
{
    g_autofree char *path = path_of(dir, gpu->key);
    g_autoptr(GKeyFile) file = NULL;
    guint64 value;
    int ret = gpup_keyfile_read(path, GROUP, &file, err);

    *count = 0;
    if (ret == -ENOENT) {
        if (err) {
            gpup_error_free(*err);
            *err = NULL;
        }
        return 0;
    }
    if (ret < 0)
        return ret;
    value = g_key_file_get_uint64(file, GROUP, "count", NULL);
    if (value == 0 || value > GPUP_MAX_SLOTS)
        return gpup_keyfile_set_aside(path, "it has no number of partitions", err);
    *count = (unsigned)value;
    return 0;
}

/* Reads and reports nothing: a damaged entry is left to who can. NULL: there is none. */
static GKeyFile *peek(const char *path)
{
    g_autoptr(GKeyFile) file = g_key_file_new();

    if (!g_key_file_load_from_file(file, path, G_KEY_FILE_NONE, NULL) ||
        g_key_file_get_integer(file, GROUP, "version", NULL) != GPUP_KEYFILE_VERSION)
        return NULL;
    return g_steal_pointer(&file);
}

int gpup_store_set_whole(const char *dir, const struct gpup_gpu *gpu, bool on,
                         struct gpup_error **err)
{
    g_autofree char *path = path_of(dir, gpu->key);
    g_autoptr(GKeyFile) file = NULL;

    if (!on)
        return gpup_keyfile_remove(path, err);
    file = new_entry(path, gpu, err);
    if (!file)
        return -EIO;
    g_key_file_set_string(file, GROUP, "pci-id", gpu->pci_id ? gpu->pci_id : "");
    g_key_file_set_boolean(file, GROUP, "passthrough", TRUE);
    return gpup_keyfile_write(path, file, err);
}

bool gpup_store_is_whole(const char *dir, const char *key)
{
    g_autofree char *path = path_of(dir, key);
    g_autoptr(GKeyFile) file = peek(path);

    return file && g_key_file_get_boolean(file, GROUP, "passthrough", NULL);
}

unsigned gpup_store_peek_count(const char *dir, const char *key)
{
    g_autofree char *path = path_of(dir, key);
    g_autoptr(GKeyFile) file = peek(path);
    guint64 value = file ? g_key_file_get_uint64(file, GROUP, "count", NULL) : 0;

    return value > GPUP_MAX_SLOTS ? 0 : (unsigned)value;
}

uint64_t gpup_store_peek_memory(const char *dir, const char *key)
{
    g_autofree char *path = path_of(dir, key);
    g_autoptr(GKeyFile) file = peek(path);

    return file ? g_key_file_get_uint64(file, GROUP, "memory", NULL) : 0;
}

static char *whole_key(const char *path, const char *address, const char *pci_id)
{
    g_autoptr(GKeyFile) file = peek(path);
    g_autofree char *id = NULL;
    g_autofree char *ids = NULL;

    if (!file || !g_key_file_get_boolean(file, GROUP, "passthrough", NULL))
        return NULL;
    id = g_key_file_get_string(file, GROUP, "id", NULL);
    ids = g_key_file_get_string(file, GROUP, "pci-id", NULL);
    if (g_strcmp0(id, address) != 0 || g_strcmp0(ids, pci_id) != 0)
        return NULL;
    return g_key_file_get_string(file, GROUP, "key", NULL);
}

char *gpup_store_whole_key(const char *dir, const char *address, const char *pci_id)
{
    g_autofree char *folder = g_build_filename(dir, "gpus", NULL);
    g_autoptr(GDir) entries = g_dir_open(folder, 0, NULL);
    const char *name;

    while (entries && (name = g_dir_read_name(entries))) {
        g_autofree char *path = g_build_filename(folder, name, NULL);
        char *key = whole_key(path, address, pci_id);

        if (key)
            return key;
    }
    return NULL;
}

void gpup_store_entry_free(struct gpup_store_entry *entry)
{
    g_free(entry->key);
    g_free(entry->id);
    g_free(entry->name);
    g_free(entry);
}

static struct gpup_store_entry *read_entry(GKeyFile *file)
{
    struct gpup_store_entry *entry = g_new0(struct gpup_store_entry, 1);

    entry->key = g_key_file_get_string(file, GROUP, "key", NULL);
    entry->id = g_key_file_get_string(file, GROUP, "id", NULL);
    entry->name = g_key_file_get_string(file, GROUP, "name", NULL);
    if (entry->key && *entry->key && entry->id && entry->name)
        return entry;
    gpup_store_entry_free(entry);
    return NULL;
}

GPtrArray *gpup_store_entries(const char *dir, GPtrArray *problems)
{
    GPtrArray *all = g_ptr_array_new_with_free_func((GDestroyNotify)gpup_store_entry_free);
    g_autofree char *folder = g_build_filename(dir, "gpus", NULL);
    g_autoptr(GDir) entries = g_dir_open(folder, 0, NULL);
    const char *name;

    while (entries && (name = g_dir_read_name(entries))) {
        g_autofree char *path = g_build_filename(folder, name, NULL);
        g_autoptr(GKeyFile) file = NULL;
        GPUP_AUTO_ERROR err = NULL;
        struct gpup_store_entry *entry = NULL;

        if (!g_str_has_suffix(name, ".conf"))
            continue;
        if (gpup_keyfile_read(path, GROUP, &file, &err) == 0) {
            entry = read_entry(file);
            if (!entry)
                gpup_keyfile_set_aside(path, "it does not say of which GPU it is", &err);
        }
        if (entry)
            g_ptr_array_add(all, entry);
        else
            g_ptr_array_add(problems, g_strdup(gpup_error_message(err)));
    }
    return all;
}

int gpup_store_forget(const char *dir, const char *key, struct gpup_error **err)
{
    g_autofree char *path = path_of(dir, key);

    return gpup_keyfile_remove(path, err);
}
