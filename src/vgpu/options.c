/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "vgpu/options.h"

#include "core/error.h"
#include "core/units.h"
#include "wire/gpupd.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_HANG_MS 10000u

static void usage(FILE *to)
{
    fputs("Usage: gpup-vgpu --fd=N --virgl --render-node=" GPUP_VM_DIR "/ADAPTER (by libvirt)\n"
          "       gpup-vgpu --socket-path=PATH | --fd=N --vram=SIZE [OPTION...] (by hand)\n"
          "\n"
          "The virtio-gpu device of one virtual machine: serves QEMU's vhost-user-gpu.\n"
          "libvirt starts it for VMs that have an adapter (gpup assign). For any other\n"
          "vhost-user video device it executes QEMU's own back-end.\n"
          "\n"
          "  --fd=N               the inherited vhost-user socket\n"
          "  --socket-path=PATH   make this socket and wait for QEMU on it\n"
          "  --vram=SIZE          memory of the partition, like 512M: runs without gpupd\n"
          "  --render-node=PATH   with --vram: the GPU, like /dev/dri/renderD128\n"
          "                       (default: software)\n"
          "  --renderer=PATH      with --vram: the renderer program\n"
          "  --display[=dmabuf]   with --vram: connect the head and show it in QEMU;\n"
          "                       dmabuf: without copies, where QEMU's display has OpenGL\n"
          "  --hang-ms=N          with --vram: a slower command ends the renderer (10000)\n"
          "  --gpupd-socket=PATH  where gpupd listens (" GPUP_GPUPD_SOCKET ")\n"
          "  --virgl              accepted and needless: 3D is always offered\n"
          "  --print-capabilities what libvirt asks for\n"
          "  --help, --version\n",
          to);
}

static bool parse_number(const char *text, long most, long *value)
{
    char *end;

    errno = 0;
    *value = strtol(text, &end, 10);
    return !errno && end != text && !*end && *value >= 0 && *value <= most;
}

enum {
    FD = 'f',
    SOCKET_PATH = 's',
    CAPABILITIES = 'c',
    VIRGL = 'v',
    RENDER_NODE = 'r'
};
enum {
    VRAM = 256,
    RENDERER,
    HANG_MS,
    DISPLAY,
    GPUPD_SOCKET,
    HELP,
    VERSION
};

static const struct option longs[] = {
    {"fd", required_argument, NULL, FD},
    {"socket-path", required_argument, NULL, SOCKET_PATH},
    {"print-capabilities", no_argument, NULL, CAPABILITIES},
    {"virgl", no_argument, NULL, VIRGL},
    {"render-node", required_argument, NULL, RENDER_NODE},
    {"vram", required_argument, NULL, VRAM},
    {"renderer", required_argument, NULL, RENDERER},
    {"hang-ms", required_argument, NULL, HANG_MS},
    {"display", optional_argument, NULL, DISPLAY},
    {"gpupd-socket", required_argument, NULL, GPUPD_SOCKET},
    {"help", no_argument, NULL, HELP},
    {"version", no_argument, NULL, VERSION},
    {NULL, 0, NULL, 0},
};

static int bad_value(const char *option, const char *what)
{
    fprintf(stderr, "gpup-vgpu: %s=%s: %s\n", option, optarg, what);
    return GPUP_EXIT_USAGE;
}

static int take_number(int c, struct vgpu_options *o)
{
    GPUP_AUTO_ERROR err = NULL;
    long value;

    if (c == FD) {
        if (!parse_number(optarg, 1 << 20, &value))
            return bad_value("--fd", "not a descriptor's number");
        o->fd = (int)value;
    } else if (c == HANG_MS) {
        if (!parse_number(optarg, 3600000, &value))
            return bad_value("--hang-ms", "not a number of milliseconds, 3600000 at most");
        o->hang_ms = (uint32_t)value;
    } else if (gpup_parse_size(optarg, &o->vram, &err) < 0) {
        return bad_value("--vram", gpup_error_message(err));
    } else if (o->vram < UINT64_C(1) << 20) {
        return bad_value("--vram", "a partition has 1M at least");
    }
    return -1;
}

static int take(int c, struct vgpu_options *o)
{
    switch (c) {
    case FD:
    case HANG_MS:
    case VRAM:
        return take_number(c, o);
    case SOCKET_PATH:
        o->socket_path = optarg;
        return -1;
    case CAPABILITIES:
        o->print_capabilities = true;
        return -1;
    case VIRGL:
        return -1;
    case DISPLAY:
        o->display = optarg ? VGPU_DISPLAY_SHARED : VGPU_DISPLAY_PIXELS;
        if (optarg && strcmp(optarg, "dmabuf") != 0)
            return bad_value("--display", "it is 'dmabuf' or nothing");
        return -1;
    case RENDER_NODE:
        o->render_node = optarg;
        return -1;
    case RENDERER:
        o->renderer = optarg;
        return -1;
    case GPUPD_SOCKET:
        o->gpupd_socket = optarg;
        return -1;
    case HELP:
        usage(stdout);
        return GPUP_EXIT_DONE;
    case VERSION:
        puts("gpup-vgpu " GPUP_VERSION);
        return GPUP_EXIT_DONE;
    default: /* getopt has said what is wrong */
        fputs("See gpup-vgpu --help\n", stderr);
        return GPUP_EXIT_USAGE;
    }
}

static bool is_adapter(const char *node)
{
    return node && strncmp(node, GPUP_VM_DIR "/", strlen(GPUP_VM_DIR "/")) == 0 &&
           !strchr(node + strlen(GPUP_VM_DIR "/"), '/');
}

int vgpu_options_parse(int argc, char **argv, struct vgpu_options *o)
{
    int c;

    *o = (struct vgpu_options){.fd = -1,
                               .gpupd_socket = GPUP_GPUPD_SOCKET,
                               .renderer = GPUP_LIBEXECDIR "/gpup-render",
                               .hang_ms = DEFAULT_HANG_MS};
    while ((c = getopt_long(argc, argv, "f:s:cvr:", longs, NULL)) != -1) {
        int code = take(c, o);

        if (code >= 0)
            return code;
    }
    if (optind < argc) {
        fprintf(stderr, "gpup-vgpu: it takes no arguments, such as '%s'; see gpup-vgpu --help\n",
                argv[optind]);
        return GPUP_EXIT_USAGE;
    }
    if (!o->print_capabilities && (o->fd >= 0) == (o->socket_path != NULL)) {
        fputs("gpup-vgpu: one of --fd and --socket-path is needed; see gpup-vgpu --help\n", stderr);
        return GPUP_EXIT_USAGE;
    }
    if (is_adapter(o->render_node))
        o->adapter = o->render_node + strlen(GPUP_VM_DIR "/");
    return -1;
}
