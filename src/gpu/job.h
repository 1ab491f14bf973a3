/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_GPU_JOB_H
#define GPUP_GPU_JOB_H

#include "gpu/provider.h"

/*
 * One operation of a provider, done in a process of its own (gpup-gpu-helper), because it can hang
 * in the kernel: then it is killed after a time, or abandoned where not even that ends it.
 *
 * A job holds copies of all it needs: it is made on the main thread and may run on any.
 */
enum gpup_op {
    GPUP_OP_DESCRIBE,
    GPUP_OP_CREATE, /* removes what is there first */
    GPUP_OP_DESTROY,
    GPUP_OP_PREPARE,
    GPUP_OP_RELEASE,
};

struct gpup_job;

/* n: partitions wanted (create). work: prepare and release, else NULL. */
struct gpup_job *gpup_job_new(const struct gpup_system *system,
                              const struct gpup_provider *provider, const struct gpup_gpu *gpu,
                              enum gpup_op op, unsigned n, const struct gpup_work *work);
void gpup_job_free(struct gpup_job *job);
typedef struct gpup_job gpup_job; /* for g_autoptr */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(gpup_job, gpup_job_free)

/*
 * Runs it and waits. facts_out (describe, create, destroy) and function_out (prepare, release) may
 * be NULL. -ETIMEDOUT: it hangs; then *stuck is a pidfd (the caller's) that becomes readable when
 * the process has ended after all, or -1 where it could be ended.
 */
int gpup_job_run(struct gpup_job *job, struct gpup_facts **facts_out,
                 struct gpup_function *function_out, int *stuck, struct gpup_error **err);

/* The helper's side: carries out a request and returns the answer, both a{sv}. */
GVariant *gpup_job_serve(GVariant *request);

#endif
