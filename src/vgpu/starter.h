/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_VGPU_STARTER_H
#define GPUP_VGPU_STARTER_H

#include <stdint.h>

struct gpup_error;

/*
 * For gpup-vgpu that is run by hand, without gpupd: a process of its own that starts renderers, so
 * that the one that reads what the guest writes can give up the right to start anything. It ends
 * with us, or with starter_free().
 */
struct starter;

/* Forks: to be called while there is one thread. The strings outlive the starter. vram: bytes of
 * the partition, which bound what a renderer takes. */
struct starter *starter_new(const char *program, const char *render_node, uint64_t vram,
                            struct gpup_error **err);
void starter_free(struct starter *starter);

/* Starts a renderer in what jail can be made. Both descriptors are the caller's. */
int starter_start(struct starter *starter, int *sock, int *pidfd, struct gpup_error **err);

#endif
