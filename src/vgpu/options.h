/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_VGPU_OPTIONS_H
#define GPUP_VGPU_OPTIONS_H

#include "vgpu/device.h"

#include <stdbool.h>
#include <stdint.h>

/* How gpup-vgpu was called. */
struct vgpu_options {
    bool print_capabilities;
    int fd;                  /* the vhost-user socket, or -1 */
    const char *socket_path; /* where to listen for it instead */
    const char *render_node;
    const char *adapter; /* points into render_node where that is one of gpup's; else NULL */
    const char *gpupd_socket;
    const char *renderer;
    uint64_t vram; /* bytes; 0: not given */
    uint32_t hang_ms;
    enum vgpu_display display;
};

/* Returns -1 to go on, or the exit code (what is to be said was said). */
int vgpu_options_parse(int argc, char **argv, struct vgpu_options *options);

#endif
