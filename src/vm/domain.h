/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_VM_DOMAIN_H
#define GPUP_VM_DOMAIN_H

#include "core/model.h"
#include "vm/device.h"

#include <glib.h>

struct gpup_error;

/*
 * What gpup adds to a VM's persistent definition (libvirt domain XML), and takes out again. Text
 * in, text out: no libvirt. What was added or changed is written down inside the adapter's own
 * element, so that removing it takes out exactly that.
 */

#define GPUP_DOMAIN_FORCE       1u /* a Windows guest */
#define GPUP_DOMAIN_NO_OVERRIDE 2u /* this libvirt does not know qemu:override */

/*
 * Adds the adapter and its device, or changes the values of the one that is there and adds what of
 * its device is missing. An adapter without an id (first character '\0') gets one; the id of one
 * that is there stays, and so does its device. device: NULL for kind virtio. *out and *lines (what
 * was done) are the caller's. -EINVAL or -EOPNOTSUPP: the VM cannot have it; the message says the
 * way out.
 */
int gpup_domain_add_adapter(const char *xml, const struct gpup_adapter *adapter,
                            const struct gpup_device *device, unsigned flags, char **out,
                            GStrv *lines, struct gpup_error **err);

/*
 * libvirt may give the new device a PCI port of its own. Takes the definition as libvirt has it
 * after gpup_domain_add_adapter(), and notes such ports in the adapter. *out: the definition to
 * store then, or NULL when they are noted already.
 */
int gpup_domain_note_ports(const char *xml, char **out, struct gpup_error **err);

/*
 * Makes the adapter's <hostdev> name this device of the host, and those of the other functions of
 * its card with it (gpup_domain_note_ports() is due again where *out is not NULL); everything else
 * stays, what its user wrote into the element too. *out: the definition, or NULL when it does so
 * already. -ENOENT when the VM has no adapter with a <hostdev>.
 */
int gpup_domain_set_device(const char *xml, const struct gpup_device *device, char **out,
                           struct gpup_error **err);

/* -ENOENT when there is no adapter. */
int gpup_domain_remove_adapter(const char *xml, char **out, GStrv *lines, struct gpup_error **err);

#endif
