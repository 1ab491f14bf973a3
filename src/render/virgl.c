/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>
/* VIRGL_RENDERER_ASYNC_FENCE_CB, which QEMU and crosvm use as well */
#define VIRGL_RENDERER_UNSTABLE_APIS
#include <virgl/virglrenderer.h>

#include "render/render.h"

#define DRM_MAJOR 226

#ifdef HAVE_VIRGL_LOG_CALLBACK
static void on_log(enum virgl_log_level_flags level, const char *message, void *user)
{
    if (level >= VIRGL_LOG_LEVEL_WARNING)
        log_guest(message);
}
#else
__attribute__((format(printf, 1, 0))) static void on_log(const char *fmt, va_list args)
{
    char text[256];

    vsnprintf(text, sizeof(text), fmt, args);
    log_guest(text);
}
#endif

/* The first of the fences up to `id`; NULL: none is left. */
static struct pending_fence *take_fence(struct render *render, uint32_t id)
{
    struct pending_fence *fence;

    pthread_mutex_lock(&render->fences_lock);
    fence = render->fences;
    if (fence && (int32_t)(id - fence->id) >= 0) {
        render->fences = fence->next;
        if (!render->fences)
            render->fences_end = &render->fences;
    } else {
        fence = NULL;
    }
    pthread_mutex_unlock(&render->fences_lock);
    return fence;
}

/* Called by the thread that waits for the GPU, see virgl_start(), or from virgl_renderer_poll(). */
static void on_fence(void *cookie, uint32_t id)
{
    struct render *render = cookie;
    struct pending_fence *fence;

    /* One report stands for all fences up to it. */
    while ((fence = take_fence(render, id))) {
        /* An end of the session is seen by the main loop too. */
        (void)session_emit(render, GPUP_EVENT_FENCE, fence->seq, 0);
        free(fence);
        atomic_fetch_sub(&render->n_fences, 1);
    }
}

/*
 * The software renderer has often finished when a command returns: then no other thread needs to
 * wait for it. With a GPU that is so rare that asking costs more.
 */
static bool has_finished(struct render *render)
{
    const unsigned int commands_complete = 0x9117; /* GL_SYNC_GPU_COMMANDS_COMPLETE */
    const unsigned int signaled = 0x911A;          /* GL_ALREADY_SIGNALED */
    void *sync;
    bool finished;

    if (!render->sync.create || virgl_has_fences(render))
        return false;
    sync = render->sync.create(commands_complete, 0);
    if (!sync)
        return false;
    finished = render->sync.wait(sync, 0, 0) == signaled;
    render->sync.destroy(sync);
    return finished;
}

int virgl_fence(struct render *render, uint64_t seq)
{
    struct pending_fence *fence;
    uint32_t id;

    if (has_finished(render)) {
        virgl_renderer_poll(); /* what the GPU counted comes before the fence after it */
        (void)session_emit(render, GPUP_EVENT_FENCE, seq, 0);
        return 0;
    }
    fence = calloc(1, sizeof(*fence));
    if (!fence)
        return -ENOMEM;
    id = ++render->last_fence;
    fence->seq = seq;
    fence->id = id;
    atomic_fetch_add(&render->n_fences, 1);
    pthread_mutex_lock(&render->fences_lock);
    *render->fences_end = fence;
    render->fences_end = &fence->next;
    pthread_mutex_unlock(&render->fences_lock);
    if (render->finish) {
        render->finish();
        virgl_renderer_poll();
    }
    /* Where no fence can be made there is nothing to wait for either. */
    if (render->finish || virgl_renderer_create_fence((int)id, 0) != 0)
        on_fence(render, id);
    return 0;
}

bool virgl_has_fences(struct render *render)
{
    return atomic_load(&render->n_fences) > 0;
}

static int take_drm_fd(void *cookie)
{
    struct render *render = cookie;
    int fd = render->drm_fd;

    render->drm_fd = -1; /* virglrenderer owns what it got */
    return fd;
}

static int open_render_node(struct render *render, const char *path, struct gpup_error **err)
{
    struct stat st;

    render->drm_fd = open(path, O_RDWR | O_CLOEXEC);
    if (render->drm_fd < 0)
        return gpup_error_set(err, errno, "cannot open the GPU's render node %s: %s", path,
                              strerror(errno));
    if (fstat(render->drm_fd, &st) < 0 || !S_ISCHR(st.st_mode) || major(st.st_rdev) != DRM_MAJOR)
        return gpup_error_set(err, ENODEV,
                              "%s is not a GPU's render node: these are /dev/dri/renderD128 and "
                              "following",
                              path);
    return 0;
}

/* Mesa falls back to the CPU where it has no driver: whoever asked for a GPU must know. */
static int check_accelerated(const char *render_node, struct gpup_error **err)
{
    char name[128];

    gl_renderer_name(name, sizeof(name));
    if (strncmp(name, "llvmpipe", 8) != 0 && strncmp(name, "softpipe", 8) != 0)
        return 0;
    return gpup_error_set(err, ENODEV,
                          "OpenGL on %s runs in software (%s): no driver for this GPU is "
                          "installed: install it, or use the GPU \"software\"",
                          render_node, name);
}

