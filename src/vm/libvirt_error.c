/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "vm/libvirt_error.h"

#include "core/error.h"

#include <errno.h>
#include <glib.h>
#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>
#include <string.h>

/* How the hook begins what it says, and where libvirt puts it. */
#define HOOK_TEXT "gpup: "
#define HOOK_MARK "unexpected exit status"

/* A refusal that may be none later: all partitions taken, too little left. */
static int hook_code(const char *text)
{
    return strstr(text, "no partition for") || strstr(text, "still running") ? EBUSY : EIO;
}

int gpup_libvirt_error_from(struct gpup_error **err, const char *doing, const char *message)
{
    const char *text = strstr(message, HOOK_MARK) ? strstr(message, HOOK_TEXT) : NULL;
    g_autofree char *clean = NULL;

    if (!text)
        return gpup_error_set(err, EIO, "%s: %s", doing, message);
    clean = g_strchomp(g_strdup(text + strlen(HOOK_TEXT)));
    return gpup_error_set(err, hook_code(clean), "%s", clean);
}

int gpup_libvirt_error(struct gpup_error **err, const char *doing)
{
    const char *message = virGetLastErrorMessage();

    return gpup_libvirt_error_from(err, doing, message ? message : "unknown libvirt error");
}
