/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_DAEMON_METER_H
#define GPUP_DAEMON_METER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/*
 * How much of a GPU one renderer has used, as the kernel tells it: never what the renderer or its
 * guest says.
 */
enum gpup_meter_kind {
    GPUP_METER_NONE,
    GPUP_METER_GROUP,   /* CPU time of its cgroup v2: whatever it started is in it */
    GPUP_METER_PROCESS, /* CPU time of the process, where there is no cgroup v2 */
    GPUP_METER_DRM,     /* busy time of a GPU's engines, where its driver tells */
};

struct gpup_meter {
    enum gpup_meter_kind kind;
    pid_t pid;
    int file;     /* cpu.stat of the group, or the folder fdinfo of the process */
    char gpu[16]; /* DRM: the GPU's PCI address */
};

/* pid: of the renderer. cgroup_fd: its open group (borrowed), or -1. */
void gpup_meter_open_cpu(struct gpup_meter *meter, pid_t pid, int cgroup_fd);
/* proc: "/proc". bdf: the GPU's PCI address. GPUP_METER_NONE where the driver tells nothing; that
 * may be so only until the renderer has opened the GPU, so ask again. */
void gpup_meter_open_drm(struct gpup_meter *meter, const char *proc, pid_t pid, const char *bdf);
void gpup_meter_close(struct gpup_meter *meter);

/* Charged nanoseconds since some beginning. False: not known (now). */
bool gpup_meter_read(const struct gpup_meter *meter, uint64_t *ns);

#endif
