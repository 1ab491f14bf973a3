/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "machine.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

GHashTable *devices;
const char *machine_mount;
static bool iommu = true;
static int next_group = 10;

const char *device_fact(const struct device *d, const char *name, const char *otherwise)
{
    const char *value = g_hash_table_lookup(d->facts, name);

    return value ? value : otherwise;
}

int device_number(const struct device *d, const char *name, int otherwise)
{
    const char *value = g_hash_table_lookup(d->facts, name);

    return value ? (int)strtol(value, NULL, 0) : otherwise;
}

int device_failure(const struct device *d, const char *op)
{
    return -GPOINTER_TO_INT(g_hash_table_lookup(d->failures, op));
}

static struct device *find(const char *address)
{
    return g_hash_table_lookup(devices, address);
}

struct node *device_file(struct device *d, unsigned mode, const char *text, const char *name)
{
    struct node *n = tree_file(mode, text, "%s/%s", d->dir, name);

    n->owner = d;
    return n;
}

/* ---- drivers ---- */

static const char *home_driver(const struct device *d)
{
    return device_fact(d->pf ? d->pf : d, "driver", NULL);
}

static bool is_vfio(const char *driver)
{
    return strcmp(driver, "vfio-pci") == 0 || g_str_has_suffix(driver, "-vfio-pci");
}

static bool matches(const struct device *d, const char *driver)
{
    if (d->override)
        return strcmp(d->override, driver) == 0;
    return home_driver(d) && strcmp(home_driver(d), driver) == 0;
}

int device_bind(struct device *d, const char *driver)
{
    int ret = device_failure(d->pf ? d->pf : d, "bind");

    if (d->driver)
        return -EBUSY;
    if (!matches(d, driver))
        return -ENODEV;
    if (ret < 0)
        return ret;
    if (is_vfio(driver) && d->group < 0)
        return -EINVAL;
    d->driver = g_strdup(driver);
    tree_link("", "%s/driver", d->dir);
    tree_set(tree_link("", "%s/driver", d->dir),
             g_strdup_printf("../../../../bus/pci/drivers/%s", driver));
    return 0;
}

static void remove_vfs(struct device *pf);

static void unbind(struct device *d)
{
    while (d->held) /* VFIO waits for who has it open */
        g_cond_wait(&tree_changed, &tree_lock);
    if (d->numvfs > 0 && !device_fact(d, "keeps-vfs", NULL))
        remove_vfs(d);
    g_clear_pointer(&d->driver, g_free);
    tree_remove("%s/driver", d->dir);
}

static int store_bind(struct node *n, const char *value)
{
    g_autofree char *address = g_strstrip(g_strdup(value));
    struct device *d = find(address);

    return d ? device_bind(d, n->parent->name) : -ENODEV;
}

static int store_unbind(struct node *n, const char *value)
{
    g_autofree char *address = g_strstrip(g_strdup(value));
    struct device *d = find(address);

    if (!d || !d->driver || strcmp(d->driver, n->parent->name) != 0)
        return -ENODEV;
    unbind(d);
    return 0;
}

static void add_driver(const char *name)
{
    tree_file(0200, "", "/sys/bus/pci/drivers/%s/bind", name)->store = store_bind;
    tree_file(0200, "", "/sys/bus/pci/drivers/%s/unbind", name)->store = store_unbind;
}

/* Says yes whether or not anything took it, as the kernel does. */
static int store_probe(struct node *n, const char *value)
{
    g_autofree char *address = g_strstrip(g_strdup(value));
    struct device *d = find(address);
    const char *driver;

    if (!d)
        return -ENODEV;
    driver = d->override ? d->override : home_driver(d);
    if (d->driver || !driver || !tree_exists("/sys/bus/pci/drivers/%s", driver))
        return 0;
    if (d->pf && !d->pf->autoprobe && !d->override)
        return 0;
    device_bind(d, driver);
    return 0;
}

static int store_override(struct node *n, const char *value)
{
    struct device *d = n->owner;
    g_autofree char *name = g_strstrip(g_strdup(value));

    g_clear_pointer(&d->override, g_free);
    if (*name)
        d->override = g_steal_pointer(&name);
    tree_set(n, d->override ? d->override : "(null)");
    return 0;
}

