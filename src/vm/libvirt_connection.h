/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_VM_LIBVIRT_CONNECTION_H
#define GPUP_VM_LIBVIRT_CONNECTION_H

#include "vm/manager.h"

#include <libvirt/libvirt.h>

struct gpup_error;

/* The manager's connection with a reference of the caller's (virConnectClose), or NULL with why
 * there is none. */
virConnect *gpup_connection_get(struct gpup_manager *manager, struct gpup_error **err);

#endif
