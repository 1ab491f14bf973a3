/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_GPU_VGPU_TYPE_H
#define GPUP_GPU_VGPU_TYPE_H

#include "gpu/nvml.h"
#include "gpu/pci.h"

/* NVIDIA's vGPU types ("NVIDIA A16-4Q"): which one is meant, and which GPUs have them. No I/O. */

/* The framebuffer of a type by its name, in bytes, and its class ('Q', 'B', 'C', 'A'). False for a
 * name of another form, and for types that stand on a MIG instance ("H100-1-10C"). */
bool gpup_vgpu_parse(const char *name, uint64_t *framebuffer, char *class);

/* The largest type of this class of which n fit into the memory; NULL: none. Borrowed. */
const struct gpup_vgpu_type *gpup_vgpu_for_count(GArray *types, char class, uint64_t memory,
                                                 unsigned n);
/* The smallest of this class that has at least so many bytes; NULL: none. Borrowed. */
const struct gpup_vgpu_type *gpup_vgpu_for_size(GArray *types, char class, uint64_t bytes);

/* A GPU that can have vGPUs, as far as it is known. */
struct gpup_vgpu_model {
    uint16_t device, subdevice; /* PCI; subdevice 0: any */
    const char *name;
    unsigned memory;            /* GiB */
    const unsigned char *sizes; /* of its types, GiB, ended by 0 */
    unsigned per_board;         /* GPUs on one card */
};

/* NULL: not known; the driver may know it all the same. */
const struct gpup_vgpu_model *gpup_vgpu_model(const struct gpup_pci *pci);
/* Its types by the table, all of one class (struct gpup_vgpu_type, with id 0). */
GArray *gpup_vgpu_model_types(const struct gpup_vgpu_model *model, char class);

#endif
