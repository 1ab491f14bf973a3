/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_VGPU_STREAM_H
#define GPUP_VGPU_STREAM_H

#include <stddef.h>
#include <stdint.h>

/*
 * Walks a virgl command stream (virgl_protocol.h: a header of opcode, object and length, then as
 * many dwords) against the list of what a guest may say: no command that creates memory past the
 * quota, none of video, none that tells of the host, none that is unknown.
 *
 * 0, or -EINVAL (lengths do not add up), -EPERM (a command that is not allowed; *opcode tells).
 * Each dword is read once at most: the buffer may be shared.
 */
int vgpu_stream_check(const uint32_t *dwords, size_t n, uint32_t *opcode);

#endif
