/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_VGPU_EDID_H
#define GPUP_VGPU_EDID_H

#include <stdint.h>

#define VGPU_EDID_SIZE 128u

/* The base block (VESA E-EDID 1.4) of a monitor whose preferred mode is width x height, 60 Hz.
 * Both are bounded to what a detailed timing can say (4095). */
void vgpu_edid_make(uint8_t edid[VGPU_EDID_SIZE], uint32_t width, uint32_t height);

#endif
