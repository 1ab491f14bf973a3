/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_DAEMON_RESETS_H
#define GPUP_DAEMON_RESETS_H

#include <stdbool.h>

struct gpup_error;

/*
 * Tells what the kernel does with GPUs by itself, from the main loop:
 *
 *   its driver has reset a GPU: uevents of the subsystem drm with RESET=1 (i915) or WEDGED=...
 * (every driver since Linux 6.15; "Device Wedging" in its GPU driver documentation); a driver has
 * taken a PCI function (uevent "bind"): it may have been loaded anew.
 */
struct gpup_resets;

/* address: the function's, such as "0000:03:00.0". */
typedef void (*gpup_resets_func)(const char *address, void *data);

struct gpup_resets *gpup_resets_new(gpup_resets_func reset, gpup_resets_func bound, void *data,
                                    struct gpup_error **err);
void gpup_resets_free(struct gpup_resets *resets);

/* Whether a uevent with this action and these properties (NULL: it has none) is about a reset. */
bool gpup_resets_is_one(const char *action, const char *reset, const char *wedged);

#endif
