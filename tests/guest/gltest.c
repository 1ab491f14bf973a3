/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a guest does with its partition: draws with OpenGL ES on the virtio GPU that is not the
 * VM's primary display, and says what it saw, one "key=value" a line.
 */
#include "show.h"

#include <EGL/egl.h>
#include <EGL/eglext.h>
#include <GLES2/gl2.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <gbm.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>
#include <virtgpu_drm.h>

#define SIZE              512
#define BLOCK             2048 /* of `fill`: 2048 x 2048 x 4 = 16 MiB */
#define BLOCK_MIB         16
#define CAPS_SIZE         1400
#define CAPS_VIDEO_MEMORY 692 /* virgl_hw.h: virgl_caps_v2.max_video_memory, MiB */

struct gl {
    int fd;
    struct gbm_device *gbm;
    EGLDisplay display;
    EGLContext context;
};

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static bool read_text(const char *path, char *text, size_t size)
{
    FILE *file = fopen(path, "r");
    bool ok = file && fgets(text, (int)size, file);

    if (file)
        fclose(file);
    return ok;
}

/* A partition is a display controller other than VGA (PCI class 0x0380). */
static int open_partition(void)
{
    DIR *dir = opendir("/sys/class/drm");
    struct dirent *entry;
    int fd = -1;

    while (dir && fd < 0 && (entry = readdir(dir))) {
        char path[400], class[32] = "";

        if (strncmp(entry->d_name, "renderD", 7) != 0)
            continue;
        snprintf(path, sizeof(path), "/sys/class/drm/%s/device/class", entry->d_name);
        if (!read_text(path, class, sizeof(class))) { /* the virtio device lies below the PCI one */
            snprintf(path, sizeof(path), "/sys/class/drm/%s/device/../class", entry->d_name);
            read_text(path, class, sizeof(class));
        }
        if (strncmp(class, "0x0380", 6) != 0)
            continue;
        snprintf(path, sizeof(path), "/dev/dri/%s", entry->d_name);
        fd = open(path, O_RDWR | O_CLOEXEC);
        printf("node=%s\n", path);
    }
    if (dir)
        closedir(dir);
    return fd;
}

static void print_memory(int fd)
{
    unsigned char caps[CAPS_SIZE] = {0};
    struct drm_virtgpu_get_caps get = {
        .cap_set_id = 2, .cap_set_ver = 2, .addr = (uintptr_t)caps, .size = sizeof(caps)};
    uint32_t mib;

    if (ioctl(fd, DRM_IOCTL_VIRTGPU_GET_CAPS, &get) < 0) {
        printf("vram_error=%s\n", strerror(errno));
        return;
    }
    memcpy(&mib, caps + CAPS_VIDEO_MEMORY, sizeof(mib));
    printf("vram_bytes=%llu\n", (unsigned long long)mib << 20);
}

static bool make_context(struct gl *gl)
{
    static const EGLint config_attributes[] = {EGL_RENDERABLE_TYPE, EGL_OPENGL_ES2_BIT, EGL_NONE};
    static const EGLint context_attributes[] = {EGL_CONTEXT_CLIENT_VERSION, 2, EGL_NONE};
    PFNEGLGETPLATFORMDISPLAYEXTPROC get_display =
        (PFNEGLGETPLATFORMDISPLAYEXTPROC)eglGetProcAddress("eglGetPlatformDisplayEXT");
    EGLConfig config;
    EGLint n = 0;

    gl->gbm = gbm_create_device(gl->fd);
    if (!gl->gbm || !get_display)
        return false;
    gl->display = get_display(EGL_PLATFORM_GBM_KHR, gl->gbm, NULL);
    if (!eglInitialize(gl->display, NULL, NULL) || !eglBindAPI(EGL_OPENGL_ES_API) ||
        !eglChooseConfig(gl->display, config_attributes, &config, 1, &n) || n < 1)
        return false;
    gl->context = eglCreateContext(gl->display, config, EGL_NO_CONTEXT, context_attributes);
    return eglMakeCurrent(gl->display, EGL_NO_SURFACE, EGL_NO_SURFACE, gl->context);
}

static bool start(struct gl *gl)
{
    gl->fd = open_partition();
    if (gl->fd < 0) {
        printf("error=no partition found: %s\n", strerror(errno));
        return false;
    }
    if (!make_context(gl)) {
        printf("error=EGL 0x%x\n", (unsigned)eglGetError());
        return false;
    }
    return true;
}

