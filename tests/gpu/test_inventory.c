/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/error.h"
#include "gpu/inventory.h"
#include "tree.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define MIB (UINT64_C(1) << 20)

/* A made-up /sys and /proc in a temporary folder. */
struct fixture {
    char *root, *sysfs, *proc;
    GHashTable *memory;
    struct gpup_system system;
};

static void put(const char *dir, const char *name, const char *text)
{
    g_autofree char *path = g_build_filename(dir, name, NULL);
    g_autofree char *parent = g_path_get_dirname(path);

    g_assert_cmpint(g_mkdir_with_parents(parent, 0755), ==, 0);
    g_assert_true(g_file_set_contents(path, text, -1, NULL));
}

static void add_gpu(struct fixture *f, const char *node, const char *bdf, const char *driver,
                    const char *vendor, const char *device)
{
    g_autofree char *dir = g_build_filename(f->sysfs, "devices", bdf, NULL);
    g_autofree char *drm = g_build_filename(f->sysfs, "class", "drm", node, NULL);
    g_autofree char *link = g_build_filename(drm, "device", NULL);
    g_autofree char *driver_link = g_build_filename(dir, "driver", NULL);
    g_autofree char *driver_target = g_strconcat("../../bus/pci/drivers/", driver, NULL);
    g_autofree char *bus = g_build_filename(f->sysfs, "bus", "pci", "devices", NULL);
    g_autofree char *on_bus = g_build_filename(bus, bdf, NULL);

    put(dir, "vendor", vendor);
    put(dir, "device", device);
    put(dir, "subsystem_vendor", "0x1002\n");
    put(dir, "subsystem_device", "0x0001\n");
    g_assert_cmpint(g_mkdir_with_parents(drm, 0755), ==, 0);
    g_assert_cmpint(g_mkdir_with_parents(bus, 0755), ==, 0);
    g_assert_cmpint(symlink(dir, on_bus), ==, 0);
    g_assert_cmpint(symlink(dir, link), ==, 0);
    g_assert_cmpint(symlink(driver_target, driver_link), ==, 0);
}

static void set_up(struct fixture *f, gconstpointer data)
{
    f->root = g_dir_make_tmp("gpup-inventory-XXXXXX", NULL);
    f->sysfs = g_build_filename(f->root, "sys", NULL);
    f->proc = g_build_filename(f->root, "proc", NULL);
    f->memory = g_hash_table_new(g_str_hash, g_str_equal);
    put(f->proc, "meminfo", "MemTotal:        8388608 kB\nMemFree: 1 kB\n");
    f->system = (struct gpup_system){.sysfs = f->sysfs,
                                     .dev = "/dev",
                                     .proc = f->proc,
                                     .software = true,
                                     .memory_by_gpu = f->memory};
}

static void tear_down(struct fixture *f, gconstpointer data)
{
    remove_tree(f->root);
    g_hash_table_unref(f->memory);
    g_free(f->root);
    g_free(f->sysfs);
    g_free(f->proc);
}

static struct gpup_gpu *gpu_at(struct gpup_inventory *inventory, size_t i)
{
    size_t n;
    struct gpup_gpu *const *gpus = gpup_inventory_gpus(inventory, &n);

    g_assert_cmpuint(i, <, n);
    return gpus[i];
}

static size_t count(struct gpup_inventory *inventory)
{
    size_t n;

    gpup_inventory_gpus(inventory, &n);
    return n;
}

static void software_always(struct fixture *f, gconstpointer data)
{
    g_autoptr(gpup_inventory) inventory = gpup_inventory_new(&f->system, NULL);

    g_assert_cmpuint(count(inventory), ==, 1);
    g_assert_cmpstr(gpu_at(inventory, 0)->id, ==, "software");
    g_assert_cmpuint(gpu_at(inventory, 0)->resource[GPUP_VRAM].total, ==, 2048 * MIB);
    g_assert_cmpuint(gpu_at(inventory, 0)->n_valid_counts, ==, 32);
    g_assert_cmpint(gpu_at(inventory, 0)->mode, ==, GPUP_MODE_UNUSED);
}

