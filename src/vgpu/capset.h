/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_VGPU_CAPSET_H
#define GPUP_VGPU_CAPSET_H

#include <stddef.h>
#include <stdint.h>

/*
 * Rewrites a virgl capability set (virgl_hw.h, struct virgl_caps_v2) for a partition: its own
 * memory size instead of the host's, only formats that it may have, no memory info, no video, no
 * debug log. Of a shorter set only what is there is rewritten.
 */
void vgpu_capset_limit(void *data, size_t size, uint64_t vram);

#endif
