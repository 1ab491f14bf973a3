/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_CLI_HYPERV_H
#define GPUP_CLI_HYPERV_H

#include "cli/bus.h"
#include "cli/values.h"

/* Hyper-V's cmdlets for GPU partitioning, on gpup's verbs (docs/hyper-v.md). */

#define HYPERV_BOUNDS 3 /* minimum, maximum, optimal */

/* The value of -MinPartitionVRAM and the like: bytes or parts per million. Says on stdout as what
 * it was read. CLI_GO_ON, or the exit code: Hyper-V's units and placeholders are refused. */
int hyperv_amount(const char *parameter, enum gpup_resource r, const char *text, uint64_t *value);

/* "VRAM", "Encode", "Decode", "Compute", in the order that Hyper-V prints them, by resource. */
extern const char *const hyperv_names[GPUP_RESOURCES];

/* Objects, as Format-List shows them. */
void hyperv_print_gpu(GpupGPU *gpu);
void hyperv_print_adapter(const struct cli_bus *bus, GpupVM *vm);

#endif
