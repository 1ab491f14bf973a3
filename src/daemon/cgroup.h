/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_DAEMON_CGROUP_H
#define GPUP_DAEMON_CGROUP_H

#include "core/model.h"

#include <stdbool.h>
#include <sys/types.h>

struct gpup_error;

/*
 * One cgroup (v2) for each partition's renderer, in `partitions` beside gpupd's own group in its
 * slice, or below /gpup.slice. What the system does not offer is left out and told. May be used by
 * several threads at once.
 */
struct gpup_cgroups;

/* `mount` is a cgroup2 mount point, or NULL to look for one. Never fails: without any, nothing is
 * placed. */
struct gpup_cgroups *gpup_cgroups_new(const char *mount);
/* Another reference, to be freed too. */
struct gpup_cgroups *gpup_cgroups_ref(struct gpup_cgroups *cgroups);
void gpup_cgroups_free(struct gpup_cgroups *cgroups);

/* Why nothing, or not all, can be held; NULL when all can. Borrowed. */
const char *gpup_cgroups_problem(const struct gpup_cgroups *cgroups);

/*
 * Makes the group of a partition with its limits (memory in bytes; the compute share of n_cpus
 * CPUs, NULL for none) and returns its open directory, or -1 when the system has none. Works on an
 * existing group too. May block: less memory than is in use is made free by whoever writes that.
 */
int gpup_cgroups_open(struct gpup_cgroups *cgroups, const char *adapter, uint64_t memory,
                      const struct gpup_share *compute, unsigned n_cpus);
/* How many bytes of its own memory the GPU at this PCI address gives the group, where the kernel
 * holds that (dmem, Linux 6.14, and a driver that takes part). */
void gpup_cgroups_limit_gpu(struct gpup_cgroups *cgroups, const char *adapter, const char *bdf,
                            uint64_t bytes);
/* Why that cannot be held for this GPU, for a person; NULL when it can. */
const char *gpup_cgroups_gpu_problem(struct gpup_cgroups *cgroups, const char *bdf);
/* The open directory of a partition's group when this process is in it, else -1. */
int gpup_cgroups_open_of(struct gpup_cgroups *cgroups, const char *adapter, pid_t pid);
/* How many processes of a partition's group the kernel has ended for its memory so far. */
uint64_t gpup_cgroups_oom_kills(struct gpup_cgroups *cgroups, const char *adapter);
/* Kills what is left in it and removes it. */
void gpup_cgroups_remove(struct gpup_cgroups *cgroups, const char *adapter);
/* Removes the groups that no adapter uses: what was left behind. */
void gpup_cgroups_sweep(struct gpup_cgroups *cgroups,
                        bool (*is_used)(const char *adapter, void *data), void *data);

#endif
