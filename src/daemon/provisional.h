/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_DAEMON_PROVISIONAL_H
#define GPUP_DAEMON_PROVISIONAL_H

#include "daemon/daemon.h"

struct gpup_error;

/*
 * The devices of the host that VMs' definitions name while the VMs do not run (daemon/device.h):
 * moved on when another VM holds one, or when there are enough to have one each.
 */

/* What a new adapter of this VM is to name. Nothing (form virtio) for virtio, and where it has a
 * device and no better one can be had. */
int gpup_provisional_device(struct gpup_daemon *daemon, const char *vm,
                            const struct gpup_adapter *adapter, struct gpup_device *device,
                            struct gpup_error **err);

/* Changes definitions where that is due, in a worker thread, one after the other. Called when GPUs,
 * claims or VMs have changed: many calls, one pass. */
void gpup_provisional_check(struct gpup_daemon *daemon);
/* Before the rest of the daemon ends. */
void gpup_provisional_end(struct gpup_daemon *daemon);

#endif