/* A function of OpenGL's, or NULL. */
static gl_function find_function(const char *name)
{
    gl_function (*get_proc)(const char *) = NULL;
    void *egl = dlopen("libEGL.so.1", RTLD_LAZY);

    if (egl)
        *(void **)&get_proc = dlsym(egl, "eglGetProcAddress");
    return get_proc ? get_proc(name) : NULL;
}

static void find_sync(struct gl_sync *sync)
{
    *(gl_function *)&sync->create = find_function("glFenceSync");
    *(gl_function *)&sync->wait = find_function("glClientWaitSync");
    *(gl_function *)&sync->destroy = find_function("glDeleteSync");
    if (!sync->wait || !sync->destroy)
        sync->create = NULL;
}

/*
 * A thread of virglrenderer's waits for the GPU and reports fences itself: the main thread need not
 * wake up in between. Where that thread cannot be (there is no descriptor then) virglrenderer
 * reports none at all: see virgl_fence().
 */
static int initialise(struct render *render, int flags)
{
    /* virglrenderer keeps the pointer. */
    static struct virgl_renderer_callbacks callbacks = {
        .version = 2,
        .write_fence = on_fence,
        .get_drm_fd = take_drm_fd,
    };
    int r = virgl_renderer_init(
        render, flags | VIRGL_RENDERER_THREAD_SYNC | VIRGL_RENDERER_ASYNC_FENCE_CB, &callbacks);

    if (r != 0)
        return r;
    render->virgl_fd = virgl_renderer_get_poll_fd();
    if (render->virgl_fd < 0)
        render->finish = find_function("glFinish");
    else if (!render->has_node)
        find_sync(&render->sync);
    return render->virgl_fd < 0 && !render->finish ? -1 : 0;
}

int virgl_start(struct render *render, const char *render_node, struct gpup_error **err)
{
    int flags = VIRGL_RENDERER_USE_EGL;
    int r = 0;

    render->drm_fd = -1;
    render->fences_end = &render->fences;
#ifdef HAVE_VIRGL_LOG_CALLBACK
    virgl_set_log_callback(on_log, NULL, NULL);
#else
    virgl_set_debug_callback(on_log);
#endif
    setenv("MESA_SHADER_CACHE_DISABLE", "true", 1);
    render->has_node = render_node != NULL;
    if (render_node) {
        r = open_render_node(render, render_node, err);
        if (r < 0)
            return r;
    } else {
        flags |= VIRGL_RENDERER_USE_SURFACELESS;
        setenv("LIBGL_ALWAYS_SOFTWARE", "1", 1);
    }
    r = initialise(render, flags);
    if (r != 0)
        return gpup_error_set(err, ENODEV,
                              "OpenGL could not be started on %s (virglrenderer: %d): is a Mesa or "
                              "vendor driver for it installed?",
                              render_node ? render_node : "the software renderer", r);
    return render_node ? check_accelerated(render_node, err) : 0;
}

void gl_renderer_name(char *text, size_t size)
{
    const unsigned int gl_renderer = 0x1F01; /* GL_RENDERER */
    const unsigned char *(*get_string)(unsigned int) = NULL;
    const unsigned char *name = NULL;

    *(gl_function *)&get_string = find_function("glGetString");
    virgl_renderer_force_ctx_0();
    if (get_string)
        name = get_string(gl_renderer);
    snprintf(text, size, "%s", name ? (const char *)name : "unknown");
}

void virgl_describe_capsets(struct gpup_render_ready *ready)
{
    for (uint32_t id = 1; id <= 2; id++) {
        uint32_t max_version = 0, size = 0;

        virgl_renderer_get_cap_set(id, &max_version, &size);
        if (size > 0)
            ready->capsets[ready->n_capsets++] =
                (struct gpup_render_capset){.id = id, .max_version = max_version, .size = size};
    }
}

static int append_capset(int fd, const struct gpup_render_capset *capset)
{
    void *data = calloc(1, capset->size);
    ssize_t n;

    if (!data)
        return -ENOMEM;
    virgl_renderer_fill_caps(capset->id, capset->max_version, data);
    n = write(fd, data, capset->size);
    free(data);
    return n == (ssize_t)capset->size ? 0 : -EIO;
}

int virgl_capsets(const struct gpup_render_ready *ready)
{
    int fd = memfd_create("gpup-capsets", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    int r = 0;

    if (fd < 0)
        return -errno;
    for (uint32_t i = 0; i < ready->n_capsets && r == 0; i++)
        r = append_capset(fd, &ready->capsets[i]);
    if (r == 0 &&
        fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
        r = -errno;
    if (r < 0) {
        close(fd);
        return r;
    }
    return fd;
}
