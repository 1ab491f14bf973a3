/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_VGPU_LOG_H
#define GPUP_VGPU_LOG_H

/*
 * To standard error and to the system log (libvirt gives its helpers no standard error). `level`
 * is LOG_ERR, LOG_WARNING, LOG_INFO of syslog(3). Never anything from a guest's memory.
 */
void vgpu_log(int level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
