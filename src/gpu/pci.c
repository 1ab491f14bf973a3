/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gpu/pci.h"

#include "gpu/sysfs.h"

#include <pci/pci.h>
#include <stdio.h>
#include <string.h>

#define CLASS_DISPLAY     0x03u
#define CLASS_ACCELERATOR 0x12u
#define VENDOR_AMD        0x1002u

bool gpup_pci_is_address(const char *text)
{
    size_t domain = strspn(text, "0123456789abcdef");
    const char *rest = text + domain;

    if (domain < 4 || domain > 8 || strlen(rest) != strlen(":00:00.0"))
        return false;
    return rest[0] == ':' && g_ascii_isxdigit(rest[1]) && g_ascii_isxdigit(rest[2]) &&
           rest[3] == ':' && g_ascii_isxdigit(rest[4]) && g_ascii_isxdigit(rest[5]) &&
           rest[6] == '.' && rest[7] >= '0' && rest[7] <= '7';
}

bool gpup_pci_same_card(const char *a, const char *b)
{
    size_t n = strlen(a) - strlen("0");

    return strlen(b) == strlen(a) && strncmp(a, b, n) == 0;
}

void gpup_pci_free(struct gpup_pci *pci)
{
    if (!pci)
        return;
    g_free(pci->address);
    g_free(pci->dir);
    g_free(pci->driver);
    g_free(pci);
}

static bool read_id(const char *dir, const char *name, uint64_t *id)
{
    return gpup_sysfs_read_number(dir, name, id) && *id <= 0xffff;
}

struct gpup_pci *gpup_pci_read(const struct gpup_system *system, const char *address)
{
    g_autoptr(gpup_pci) pci = g_new0(struct gpup_pci, 1);

    if (!gpup_pci_is_address(address))
        return NULL;
    pci->address = g_strdup(address);
    pci->dir = g_build_filename(system->sysfs, "bus", "pci", "devices", address, NULL);
    if (!read_id(pci->dir, "vendor", &pci->vendor) || !read_id(pci->dir, "device", &pci->device))
        return NULL;
    if (!read_id(pci->dir, "subsystem_vendor", &pci->subvendor) ||
        !read_id(pci->dir, "subsystem_device", &pci->subdevice))
        pci->subvendor = pci->subdevice = 0;
    gpup_sysfs_read_number(pci->dir, "class", &pci->class);
    pci->driver = gpup_sysfs_link_name(pci->dir, "driver");
    pci->is_vf = gpup_sysfs_exists(pci->dir, "physfn");
    if (!gpup_sysfs_read_number(pci->dir, "sriov_totalvfs", &pci->total_vfs) ||
        pci->total_vfs > GPUP_MAX_SLOTS)
        pci->total_vfs = 0;
    return g_steal_pointer(&pci);
}

/* AMD's Instinct GPUs call themselves accelerators. */
bool gpup_pci_is_gpu(const struct gpup_pci *pci)
{
    return pci->class >> 16 == CLASS_DISPLAY ||
           (pci->class >> 16 == CLASS_ACCELERATOR && pci->vendor == VENDOR_AMD);
}

static bool is_allowed(const struct gpup_system *system, const struct gpup_pci *pci)
{
    g_autofree char *id =
        g_strdup_printf("%04x:%04x", (unsigned)pci->vendor, (unsigned)pci->device);

    return system->pci_ids && g_strv_contains(system->pci_ids, id);
}

GPtrArray *gpup_pci_list(const struct gpup_system *system)
{
    GPtrArray *found = g_ptr_array_new_with_free_func((GDestroyNotify)gpup_pci_free);
    g_autoptr(GPtrArray) names = gpup_sysfs_list(system->sysfs, "bus/pci/devices");

    for (guint i = 0; i < names->len; i++) {
        g_autoptr(gpup_pci) pci = gpup_pci_read(system, names->pdata[i]);

        if (pci && !pci->is_vf && (gpup_pci_is_gpu(pci) || is_allowed(system, pci)))
            g_ptr_array_add(found, g_steal_pointer(&pci));
    }
    return found;
}

