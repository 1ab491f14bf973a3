/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "machine.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/*
 * Intel's xe driver. Where its knobs are depends on the kernel: fact xe= admin (6.19 and later),
 * admin-novram (before 7.0), debugfs (older), debugfs-old, iov (the i915 driver outside the
 * kernel), none. VFs count from 1 here. Fact vram=: bytes that VFs can have.
 */

static uint64_t total_vram(const struct device *pf)
{
    return strtoull(device_fact(pf, "vram", "0"), NULL, 0);
}

/* What the GPU has, of which VFs can have less. */
static uint64_t all_vram(const struct device *pf)
{
    const char *text = device_fact(pf, "capacity", NULL);

    return text ? strtoull(text, NULL, 0) : total_vram(pf);
}

/* "sriov_admin/vf1/profile/vram_quota" of a VF, counted from 1. */
static char *knob_path(const struct device *pf, int vf, const char *name)
{
    const char *kind = device_fact(pf, "xe", "admin");
    bool vram = strstr(name, "quota") != NULL;

    if (g_str_has_prefix(kind, "admin")) {
        if (vram && strcmp(kind, "admin") != 0)
            return NULL;
        return g_strdup_printf("%s/sriov_admin/vf%d/profile/%s", pf->dir, vf, name);
    }
    if (strcmp(kind, "debugfs") == 0)
        return g_strdup_printf("/sys/kernel/debug/dri/%s/sriov/vf%d/tile0/%s%s", pf->address, vf,
                               vram ? "" : "gt0/", name);
    if (strcmp(kind, "debugfs-old") == 0)
        return g_strdup_printf("/sys/kernel/debug/dri/%s/gt0/vf%d/%s", pf->address, vf,
                               vram ? "lmem_quota" : name);
    if (strcmp(kind, "iov") == 0)
        return g_strdup_printf("%s/iov/vf%d/gt0/%s", pf->dir, vf, vram ? "lmem_quota" : name);
    return NULL;
}

static uint64_t knob_value(const struct device *pf, int vf, const char *name)
{
    g_autofree char *path = knob_path(pf, vf, name);
    struct node *n = path ? tree_find(path) : NULL;

    return n ? strtoull(n->value, NULL, 10) : 0;
}

static int store_knob(struct node *n, const char *value)
{
    struct device *pf = n->owner;
    char *end;
    uint64_t number = strtoull(value, &end, 0);
    uint64_t others = 0;
    int ret = device_failure(pf, "quota");
    g_autofree char *text = NULL;

    if (ret < 0)
        return ret;
    if (end == value || (*end && *end != '\n'))
        return -EINVAL;
    if (strstr(n->name, "quota")) {
        for (int vf = 1; vf <= pf->totalvfs; vf++)
            others += vf == n->number ? 0 : knob_value(pf, vf, "vram_quota");
        if (others + number > total_vram(pf))
            return -ENOSPC;
    }
    text = g_strdup_printf("%" G_GUINT64_FORMAT, number);
    tree_set(n, text);
    return 0;
}

static int store_priority(struct node *n, const char *value)
{
    if (g_str_has_prefix(value, "low"))
        tree_set(n, "[low] normal high");
    else if (g_str_has_prefix(value, "normal"))
        tree_set(n, "low [normal] high");
    else
        return g_str_has_prefix(value, "high") ? -EPERM : -EINVAL;
    return 0;
}

static void add_knob(struct device *pf, int vf, const char *name)
{
    g_autofree char *path = knob_path(pf, vf, name);
    struct node *n;

    if (!path)
        return;
    n = tree_file(0644, "0", "%s", path);
    n->owner = pf;
    n->number = vf > 60 ? 60 : vf;
    n->store = store_knob;
}

void xe_add(struct device *pf)
{
    bool admin = g_str_has_prefix(device_fact(pf, "xe", "admin"), "admin");
    g_autofree char *capacity = NULL;
    struct node *before;

    for (int vf = 1; vf <= pf->totalvfs; vf++) {
        add_knob(pf, vf, "exec_quantum_ms");
        add_knob(pf, vf, "preempt_timeout_us");
        if (total_vram(pf) > 0)
            add_knob(pf, vf, "vram_quota");
        if (admin) {
            struct node *n = tree_file(0644, "[low] normal high",
                                       "%s/sriov_admin/vf%d/profile/sched_priority", pf->dir, vf);

            n->owner = pf;
            n->store = store_priority;
        }
    }
    if (total_vram(pf) == 0 || device_fact(pf, "no-dmem", NULL))
        return;
    before = tree_find("/sys/fs/cgroup/dmem.capacity");
    capacity = g_strdup_printf("%sdrm/%s/vram0 %" G_GUINT64_FORMAT "\ndrm/%s/stolen 67108864\n",
                               before ? before->value : "", pf->address, all_vram(pf), pf->address);
    tree_file(0444, capacity, "/sys/fs/cgroup/dmem.capacity");
}

/* Provisions fairly when VFs are made, and takes it back with them. */
void xe_vfs(struct device *pf, bool on)
{
    const uint64_t unit = UINT64_C(2) << 20;
    uint64_t each = on && pf->numvfs ? total_vram(pf) / (uint64_t)pf->numvfs / unit * unit : 0;
    static const char *const knobs[] = {"vram_quota", "exec_quantum_ms", "preempt_timeout_us"};

    for (int vf = 1; vf <= pf->totalvfs; vf++) {
        for (gsize k = 0; k < G_N_ELEMENTS(knobs); k++) {
            g_autofree char *path = knob_path(pf, vf, knobs[k]);
            struct node *n = path ? tree_find(path) : NULL;
            g_autofree char *text =
                g_strdup_printf("%" G_GUINT64_FORMAT, k == 0 && vf <= pf->numvfs ? each : 0);

            if (n)
                tree_set(n, text);
        }
    }
}
