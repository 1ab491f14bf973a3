/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "machine.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*
 * NVIDIA's vGPU host driver. Fact nvidia= vendor (kernels from 6.8: the driver's own VFIO) or mdev;
 * profile= such as A2, sizes= "1,2,4,8,16" (GiB), memory= MiB, first-id= of the types; renumbers=1:
 * types have other numbers after each vGPU that was made; no-shm=1: all vGPUs have one size,
 * whatever nvidia-smi is asked; vgpud-late=1: nvidia-vgpud has not told the types yet. VFs are made
 * by sriov-manage only, which writes `nvidia ADDRESS enable` to /control.
 */

struct type {
    int id, size; /* GiB */
    char class;
};

static int memory_gib(const struct device *pf)
{
    return device_number(pf, "memory", 16384) / 1024;
}

/* Types of classes B, C and Q for every size, numbered in this order from first-id. */
static GArray *types_of(const struct device *pf)
{
    GArray *types = g_array_new(FALSE, FALSE, sizeof(struct type));
    g_auto(GStrv) sizes = g_strsplit(device_fact(pf, "sizes", "1,2,4,8,16"), ",", 0);
    int id = device_number(pf, "first-id", 744) + 1000 * device_number(pf, "renumbered", 0);

    for (const char *class = "QBC"; *class; class ++) {
        for (char **size = sizes; *size; size++) {
            struct type type = {id++, atoi(*size), *class};

            if (*class == 'Q' || type.size <= 2 || *class == 'C')
                g_array_append_val(types, type);
        }
    }
    return types;
}

static struct type *find_type(GArray *types, int id)
{
    for (guint i = 0; i < types->len; i++) {
        if (g_array_index(types, struct type, i).id == id)
            return &g_array_index(types, struct type, i);
    }
    return NULL;
}

/* What is taken, and the one size in use where all have to be the same (-1: none yet). */
static int used_gib(const struct device *pf, int *size)
{
    int used = 0;

    *size = -1;
    for (guint i = 0; i < pf->vfs->len; i++) {
        int gib = device_number(pf->vfs->pdata[i], "gib", 0);

        used += gib;
        *size = gib ? gib : *size;
    }
    return used;
}

static bool is_creatable(const struct device *pf, const struct type *type)
{
    int size;
    int used = used_gib(pf, &size);
    bool mixed = device_fact(pf, "heterogeneous", NULL) != NULL;

    return used + type->size <= memory_gib(pf) && (mixed || size < 0 || size == type->size);
}

static void set_number(struct device *d, const char *name, int value)
{
    g_hash_table_replace(d->facts, g_strdup(name), g_strdup_printf("%d", value));
}

/* type: NULL for none. */
static void set_vgpu(struct device *vf, const struct type *type)
{
    set_number(vf, "type", type ? type->id : 0);
    set_number(vf, "gib", type ? type->size : 0);
    if (type && device_fact(vf->pf, "renumbers", NULL))
        set_number(vf->pf, "renumbered", device_number(vf->pf, "renumbered", 0) + 1);
}

static char *type_name(const struct device *pf, const struct type *type)
{
    return g_strdup_printf("NVIDIA %s-%d%c", device_fact(pf, "profile", "A2"), type->size,
                           type->class);
}

/* ---- the driver's own VFIO ---- */

static char *show_creatable(struct node *n)
{
    struct device *vf = n->owner;
    GString *text = g_string_new("ID    : vGPU Name\n");
    g_autoptr(GArray) types = types_of(vf->pf);

    if (device_fact(vf->pf, "vgpud-late", NULL))
        return g_string_free(text, FALSE);
    for (guint i = 0; i < types->len && device_number(vf, "type", 0) == 0; i++) {
        struct type *type = &g_array_index(types, struct type, i);
        g_autofree char *name = type_name(vf->pf, type);

        if (is_creatable(vf->pf, type))
            g_string_append_printf(text, "%-5d : %s\n", type->id, name);
    }
    return g_string_free(text, FALSE);
}