static int store_reset(struct node *n, const char *value)
{
    struct device *d = n->owner;
    int ret = device_failure(d->pf ? d->pf : d, "reset");

    if (strcmp(value, "1") != 0 && strcmp(value, "1\n") != 0)
        return -EINVAL;
    device_wait(d->pf ? d->pf : d);
    if (ret == 0) {
        g_autofree char *count = g_strdup_printf("%d", ++n->number);

        device_file(d, 0444, count, "fakesys_resets");
    }
    return ret;
}

/* ---- devices ---- */

static void link_device(struct device *d)
{
    g_autofree char *target = g_strdup_printf("../../..%s", d->dir + strlen("/sys"));

    tree_link(target, "/sys/bus/pci/devices/%s", d->address);
}

static void add_group(struct device *d)
{
    g_autofree char *target = g_strdup_printf("../../../../kernel/iommu_groups/%d", d->group);
    g_autofree char *member = g_strdup_printf("../../../..%s", d->dir + strlen("/sys"));

    if (d->group < 0)
        return;
    tree_link(target, "%s/iommu_group", d->dir);
    tree_link(member, "/sys/kernel/iommu_groups/%d/devices/%s", d->group, d->address);
    tree_file(0666, "", "/dev/vfio/%d", d->group);
}

/* parent: the bridge that it is behind, or NULL. */
static struct device *new_device(const char *address, const char *parent)
{
    struct device *d = g_new0(struct device, 1);

    d->address = g_strdup(address);
    d->dir = parent ? g_strdup_printf("/sys/devices/pci0000:00/%s/%s", parent, address)
                    : g_strdup_printf("/sys/devices/pci0000:00/%s", address);
    d->facts = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    d->failures = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    d->vfs = g_ptr_array_new();
    d->autoprobe = true;
    d->made_at_most = -1;
    d->group = -1;
    g_hash_table_insert(devices, d->address, d);
    return d;
}

static void add_common(struct device *d, const char *vendor, const char *device, const char *class)
{
    device_file(d, 0444, vendor, "vendor");
    device_file(d, 0444, device, "device");
    device_file(d, 0444, class, "class");
    device_file(d, 0644, "(null)", "driver_override")->store = store_override;
    device_file(d, 0200, "", "reset")->store = store_reset;
    tree_link("../../../../bus/pci", "%s/subsystem", d->dir);
    link_device(d);
}

static void drop(struct device *d)
{
    tree_remove("/sys/bus/pci/devices/%s", d->address);
    tree_remove("/sys/kernel/iommu_groups/%d/devices/%s", d->group, d->address);
    tree_remove("%s", d->dir);
    tree_remove("/sys/kernel/debug/dri/%s", d->address);
    g_hash_table_remove(devices, d->address);
    /* the little that a device has is left for readers that still wait on it */
}

/* ---- VFs ---- */

/* drivers/iommu/iommu.c: what is behind a bridge without ACS is in the bridge's group. */
static int group_for(const struct device *d)
{
    g_autofree char *above = g_path_get_dirname(d->dir);
    g_autofree char *address = g_path_get_basename(above);
    struct device *bridge = find(address);

    if (!iommu)
        return -1;
    if (bridge && strcmp(device_fact(bridge, "acs", "on"), "on") != 0)
        return bridge->group;
    return next_group++;
}

/* devfn + offset + stride * index, carrying into the bus number. */
static char *vf_address(const struct device *pf, int index)
{
    unsigned domain, bus, slot, function, id;

    sscanf(pf->address, "%x:%x:%x.%x", &domain, &bus, &slot, &function);
    id = (bus << 8 | slot << 3 | function) + (unsigned)(pf->offset + pf->stride * index);
    return g_strdup_printf("%04x:%02x:%02x.%x", domain, id >> 8, id >> 3 & 31, id & 7);
}

static void add_vf(struct device *pf, int index)
{
    g_autofree char *address = vf_address(pf, index);
    g_autofree char *parent = g_path_get_dirname(pf->dir);
    g_autofree char *to_vf = g_strdup_printf("../%s", address);
    g_autofree char *to_pf = g_strdup_printf("../%s", pf->address);
    struct device *vf = new_device(address, strrchr(parent, '/') + 1);

    vf->pf = pf;
    vf->index = index;
    add_common(vf, device_fact(pf, "vendor", "0x0000"),
               device_fact(pf, "vfdevice", device_fact(pf, "device", "0x0000")),
               device_fact(pf, "class", "0x030000"));
    tree_link(to_vf, "%s/virtfn%d", pf->dir, index);
    tree_link(to_pf, "%s/physfn", vf->dir);
    vf->group = iommu && device_fact(pf, "shared-group", NULL) ? pf->group : group_for(vf);
    add_group(vf);
    g_ptr_array_add(pf->vfs, vf);
    if (pf->autoprobe && home_driver(vf) && !device_fact(pf, "no-vf-driver", NULL))
        device_bind(vf, home_driver(vf));
}

