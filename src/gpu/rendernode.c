/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gpu/counts.h"
#include "gpu/provider.h"
#include "gpu/sysfs.h"

#include <pci/pci.h>
#include <stdio.h>
#include <string.h>

/*
 * Any GPU with a DRM render node (/dev/dri/renderD*), shared by virtio partitions. Its memory is
 * known where the driver tells it (amdgpu), else as configured.
 */

struct pci_identity {
    uint64_t vendor, device, subvendor, subdevice;
};

static bool read_identity(const char *device_dir, struct pci_identity *id)
{
    *id = (struct pci_identity){0};
    if (!gpup_sysfs_read_number(device_dir, "vendor", &id->vendor) ||
        !gpup_sysfs_read_number(device_dir, "device", &id->device))
        return false;
    gpup_sysfs_read_number(device_dir, "subsystem_vendor", &id->subvendor);
    gpup_sysfs_read_number(device_dir, "subsystem_device", &id->subdevice);
    return id->vendor <= 0xffff && id->device <= 0xffff && id->subvendor <= 0xffff &&
           id->subdevice <= 0xffff;
}

/* pci_init() looks for a PCI bus and ends the process where there is none; only the names are
 * wanted here, and for those it is enough that there is somebody to complain to. */
static void ignore_message(char *message, ...)
{
}

/* The names of the pci.ids database; numbers where it does not know. */
static void look_up_names(const struct pci_identity *id, struct gpup_gpu *gpu)
{
    struct pci_access *access = pci_alloc();
    char vendor[128] = "", device[256] = "";
    const char *open, *close;

    access->warning = ignore_message;
    access->debug = ignore_message;
    pci_lookup_name(access, vendor, sizeof(vendor), PCI_LOOKUP_VENDOR, (int)id->vendor);
    pci_lookup_name(access, device, sizeof(device), PCI_LOOKUP_DEVICE, (int)id->vendor,
                    (int)id->device);
    pci_cleanup(access);
    gpu->vendor = strdup(vendor);
    /* "AD102GL [L40S]": what people know is in the brackets */
    open = strrchr(device, '[');
    close = open ? strchr(open, ']') : NULL;
    gpu->name =
        close && close > open + 1 ? strndup(open + 1, (size_t)(close - open - 1)) : strdup(device);
}

/* The UUID that NVIDIA's own driver tells: survives a move to another slot. */
static char *nvidia_uuid(const struct gpup_system *system, const char *bdf)
{
    g_autofree char *path =
        g_build_filename(system->proc, "driver", "nvidia", "gpus", bdf, "information", NULL);
    g_autofree char *text = NULL;
    const char *start;

    if (!g_file_get_contents(path, &text, NULL, NULL))
        return NULL;
    start = strstr(text, "GPU-");
    return start ? g_strndup(start, strcspn(start, " \t\n")) : NULL;
}

static char *stable_key(const struct gpup_system *system, const char *device_dir, const char *bdf,
                        const struct pci_identity *id)
{
    g_autofree char *serial = gpup_sysfs_read(device_dir, "unique_id");
    g_autofree char *uuid = nvidia_uuid(system, bdf);

    if (uuid)
        return g_strdup(uuid);
    if (serial && *serial && strspn(serial, "0") != strlen(serial))
        return g_strdup_printf("%04x-%s", (unsigned)id->vendor, serial);
    return g_strdup_printf("pci-%04x-%04x-%s", (unsigned)id->vendor, (unsigned)id->device, bdf);
}

static uint64_t configured_memory(const struct gpup_system *system, const struct gpup_gpu *gpu)
{
    const char *const names[] = {gpu->id, gpu->key};

    for (size_t i = 0; system->memory_by_gpu && i < G_N_ELEMENTS(names); i++) {
        const guint64 *memory = g_hash_table_lookup(system->memory_by_gpu, names[i]);

        if (memory)
            return *memory;
    }
    return 0;
}

static void find_memory(const struct gpup_system *system, const char *device_dir,
                        struct gpup_gpu *gpu)
{
    uint64_t memory = configured_memory(system, gpu);
    g_autofree char *reason = NULL;

    if (memory == 0 && !gpup_sysfs_read_number(device_dir, "mem_info_vram_total", &memory))
        memory = 0;
    gpu->resource[GPUP_VRAM] = (struct gpup_resource_info){memory, GPUP_ENFORCE_HARD};
    if (memory > 0)
        return;
    gpu->mode = GPUP_MODE_UNUSABLE;
    reason = g_strdup_printf("its driver does not tell its memory: set memory= in section [gpu %s] "
                             "of gpup.conf",
                             gpu->id);
    gpu->reason = strdup(reason);
}

static struct gpup_gpu *probe_node(const struct gpup_system *system, const char *node)
{
    g_autofree char *device_dir =
        g_build_filename(system->sysfs, "class", "drm", node, "device", NULL);
    g_autofree char *bdf = NULL, *driver = NULL, *key = NULL, *ids = NULL, *path = NULL;
    struct pci_identity id;
    struct gpup_gpu *gpu;

    bdf = gpup_sysfs_link_name(device_dir, "");
    if (!bdf) {
        g_autofree char *class_dir = g_build_filename(system->sysfs, "class", "drm", node, NULL);

        bdf = gpup_sysfs_link_name(class_dir, "device");
    }
    if (!bdf || !read_identity(device_dir, &id))
        return NULL; /* not a PCI device: nothing that a host shares (vgem, a SoC's own) */
    driver = gpup_sysfs_link_name(device_dir, "driver");
    key = stable_key(system, device_dir, bdf, &id);
    path = g_build_filename("/dev/dri", node, NULL);
    ids = g_strdup_printf("%04x:%04x %04x:%04x", (unsigned)id.vendor, (unsigned)id.device,
                          (unsigned)id.subvendor, (unsigned)id.subdevice);
    gpu = g_malloc0(sizeof(*gpu));
    gpu->id = strdup(bdf);
    gpu->key = strdup(key);
    gpu->driver = strdup(driver ? driver : "none");
    gpu->node = strdup(path);
    gpu->pci_id = strdup(ids);
    gpu->kind = GPUP_KIND_VIRTIO;
    gpu->elastic = true;
    look_up_names(&id, gpu);
    /* nothing limits GPU time on a render node yet, so no share is promised */
    for (int r = GPUP_COMPUTE; r < GPUP_RESOURCES; r++)
        gpu->resource[r] = (struct gpup_resource_info){1000000, GPUP_ENFORCE_NONE};
    gpup_gpu_allow_counts(gpu, GPUP_VIRTIO_MOST_PARTITIONS);
    find_memory(system, device_dir, gpu);
    return gpu;
}

static int rendernode_probe(const struct gpup_system *system, GPtrArray *gpus,
                            struct gpup_error **err)
{
    g_autofree char *path = g_build_filename(system->sysfs, "class", "drm", NULL);
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    const char *name;

    while (dir && (name = g_dir_read_name(dir))) {
        struct gpup_gpu *gpu;

        if (!g_str_has_prefix(name, "renderD"))
            continue;
        gpu = probe_node(system, name);
        if (gpu)
            g_ptr_array_add(gpus, gpu);
    }
    return 0;
}

const struct gpup_provider gpup_provider_rendernode = {
    .name = "rendernode",
    .kind = GPUP_KIND_VIRTIO,
    .probe = rendernode_probe,
};
