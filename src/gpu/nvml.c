/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gpu/nvml.h"

#include "core/error.h"

#include <dlfcn.h>
#include <errno.h>

/* The names and the layout of what is passed are NVIDIA's: NVML API Reference Guide. */

#define LIBRARY   "libnvidia-ml.so.1"
#define SUCCESS   0
#define MAX_TYPES 512u

typedef void *device;

struct scheduler_state {
    unsigned policy;
    unsigned adaptive; /* adaptive round robin */
    union {
        struct {
            unsigned average, frequency;
        } adaptive;
        unsigned slice_ns;
    } parameters;
};

struct memory {
    unsigned long long total, free, used;
};

struct gpup_nvml {
    void *library;
    device device;
    int (*init)(void);
    int (*shutdown)(void);
    int (*by_address)(const char *address, device *device);
    const char *(*error_string)(int code);
    int (*memory)(device device, struct memory *memory);
    int (*supported)(device device, unsigned *n, unsigned *ids);
    int (*type_name)(unsigned id, char *name, unsigned *size);
    int (*type_framebuffer)(unsigned id, unsigned long long *bytes);
    int (*type_most)(device device, unsigned id, unsigned *most);
    int (*set_scheduler)(device device, struct scheduler_state *state);
};

static void load(struct gpup_nvml *n)
{
    const struct {
        void *to; /* a pointer to a function pointer */
        const char *name;
    } symbols[] = {
        {&n->init, "nvmlInit_v2"},
        {&n->shutdown, "nvmlShutdown"},
        {&n->by_address, "nvmlDeviceGetHandleByPciBusId_v2"},
        {&n->error_string, "nvmlErrorString"},
        {&n->memory, "nvmlDeviceGetMemoryInfo"},
        {&n->supported, "nvmlDeviceGetSupportedVgpus"},
        {&n->type_name, "nvmlVgpuTypeGetName"},
        {&n->type_framebuffer, "nvmlVgpuTypeGetFramebufferSize"},
        {&n->type_most, "nvmlVgpuTypeGetMaxInstances"},
        {&n->set_scheduler, "nvmlDeviceSetVgpuSchedulerState"},
    };

    for (gsize i = 0; i < G_N_ELEMENTS(symbols); i++)
        *(void **)symbols[i].to = dlsym(n->library, symbols[i].name);
}

struct gpup_nvml *gpup_nvml_open(const char *address)
{
    struct gpup_nvml *n = g_new0(struct gpup_nvml, 1);

    n->library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
    if (n->library)
        load(n);
    if (!n->init || !n->shutdown || !n->by_address || n->init() != SUCCESS) {
        if (n->library)
            dlclose(n->library);
        g_free(n);
        return NULL;
    }
    if (n->by_address(address, &n->device) != SUCCESS) {
        gpup_nvml_close(n);
        return NULL;
    }
    return n;
}

void gpup_nvml_close(struct gpup_nvml *n)
{
    if (!n)
        return;
    n->shutdown();
    dlclose(n->library);
    g_free(n);
}

uint64_t gpup_nvml_memory(struct gpup_nvml *n)
{
    struct memory memory = {0};

    return n->memory && n->memory(n->device, &memory) == SUCCESS ? memory.total : 0;
}

static bool read_type(struct gpup_nvml *n, unsigned id, struct gpup_vgpu_type *type)
{
    unsigned size = sizeof(type->name);
    unsigned long long framebuffer = 0;

    *type = (struct gpup_vgpu_type){.id = id};
    if (n->type_name(id, type->name, &size) != SUCCESS ||
        n->type_framebuffer(id, &framebuffer) != SUCCESS)
        return false;
    type->name[sizeof(type->name) - 1] = '\0';
    type->framebuffer = framebuffer;
    if (n->type_most)
        n->type_most(n->device, id, &type->most);
    return true;
}

GArray *gpup_nvml_types(struct gpup_nvml *n)
{
    GArray *types = g_array_new(FALSE, TRUE, sizeof(struct gpup_vgpu_type));
    g_autofree unsigned *ids = g_new0(unsigned, MAX_TYPES);
    unsigned count = MAX_TYPES;

    if (!n->supported || !n->type_name || !n->type_framebuffer ||
        n->supported(n->device, &count, ids) != SUCCESS)
        return types;
    for (unsigned i = 0; i < MIN(count, MAX_TYPES); i++) {
        struct gpup_vgpu_type type;

        if (read_type(n, ids[i], &type))
            g_array_append_val(types, type);
    }
    return types;
}

int gpup_nvml_set_scheduler(struct gpup_nvml *n, enum gpup_vgpu_scheduler scheduler,
                            unsigned slice_ns, struct gpup_error **err)
{
    struct scheduler_state state = {.policy = scheduler};
    int ret;

    state.parameters.slice_ns = slice_ns;
    if (!n->set_scheduler)
        return gpup_error_set(err, EOPNOTSUPP,
                              "this NVIDIA driver cannot set the scheduler of vGPUs");
    ret = n->set_scheduler(n->device, &state);
    if (ret == SUCCESS)
        return 0;
    return gpup_error_set(err, EIO, "the NVIDIA driver refuses the scheduler of vGPUs: %s",
                          n->error_string ? n->error_string(ret) : "no reason");
}
