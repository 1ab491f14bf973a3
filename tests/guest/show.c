/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "show.h"

#include <EGL/egl.h>
#include <EGL/eglext.h>
#include <GLES2/gl2.h>
#include <GLES2/gl2ext.h>
#include <errno.h>
#include <fcntl.h>
#include <gbm.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <xf86drm.h>
#include <xf86drmMode.h>

struct head {
    int fd;
    uint32_t crtc, connector;
    drmModeModeInfo mode;
};

static int open_card(void)
{
    for (int i = 0; i < 8; i++) {
        drmVersionPtr version;
        bool ours;
        char path[32];
        int fd;

        snprintf(path, sizeof(path), "/dev/dri/card%d", i);
        fd = open(path, O_RDWR | O_CLOEXEC);
        version = fd >= 0 ? drmGetVersion(fd) : NULL;
        ours = version && strcmp(version->name, "virtio_gpu") == 0;
        drmFreeVersion(version);
        if (ours)
            return fd;
        if (fd >= 0)
            close(fd);
    }
    return -1;
}

/* The first connected head with its preferred mode. */
static bool find_head(struct head *head)
{
    drmModeResPtr resources = drmModeGetResources(head->fd);
    bool found = false;

    for (int i = 0; resources && i < resources->count_connectors && !found; i++) {
        drmModeConnectorPtr connector = drmModeGetConnector(head->fd, resources->connectors[i]);

        found =
            connector && connector->connection == DRM_MODE_CONNECTED && connector->count_modes > 0;
        if (found) {
            head->connector = connector->connector_id;
            head->mode = connector->modes[0];
            head->crtc = resources->crtcs[0];
        }
        drmModeFreeConnector(connector);
    }
    drmModeFreeResources(resources);
    return found;
}

/* Red grows to the right, green downwards. */
static bool write_buffer(const struct head *head, uint32_t *handle, uint32_t *stride)
{
    uint64_t size, offset;
    uint32_t *pixels;

    if (drmModeCreateDumbBuffer(head->fd, head->mode.hdisplay, head->mode.vdisplay, 32, 0, handle,
                                stride, &size) != 0 ||
        drmModeMapDumbBuffer(head->fd, *handle, &offset) != 0)
        return false;
    pixels = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, head->fd, (off_t)offset);
    if (pixels == MAP_FAILED)
        return false;
    for (uint32_t y = 0; y < head->mode.vdisplay; y++) {
        for (uint32_t x = 0; x < head->mode.hdisplay; x++)
            pixels[y * (*stride / 4) + x] = (x & 255) << 16 | (y & 255) << 8 | 0x40;
    }
    munmap(pixels, size);
    return true;
}

static bool make_target(const struct head *head, struct gbm_device *gbm, struct gbm_bo *bo)
{
    static const EGLint attributes[] = {EGL_CONTEXT_CLIENT_VERSION, 2, EGL_NONE};
    PFNEGLGETPLATFORMDISPLAYEXTPROC get_display =
        (PFNEGLGETPLATFORMDISPLAYEXTPROC)eglGetProcAddress("eglGetPlatformDisplayEXT");
    PFNEGLCREATEIMAGEKHRPROC create_image =
        (PFNEGLCREATEIMAGEKHRPROC)eglGetProcAddress("eglCreateImageKHR");
    PFNGLEGLIMAGETARGETTEXTURE2DOESPROC target =
        (PFNGLEGLIMAGETARGETTEXTURE2DOESPROC)eglGetProcAddress("glEGLImageTargetTexture2DOES");
    EGLDisplay display = get_display(EGL_PLATFORM_GBM_KHR, gbm, NULL);
    EGLContext context;
    GLuint texture, frame;

    if (!eglInitialize(display, NULL, NULL) || !eglBindAPI(EGL_OPENGL_ES_API))
        return false;
    context = eglCreateContext(display, EGL_NO_CONFIG_KHR, EGL_NO_CONTEXT, attributes);
    if (!eglMakeCurrent(display, EGL_NO_SURFACE, EGL_NO_SURFACE, context))
        return false;
    glGenTextures(1, &texture);
    glBindTexture(GL_TEXTURE_2D, texture);
    target(GL_TEXTURE_2D, create_image(display, EGL_NO_CONTEXT, EGL_NATIVE_PIXMAP_KHR, bo, NULL));
    glGenFramebuffers(1, &frame);
    glBindFramebuffer(GL_FRAMEBUFFER, frame);
    glFramebufferTexture2D(GL_FRAMEBUFFER, GL_COLOR_ATTACHMENT0, GL_TEXTURE_2D, texture, 0);
    glViewport(0, 0, head->mode.hdisplay, head->mode.vdisplay);
    return glCheckFramebufferStatus(GL_FRAMEBUFFER) == GL_FRAMEBUFFER_COMPLETE;
}

/* The upper quarter red, the rest blue. */
static bool render_buffer(const struct head *head, uint32_t *handle, uint32_t *stride)
{
    struct gbm_device *gbm = gbm_create_device(head->fd);
    struct gbm_bo *bo;

    bo = gbm ? gbm_bo_create(gbm, head->mode.hdisplay, head->mode.vdisplay, GBM_FORMAT_XRGB8888,
                             GBM_BO_USE_SCANOUT | GBM_BO_USE_RENDERING)
             : NULL;
    if (!bo || !make_target(head, gbm, bo))
        return false;
    glClearColor(0, 0, 1, 1);
    glClear(GL_COLOR_BUFFER_BIT);
    glEnable(GL_SCISSOR_TEST);
    glScissor(0, 0, head->mode.hdisplay, head->mode.vdisplay / 4);
    glClearColor(1, 0, 0, 1);
    glClear(GL_COLOR_BUFFER_BIT);
    glFinish();

    *handle = gbm_bo_get_handle(bo).u32;
    *stride = gbm_bo_get_stride(bo);
    return true;
}

int show_picture(bool rendered, int seconds)
{
    struct head head = {.fd = open_card()};
    uint32_t handle, stride, frame;

    if (head.fd < 0 || !find_head(&head)) {
        printf("error=no connected head: %s\n", strerror(errno));
        return 1;
    }
    if (!(rendered ? render_buffer : write_buffer)(&head, &handle, &stride) ||
        drmModeAddFB(head.fd, head.mode.hdisplay, head.mode.vdisplay, 24, 32, stride, handle,
                     &frame) != 0 ||
        drmModeSetCrtc(head.fd, head.crtc, frame, 0, 0, &head.connector, 1, &head.mode) != 0) {
        printf("error=showing it: %s\n", strerror(errno));
        return 1;
    }
    drmModeDirtyFB(head.fd, frame, NULL, 0);
    printf("mode=%dx%d\nshown=1\n", head.mode.hdisplay, head.mode.vdisplay);
    fflush(stdout);
    sleep((unsigned)seconds);
    return 0;
}
