/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_VM_LIBVIRT_ERROR_H
#define GPUP_VM_LIBVIRT_ERROR_H

#include <libvirt/virterror.h>

struct gpup_error;

/* The calling thread's last libvirt error as one of ours: what our own hook said comes out as it
 * said it; anything else gets `doing` before it. Returns the negative errno. */
int gpup_libvirt_error(struct gpup_error **err, const char *doing);

/* The same for a given libvirt error, or NULL for one that libvirt does not name. */
int gpup_libvirt_error_from(struct gpup_error **err, const char *doing, const virError *error);

#endif
