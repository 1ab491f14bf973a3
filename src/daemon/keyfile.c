/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/keyfile.h"

#include "core/error.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <string.h>

#define MANY 1000u

int gpup_keyfile_write(const char *path, GKeyFile *file, struct gpup_error **err)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *text = g_key_file_to_data(file, NULL, NULL);

    if (!g_file_set_contents_full(path, text, -1,
                                  G_FILE_SET_CONTENTS_CONSISTENT | G_FILE_SET_CONTENTS_DURABLE,
                                  0600, &error))
        return gpup_error_set(err, EIO, "%s cannot be stored: %s", path, error->message);
    return 0;
}

char *gpup_keyfile_name_aside(const char *path, const char *ending)
{
    g_autofree char *aside = g_strconcat(path, ending, NULL);

    for (unsigned n = 2; n < MANY && g_file_test(aside, G_FILE_TEST_EXISTS); n++) {
        g_free(aside);
        aside = g_strdup_printf("%s%s-%u", path, ending, n);
    }
    return g_steal_pointer(&aside);
}

int gpup_keyfile_set_aside(const char *path, const char *why, struct gpup_error **err)
{
    g_autofree char *aside = gpup_keyfile_name_aside(path, ".damaged");

    if (g_rename(path, aside) < 0)
        return gpup_error_set(err, EIO, "%s cannot be used (%s) nor set aside: %s", path, why,
                              g_strerror(errno));
    return gpup_error_set(err, EIO, "%s cannot be used (%s); it was set aside as %s", path, why,
                          aside);
}

/* It is in order, and the gpup that wrote it will want it back. */
static int keep_newer(const char *path, int version, struct gpup_error **err)
{
    g_autofree char *ending = g_strdup_printf(".format-%d", version);
    g_autofree char *aside = gpup_keyfile_name_aside(path, ending);

    if (g_rename(path, aside) < 0)
        return gpup_error_set(err, EIO,
                              "%s: a newer gpup wrote it (format %d, this one reads %d), and it "
                              "cannot be set aside: %s",
                              path, version, GPUP_KEYFILE_VERSION, g_strerror(errno));
    return gpup_error_set(err, EIO,
                          "%s: a newer gpup wrote it (format %d, this one reads %d), so it is not "
                          "used; it was set aside as %s: when that gpup is back, move it there "
                          "again and restart gpupd",
                          path, version, GPUP_KEYFILE_VERSION, aside);
}

static int check_version(const char *path, int version, struct gpup_error **err)
{
    if (version == GPUP_KEYFILE_VERSION)
        return 0;
    if (version > GPUP_KEYFILE_VERSION)
        return keep_newer(path, version, err);
    return gpup_keyfile_set_aside(path, "it has no version", err);
}

int gpup_keyfile_read(const char *path, const char *group, GKeyFile **out, struct gpup_error **err)
{
    g_autoptr(GKeyFile) file = g_key_file_new();
    g_autoptr(GError) error = NULL;
    g_autofree char *text = NULL;
    gsize length;
    int ret;

    if (!g_file_get_contents(path, &text, &length, &error)) {
        if (g_error_matches(error, G_FILE_ERROR, G_FILE_ERROR_NOENT))
            return gpup_error_set(err, ENOENT, "%s: there is none", path);
        return gpup_keyfile_set_aside(path, error->message, err);
    }
    if (length == 0 || text[length - 1] != '\n')
        return gpup_keyfile_set_aside(path, length == 0 ? "it is empty" : "its end is missing",
                                      err);
    if (!g_key_file_load_from_data(file, text, length, G_KEY_FILE_NONE, &error))
        return gpup_keyfile_set_aside(path, error->message, err);
    ret = check_version(path, g_key_file_get_integer(file, group, "version", NULL), err);
    if (ret == 0)
        *out = g_steal_pointer(&file);
    return ret;
}

int gpup_keyfile_remove(const char *path, struct gpup_error **err)
{
    if (g_unlink(path) < 0 && errno != ENOENT)
        return gpup_error_set(err, errno, "%s cannot be removed: %s", path, g_strerror(errno));
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
