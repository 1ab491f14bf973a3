/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_SANDBOX_JAIL_H
#define GPUP_SANDBOX_JAIL_H

#include "sandbox/sandbox.h"

/*
 * What the child does to itself between clone and exec. The parent may have had several threads:
 * nothing here allocates or takes a lock.
 */

struct jail_failure {
    int error;     /* errno */
    char step[60]; /* what it was about */
};

/* Notes errno and what it was about. Always false. */
bool jail_fail(struct jail_failure *failure, const char *step);

#define JAIL_PATH_SIZE 320

/*
 * Replaces the root by a small one, inside of a mount namespace of the process's own. `exec_path`
 * gets the path that the program has in there. False: not possible; the old root is in place.
 */
bool jail_private_root(const struct sandbox_spec *spec, char exec_path[JAIL_PATH_SIZE]);

/* Maps the caller's ids to themselves in a fresh user namespace. */
bool jail_map_ids(uid_t uid, gid_t gid);

/* User, groups, capabilities, no_new_privs. `*same_user` is set where ids could not be changed. */
bool jail_drop_privileges(const struct sandbox_spec *spec, bool may_keep_user, bool *same_user,
                          struct jail_failure *failure);

/* Puts the descriptors where they belong and marks all others close-on-exec. */
bool jail_arrange_descriptors(const struct sandbox_spec *spec, int *keep,
                              struct jail_failure *failure);

/* The sanitizers' run time clones, traces and opens files at any time, and maps all memory there
 * is.
 */
#if defined(__SANITIZE_ADDRESS__)
#define SANDBOX_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANDBOX_SANITIZED 1
#endif
#endif
#ifndef SANDBOX_SANITIZED
#define SANDBOX_SANITIZED 0
#endif

#endif
