/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "fixture.h"
#include "gpu/check.h"

#include <string.h>

/* gpup check, against machines that lack one thing each. */

#define GPU "0000:03:00.0"

static const struct gpup_finding *find(GPtrArray *findings, const char *id, const char *gpu)
{
    for (guint i = 0; i < findings->len; i++) {
        const struct gpup_finding *f = findings->pdata[i];

        if (strcmp(f->id, id) == 0 && g_strcmp0(f->gpu, gpu) == 0)
            return f;
    }
    return NULL;
}

/* One finding is such and says so, in its text or in what to change. */
static void is(struct fake *f, const char *id, const char *gpu, enum gpup_finding_level level,
               const char *part)
{
    g_autoptr(GPtrArray) findings = gpup_check(&f->system);
    const struct gpup_finding *found = find(findings, id, gpu);

    if (!found)
        g_error("nothing is said of %s", id);
    if (found->level != level ||
        (!strstr(found->text, part) && !(found->fix && strstr(found->fix, part))))
        g_error("%s: %s %s (%s), not %s %s", id, gpup_finding_level_name(found->level), found->text,
                found->fix ? found->fix : "", gpup_finding_level_name(level), part);
}

static void says_nothing_of(struct fake *f, const char *id, const char *gpu)
{
    g_autoptr(GPtrArray) findings = gpup_check(&f->system);

    g_assert_null(find(findings, id, gpu));
}

static void add(struct fake *f)
{
    fake_order(f, "add " GPU " vendor=0x8086 device=0xe212 class=0x030000 totalvfs=24 driver=xe "
                  "vram=0x380000000 capacity=17179869184");
}

static void all_is_well(struct fake *f, gconstpointer data)
{
    add(f);
    fake_order(f, "file /dev/kvm 1");
    is(f, "iommu", NULL, GPUP_FINDING_OK, "dmar0");
    is(f, "kvm", NULL, GPUP_FINDING_OK, "KVM");
    is(f, "vfio", NULL, GPUP_FINDING_OK, "vfio-pci");
    is(f, "driver", GPU, GPUP_FINDING_OK, "xe");
    is(f, "sriov", GPU, GPUP_FINDING_OK, "24 VFs");
    is(f, "interface", GPU, GPUP_FINDING_OK, "sriov_admin");
    is(f, "acs", GPU, GPUP_FINDING_OK, "groups of their own");
    is(f, "guest-driver", GPU, GPUP_FINDING_OK, "Arc Pro");
    says_nothing_of(f, "model", GPU);
    says_nothing_of(f, "confinement", NULL);
    says_nothing_of(f, "lockdown", NULL);
}

static void no_iommu(struct fake *f, gconstpointer data)
{
    add(f);
    fake_order(f, "drop /sys/class/iommu/dmar0");
    fake_order(f, "file /proc/cmdline BOOT_IMAGE=/vmlinuz");
    is(f, "iommu", NULL, GPUP_FINDING_FAIL, "intel_iommu=on");
    fake_order(f, "file /sys/class/dmi/id/sys_vendor Dell Inc.");
    is(f, "iommu", NULL, GPUP_FINDING_FAIL, "Processor Settings");
    fake_order(f, "file /sys/class/dmi/id/sys_vendor LENOVO");
    is(f, "iommu", NULL, GPUP_FINDING_FAIL, "Intel VT for Directed I/O or IOMMU (System Settings");
    fake_order(f, "file /sys/class/dmi/id/sys_vendor Hewlett-Packard");
    is(f, "iommu", NULL, GPUP_FINDING_FAIL, "(Virtualization Options); add intel_iommu=on");
    fake_order(f, "file /sys/class/dmi/id/sys_vendor ASUSTeK COMPUTER INC.");
    is(f, "iommu", NULL, GPUP_FINDING_FAIL, "Intel VT-d, or IOMMU (Advanced); add intel_iommu=on");
    fake_order(f, "file /sys/class/dmi/id/sys_vendor Nobody");
    is(f, "iommu", NULL, GPUP_FINDING_FAIL, "VT-d (Intel) or AMD-Vi, IOMMU (AMD); add");
    fake_order(f, "file /proc/cmdline BOOT_IMAGE=/vmlinuz intel_iommu=on"); /* and yet none */
    is(f, "iommu", NULL, GPUP_FINDING_FAIL, "IOMMU (AMD); then reboot");
    fake_order(f, "file /proc/cmdline BOOT_IMAGE=/vmlinuz");
    fake_order(f, "file /proc/cpuinfo vendor_id : AuthenticAMD");
    is(f, "iommu", NULL, GPUP_FINDING_FAIL, "in the firmware");
    fake_order(f, "file /proc/cmdline iommu=off");
    is(f, "iommu", NULL, GPUP_FINDING_FAIL, "take iommu=off out");
    fake_order(f, "file /proc/cmdline quiet intel_iommu=off");
    is(f, "iommu", NULL, GPUP_FINDING_FAIL, "take intel_iommu=off out");
    fake_order(f, "remove " GPU);
    is(f, "iommu", NULL, GPUP_FINDING_OK, "no GPU here that needs one");
}

