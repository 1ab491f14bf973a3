/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/resets.h"

#include "core/error.h"

#include <errno.h>
#include <glib-unix.h>
#include <libudev.h>

struct gpup_resets {
    struct udev *udev;
    struct udev_monitor *monitor;
    guint source;
    gpup_resets_func reset, bound;
    void *data;
};

bool gpup_resets_is_one(const char *action, const char *reset, const char *wedged)
{
    return g_strcmp0(action, "change") == 0 && (g_strcmp0(reset, "1") == 0 || wedged);
}

static void on_drm(struct gpup_resets *r, struct udev_device *device)
{
    struct udev_device *pci = udev_device_get_parent_with_subsystem_devtype(device, "pci", NULL);

    /* the parent is the device's */
    if (pci && gpup_resets_is_one(udev_device_get_action(device),
                                  udev_device_get_property_value(device, "RESET"),
                                  udev_device_get_property_value(device, "WEDGED")))
        r->reset(udev_device_get_sysname(pci), r->data);
}

static gboolean on_uevent(int fd, GIOCondition condition, void *data)
{
    struct gpup_resets *r = data;
    struct udev_device *device = udev_monitor_receive_device(r->monitor);

    if (!device)
        return G_SOURCE_CONTINUE;
    if (g_strcmp0(udev_device_get_subsystem(device), "drm") == 0)
        on_drm(r, device);
    else if (g_strcmp0(udev_device_get_action(device), "bind") == 0)
        r->bound(udev_device_get_sysname(device), r->data);
    udev_device_unref(device);
    return G_SOURCE_CONTINUE;
}

struct gpup_resets *gpup_resets_new(gpup_resets_func reset, gpup_resets_func bound, void *data,
                                    struct gpup_error **err)
{
    struct gpup_resets *r = g_new0(struct gpup_resets, 1);

    r->reset = reset;
    r->bound = bound;
    r->data = data;
    r->udev = udev_new();
    /* the kernel's own: there need be no udevd */
    r->monitor = r->udev ? udev_monitor_new_from_netlink(r->udev, "kernel") : NULL;
    if (!r->monitor ||
        udev_monitor_filter_add_match_subsystem_devtype(r->monitor, "drm", NULL) < 0 ||
        udev_monitor_filter_add_match_subsystem_devtype(r->monitor, "pci", NULL) < 0 ||
        udev_monitor_enable_receiving(r->monitor) < 0) {
        gpup_error_set(err, EIO, "resets of GPUs are not seen: no uevents");
        gpup_resets_free(r);
        return NULL;
    }
    r->source = g_unix_fd_add(udev_monitor_get_fd(r->monitor), G_IO_IN, on_uevent, r);
    return r;
}

void gpup_resets_free(struct gpup_resets *r)
{
    if (!r)
        return;
    g_clear_handle_id(&r->source, g_source_remove);
    udev_monitor_unref(r->monitor);
    udev_unref(r->udev);
    g_free(r);
}
