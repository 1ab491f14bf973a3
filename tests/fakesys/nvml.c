/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*
 * A stand-in for NVIDIA's libnvidia-ml.so.1: the calls that gpup makes, with the vGPU types of an
 * L4. GPUP_NVML_LOG: a file that gets a line for each setting.
 */

int nvmlInit_v2(void);
int nvmlShutdown(void);
int nvmlDeviceGetHandleByPciBusId_v2(const char *address, void **device);
const char *nvmlErrorString(int code);
int nvmlDeviceGetMemoryInfo(void *device, unsigned long long *memory);
int nvmlDeviceGetSupportedVgpus(void *device, unsigned *n, unsigned *ids);
int nvmlVgpuTypeGetName(unsigned id, char *name, unsigned *size);
int nvmlVgpuTypeGetFramebufferSize(unsigned id, unsigned long long *bytes);
int nvmlVgpuTypeGetMaxInstances(void *device, unsigned id, unsigned *most);
int nvmlDeviceSetVgpuSchedulerState(void *device, const unsigned *state);

static const unsigned sizes[] = {1, 2, 3, 4, 6, 8, 12, 24};

int nvmlInit_v2(void)
{
    return 0;
}

int nvmlShutdown(void)
{
    return 0;
}

int nvmlDeviceGetHandleByPciBusId_v2(const char *address, void **device)
{
    static int one;

    *device = &one;
    return strlen(address) < 12 ? 2 : 0;
}

const char *nvmlErrorString(int code)
{
    return code == 3 ? "Not Supported" : "Unknown Error";
}

int nvmlDeviceGetMemoryInfo(void *device, unsigned long long *memory)
{
    memory[0] = 24570ull << 20;
    return 0;
}

int nvmlDeviceGetSupportedVgpus(void *device, unsigned *n, unsigned *ids)
{
    const unsigned all = sizeof(sizes) / sizeof(sizes[0]);

    if (*n < all) {
        *n = all;
        return 7;
    }
    for (unsigned i = 0; i < all; i++)
        ids[i] = 100 + i;
    *n = all;
    return 0;
}

int nvmlVgpuTypeGetName(unsigned id, char *name, unsigned *size)
{
    snprintf(name, *size, "NVIDIA L4-%uQ", sizes[id - 100]);
    return 0;
}

int nvmlVgpuTypeGetFramebufferSize(unsigned id, unsigned long long *bytes)
{
    *bytes = (unsigned long long)sizes[id - 100] << 30;
    return 0;
}

int nvmlVgpuTypeGetMaxInstances(void *device, unsigned id, unsigned *most)
{
    *most = 24 / sizes[id - 100];
    return 0;
}

int nvmlDeviceSetVgpuSchedulerState(void *device, const unsigned *state)
{
    const char *path = getenv("GPUP_NVML_LOG");
    FILE *f = path ? fopen(path, "a") : NULL;

    if (!f)
        return 3;
    fprintf(f, "scheduler %u %u %u\n", state[0], state[1], state[2]);
    fclose(f);
    return 0;
}
