/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_DAEMON_ENDING_H
#define GPUP_DAEMON_ENDING_H

#include "daemon/daemon.h"

/*
 * gpupd is to end: nothing new is begun, what waits for a guest gives up and says so, and what is
 * being done is waited for, for some seconds. False: a thread is at something still (libvirt, or a
 * GPU's driver, hangs) and uses the daemon, of which nothing may be freed then. The process may end
 * all the same: whatever is cut off, the next gpupd goes on with or undoes.
 */
bool gpup_daemon_end(struct gpup_daemon *daemon);

#endif