/* A texture that is drawn into. */
static GLuint make_target(int size)
{
    GLuint texture, frame;

    glGenTextures(1, &texture);
    glBindTexture(GL_TEXTURE_2D, texture);
    glTexImage2D(GL_TEXTURE_2D, 0, GL_RGBA, size, size, 0, GL_RGBA, GL_UNSIGNED_BYTE, NULL);
    glTexParameteri(GL_TEXTURE_2D, GL_TEXTURE_MIN_FILTER, GL_NEAREST);
    glGenFramebuffers(1, &frame);
    glBindFramebuffer(GL_FRAMEBUFFER, frame);
    glFramebufferTexture2D(GL_FRAMEBUFFER, GL_COLOR_ATTACHMENT0, GL_TEXTURE_2D, texture, 0);
    glViewport(0, 0, size, size);
    return texture;
}

static GLuint compile(GLenum type, const char *source)
{
    GLuint shader = glCreateShader(type);
    GLint ok = 0;

    glShaderSource(shader, 1, &source, NULL);
    glCompileShader(shader);
    glGetShaderiv(shader, GL_COMPILE_STATUS, &ok);
    if (!ok)
        printf("error=shader\n");
    return shader;
}

static GLuint make_program(const char *fragment)
{
    static const float square[] = {-1, -1, 1, -1, -1, 1, 1, 1};
    static const char vertex[] = "attribute vec2 at; varying vec2 place;"
                                 "void main() { place = at * 0.5 + 0.5;"
                                 " gl_Position = vec4(at, 0.0, 1.0); }";
    GLuint program = glCreateProgram(), buffer;

    glAttachShader(program, compile(GL_VERTEX_SHADER, vertex));
    glAttachShader(program, compile(GL_FRAGMENT_SHADER, fragment));
    glBindAttribLocation(program, 0, "at");
    glLinkProgram(program);
    glUseProgram(program);
    glGenBuffers(1, &buffer);
    glBindBuffer(GL_ARRAY_BUFFER, buffer);
    glBufferData(GL_ARRAY_BUFFER, sizeof(square), square, GL_STATIC_DRAW);
    glVertexAttribPointer(0, 2, GL_FLOAT, GL_FALSE, 0, 0);
    glEnableVertexAttribArray(0);
    return program;
}

/* Red grows to the right, green upwards, blue is the time: what must be where is known. */
static const char gradient[] = "precision highp float; varying vec2 place; uniform float time;"
                               "void main() { gl_FragColor = vec4(place, time, 1.0); }";

static bool near(int a, double b)
{
    double d = a - b;

    return d > -3 && d < 3;
}

static bool pixels_right(double time)
{
    static const int places[][2] = {{10, 10}, {255, 255}, {500, 20}, {30, 480}, {400, 300}};

    for (size_t i = 0; i < sizeof(places) / sizeof(*places); i++) {
        int x = places[i][0], y = places[i][1];
        unsigned char p[4] = {0};

        glReadPixels(x, y, 1, 1, GL_RGBA, GL_UNSIGNED_BYTE, p);
        if (!near(p[0], 255.0 * (x + 0.5) / SIZE) || !near(p[1], 255.0 * (y + 0.5) / SIZE) ||
            !near(p[2], 255.0 * time) || p[3] != 255)
            return false;
    }
    return true;
}

static void draw(GLuint program, double time)
{
    glUniform1f(glGetUniformLocation(program, "time"), (float)time);
    glDrawArrays(GL_TRIANGLE_STRIP, 0, 4);
    glFinish();
}

static double time_of(int frame)
{
    return (frame % 100) / 100.0;
}

static int cmd_info(struct gl *gl)
{
    printf("renderer=%s\nversion=%s\n", (const char *)glGetString(GL_RENDERER),
           (const char *)glGetString(GL_VERSION));
    print_memory(gl->fd);
    return 0;
}

static int cmd_render(int frames)
{
    GLuint program;
    double began;
    bool right;

    make_target(SIZE);
    program = make_program(gradient);
    draw(program, 0);
    began = now();
    for (int i = 1; i <= frames; i++)
        draw(program, time_of(i));
    printf("frames=%d\nfps=%.1f\n", frames, frames / (now() - began));
    right = pixels_right(time_of(frames));
    printf("pixels_ok=%d\n", right);
    return right ? 0 : 1;
}

/* Each pixel takes long. */
static const char heavy[] = "precision highp float; varying vec2 place; uniform float time;"
                            "void main() { vec4 v = vec4(place, time, 1.0);"
                            " for (int i = 0; i < 400; i++) v = v.wxzy * 0.5 + v * v * 0.25;"
                            " gl_FragColor = v; }";

/* Keeps the GPU as busy as it can; two at a time leave it no gap. */
static int cmd_load(int seconds)
{
    double began;
    GLuint program;
    int frames = 0;

    make_target(2 * SIZE);
    program = make_program(heavy);
    draw(program, 0); /* compiles it */
    printf("drawing=1\n");
    fflush(stdout);
    for (began = now(); now() - began < seconds;)
        draw(program, time_of(++frames));
    printf("frames=%d\nfps=%.2f\n", frames, frames / (now() - began));
    return 0;
}