static void render_nodes(struct fixture *f, gconstpointer data)
{
    g_autofree char *amd = g_build_filename(f->sysfs, "devices", "0000:41:00.0", NULL);
    g_autoptr(gpup_inventory) inventory = NULL;

    add_gpu(f, "renderD129", "0000:41:00.0", "amdgpu", "0x1002\n", "0x74a1\n");
    put(amd, "mem_info_vram_total", "17163091968\n");
    put(amd, "unique_id", "5c88007da0d11c8d\n");
    add_gpu(f, "renderD128", "0000:03:00.0", "xe", "0x8086\n", "0xe212\n");
    put(f->sysfs, "class/drm/renderD130/nothing", "");
    inventory = gpup_inventory_new(&f->system, NULL);
    g_assert_cmpuint(count(inventory), ==, 3);
    g_assert_cmpstr(gpu_at(inventory, 0)->id, ==, "0000:03:00.0");
    g_assert_cmpint(gpu_at(inventory, 0)->mode, ==, GPUP_MODE_UNUSABLE);
    g_assert_nonnull(strstr(gpu_at(inventory, 0)->reason, "[gpu 0000:03:00.0]"));
    g_assert_cmpstr(gpu_at(inventory, 1)->key, ==, "1002-5c88007da0d11c8d");
    g_assert_cmpstr(gpu_at(inventory, 1)->driver, ==, "amdgpu");
    g_assert_cmpstr(gpu_at(inventory, 1)->node, ==, "/dev/dri/renderD129");
    g_assert_cmpstr(gpu_at(inventory, 1)->pci_id, ==, "1002:74a1 1002:0001");
    g_assert_cmpuint(gpu_at(inventory, 1)->resource[GPUP_VRAM].total, ==, 17163091968);
    g_assert_cmpstr(gpu_at(inventory, 2)->id, ==, "software");
}

static void configured_memory(struct fixture *f, gconstpointer data)
{
    g_autoptr(gpup_inventory) inventory = NULL;
    guint64 memory = 8192 * MIB;
    char bdf[] = "0000:03:00.0";

    add_gpu(f, "renderD128", bdf, "xe", "0x8086\n", "0xe212\n");
    g_hash_table_insert(f->memory, bdf, &memory);
    inventory = gpup_inventory_new(&f->system, NULL);
    g_assert_cmpint(gpu_at(inventory, 0)->mode, ==, GPUP_MODE_UNUSED);
    g_assert_cmpuint(gpu_at(inventory, 0)->resource[GPUP_VRAM].total, ==, memory);
}

static void partitions(struct fixture *f, gconstpointer data)
{
    g_autoptr(gpup_inventory) inventory = gpup_inventory_new(&f->system, NULL);
    struct gpup_gpu *gpu = gpu_at(inventory, 0);
    GPUP_AUTO_ERROR err = NULL;
    const struct gpup_grant grant = {{{MIB, MIB, MIB}}};

    g_assert_cmpint(gpup_inventory_partition(inventory, gpu, 33, &err), ==, -EINVAL);
    g_assert_cmpstr(gpup_error_message(err), ==,
                    "software cannot have 33 partitions: valid counts are 1 to 32, and 0 for none");
    g_assert_cmpint(gpup_inventory_partition(inventory, gpu, 4, NULL), ==, 0);
    g_assert_cmpint(gpu->mode, ==, GPUP_MODE_PARTITIONED);
    g_assert_cmpint(gpup_inventory_take(inventory, gpu, 4, "a", "vm", &grant, NULL), ==, -EINVAL);
    g_assert_cmpint(gpup_inventory_take(inventory, gpu, 1, "a", "desk1", &grant, NULL), ==, 0);
    g_assert_cmpint(gpup_inventory_take(inventory, gpu, 1, "b", "desk2", &grant, NULL), ==, -EBUSY);
    g_assert_cmpint(gpup_inventory_partition(inventory, gpu, 2, &err), ==, -EBUSY);
    g_assert_nonnull(strstr(gpup_error_message(err), "desk1"));
    g_assert_cmpuint(gpu->n_slots, ==, 4);
    g_assert_cmpint(gpup_inventory_give_back(inventory, gpu, 1, NULL), ==, 0);
    g_assert_cmpint(gpup_inventory_give_back(inventory, gpu, 1, NULL), ==, 0);
    g_assert_cmpint(gpup_inventory_partition(inventory, gpu, 0, NULL), ==, 0);
    g_assert_cmpint(gpu->mode, ==, GPUP_MODE_UNUSED);
}

