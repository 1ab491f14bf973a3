/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_VM_GUEST_H
#define GPUP_VM_GUEST_H

#include "vm/manager.h"

/* Reads an answer to guest-get-devices: the graphics driver of this vendor's device. False where it
 * is none. */
bool gpup_guest_read_devices(const char *answer, unsigned vendor, struct gpup_guest *guest);

#endif