static void remove_vfs(struct device *pf)
{
    for (guint i = 0; i < pf->vfs->len; i++) {
        struct device *vf = pf->vfs->pdata[i];

        while (vf->held) /* the kernel waits for who has it open */
            g_cond_wait(&tree_changed, &tree_lock);
        tree_remove("%s/virtfn%d", pf->dir, vf->index);
        drop(vf);
    }
    g_ptr_array_set_size(pf->vfs, 0);
    pf->numvfs = 0;
}

static void vendor_vfs(struct device *pf, bool on)
{
    const char *driver = device_fact(pf, "driver", "");

    if (strcmp(driver, "xe") == 0)
        xe_vfs(pf, on);
    else if (strcmp(driver, "nvidia") == 0)
        nvidia_vfs(pf, on);
}

int device_set_numvfs(struct device *pf, int n)
{
    int ret = device_failure(pf, n ? "enable" : "disable");

    if (ret < 0)
        return ret;
    if (n == 0) {
        vendor_vfs(pf, false);
        remove_vfs(pf);
        return 0;
    }
    if (pf->made_at_most >= 0 && pf->made_at_most < n)
        n = pf->made_at_most; /* the driver logs it, and that is all */
    pf->numvfs = n;
    for (int i = 0; i < n; i++)
        add_vf(pf, i);
    vendor_vfs(pf, true);
    return 0;
}

void device_wait(struct device *pf)
{
    while (pf->hang)
        g_cond_wait(&tree_changed, &tree_lock);
}

/* sriov_numvfs_store(), under the device's lock. */
static int set_numvfs_locked(struct device *pf, int n)
{
    device_wait(pf);
    if (n == pf->numvfs)
        return 0;
    if (!pf->driver || device_fact(pf, "no-sriov", NULL) || is_vfio(pf->driver))
        return -ENOENT;
    if (n > 0 && pf->numvfs > 0)
        return -EBUSY;
    return device_set_numvfs(pf, n);
}

static int store_numvfs(struct node *node, const char *value)
{
    struct device *pf = node->owner;
    char *end;
    long n = strtol(value, &end, 10);
    int ret;

    if (end == value || (*end && strcmp(end, "\n") != 0) || n < 0 || n > 65535)
        return -EINVAL;
    if (n > pf->totalvfs)
        return -ERANGE;
    while (pf->busy)
        g_cond_wait(&tree_changed, &tree_lock);
    pf->busy = true;
    ret = set_numvfs_locked(pf, (int)n);
    pf->busy = false;
    g_cond_broadcast(&tree_changed);
    return ret;
}

static char *show_numvfs(struct node *node)
{
    struct device *pf = node->owner;

    while (pf->busy)
        g_cond_wait(&tree_changed, &tree_lock);
    return g_strdup_printf("%d\n", pf->numvfs);
}

static int store_autoprobe(struct node *node, const char *value)
{
    struct device *pf = node->owner;

    if (*value != '0' && *value != '1')
        return -EINVAL;
    pf->autoprobe = *value == '1';
    tree_set(node, pf->autoprobe ? "1" : "0");
    return 0;
}

static void add_sriov(struct device *pf)
{
    g_autofree char *total = NULL;
    struct node *n;

    pf->totalvfs = device_number(pf, "totalvfs", 0);
    pf->offset = device_number(pf, "offset", 1);
    pf->stride = device_number(pf, "stride", 1);
    if (pf->totalvfs == 0 && !device_fact(pf, "totalvfs", NULL))
        return;
    total = g_strdup_printf("%d", pf->totalvfs);
    device_file(pf, 0444, total, "sriov_totalvfs");
    n = device_file(pf, 0644, "0", "sriov_numvfs");
    n->store = store_numvfs;
    n->show = show_numvfs;
    device_file(pf, 0644, "1", "sriov_drivers_autoprobe")->store = store_autoprobe;
}