/* A card that moved to another slot keeps its partitions; one that was pulled out is told of. */
static void rescan(struct fixture *f, gconstpointer data)
{
    g_autofree char *at = g_build_filename(f->sysfs, "devices", "0000:41:00.0", NULL);
    g_autofree char *moved = g_build_filename(f->sysfs, "devices", "0000:42:00.0", NULL);
    g_autofree char *node = g_build_filename(f->sysfs, "class", "drm", "renderD128", NULL);
    g_autoptr(gpup_inventory) inventory = NULL;
    const struct gpup_grant grant = {{{MIB, MIB, MIB}}};

    add_gpu(f, "renderD128", "0000:41:00.0", "amdgpu", "0x1002\n", "0x74a1\n");
    put(at, "mem_info_vram_total", "17163091968\n");
    put(at, "unique_id", "5c88007da0d11c8d\n");
    inventory = gpup_inventory_new(&f->system, NULL);
    g_assert_cmpint(gpup_inventory_partition(inventory, gpu_at(inventory, 0), 2, NULL), ==, 0);
    g_assert_cmpint(
        gpup_inventory_take(inventory, gpu_at(inventory, 0), 0, "a", "vm", &grant, NULL), ==, 0);

    remove_tree(node);
    remove_tree(at);
    add_gpu(f, "renderD128", "0000:42:00.0", "amdgpu", "0x1002\n", "0x74a1\n");
    put(moved, "mem_info_vram_total", "17163091968\n");
    put(moved, "unique_id", "5c88007da0d11c8d\n");
    g_assert_cmpint(gpup_inventory_rescan(inventory, NULL), ==, 0);
    g_assert_cmpstr(gpu_at(inventory, 0)->id, ==, "0000:42:00.0");
    g_assert_cmpint(gpu_at(inventory, 0)->mode, ==, GPUP_MODE_PARTITIONED);
    g_assert_cmpstr(gpu_at(inventory, 0)->slots[0].vm, ==, "vm");

    remove_tree(node);
    g_assert_cmpint(gpup_inventory_rescan(inventory, NULL), ==, 0);
    g_assert_cmpuint(count(inventory), ==, 2);
    g_assert_cmpint(gpu_at(inventory, 0)->mode, ==, GPUP_MODE_UNUSABLE);
    g_assert_cmpint(gpup_inventory_give_back(inventory, gpu_at(inventory, 0), 0, NULL), ==, 0);
    g_assert_cmpint(gpup_inventory_rescan(inventory, NULL), ==, 0);
    g_assert_cmpuint(count(inventory), ==, 1);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *path;
        void (*func)(struct fixture *, gconstpointer);
    } tests[] = {
        {"/inventory/software", software_always},
        {"/inventory/render-nodes", render_nodes},
        {"/inventory/memory", configured_memory},
        {"/inventory/partitions", partitions},
        {"/inventory/rescan", rescan},
    };

    g_test_init(&argc, &argv, NULL);
    for (size_t i = 0; i < G_N_ELEMENTS(tests); i++)
        g_test_add(tests[i].path, struct fixture, NULL, set_up, tests[i].func, tear_down);
    return g_test_run();
}
