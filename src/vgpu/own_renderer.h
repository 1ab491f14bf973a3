/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_VGPU_OWN_RENDERER_H
#define GPUP_VGPU_OWN_RENDERER_H

struct gpup_error;
struct vgpu_loop;

/* Our children, until the loop has reaped them. */
struct own_renderers {
    struct vgpu_loop *loop;
    struct own_child *children;
};

/*
 * Starts a renderer as our own child, in what jail we can make: for a gpup-vgpu that was started by
 * hand, without gpupd. `node` is a render node, or NULL for the software renderer. The loop reaps
 * it when it ends.
 */
int own_renderer_start(struct own_renderers *all, const char *program, const char *node, int *sock,
                       int *pidfd, struct gpup_error **err);

/* Forgets them; they end by themselves when their socket does. */
void own_renderers_clear(struct own_renderers *all);

#endif