/* The configuration space as far as the serial number: header, then the capability at 0x100. */
static void add_serial(struct device *d)
{
    const char *text = device_fact(d, "serial", NULL);
    uint64_t serial = text ? strtoull(text, NULL, 16) : 0;
    struct node *n;

    if (!text)
        return;
    n = device_file(d, 0644, "", "config");
    g_free(n->value);
    n->value = g_malloc0(512);
    n->number = 512;
    n->value[0x100] = 3;
    n->value[0x102] = 1;
    for (int i = 0; i < 8; i++)
        n->value[0x104 + i] = (char)(serial >> (8 * i));
}

/* "a=1 b=2" */
static void add_facts(struct device *d, char **words)
{
    for (char **word = words; *word; word++) {
        char **pair = g_strsplit(*word, "=", 2);

        g_hash_table_replace(d->facts, g_strdup(pair[0]), g_strdup(pair[1] ? pair[1] : "1"));
        g_strfreev(pair);
    }
}

/* A root port: its configuration space has a PCI Express capability at 0x40 and, unless it lacks
 * it, the extended one of ACS at 0x100, where the kernel has switched it on or not. */
static void add_bridge(const char *address, char **words)
{
    struct device *d = new_device(address, NULL);
    const char *acs;
    struct node *n;

    add_facts(d, words);
    acs = device_fact(d, "acs", "on");
    d->group = iommu ? next_group++ : -1;
    add_common(d, "0x8086", "0xa110", "0x060400");
    add_group(d);
    n = device_file(d, 0644, "", "config");
    g_free(n->value);
    n->value = g_malloc0(512);
    n->number = 512;
    n->value[0x06] = 0x10;
    n->value[0x34] = 0x40;
    n->value[0x40] = 0x10;
    n->value[0x42] = 0x42;
    if (strcmp(acs, "none") == 0)
        return;
    n->value[0x100] = 0x0d;
    n->value[0x102] = 1;
    n->value[0x104] = 0x1d;
    n->value[0x106] = strcmp(acs, "on") == 0 ? 0x1d : 0;
}

static void add_gpu(const char *address, char **words)
{
    struct device *d;
    const char *driver, *parent = "0000:00:01.0";

    for (char **word = words; *word; word++) {
        if (g_str_has_prefix(*word, "parent="))
            parent = *word + strlen("parent=");
    }
    d = new_device(address, parent);
    add_facts(d, words);
    d->group = group_for(d);
    if (device_fact(d, "with", NULL) && find(device_fact(d, "with", NULL)))
        d->group = find(device_fact(d, "with", NULL))->group;
    add_common(d, device_fact(d, "vendor", "0x1234"), device_fact(d, "device", "0x0001"),
               device_fact(d, "class", "0x030000"));
    device_file(d, 0444, device_fact(d, "subvendor", "0x0000"), "subsystem_vendor");
    device_file(d, 0444, device_fact(d, "subdevice", "0x0000"), "subsystem_device");
    add_group(d);
    add_sriov(d);
    add_serial(d);
    driver = device_fact(d, "driver", NULL);
    if (!driver)
        return;
    add_driver(driver);
    device_bind(d, driver);
    if (strcmp(driver, "xe") == 0)
        xe_add(d);
    else if (strcmp(driver, "nvidia") == 0)
        nvidia_add(d);
    else if (strcmp(driver, "gim") == 0)
        gim_add(d);
}

static void remove_gpu(struct device *d)
{
    remove_vfs(d);
    drop(d);
}

/* ---- who has a function open ---- */

static void hold(struct device *d, const char *name, bool on)
{
    g_autofree char *node =
        g_strdup_printf("/dev/vfio/%d", device_number(d, "mdev-group", d->group));

    d->held = on;
    tree_remove("/proc/4242");
    if (!on)
        return;
    tree_file(0444, name, "/proc/4242/comm");
    tree_link(node, "/proc/4242/fd/17");
}

/* ---- the test's orders ---- */

/* The file of its memory windows, those of the VFs' BARs with a place or without. */
static void set_resource(struct device *d, bool placed)
{
    g_autoptr(GString) text = g_string_new(NULL);

    for (int i = 0; i < 13; i++) {
        unsigned first = i == 0 || (i == 7 && placed) ? 0xa0000000u + 0x1000000u * (unsigned)i : 0;

        g_string_append_printf(text, "0x%016x 0x%016x 0x%016x\n", first,
                               first ? first + 0xffffff : 0, i == 0 || i == 7 ? 0x40200 : 0);
    }
    device_file(d, 0444, text->str, "resource");
}