bool gpup_pci_may_make_vfs(const struct gpup_pci *pci)
{
    /* what host drivers for graphics lack sriov_configure; NVIDIA's makes VFs by a tool of its own
     */
    static const char *const never[] = {"nouveau", "nvidia", "amdgpu", "radeon", "ast", "mgag200"};

    for (gsize i = 0; pci->driver && i < G_N_ELEMENTS(never); i++) {
        if (strcmp(pci->driver, never[i]) == 0)
            return false;
    }
    return pci->total_vfs > 0;
}

static bool is_bridge(const char *sysfs, const char *address)
{
    g_autofree char *dir = g_build_filename(sysfs, "bus", "pci", "devices", address, NULL);
    uint64_t class = 0;

    return gpup_sysfs_read_number(dir, "class", &class) && class >> 16 == GPUP_CLASS_BRIDGE;
}

GPtrArray *gpup_pci_companions(const char *sysfs, const char *address)
{
    GPtrArray *found = g_ptr_array_new_with_free_func(g_free);
    g_autofree char *dir = g_build_filename(sysfs, "bus", "pci", "devices", address, NULL);
    g_autoptr(GPtrArray) members = gpup_sysfs_list(dir, "iommu_group/devices");

    for (guint i = 0; i < members->len; i++) {
        if (gpup_pci_same_card(members->pdata[i], address) &&
            strcmp(members->pdata[i], address) != 0 && !is_bridge(sysfs, members->pdata[i]))
            g_ptr_array_add(found, g_strdup(members->pdata[i]));
    }
    return found;
}

GPtrArray *gpup_pci_vfs(const struct gpup_pci *pci)
{
    GPtrArray *vfs = g_ptr_array_new_with_free_func(g_free);

    for (unsigned i = 0; i < GPUP_MAX_SLOTS; i++) {
        g_autofree char *link = g_strdup_printf("virtfn%u", i);
        g_autofree char *address = gpup_sysfs_link_name(pci->dir, link);

        if (!address || !gpup_pci_is_address(address))
            break;
        g_ptr_array_add(vfs, g_steal_pointer(&address));
    }
    return vfs;
}

/* pci_init() looks for a PCI bus and ends the process where there is none; only the names are
 * wanted here, and for those it is enough that there is somebody to complain to. */
static void ignore_message(char *message, ...)
{
}

/* The names of the pci.ids database; numbers where it does not know. */
static void look_up_names(const struct gpup_pci *pci, struct gpup_gpu *gpu)
{
    struct pci_access *access = pci_alloc();
    char vendor[128] = "", device[256] = "";
    const char *open, *close;

    access->warning = ignore_message;
    access->debug = ignore_message;
    /* udev's copy of the same database: where the system has none, libpci forgets what it opened */
    pci_set_param(access, (char *)(size_t) "hwdb.disable", (char *)(size_t) "1");
    /* nor a file in a home folder, whose name newer releases do not free */
    pci_set_param(access, (char *)(size_t) "net.cache_name", (char *)(size_t) "");
    pci_lookup_name(access, vendor, sizeof(vendor), PCI_LOOKUP_VENDOR, (int)pci->vendor);
    pci_lookup_name(access, device, sizeof(device), PCI_LOOKUP_DEVICE, (int)pci->vendor,
                    (int)pci->device);
    pci_cleanup(access);
    gpu->vendor = strdup(vendor);
    /* "AD102GL [L40S]": what people know is in the brackets */
    open = strrchr(device, '[');
    close = open ? strchr(open, ']') : NULL;
    gpu->name =
        close && close > open + 1 ? strndup(open + 1, (size_t)(close - open - 1)) : strdup(device);
}

char *gpup_pci_nvidia_information(const struct gpup_system *system, const char *address)
{
    g_autofree char *path =
        g_build_filename(system->proc, "driver", "nvidia", "gpus", address, "information", NULL);
    char *text = NULL;

    return g_file_get_contents(path, &text, NULL, NULL) ? text : NULL;
}

