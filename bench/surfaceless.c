/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <dlfcn.h>

/*
 * Preloaded into QEMU's own back-end, which asks for a render node where there is none: makes
 * virglrenderer use EGL without a surface, as gpup-render does on such a machine.
 */

#define USE_SURFACELESS (1 << 3) /* VIRGL_RENDERER_USE_SURFACELESS */

int virgl_renderer_init(void *cookie, int flags, void *callbacks);
int virgl_renderer_get_fd_for_texture(unsigned int texture, int *fd);

int virgl_renderer_init(void *cookie, int flags, void *callbacks)
{
    int (*init)(void *cookie, int flags, void *callbacks);

    *(void **)&init = dlsym(RTLD_NEXT, "virgl_renderer_init");
    return init ? init(cookie, flags | USE_SURFACELESS, callbacks) : -1;
}

/* It crashes with the software renderer. */
int virgl_renderer_get_fd_for_texture(unsigned int texture, int *fd)
{
    return -1;
}
