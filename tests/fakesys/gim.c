/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "machine.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

/*
 * AMD's GIM driver: makes its VFs itself when it is loaded (fact vf_num=), and offers sizes and
 * time slices per VF in debugfs. Fact memory= MiB.
 */

static int store_size(struct node *n, const char *value)
{
    struct device *pf = n->owner;
    int vf, ret = device_failure(pf, "quota");
    unsigned size;

    if (sscanf(value, "%d,%u", &vf, &size) != 2 || vf < 0 || vf >= pf->numvfs)
        return -EINVAL;
    if (ret == 0)
        tree_set(n, value);
    return ret;
}

static int store_slice(struct node *n, const char *value)
{
    struct device *pf = n->owner;
    int vf;
    unsigned us;

    if (sscanf(value, "%d,%u", &vf, &us) != 2 || vf < 0 || vf >= pf->numvfs || us < 100 ||
        us > 1000000)
        return -EINVAL;
    tree_set(n, value);
    return 0;
}

void gim_add(struct device *pf)
{
    struct node *n;
    int vfs = device_number(pf, "vf_num", 1);

    g_hash_table_replace(pf->facts, g_strdup("no-sriov"), g_strdup("1"));
    g_hash_table_replace(pf->facts, g_strdup("no-vf-driver"), g_strdup("1"));
    if (vfs > 0)
        device_set_numvfs(pf, vfs);
    if (device_fact(pf, "profile", NULL))
        device_file(pf, 0644, device_fact(pf, "profile", "SPX"), "accelerator_partition_profile");
    if (device_fact(pf, "nps", NULL))
        device_file(pf, 0644, device_fact(pf, "nps", "NPS1"), "memory_partition_mode");
    if (device_fact(pf, "no-debugfs", NULL))
        return;
    n = tree_file(0644, "", "/sys/kernel/debug/gim/%s/asymmetric_fb", pf->address);
    n->owner = pf;
    n->store = store_size;
    n = tree_file(0644, "", "/sys/kernel/debug/gim/%s/asymmetric_timeslice", pf->address);
    n->owner = pf;
    n->store = store_slice;
}
