/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_DAEMON_KEYFILE_H
#define GPUP_DAEMON_KEYFILE_H

#include <glib.h>

struct gpup_error;

#define GPUP_KEYFILE_VERSION 1

/* Writes beside and renames over, synced: a reader sees the old file or the new one. Mode 0600. */
int gpup_keyfile_write(const char *path, GKeyFile *file, struct gpup_error **err);
/*
 * Reads a file that gpup has written, whose `group` has the version. One that is damaged, cut off
 * or unreadable is set aside as PATH.damaged and reported, one from a newer gpup as PATH.format-N;
 * -ENOENT when there is none.
 */
int gpup_keyfile_read(const char *path, const char *group, GKeyFile **file,
                      struct gpup_error **err);
/* The same for one whose content makes no sense. Always fails, with what was done as the error. */
int gpup_keyfile_set_aside(const char *path, const char *why, struct gpup_error **err);
/* Where to set it aside: PATH with the ending, and a number behind it where there is one already:
 * what was set aside earlier is not lost either. The caller's. */
char *gpup_keyfile_name_aside(const char *path, const char *ending);
/* Removes it; one that is not there is fine. */
int gpup_keyfile_remove(const char *path, struct gpup_error **err);

/* A file name out of any key: what is neither letter, digit, '.', '_', '-' nor ':' becomes %XX. */
char *gpup_keyfile_name(const char *key);

#endif
