/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_DAEMON_RECONCILE_H
#define GPUP_DAEMON_RECONCILE_H

#include "daemon/daemon.h"

/*
 * Makes claims agree with what libvirt says runs. Called when the list of VMs is new, and now and
 * then; true: a later list is needed to tell.
 *
 * The partition of a VM that is not running and has no device process is freed: a libvirtd was
 * killed between `prepare` and `release`, or gpupd was down at the `release`. A VM that runs with
 * an adapter and has no claim (its reservation was lost) gets one where it fits.
 */
bool gpup_reconcile(struct gpup_daemon *daemon);
/* Removes what renderers left behind that were ending when their VM ended; now and then. */
void gpup_sweep(struct gpup_daemon *daemon);

#endif
