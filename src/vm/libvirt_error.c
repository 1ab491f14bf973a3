/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "vm/libvirt_error.h"

#include "core/error.h"

#include <errno.h>
#include <glib.h>
#include <string.h>

/* How the hook begins what it says, and where libvirt puts it. */
#define HOOK_TEXT "gpup: "
#define HOOK_MARK "unexpected exit status"

/* A refusal that may be none later: all partitions taken, too little left. */
static int hook_code(const char *text)
{
    return strstr(text, "no partition for") || strstr(text, "still running") ? EBUSY : EIO;
}

/* What our hook said, or NULL. Before the mark stands the command, with the VM's name in it. */
static const char *hook_text(const char *message)
{
    const char *mark = strstr(message, HOOK_MARK);
    const char *text = mark ? strstr(mark, HOOK_TEXT) : NULL;

    return text ? text + strlen(HOOK_TEXT) : NULL;
}

static int code_of(const virError *error)
{
    if (error->domain == VIR_FROM_RPC) /* the connection broke, or was closed meanwhile */
        return ENOTCONN;
    switch (error->code) {
    case VIR_ERR_NO_DOMAIN:
        return ENOENT;
    case VIR_ERR_AUTH_FAILED:
    case VIR_ERR_AUTH_CANCELLED:
    case VIR_ERR_AUTH_UNAVAILABLE:
    case VIR_ERR_ACCESS_DENIED:
    case VIR_ERR_OPERATION_DENIED:
        return EACCES;
    case VIR_ERR_NO_CONNECT:
    case VIR_ERR_INVALID_CONN:
        return ENOTCONN;
    case VIR_ERR_OPERATION_TIMEOUT:
    case VIR_ERR_AGENT_UNRESPONSIVE:
        return ETIMEDOUT;
    case VIR_ERR_RESOURCE_BUSY:
        return EBUSY;
    case VIR_ERR_NO_SUPPORT:
    case VIR_ERR_CONFIG_UNSUPPORTED:
    case VIR_ERR_OPERATION_UNSUPPORTED:
        return EOPNOTSUPP;
    case VIR_ERR_NO_MEMORY:
        return ENOMEM;
    default:
        return EIO;
    }
}

int gpup_libvirt_error_from(struct gpup_error **err, const char *doing, const virError *error)
{
    const char *message = error && error->message ? error->message : "libvirt does not say why";
    const char *text = hook_text(message);
    g_autofree char *clean = g_strchomp(g_strdup(text ? text : message));

    if (text)
        return gpup_error_set(err, hook_code(clean), "%s", clean);
    return gpup_error_set(err, error ? code_of(error) : EIO, "%s: %s", doing, clean);
}

int gpup_libvirt_error(struct gpup_error **err, const char *doing)
{
    return gpup_libvirt_error_from(err, doing, virGetLastError());
}
