/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_GPU_TASK_H
#define GPUP_GPU_TASK_H

#include <gio/gio.h>

/*
 * g_task_run_in_thread() for what may take seconds: in a thread of its own. GLib's pool has ten
 * threads, and grows by a few a second: ten guests that take their time to shut down, or one GPU
 * that does not answer, would hold up everything else.
 */
void gpup_task_run(GTask *task, GTaskThreadFunc func);

#endif
