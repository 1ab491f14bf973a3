/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gpu/check.h"
#include "gpu/inventory.h"

#include <string.h>
#include <unistd.h>

/* Discovery on what real kernels' /sys looks like: recordings (made by ./record), read only. */

struct tree {
    char *root, *sysfs, *proc, *dev;
    struct gpup_system system;
};

static void put(const char *root, const char *line)
{
    g_auto(GStrv) words = g_strsplit(line, " ", 3);
    g_autofree char *path = NULL;
    g_autofree char *folder = NULL;

    if (g_strv_length(words) < 3)
        return;
    path = g_build_filename(root, words[1], NULL);
    folder = g_path_get_dirname(path);
    g_assert_cmpint(g_mkdir_with_parents(folder, 0755), ==, 0);
    if (words[0][0] == 'l') {
        g_assert_cmpint(symlink(words[2], path), ==, 0);
    } else {
        g_autofree char *text = g_strcompress(words[2]);

        g_assert_true(g_file_set_contents(path, text, -1, NULL));
    }
}

static void set_up(struct tree *t, gconstpointer name)
{
    g_autofree char *path = g_test_build_filename(G_TEST_DIST, name, NULL);
    g_autofree char *text = NULL;
    g_auto(GStrv) lines = NULL;

    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    lines = g_strsplit(text, "\n", 0);
    t->root = g_dir_make_tmp("gpup-tree-XXXXXX", NULL);
    for (char **line = lines; *line; line++)
        put(t->root, *line);
    t->sysfs = g_build_filename(t->root, "sys", NULL);
    t->proc = g_build_filename(t->root, "proc", NULL);
    t->dev = g_build_filename(t->root, "dev", NULL);
    t->system = (struct gpup_system){
        .sysfs = t->sysfs, .proc = t->proc, .dev = t->dev, .helper = g_getenv("GPUP_GPU_HELPER")};
}

static void tear_down(struct tree *t, gconstpointer name)
{
    const char *argv[] = {"rm", "-rf", t->root, NULL};

    g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL, NULL, NULL,
                 NULL);
    g_free(t->root);
    g_free(t->sysfs);
    g_free(t->proc);
    g_free(t->dev);
}

static enum gpup_finding_level level(GPtrArray *findings, const char *id, const char *gpu)
{
    for (guint i = 0; i < findings->len; i++) {
        const struct gpup_finding *f = findings->pdata[i];

        if (strcmp(f->id, id) == 0 && g_strcmp0(f->gpu, gpu) == 0)
            return f->level;
    }
    g_error("nothing is said of %s of %s", id, gpu ? gpu : "the host");
}

/* Two GPUs, the second behind a port without ACS. */
static void unused(struct tree *t, gconstpointer name)
{
    g_autoptr(gpup_inventory) inventory = gpup_inventory_new(&t->system, NULL);
    g_autoptr(GPtrArray) findings = gpup_check(&t->system);
    size_t n;
    struct gpup_gpu *const *gpus = gpup_inventory_gpus(inventory, &n);

    g_assert_cmpuint(n, ==, 2);
    g_assert_cmpstr(gpus[0]->id, ==, "0000:01:00.0");
    g_assert_cmpint(gpus[0]->kind, ==, GPUP_KIND_SRIOV);
    g_assert_cmpint(gpus[0]->mode, ==, GPUP_MODE_UNUSED);
    g_assert_cmpuint(gpus[0]->n_valid_counts, ==, 4);
    g_assert_cmpint(level(findings, "sriov", gpus[0]->id), ==, GPUP_FINDING_OK);
}

static void with_iommu(struct tree *t, gconstpointer name)
{
    g_autoptr(GPtrArray) findings = gpup_check(&t->system);

    unused(t, name);
    g_assert_cmpint(level(findings, "iommu", NULL), ==, GPUP_FINDING_OK);
    g_assert_cmpint(level(findings, "acs", "0000:01:00.0"), ==, GPUP_FINDING_OK);
    /* it has no VFs yet, and shares the group of its port */
    g_assert_cmpint(level(findings, "acs", "0000:02:00.0"), ==, GPUP_FINDING_FAIL);
}

/* The same machine with its IOMMU switched off. */
static void without_iommu(struct tree *t, gconstpointer name)
{
    g_autofree char *unit = g_build_filename(t->sysfs, "class", "iommu", "dmar0", NULL);
    g_autoptr(GPtrArray) findings = NULL;

    g_assert_cmpint(unlink(unit), ==, 0);
    findings = gpup_check(&t->system);
    g_assert_cmpint(level(findings, "iommu", NULL), ==, GPUP_FINDING_FAIL);
}

static void four_vfs(struct tree *t, gconstpointer name)
{
    g_autoptr(gpup_inventory) inventory = gpup_inventory_new(&t->system, NULL);
    g_autoptr(GPtrArray) findings = gpup_check(&t->system);
    size_t n;
    struct gpup_gpu *const *gpus = gpup_inventory_gpus(inventory, &n);

    g_assert_cmpint(level(findings, "acs", "0000:01:00.0"), ==, GPUP_FINDING_OK);
    g_assert_cmpint(level(findings, "acs", "0000:02:00.0"), ==, GPUP_FINDING_FAIL);
    g_assert_cmpuint(n, ==, 2);
    g_assert_cmpuint(gpus[0]->n_slots, ==, 4);
    g_assert_true(gpus[0]->foreign);
    g_assert_cmpstr(gpus[0]->slots[0].function.address, ==, "0000:01:00.1");
    g_assert_cmpstr(gpus[0]->slots[3].function.address, ==, "0000:01:00.4");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add("/trees/with-iommu", struct tree, "iommu.tree", set_up, with_iommu, tear_down);
    g_test_add("/trees/without-iommu", struct tree, "iommu.tree", set_up, without_iommu, tear_down);
    g_test_add("/trees/four-vfs", struct tree, "iommu-4vfs.tree", set_up, four_vfs, tear_down);
    return g_test_run();
}