static int store_type(struct node *n, const char *value)
{
    struct device *vf = n->owner;
    g_autoptr(GArray) types = types_of(vf->pf);
    int id = atoi(value);
    struct type *type = find_type(types, id);
    int ret = device_failure(vf->pf, "type");
    int fails_at = device_failure(vf->pf, vf->index == 2 ? "type-2" : "");
    g_autofree char *text = g_strdup_printf("%d", id);

    if (id != 0 && ret < 0)
        return ret;
    if (id != 0 && fails_at < 0)
        return fails_at;
    if (vf->held)
        return -EBUSY;
    if (id != 0 && device_number(vf, "type", 0) != 0)
        return -EPERM;
    if (id != 0 && (!type || !is_creatable(vf->pf, type)))
        return -EINVAL;
    set_vgpu(vf, id ? type : NULL);
    tree_set(n, text);
    return 0;
}

static void add_vendor_vf(struct device *vf)
{
    struct node *n = device_file(vf, 0444, "", "nvidia/creatable_vgpu_types");

    n->show = show_creatable;
    device_file(vf, 0644, "0", "nvidia/current_vgpu_type")->store = store_type;
    device_file(vf, 0644, "", "nvidia/vgpu_params");
}

/* ---- mediated devices ---- */

/* Of a file in .../nvidia-744/ */
static int type_id(const struct node *n)
{
    return atoi(n->parent->name + strlen("nvidia-"));
}

static char *show_instances(struct node *n)
{
    struct device *vf = n->owner;
    g_autoptr(GArray) types = types_of(vf->pf);
    struct type *type = find_type(types, type_id(n));

    return g_strdup_printf("%d\n",
                           type && device_number(vf, "type", 0) == 0 && is_creatable(vf->pf, type));
}

static int store_remove(struct node *n, const char *value)
{
    struct device *vf = n->owner;
    g_autofree char *uuid = g_strdup(n->parent->name);

    while (vf->held) /* VFIO waits for who has it open */
        g_cond_wait(&tree_changed, &tree_lock);
    device_wait(vf->pf);
    set_vgpu(vf, NULL);
    tree_remove("/sys/bus/mdev/devices/%s", uuid);
    g_hash_table_remove(vf->facts, "mdev-group");
    tree_remove("%s/%s", vf->dir, uuid);
    return 0;
}

static int store_create(struct node *n, const char *value)
{
    struct device *vf = n->owner;
    g_autofree char *uuid = g_strstrip(g_strdup(value));
    g_autoptr(GArray) types = types_of(vf->pf);
    struct type *type = find_type(types, type_id(n));
    int ret = device_failure(vf->pf, "type");
    g_autofree char *group = NULL;
    struct node *made;

    if (ret < 0)
        return ret;
    if (!g_uuid_string_is_valid(uuid))
        return -EINVAL;
    if (tree_exists("/sys/bus/mdev/devices/%s", uuid))
        return -EEXIST;
    if (device_number(vf, "type", 0) != 0 || !is_creatable(vf->pf, type))
        return -ENOSPC;
    set_vgpu(vf, type);
    set_number(vf, "mdev-group", 500 + vf->index);
    group = g_strdup_printf("../../../../kernel/iommu_groups/%d", 500 + vf->index);
    tree_link(group, "/sys/bus/mdev/devices/%s/iommu_group", uuid);
    made = tree_file(0200, "", "/sys/bus/mdev/devices/%s/remove", uuid);
    made->owner = vf;
    made->store = store_remove;
    device_file(vf, 0444, "", uuid);
    return 0;
}

static struct node *type_file(struct device *vf, const struct type *type, const char *name,
                              const char *text)
{
    g_autofree char *path = g_strdup_printf("mdev_supported_types/nvidia-%d/%s", type->id, name);

    return device_file(vf, 0644, text, path);
}

static void add_mdev_vf(struct device *vf)
{
    g_autoptr(GArray) types = types_of(vf->pf);

    for (guint i = 0; i < types->len; i++) {
        struct type *type = &g_array_index(types, struct type, i);
        g_autofree char *name = type_name(vf->pf, type);
        g_autofree char *description =
            g_strdup_printf("num_heads=4, frl_config=60, framebuffer=%dM, "
                            "max_resolution=7680x4320, max_instance=%d",
                            type->size * 1024, memory_gib(vf->pf) / type->size);
        struct node *n;

        type_file(vf, type, "name", name);
        type_file(vf, type, "description", description);
        type_file(vf, type, "device_api", "vfio-pci");
        n = type_file(vf, type, "available_instances", "");
        n->show = show_instances;
        n = type_file(vf, type, "create", "");
        n->store = store_create;
    }
}

