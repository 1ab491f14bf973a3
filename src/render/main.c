/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "render/render.h"
#include "sandbox/calls.h"

struct options {
    int sock;
    const char *render_node;
    bool probe;
};

static void usage(FILE *to)
{
    fputs("Usage: gpup-render --socket-fd=N [--render-node=PATH]\n"
          "       gpup-render --probe [--render-node=PATH]\n"
          "\n"
          "Executes the GPU commands of one virtual machine. gpupd and gpup-vgpu start it;\n"
          "there is no need to do so by hand.\n"
          "\n"
          "  --socket-fd=N       the inherited socket to gpup-vgpu\n"
          "  --render-node=PATH  the GPU, like /dev/dri/renderD128; default: software\n"
          "  --probe             print the name of the OpenGL renderer and exit\n"
          "  --help, --version\n",
          to);
}

static bool parse_fd(const char *text, int *fd)
{
    char *end;
    long value;

    errno = 0;
    value = strtol(text, &end, 10);
    if (errno || end == text || *end || value < 0 || value > 1 << 20)
        return false;
    *fd = (int)value;
    return true;
}

/* -1: go on; else the exit code. */
static int parse(int argc, char **argv, struct options *options)
{
    static const struct option longs[] = {
        {"socket-fd", required_argument, NULL, 's'}, {"render-node", required_argument, NULL, 'r'},
        {"probe", no_argument, NULL, 'p'},           {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, 'V'},         {NULL, 0, NULL, 0},
    };
    int c;

    while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
        if (c == 's' && parse_fd(optarg, &options->sock))
            continue;
        if (c == 's') {
            fprintf(stderr, "gpup-render: --socket-fd=%s is not a descriptor number\n", optarg);
            return GPUP_EXIT_USAGE;
        }
        if (c == 'r') {
            options->render_node = optarg;
        } else if (c == 'p') {
            options->probe = true;
        } else if (c == 'h') {
            usage(stdout);
            return GPUP_EXIT_DONE;
        } else if (c == 'V') {
            puts("gpup-render " GPUP_VERSION);
            return GPUP_EXIT_DONE;
        } else {
            usage(stderr);
            return GPUP_EXIT_USAGE;
        }
    }
    if (optind < argc || options->probe == (options->sock >= 0)) {
        usage(stderr);
        return GPUP_EXIT_USAGE;
    }
    return -1;
}

/* Before anything of a guest's is read. A kernel without filters is told of by who started us. */
static int restrict_calls(const char *render_node, struct gpup_error **err)
{
    if (!sandbox_can_restrict_calls())
        return 0;
    return sandbox_restrict_calls(
        render_node ? SANDBOX_CALLS_RENDER_GPU : SANDBOX_CALLS_RENDER_SOFTWARE, err);
}

int main(int argc, char **argv)
{
    struct options options = {.sock = -1};
    struct render render = {.sock = -1,
                            .version = GPUP_RENDER_VERSION,
                            .command_fd = -1,
                            .event_fd = -1,
                            .virgl_fd = -1,
                            .events_lock = PTHREAD_MUTEX_INITIALIZER,
                            .fences_lock = PTHREAD_MUTEX_INITIALIZER};
    GPUP_AUTO_ERROR err = NULL;
    int r = parse(argc, argv, &options);

    if (r >= 0)
        return r;
    prctl(PR_SET_DUMPABLE, 0); /* it maps the guest's memory */
    r = restrict_calls(options.render_node, &err);
    if (r == 0 && options.probe) {
        r = virgl_start(&render, options.render_node, &err);
        if (r == 0) {
            char name[128];

            gl_renderer_name(name, sizeof(name));
            puts(name);
        }
    } else if (r == 0) {
        render.sock = options.sock;
        r = session_run(&render, options.render_node, &err);
    }
    if (r < 0)
        log_error(gpup_error_message(err));
    fflush(stdout);
    /* Not exit(): drivers' exit handlers are of no use here, and a hung one would keep us. */
    _exit(r < 0 ? GPUP_EXIT_FAILED : GPUP_EXIT_DONE);
}