static void firmware(struct fake *f, gconstpointer data)
{
    fake_order(f, "file /sys/class/dmi/id/sys_vendor Supermicro");
    fake_order(f, "add " GPU " vendor=0x8086 device=0x56c0 class=0x038000 driver=xe");
    is(f, "sriov", GPU, GPUP_FINDING_FAIL, "PCIe/PCI/PnP");
    fake_order(f, "remove " GPU);
    add(f);
    /* the windows of VFs' BARs are lines 7 to 12: none has found a place */
    fake_order(f, "resource " GPU " 0");
    is(f, "sriov", GPU, GPUP_FINDING_FAIL, "no address space");
    fake_order(f, "resource " GPU " 1");
    is(f, "sriov", GPU, GPUP_FINDING_OK, "24 VFs");
}

static void drivers(struct fake *f, gconstpointer data)
{
    fake_order(f, "add " GPU " vendor=0x8086 device=0x56c0 class=0x038000 totalvfs=31");
    is(f, "driver", GPU, GPUP_FINDING_FAIL, "no driver");
    fake_order(f, "add 0000:41:00.0 vendor=0x10de device=0x25b6 class=0x030200 subvendor=0x10de "
                  "subdevice=0x14a9 totalvfs=16 driver=nvidia ordinary=1");
    fake_order(f, "file /sys/module/nvidia/version 570.133.20");
    is(f, "driver", "0000:41:00.0", GPUP_FINDING_FAIL, "ordinary NVIDIA driver 570.133.20");
    fake_order(f, "add 0000:42:00.0 vendor=0x1002 device=0x74a1 class=0x120000 totalvfs=8 "
                  "driver=amdgpu");
    is(f, "driver", "0000:42:00.0", GPUP_FINDING_WARN, "load gim");
    fake_order(f, "add 0000:43:00.0 vendor=0x10de device=0x27b8 class=0x030200 totalvfs=32 "
                  "driver=nouveau");
    is(f, "driver", "0000:43:00.0", GPUP_FINDING_FAIL, "driver nouveau makes no vGPUs");
    is(f, "driver", "0000:43:00.0", GPUP_FINDING_FAIL, "install the vGPU host driver");
}

/* How each vendor's driver lets partitions be made and sized. */
static void interfaces(struct fake *f, gconstpointer data)
{
    static const struct {
        const char *gpu;
        enum gpup_finding_level level;
        const char *part;
    } cases[] = {
        {"vendor=0x8086 device=0xe212 totalvfs=24 driver=xe vram=0x380000000", GPUP_FINDING_OK,
         "sizes and time slices per VF by sriov_admin"},
        {"vendor=0x8086 device=0xe212 totalvfs=24 driver=xe vram=0x380000000 xe=admin-novram",
         GPUP_FINDING_OK, "sizes too from Linux 7.0 on"},
        {"vendor=0x8086 device=0xe212 totalvfs=24 driver=xe vram=0x380000000 xe=debugfs",
         GPUP_FINDING_OK, "by debugfs"},
        {"vendor=0x8086 device=0xe212 totalvfs=24 driver=xe xe=none", GPUP_FINDING_WARN,
         "mount debugfs"},
        {"vendor=0x1002 device=0x7461 totalvfs=16 driver=gim vf_num=4", GPUP_FINDING_OK,
         "by debugfs"},
        {"vendor=0x1002 device=0x7461 totalvfs=16 driver=gim vf_num=4 no-debugfs=1",
         GPUP_FINDING_WARN, "asymmetric_fb"},
        {"vendor=0x10de device=0x25b6 totalvfs=16 offset=4 driver=nvidia no-tools=1",
         GPUP_FINDING_FAIL, "sriov-manage is not there"},
        {"vendor=0x10de device=0x25b6 totalvfs=16 offset=4 driver=nvidia", GPUP_FINDING_OK,
         "the driver's own VFIO"},
        {"vendor=0x10de device=0x25b6 totalvfs=16 offset=4 driver=nvidia nvidia=mdev",
         GPUP_FINDING_OK, "as mediated devices"},
    };

    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        fake_order(f, "add " GPU " class=0x030000 %s", cases[i].gpu);
        is(f, "interface", GPU, cases[i].level, cases[i].part);
        fake_order(f, "remove " GPU);
        if (g_str_has_prefix(cases[i].gpu, "vendor=0x1002"))
            fake_order(f, "drop /sys/kernel/debug/gim/" GPU);
    }
}

