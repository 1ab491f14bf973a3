/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_DAEMON_VMS_H
#define GPUP_DAEMON_VMS_H

#include "vm/manager.h"

/*
 * The VMs as libvirt told them last: all are listed in a worker thread when it is connected, and
 * one is asked for again when it changes, so that the main thread never waits for libvirt.
 */
struct gpup_vms;

/* changed: the list, or the connection, is different now. */
struct gpup_vms *gpup_vms_new(const char *uri, void (*changed)(void *data), void *data);
/* Nothing more is asked, and what waits for libvirt gives up. Returns at once. */
void gpup_vms_end(struct gpup_vms *vms);
bool gpup_vms_are_busy(struct gpup_vms *vms); /* a worker, or the manager, is not done yet */
/* When they are not busy, and nobody uses the manager. */
void gpup_vms_free(struct gpup_vms *vms);

GPtrArray *gpup_vms_list(struct gpup_vms *vms); /* struct gpup_vm *, borrowed */
struct gpup_vm *gpup_vms_find(struct gpup_vms *vms, const char *name_or_uuid); /* or NULL */
bool gpup_vms_connected(struct gpup_vms *vms);
const char *gpup_vms_error(struct gpup_vms *vms); /* why not; "" when connected */
/* True once a list was received on this connection: absence then means something. */
bool gpup_vms_known(struct gpup_vms *vms);
/* When libvirt was asked for this VM last (monotonic, microseconds): that says nothing about what
 * happened later. 0: it is not known now. */
gint64 gpup_vms_asked(struct gpup_vms *vms, const char *uuid);
void gpup_vms_refresh(struct gpup_vms *vms);
/* What a caller has just learnt of a VM; taken. */
void gpup_vms_put(struct gpup_vms *vms, struct gpup_vm *vm);
struct gpup_manager *gpup_vms_manager(struct gpup_vms *vms); /* for worker threads */

#endif
