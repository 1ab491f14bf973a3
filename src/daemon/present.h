/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_DAEMON_PRESENT_H
#define GPUP_DAEMON_PRESENT_H

#include "daemon/daemon.h"
#include "gpup-dbus.h"

/* The host's state as D-Bus properties (data/org.gpup1.xml). */

void gpup_present_manager(struct gpup_daemon *daemon, GpupManager *interface);
void gpup_present_gpu(struct gpup_daemon *daemon, struct gpup_gpu *gpu, GpupGPU *interface);
void gpup_present_partition(struct gpup_daemon *daemon, struct gpup_gpu *gpu, unsigned index,
                            GpupPartition *interface);
void gpup_present_vm(struct gpup_daemon *daemon, struct gpup_vm *vm, GpupVM *interface);

/* Floating values, for answers. */
GVariant *gpup_present_counts(struct gpup_daemon *daemon, const char *gpu_key); /* a(utttt) */
GVariant *gpup_present_usage(struct gpup_daemon *daemon, const char *gpu_id,
                             unsigned index); /* a{sv} */

GVariant *gpup_present_health(struct gpup_daemon *daemon, const char *gpu_key); /* a{sv} */

#endif
