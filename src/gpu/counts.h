/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_GPU_COUNTS_H
#define GPUP_GPU_COUNTS_H

#include "core/model.h"

#include <glib.h>

/* 1..most as valid counts. */
static inline void gpup_gpu_allow_counts(struct gpup_gpu *gpu, unsigned most)
{
    gpu->valid_counts = g_new0(unsigned, most);
    gpu->n_valid_counts = most;
    for (unsigned i = 0; i < most; i++)
        gpu->valid_counts[i] = i + 1;
}

#define GPUP_VIRTIO_MOST_PARTITIONS 32u

#endif
