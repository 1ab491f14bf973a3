/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_DAEMON_RELEASE_H
#define GPUP_DAEMON_RELEASE_H

/*
 * What a gpupd that was killed had set of renderers goes back to the usual: how soon they run
 * (priority.h) and on which CPUs (placement.h). Theirs are the processes that run the program
 * `renderer` (by its name; the file is the caller's), also one that has been replaced since. How
 * many they were; -errno: /proc cannot be read.
 */
int gpup_release_renderers(const char *renderer);

#endif