/* A program of the host that draws with it. */
static void draw(struct device *d, const char *name)
{
    device_file(d, 0444, "", "drm/renderD128/uevent");
    tree_file(0444, name, "/proc/4242/comm");
    tree_link("/dev/dri/renderD128", "/proc/4242/fd/9");
}

static int rebind(struct device *d, const char *driver)
{
    unbind(d);
    g_clear_pointer(&d->override, g_free);
    d->override = g_strdup(driver);
    return device_bind(d, driver);
}

static int control_device(struct device *d, char **words, guint n)
{
    const char *order = words[0];

    if (strcmp(order, "remove") == 0) {
        remove_gpu(d);
    } else if (strcmp(order, "fail") == 0 && n == 4) {
        g_hash_table_replace(d->failures, g_strdup(words[2]), GINT_TO_POINTER(atoi(words[3])));
    } else if (strcmp(order, "short") == 0 && n == 3) {
        d->made_at_most = atoi(words[2]);
    } else if (strcmp(order, "hang") == 0 && n == 3) {
        d->hang = strcmp(words[2], "on") == 0;
    } else if (strcmp(order, "hold") == 0 && n == 3) {
        hold(d, words[2], true);
    } else if (strcmp(order, "resource") == 0 && n == 3) {
        set_resource(d, strcmp(words[2], "1") == 0);
    } else if (strcmp(order, "draw") == 0 && n == 3) {
        draw(d, words[2]);
    } else if (strcmp(order, "rebind") == 0 && n == 3) {
        return rebind(d, words[2]);
    } else if (strcmp(order, "close") == 0) {
        hold(d, NULL, false);
    } else if (strcmp(order, "driver") == 0 && n == 3) {
        g_hash_table_replace(d->facts, g_strdup("driver"), g_strdup(words[2]));
    } else if (strcmp(order, "vfs") == 0 && n == 3) { /* somebody else, at boot */
        if (d->numvfs > 0)
            device_set_numvfs(d, 0);
        return device_set_numvfs(d, atoi(words[2]));
    } else if (strcmp(order, "nvidia") == 0) {
        return nvidia_control(d, words);
    } else {
        return -EINVAL;
    }
    return 0;
}

int machine_control(char *line)
{
    g_auto(GStrv) words = g_strsplit(g_strstrip(line), " ", 0);
    guint n = g_strv_length(words);
    struct device *d;
    int ret;

    if (n == 2 && strcmp(words[0], "iommu") == 0) {
        iommu = strcmp(words[1], "on") == 0;
        return 0;
    }
    if (n == 2 && strcmp(words[0], "module") == 0) {
        if (g_str_has_suffix(words[1], "-vfio-pci"))
            add_driver(words[1]);
        else
            tree_file(0444, "live", "/sys/module/%s/initstate", words[1]);
        return 0;
    }
    if (n >= 3 && strcmp(words[0], "file") == 0) {
        g_autofree char *text = g_strjoinv(" ", words + 2);

        tree_file(0644, text, "%s", words[1]);
        return 0;
    }
    if (n == 2 && strcmp(words[0], "drop") == 0) {
        tree_remove("%s", words[1]);
        return 0;
    }
    if (n >= 2 && strcmp(words[0], "bridge") == 0) {
        add_bridge(words[1], words + 2);
        return 0;
    }
    if (n >= 2 && strcmp(words[0], "add") == 0) {
        add_gpu(words[1], words + 2);
        return 0;
    }
    d = n >= 2 ? find(words[1]) : NULL;
    if (!d)
        return -ENODEV;
    ret = control_device(d, words, n);
    g_cond_broadcast(&tree_changed);
    return ret;
}

void machine_init(const char *mount)
{
    machine_mount = mount;
    devices = g_hash_table_new(g_str_hash, g_str_equal);
    add_driver("vfio-pci");
    tree_file(0200, "", "/sys/bus/pci/drivers_probe")->store = store_probe;
    tree_dir("/sys/class/drm");
    tree_dir("/sys/class/iommu/dmar0");
    tree_file(0444, "MemTotal:        8388608 kB\n", "/proc/meminfo");
    tree_file(0444, "BOOT_IMAGE=/vmlinuz intel_iommu=on\n", "/proc/cmdline");
    tree_dir("/dev/vfio");
}
