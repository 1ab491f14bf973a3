/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gpu/task.h"

struct run {
    GTask *task;
    GTaskThreadFunc func;
};

static void *run(void *data)
{
    g_autofree struct run *r = data;

    r->func(r->task, g_task_get_source_object(r->task), g_task_get_task_data(r->task),
            g_task_get_cancellable(r->task));
    g_object_unref(r->task);
    return NULL;
}

void gpup_task_run(GTask *task, GTaskThreadFunc func)
{
    struct run *r = g_new(struct run, 1);
    GThread *thread;

    *r = (struct run){g_object_ref(task), func};
    thread = g_thread_try_new("worker", run, r, NULL);
    if (thread) {
        g_thread_unref(thread);
        return;
    }
    /* the service has as many threads as it may have */
    g_object_unref(r->task);
    g_free(r);
    g_task_run_in_thread(task, func);
}
