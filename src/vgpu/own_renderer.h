/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_VGPU_OWN_RENDERER_H
#define GPUP_VGPU_OWN_RENDERER_H

struct gpup_error;
struct vgpu_loop;

/*
 * Starts a renderer as our own child, in what jail we can make: for a gpup-vgpu that was started by
 * hand, without gpupd. `node` is a render node, or NULL for the software renderer. The loop reaps
 * it when it ends.
 */
int own_renderer_start(struct vgpu_loop *loop, const char *program, const char *node, int *sock,
                       int *pidfd, struct gpup_error **err);

#endif
