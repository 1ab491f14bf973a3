/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_CLI_GPU_H
#define GPUP_CLI_GPU_H

#include "cli/bus.h"

#include <json-glib/json-glib.h>

/* The GPUs as `gpup` shows them, and what is wrong with them as notes. */
void cli_gpu_table(const struct cli_bus *bus);
/* Adds the members of one GPU to the object that is open. */
void cli_gpu_json(JsonBuilder *json, GpupGPU *gpu);
/* All of them, as the member "gpus". */
void cli_gpus_json(JsonBuilder *json, const struct cli_bus *bus);

/* What went wrong with a GPU, counted (a{sv}); NULL when gpupd does not say. The caller's. */
GVariant *cli_gpu_health(GpupGPU *gpu);

#endif