/* Whatever is not in order says what to change. */
static void all_say_what_to_do(struct fake *f, gconstpointer data)
{
    static const char *const gpus[] = {
        "0000:03:00.0 vendor=0x8086 device=0x56c0 class=0x038000 totalvfs=31",
        "0000:04:00.0 vendor=0x8086 device=0x56c0 class=0x038000 driver=xe",
        "0000:05:00.0 vendor=0x8086 device=0xe212 class=0x030000 totalvfs=24 driver=xe xe=none",
        "0000:41:00.0 vendor=0x10de device=0x25b6 class=0x030200 totalvfs=16 driver=nvidia "
        "ordinary=1",
        "0000:42:00.0 vendor=0x10de device=0x27b8 class=0x030200 totalvfs=32 driver=nouveau",
        "0000:61:00.0 vendor=0x1002 device=0x74a1 class=0x120000 totalvfs=8 driver=amdgpu",
        "0000:62:00.0 vendor=0x1002 device=0x7461 class=0x038000 totalvfs=16 driver=gim vf_num=4 "
        "no-debugfs=1",
        "0000:71:00.0 vendor=0x1234 device=0x2222 class=0x030000 totalvfs=4 driver=x",
    };
    g_autoptr(GPtrArray) findings = NULL;
    unsigned wrong = 0;

    fake_order(f, "bridge 0000:00:01.0 acs=none");
    for (gsize i = 0; i < G_N_ELEMENTS(gpus); i++)
        fake_order(f, "add %s", gpus[i]);
    fake_order(f, "resource 0000:71:00.0 0");
    fake_order(f, "drop /sys/class/iommu/dmar0");
    fake_order(f, "drop /sys/bus/pci/drivers/vfio-pci");
    fake_order(f, "file /sys/module/apparmor/parameters/enabled Y");
    fake_order(f, "file /etc/apparmor.d/abstractions/libvirt-qemu x");
    fake_order(f, "file /sys/fs/selinux/enforce 1");
    fake_order(f, "file /sys/kernel/security/lockdown none [integrity] confidentiality");
    findings = gpup_check(&f->system);
    for (guint i = 0; i < findings->len; i++) {
        const struct gpup_finding *found = findings->pdata[i];

        if (found->level == GPUP_FINDING_OK)
            continue;
        wrong++;
        if (!found->fix || !*found->fix)
            g_error("%s: '%s' does not say what to do", found->id, found->text);
    }
    g_assert_cmpuint(wrong, >, 15);
}

static void models(struct fake *f, gconstpointer data)
{
    fake_order(f, "add " GPU " vendor=0x1234 device=0x1111 class=0x030000 driver=bochs-drm");
    is(f, "model", GPU, GPUP_FINDING_OK, "virtio partitions");
    fake_order(f, "add 0000:04:00.0 vendor=0x1234 device=0x2222 class=0x030000 totalvfs=4 "
                  "driver=x");
    is(f, "model", "0000:04:00.0", GPUP_FINDING_WARN, "1234:2222");
    fake_order(f,
               "add 0000:41:00.0 vendor=0x10de device=0x25b6 class=0x030200 totalvfs=16 offset=4 "
               "driver=nvidia uuid=0a1b profile=A2");
    is(f, "guest-driver", "0000:41:00.0", GPUP_FINDING_OK, "vGPU guest driver, and a licence");
}

static void groups(struct fake *f, gconstpointer data)
{
    add(f);
    fake_order(f, "add 0000:05:00.0 vendor=0x8086 device=0x10c9 class=0x020000 driver=igb "
                  "with=" GPU);
    is(f, "acs", GPU, GPUP_FINDING_WARN, "shares its IOMMU group with 05:00.0");
    fake_order(f, "remove 0000:05:00.0");
    fake_order(f, "vfs " GPU " 3");
    is(f, "acs", GPU, GPUP_FINDING_OK, "each of its 3 VFs has");
}

