/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_DAEMON_RESTART_H
#define GPUP_DAEMON_RESTART_H

#include "daemon/daemon.h"

/*
 * Shutting a VM down to start it again: begun, it is gone through with, also by the gpupd that
 * comes after one that was killed meanwhile, and when libvirt is back. What is under way is written
 * down in RUN/restarts, of this boot only.
 */
struct gpup_restarts;

struct gpup_restarts *gpup_restarts_new(struct gpup_daemon *daemon);
void gpup_restarts_free(struct gpup_restarts *restarts);

/*
 * In a worker: asks the guest of a running VM to shut down (timeout_s at most), and starts it
 * again. user: on whose behalf. -EAGAIN: libvirt went away, or gpupd is ending; it is gone on with
 * when that is back.
 */
int gpup_restart(struct gpup_restarts *restarts, const char *vm, const char *user,
                 unsigned timeout_s, struct gpup_error **err);

/* Goes on with those that were cut off. When libvirt has said which VMs there are. */
void gpup_restarts_resume(struct gpup_restarts *restarts);

#endif