/* The UUID that NVIDIA's own driver tells: survives a move to another slot. */
static char *nvidia_uuid(const struct gpup_system *system, const char *address)
{
    g_autofree char *text = gpup_pci_nvidia_information(system, address);
    const char *start = text ? strstr(text, "GPU-") : NULL;

    return start ? g_strndup(start, strcspn(start, " \t\n")) : NULL;
}

static uint32_t le32(const guint8 *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

gsize gpup_pci_find_extended(const guint8 *config, gsize size, unsigned id)
{
    gsize at = 0x100;

    for (int guard = 0; guard < 96 && at >= 0x100 && at + 4 <= size; guard++) {
        uint32_t header = le32(config + at);

        if ((header & 0xffff) == id)
            return at;
        at = header >> 20;
    }
    return 0;
}

/* The Device Serial Number capability (PCI Express Base Specification, 7.9.3), or 0. Extended
 * configuration space can be read by root only. */
static guint64 device_serial(const struct gpup_pci *pci)
{
    g_autofree char *path = g_build_filename(pci->dir, "config", NULL);
    g_autofree char *text = NULL;
    const guint8 *config;
    gsize size = 0, at;

    if (!g_file_get_contents(path, &text, &size, NULL))
        return 0;
    config = (const guint8 *)text;
    at = gpup_pci_find_extended(config, size, 0x0003);
    if (at == 0 || at + 12 > size)
        return 0;
    return (guint64)le32(config + at + 8) << 32 | le32(config + at + 4);
}

static char *stable_key(const struct gpup_system *system, const struct gpup_pci *pci)
{
    g_autofree char *unique = gpup_sysfs_read(pci->dir, "unique_id");
    g_autofree char *uuid = nvidia_uuid(system, pci->address);
    guint64 serial;

    if (uuid)
        return g_strdup(uuid);
    if (unique && *unique && strspn(unique, "0") != strlen(unique))
        return g_strdup_printf("%04x-%s", (unsigned)pci->vendor, unique);
    serial = device_serial(pci);
    if (serial != 0 && serial != G_MAXUINT64)
        return g_strdup_printf("%04x-%04x-%016" G_GINT64_MODIFIER "x", (unsigned)pci->vendor,
                               (unsigned)pci->device, serial);
    return g_strdup_printf("pci-%04x-%04x-%s", (unsigned)pci->vendor, (unsigned)pci->device,
                           pci->address);
}

static char *render_node(const struct gpup_pci *pci)
{
    g_autoptr(GPtrArray) names = gpup_sysfs_list(pci->dir, "drm");

    for (guint i = 0; i < names->len; i++) {
        if (g_str_has_prefix(names->pdata[i], "renderD"))
            return g_build_filename("/dev/dri", names->pdata[i], NULL);
    }
    return NULL;
}

struct gpup_gpu *gpup_pci_gpu(const struct gpup_system *system, const struct gpup_pci *pci)
{
    struct gpup_gpu *gpu = g_malloc0(sizeof(*gpu));
    g_autofree char *key = stable_key(system, pci);
    g_autofree char *node = render_node(pci);
    g_autofree char *ids =
        g_strdup_printf("%04x:%04x %04x:%04x", (unsigned)pci->vendor, (unsigned)pci->device,
                        (unsigned)pci->subvendor, (unsigned)pci->subdevice);

    gpu->id = strdup(pci->address);
    gpu->key = strdup(key);
    gpu->driver = strdup(pci->driver ? pci->driver : GPUP_NO_DRIVER);
    gpu->node = node ? strdup(node) : NULL;
    gpu->pci_id = strdup(ids);
    look_up_names(pci, gpu);
    return gpu;
}

void *gpup_pci_configured(GHashTable *by_gpu, const struct gpup_gpu *gpu)
{
    void *by_id = by_gpu ? g_hash_table_lookup(by_gpu, gpu->id) : NULL;

    return by_id || !by_gpu ? by_id : g_hash_table_lookup(by_gpu, gpu->key);
}

uint64_t gpup_pci_configured_memory(const struct gpup_system *system, const struct gpup_gpu *gpu)
{
    const guint64 *memory = gpup_pci_configured(system->memory_by_gpu, gpu);

    return memory ? *memory : 0;
}