/* What its VFs will be grouped with, before there are any. */
static void bridges(struct fake *f, gconstpointer data)
{
    fake_order(f, "bridge 0000:00:01.0 acs=on");
    add(f);
    is(f, "acs", GPU, GPUP_FINDING_OK, "VFs will have IOMMU groups of their own");
    fake_order(f, "remove " GPU);
    fake_order(f, "remove 0000:00:01.0");
    fake_order(f, "bridge 0000:00:01.0 acs=none");
    add(f);
    is(f, "acs", GPU, GPUP_FINDING_FAIL, "bridge 00:01.0 (it has no ACS), and so will its VFs");
    fake_order(f, "vfs " GPU " 2");
    is(f, "acs", GPU, GPUP_FINDING_FAIL, "VF 03:00.1 shares its IOMMU group with 03:00.0");
    fake_order(f, "remove " GPU);
    fake_order(f, "remove 0000:00:01.0");
    fake_order(f, "bridge 0000:00:01.0 acs=off");
    add(f);
    is(f, "acs", GPU, GPUP_FINDING_FAIL, "its ACS is off");
    /* for users, who cannot read it */
    fake_order(f, "drop /sys/devices/pci0000:00/0000:00:01.0/config");
    is(f, "acs", GPU, GPUP_FINDING_FAIL, "(no ACS), and so");
}

/* A whole GPU needs a group for itself and its card's other functions. */
static void group_of_a_whole_one(struct fake *f, gconstpointer data)
{
    fake_order(f, "bridge 0000:00:01.0 acs=none");
    fake_order(f, "add " GPU " vendor=0x1002 device=0x7480 class=0x030000 driver=vfio-pci");
    is(f, "acs", GPU, GPUP_FINDING_WARN, "the bridge 00:01.0 (it has no ACS)");
    fake_order(f, "remove " GPU);
    fake_order(f, "remove 0000:00:01.0");
    fake_order(f, "bridge 0000:00:01.0 acs=on");
    fake_order(f, "add " GPU " vendor=0x1002 device=0x7480 class=0x030000 driver=vfio-pci");
    fake_order(f, "add 0000:03:00.1 class=0x040300 driver=snd_hda_intel with=" GPU);
    is(f, "acs", GPU, GPUP_FINDING_OK, "IOMMU group of its own");
}

/* Without an IOMMU there are no groups: only the bridges tell. */
static void groups_to_come(struct fake *f, gconstpointer data)
{
    fake_order(f, "iommu off");
    fake_order(f, "bridge 0000:00:01.0 acs=off");
    add(f);
    is(f, "acs", GPU, GPUP_FINDING_OK, "nothing above it lacks ACS");
    fake_order(f, "remove 0000:00:01.0");
    fake_order(f, "bridge 0000:00:01.0 acs=none");
    fake_order(f, "remove " GPU);
    add(f);
    is(f, "acs", GPU, GPUP_FINDING_WARN, "with the IOMMU on");
    fake_order(f, "drop /sys/devices/pci0000:00/0000:00:01.0/config");
    says_nothing_of(f, "acs", GPU);
}

static void confinement(struct fake *f, gconstpointer data)
{
    add(f);
    fake_order(f, "file /sys/module/apparmor/parameters/enabled Y");
    fake_order(f, "file /etc/apparmor.d/abstractions/libvirt-qemu x");
    is(f, "confinement", NULL, GPUP_FINDING_FAIL, "apparmor.d/abstractions/libvirt-qemu.d/gpup");
    fake_order(f, "file /etc/apparmor.d/abstractions/libvirt-qemu.d/gpup x");
    is(f, "confinement", NULL, GPUP_FINDING_FAIL, "include if exists");
    fake_order(f, "file /etc/apparmor.d/local/abstractions/libvirt-qemu include if exists "
                  "<abstractions/libvirt-qemu.d>");
    is(f, "confinement", NULL, GPUP_FINDING_OK, "AppArmor");
    fake_order(f, "file /sys/kernel/security/lockdown none [integrity] confidentiality");
    is(f, "lockdown", NULL, GPUP_FINDING_WARN, "6.19");
    is(f, "libvirt-hook", NULL, GPUP_FINDING_FAIL, "hooks/qemu.d/gpup");
}

int main(int argc, char **argv)
{
    static const struct {
        const char *path;
        void (*func)(struct fake *, gconstpointer);
    } tests[] = {
        {"/check/all-is-well", all_is_well},
        {"/check/no-iommu", no_iommu},
        {"/check/firmware", firmware},
        {"/check/drivers", drivers},
        {"/check/interfaces", interfaces},
        {"/check/all-say-what-to-do", all_say_what_to_do},
        {"/check/models", models},
        {"/check/groups", groups},
        {"/check/bridges", bridges},
        {"/check/group-of-a-whole-one", group_of_a_whole_one},
        {"/check/groups-to-come", groups_to_come},
        {"/check/confinement", confinement},
    };

    g_test_init(&argc, &argv, NULL);
    for (gsize i = 0; i < G_N_ELEMENTS(tests); i++)
        g_test_add(tests[i].path, struct fake, NULL, fake_set_up, tests[i].func, fake_tear_down);
    return g_test_run();
}