/* ---- the GPU ---- */

/* NVIDIA's own programs: they give fakesys orders. unbindLock is refused for a while where a test
 * wants that, and the exit status says nothing. */
static void add_tools(const char *mount)
{
    g_autofree char *manage =
        g_strdup_printf("#!/bin/sh\n"
                        "case $1 in -e) op=enable ;; *) op=disable ;; esac\n"
                        "echo \"nvidia $2 $op\" >%s/control 2>/dev/null || {\n"
                        "echo \"Cannot obtain unbindLock for $2\" >&2; }\n"
                        "exit 0\n",
                        mount);
    g_autofree char *smi =
        g_strdup_printf("#!/bin/sh\n"
                        "[ \"$1 $2 $3 $4\" = \"vgpu -shm 1 -i\" ] || exit 1\n"
                        "echo \"nvidia $5 heterogeneous\" 2>/dev/null >%s/control || {\n"
                        "echo \"Unable to set vGPU mode: Not Supported\"\n"
                        "exit 3; }\n",
                        mount);

    tree_file(0755, manage, "/usr/lib/nvidia/sriov-manage");
    tree_file(0755, smi, "/usr/bin/nvidia-smi");
}

void nvidia_add(struct device *pf)
{
    g_autofree char *text = g_strdup_printf(
        "Model: \t\t NVIDIA %s\nGPU UUID: \t GPU-%s\nBus Location: \t %s\n",
        device_fact(pf, "profile", "A2"), device_fact(pf, "uuid", "none"), pf->address);

    g_hash_table_replace(pf->facts, g_strdup("no-sriov"), g_strdup("1"));
    if (device_fact(pf, "uuid", NULL))
        tree_file(0444, text, "/proc/driver/nvidia/gpus/%s/information", pf->address);
    if (device_fact(pf, "ordinary", NULL))
        return;
    if (!device_fact(pf, "no-tools", NULL))
        add_tools(machine_mount);
    tree_file(0444, "live", "/sys/module/nvidia_vgpu_vfio/initstate");
    if (strcmp(device_fact(pf, "nvidia", "vendor"), "mdev") == 0)
        tree_dir("/sys/class/mdev_bus");
}

void nvidia_vfs(struct device *pf, bool on)
{
    for (guint i = 0; on && i < pf->vfs->len; i++) {
        if (strcmp(device_fact(pf, "nvidia", "vendor"), "mdev") == 0)
            add_mdev_vf(pf->vfs->pdata[i]);
        else
            add_vendor_vf(pf->vfs->pdata[i]);
    }
}

/* nvidia ADDRESS enable|disable|heterogeneous|reload|set NAME VALUE|unset NAME */
int nvidia_control(struct device *pf, char **words)
{
    if (!words[2])
        return -EINVAL;
    if (strcmp(words[2], "reload") == 0) { /* the module went, and is back as it is by default */
        g_hash_table_remove(pf->facts, "heterogeneous");
        return device_set_numvfs(pf, 0);
    }
    if (strcmp(words[2], "heterogeneous") == 0) {
        if (device_fact(pf, "no-shm", NULL))
            return -EPERM;
        g_hash_table_replace(pf->facts, g_strdup("heterogeneous"), g_strdup("1"));
        return 0;
    }
    if (strcmp(words[2], "set") == 0 && words[3] && words[4]) {
        g_hash_table_replace(pf->facts, g_strdup(words[3]), g_strdup(words[4]));
        return 0;
    }
    if (strcmp(words[2], "unset") == 0 && words[3]) {
        g_hash_table_remove(pf->facts, words[3]);
        return 0;
    }
    if (device_number(pf, "locked", 0) > 0) { /* unbindLock is not to be had: a while */
        g_hash_table_replace(pf->facts, g_strdup("locked"),
                             g_strdup_printf("%d", device_number(pf, "locked", 0) - 1));
        return -EAGAIN;
    }
    pf->autoprobe = true; /* VFs get the nvidia driver */
    g_hash_table_remove(pf->facts, "heterogeneous");
    if (strcmp(words[2], "enable") == 0) {
        return pf->numvfs ? 0 : device_set_numvfs(pf, pf->totalvfs);
    }
    return device_set_numvfs(pf, 0);
}
