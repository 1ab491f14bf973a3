/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/keyfile.h"

#include "core/error.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <string.h>

int gpup_keyfile_write(const char *path, GKeyFile *file, struct gpup_error **err)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *text = g_key_file_to_data(file, NULL, NULL);

    if (!g_file_set_contents_full(path, text, -1,
                                  G_FILE_SET_CONTENTS_CONSISTENT | G_FILE_SET_CONTENTS_DURABLE,
                                  0600, &error))
        return gpup_error_set(err, EIO, "%s", error->message);
    return 0;
}

static int set_aside(const char *path, const char *why, struct gpup_error **err)
{
    g_autofree char *aside = g_strconcat(path, ".damaged", NULL);

    if (g_rename(path, aside) < 0)
        return gpup_error_set(err, EIO, "%s is damaged (%s) and cannot be set aside: %s", path, why,
                              g_strerror(errno));
    return gpup_error_set(err, EIO, "%s was damaged (%s); it was set aside as %s", path, why,
                          aside);
}

int gpup_keyfile_read(const char *path, const char *group, GKeyFile **out, struct gpup_error **err)
{
    g_autoptr(GKeyFile) file = g_key_file_new();
    g_autoptr(GError) error = NULL;

    if (!g_key_file_load_from_file(file, path, G_KEY_FILE_NONE, &error)) {
        if (g_error_matches(error, G_FILE_ERROR, G_FILE_ERROR_NOENT))
            return gpup_error_set(err, ENOENT, "%s: there is none", path);
        return set_aside(path, error->message, err);
    }
    if (g_key_file_get_integer(file, group, "version", NULL) != GPUP_KEYFILE_VERSION)
        return set_aside(path, "it has no version that is known", err);
    *out = g_steal_pointer(&file);
    return 0;
}

int gpup_keyfile_remove(const char *path, struct gpup_error **err)
{
    if (g_unlink(path) < 0 && errno != ENOENT)
        return gpup_error_set(err, errno, "%s: %s", path, g_strerror(errno));
    return 0;
}

char *gpup_keyfile_name(const char *key)
{
    GString *name = g_string_new(NULL);

    for (; *key; key++) {
        if (g_ascii_isalnum(*key) || strchr("._-:", *key))
            g_string_append_c(name, *key);
        else
            g_string_append_printf(name, "%%%02X", (unsigned char)*key);
    }
    /* not hidden, and no way up */
    if (name->str[0] == '.')
        g_string_prepend(name, "%");
    return g_string_free(name, FALSE);
}
