/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_SANDBOX_H
#define GPUP_SANDBOX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "core/error.h"

/*
 * Starts a program with as little as it needs: its own mount, pid, ipc, net and uts namespaces, a
 * root of its own with read-only system directories, its own user, no capabilities, no way to gain
 * any, no descriptors but the given ones. It does not die with its parent.
 *
 * As root all of that is made. An ordinary user gets it through a user namespace where the kernel
 * allows one. What could not be made is told, never silently left out.
 */

struct sandbox_fd {
    int fd;     /* in the caller; stays open there */
    int target; /* its number in the program */
};

struct sandbox_spec {
    const char *path; /* the program, absolute */
    char *const *argv;
    char *const *envp;
    const struct sandbox_fd *fds; /* standard input is /dev/null unless listed; the other two of */
    size_t n_fds;                 /* the standard ones are inherited unless listed */
    bool set_ids;                 /* run as uid, gid and groups; else as the caller */
    uid_t uid;
    gid_t gid;
    const gid_t *groups; /* supplementary groups (render nodes need one) */
    size_t n_groups;
    const char *const *device_nodes; /* below /dev, ended by NULL; NULL for none */
    bool namespaces;                 /* false: only user, capabilities, descriptors */
    int cgroup_fd; /* an open cgroup v2 directory the program starts in; -1 for none */
    /* Bytes of its own memory at most (RLIMIT_DATA: what it can write and shares with nobody, used
     * or not), held by the kernel where there is no cgroup too; 0: no limit. Not with a sanitizer,
     * whose shadow memory counts. */
    uint64_t memory;
};

/* What a renderer takes at most beside its partition's memory: Mesa, contexts (3 MiB each), and its
 * threads' stacks (8 MiB for each CPU, of which Mesa uses 32). */
#define SANDBOX_RENDERER_OVERHEAD (UINT64_C(1) << 30)

enum sandbox_degraded {
    SANDBOX_NO_NAMESPACES = 1 << 0,
    SANDBOX_NO_PRIVATE_ROOT = 1 << 1,
    SANDBOX_SAME_USER = 1 << 2,  /* set_ids was asked for and not possible */
    SANDBOX_NO_CGROUP = 1 << 3,  /* cgroup_fd was given and not possible */
    SANDBOX_NO_SECCOMP = 1 << 4, /* the program cannot restrict its system calls here */
};

/*
 * Returns 0 once the program runs (exec succeeded). *pid is a child of the caller, to be reaped by
 * waitid(P_PIDFD, *pidfd); *pidfd is close-on-exec. *degraded (may be NULL) gets the bits of what
 * could not be made. -errno: nothing runs and nothing is left to reap.
 */
int sandbox_spawn(const struct sandbox_spec *spec, pid_t *pid, int *pidfd, unsigned int *degraded,
                  struct gpup_error **err);

/* For people: the text of one bit, without the others. */
const char *sandbox_degraded_text(enum sandbox_degraded bit);

#endif
