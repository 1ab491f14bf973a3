/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_GPU_CHECK_H
#define GPUP_GPU_CHECK_H

#include "gpu/system.h"

/*
 * Whether a host has what GPU partitions need, from what the kernel and the file system tell
 * everybody: no driver is asked, nothing is changed, root is not needed. The root of the system is
 * the folder that system->sysfs is in.
 */

enum gpup_finding_level {
    GPUP_FINDING_OK,
    GPUP_FINDING_WARN,
    GPUP_FINDING_FAIL
};

struct gpup_finding {
    enum gpup_finding_level level;
    const char *id; /* for programs: "iommu", "sriov", "driver", ... */
    char *gpu;      /* its address, or NULL: the host */
    char *text;     /* what was found */
    char *fix;      /* what to change, or NULL */
};

/* struct gpup_finding *, owned by the array: the host's first, then by GPU. */
GPtrArray *gpup_check(const struct gpup_system *system);
/* fix may be NULL. */
struct gpup_finding *gpup_finding_new(enum gpup_finding_level level, const char *id,
                                      const char *gpu, const char *fix, const char *fmt, ...)
    G_GNUC_PRINTF(5, 6);
void gpup_finding_free(struct gpup_finding *finding);
const char *gpup_finding_level_name(enum gpup_finding_level level); /* "ok", "warn", "FAIL" */

#endif
