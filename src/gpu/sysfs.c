/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gpu/sysfs.h"

#include "core/file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

char *gpup_sysfs_read(const char *dir, const char *name)
{
    g_autofree char *path = g_build_filename(dir, name, NULL);
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    char buf[4096];
    ssize_t n;

    if (fd < 0)
        return NULL;
    n = read(fd, buf, sizeof(buf) - 1);
    close(fd);
    if (n < 0)
        return NULL;
    buf[n] = '\0';
    buf[strcspn(buf, "\n")] = '\0';
    return g_strdup(g_strstrip(buf));
}

bool gpup_sysfs_read_number(const char *dir, const char *name, uint64_t *value)
{
    g_autofree char *text = gpup_sysfs_read(dir, name);
    char *end = NULL;

    if (!text || !g_ascii_isdigit(text[0]))
        return false;
    errno = 0;
    *value = g_ascii_strtoull(text, &end, g_str_has_prefix(text, "0x") ? 16 : 10);
    return errno == 0 && *end == '\0';
}

char *gpup_sysfs_link_name(const char *dir, const char *name)
{
    g_autofree char *path = g_build_filename(dir, name, NULL);
    g_autofree char *target = g_file_read_link(path, NULL);

    return target ? g_path_get_basename(target) : NULL;
}

int gpup_sysfs_write(const char *dir, const char *name, const char *text)
{
    g_autofree char *path = g_build_filename(dir, name, NULL);

    return gpup_file_write(AT_FDCWD, path, text);
}

int gpup_sysfs_write_number(const char *dir, const char *name, uint64_t value)
{
    g_autofree char *text = g_strdup_printf("%" G_GUINT64_FORMAT, (guint64)value);

    return gpup_sysfs_write(dir, name, text);
}

bool gpup_sysfs_exists(const char *dir, const char *name)
{
    g_autofree char *path = g_build_filename(dir, name, NULL);

    return g_file_test(path, G_FILE_TEST_EXISTS);
}

static int compare_names(gconstpointer a, gconstpointer b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

GPtrArray *gpup_sysfs_list(const char *dir, const char *name)
{
    GPtrArray *names = g_ptr_array_new_with_free_func(g_free);
    g_autofree char *path = g_build_filename(dir, name, NULL);
    g_autoptr(GDir) entries = g_dir_open(path, 0, NULL);
    const char *entry;

    while (entries && (entry = g_dir_read_name(entries)))
        g_ptr_array_add(names, g_strdup(entry));
    g_ptr_array_sort(names, compare_names);
    return names;
}
