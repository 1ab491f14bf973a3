/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_GPU_SYSFS_H
#define GPUP_GPU_SYSFS_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

/*
 * Small reads from sysfs and procfs. A file that is not there is no error of its own: the caller
 * knows whether that means anything.
 */

/* The first line without surrounding blanks, or NULL. At most 4 KiB are read. The caller's. */
char *gpup_sysfs_read(const char *dir, const char *name);
/* A number in base 10, or 16 with 0x. false: not there, or not a number. */
bool gpup_sysfs_read_number(const char *dir, const char *name, uint64_t *value);
/* The last part of what a link points at ("driver" -> "amdgpu"), or NULL. The caller's. */
char *gpup_sysfs_link_name(const char *dir, const char *name);
/* Writes one value, without a newline of its own. 0 or a negative errno. May block: in the helper
 * only. */
int gpup_sysfs_write(const char *dir, const char *name, const char *text);
int gpup_sysfs_write_number(const char *dir, const char *name, uint64_t value);
bool gpup_sysfs_exists(const char *dir, const char *name);
/* Names in a folder (char *), sorted; empty where there is none. */
GPtrArray *gpup_sysfs_list(const char *dir, const char *name);

#endif
