/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_SANDBOX_CALLS_H
#define GPUP_SANDBOX_CALLS_H

#include <stdbool.h>

struct gpup_error;

/* Which system calls a process needs for the rest of its life. */
enum sandbox_calls {
    SANDBOX_CALLS_VGPU,            /* gpup-vgpu: no files, no programs, no executable memory */
    SANDBOX_CALLS_RENDER_SOFTWARE, /* gpup-render on llvmpipe: compiles, but drives no device */
    SANDBOX_CALLS_RENDER_GPU,      /* gpup-render on a render node: also ioctl */
};

/*
 * Confines the calling process, all its threads, to an allow list; for ever. Sets no_new_privs.
 * Whatever is not on the list fails with EPERM: drivers try things that they can do without.
 * -ENOSYS: the kernel has no seccomp filters; -errno.
 */
int sandbox_restrict_calls(enum sandbox_calls calls, struct gpup_error **err);

/* Whether this kernel has seccomp filters. */
bool sandbox_can_restrict_calls(void);

#endif
