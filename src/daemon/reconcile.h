/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_DAEMON_RECONCILE_H
#define GPUP_DAEMON_RECONCILE_H

#include "daemon/daemon.h"

/*
 * Frees the partitions of VMs that libvirt says are not running, that have no device process, and
 * whose start is not under way: after a libvirtd that was killed between `prepare` and `release`,
 * or a `release` that gpupd missed while it was down. Called when the list of VMs is new, and now
 * and then.
 */
void gpup_reconcile(struct gpup_daemon *daemon);

#endif
