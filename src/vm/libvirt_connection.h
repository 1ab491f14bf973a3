/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_VM_LIBVIRT_CONNECTION_H
#define GPUP_VM_LIBVIRT_CONNECTION_H

#include "vm/manager.h"

#include <libvirt/libvirt.h>

struct gpup_error;

/* The manager's connection with a reference of the caller's (virConnectClose), or NULL with why
 * there is none. */
virConnect *gpup_connection_get(struct gpup_manager *manager, struct gpup_error **err);

typedef virConnect connect_t; /* for g_autoptr */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(connect_t, virConnectClose)
typedef virDomain domain_t; /* for g_autoptr */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(domain_t, virDomainFree)

/* The connection, and on it the VM that a call is about, by name or UUID; both the caller's, also
 * the connection after a failure. -ENOTCONN; -ENOENT lists what there is. */
int gpup_connection_open_domain(struct gpup_manager *manager, const char *vm,
                                connect_t **connection, domain_t **domain, struct gpup_error **err);

/* gpup_manager_end() was called: nothing is waited for any more. */
bool gpup_connection_is_ending(struct gpup_manager *manager);

/* How many events there were. Take it before looking at a VM's state, then wait for more. */
guint gpup_connection_events(struct gpup_manager *manager);
/* Until there were more than `seen`, the connection is lost, or g_get_monotonic_time() is until. */
void gpup_connection_wait(struct gpup_manager *manager, guint seen, gint64 until);

#endif