/* Draws and looks until something is wrong or the time is over. */
static int cmd_watch(int seconds)
{
    double began = now();
    GLuint program;
    int frame = 0;

    make_target(SIZE);
    program = make_program(gradient);
    while (now() - began < seconds) {
        draw(program, time_of(++frame));
        if (!pixels_right(time_of(frame))) {
            printf("lost_after_frames=%d\n", frame);
            return 3;
        }
        if (frame == 1) {
            printf("drawing=1\n");
            fflush(stdout);
        }
    }
    printf("frames=%d\npixels_ok=1\n", frame);
    return 0;
}

/* How much of the partition's memory really holds what was put there. */
static int cmd_fill(int mib)
{
    int held = 0;

    while (held < mib) {
        unsigned char p[4] = {0};
        unsigned char want = (unsigned char)(40 + held / BLOCK_MIB * 3 % 200);

        make_target(BLOCK);
        glClearColor(want / 255.0f, 0.5f, 0.25f, 1);
        glClear(GL_COLOR_BUFFER_BIT);
        glReadPixels(BLOCK - 1, BLOCK - 1, 1, 1, GL_RGBA, GL_UNSIGNED_BYTE, p);
        if (!near(p[0], want) || !near(p[1], 127.5) || p[3] != 255)
            break;
        held += BLOCK_MIB;
    }
    printf("asked_bytes=%llu\nheld_bytes=%llu\n", (unsigned long long)mib << 20,
           (unsigned long long)held << 20);
    return 0;
}

static const char scene[] =
    "precision highp float; varying vec2 place; uniform float time;"
    "vec3 sky(vec2 p) { float s = sin(p.x * 9.0 + time * 6.0) + sin(p.y * 7.0 - time * 4.0)"
    "   + sin((p.x + p.y) * 5.0);"
    "   return 0.5 + 0.4 * cos(vec3(0.0, 2.1, 4.2) + s + time * 6.3); }"
    "void main() { vec2 p = place * 2.0 - 1.0; float r2 = dot(p, p) / 0.45; vec3 c = sky(p) * 0.45;"
    "   if (r2 < 1.0) { vec3 n = vec3(p / 0.67, sqrt(1.0 - r2));"
    "     float l = max(dot(n, normalize(vec3(-0.5, 0.7, 0.8))), 0.0);"
    "     c = sky(n.xy + n.z * 0.3) * (0.15 + 0.85 * l) + pow(l, 40.0); }"
    "   gl_FragColor = vec4(c, 1.0); }";

static int cmd_picture(const char *path, double time)
{
    static unsigned char pixels[SIZE * SIZE * 4];
    FILE *file = fopen(path, "w");

    if (!file) {
        printf("error=%s: %s\n", path, strerror(errno));
        return 1;
    }
    make_target(SIZE);
    draw(make_program(scene), time);
    glReadPixels(0, 0, SIZE, SIZE, GL_RGBA, GL_UNSIGNED_BYTE, pixels);
    fprintf(file, "P6 %d %d 255\n", SIZE, SIZE);
    for (int y = SIZE - 1; y >= 0; y--) { /* a picture begins at its top */
        for (int x = 0; x < SIZE; x++)
            fwrite(pixels + (y * SIZE + x) * 4, 1, 3, file);
    }
    return fclose(file) == 0 ? 0 : 1;
}

static int run(struct gl *gl, int argc, char **argv)
{
    const char *command = argc > 1 ? argv[1] : "info";
    const char *value = argc > 2 ? argv[2] : NULL;

    if (strcmp(command, "info") == 0)
        return cmd_info(gl);
    if (strcmp(command, "render") == 0)
        return cmd_render(value ? atoi(value) : 100);
    if (strcmp(command, "watch") == 0)
        return cmd_watch(value ? atoi(value) : 60);
    if (strcmp(command, "load") == 0)
        return cmd_load(value ? atoi(value) : 10);
    if (strcmp(command, "fill") == 0)
        return cmd_fill(value ? atoi(value) : 1024);
    if (strcmp(command, "picture") == 0 && value)
        return cmd_picture(value, argc > 3 ? atof(argv[3]) : 0);
    fprintf(stderr, "usage: gltest info | render N | watch SECONDS | load SECONDS | fill MIB |\n"
                    "       picture FILE TIME | show written|rendered SECONDS\n");
    return 2;
}

int main(int argc, char **argv)
{
    struct gl gl = {0};
    int code;

    if (argc == 4 && strcmp(argv[1], "show") == 0)
        code = show_picture(strcmp(argv[2], "rendered") == 0, atoi(argv[3]));
    else
        code = start(&gl) ? run(&gl, argc, argv) : 1;

    fflush(stdout);
    /* a context that was lost may hang on its way out: nothing here is worth waiting for */
    _exit(code);
}
