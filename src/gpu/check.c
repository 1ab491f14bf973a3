/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gpu/check.h"

#include "gpu/check_group.h"
#include "gpu/check_interface.h"
#include "gpu/models.h"
#include "gpu/pci.h"
#include "gpu/sysfs.h"
#include "gpu/vfio.h"
#include "gpu/vgpu_type.h"

#include <string.h>

/* ---- findings ---- */

struct gpup_finding *gpup_finding_new(enum gpup_finding_level level, const char *id,
                                      const char *gpu, const char *fix, const char *fmt, ...)
{
    struct gpup_finding *f = g_new0(struct gpup_finding, 1);
    va_list args;

    f->level = level;
    f->id = id;
    f->gpu = g_strdup(gpu);
    f->fix = g_strdup(fix);
    va_start(args, fmt);
    f->text = g_strdup_vprintf(fmt, args);
    va_end(args);
    return f;
}

void gpup_finding_free(struct gpup_finding *f)
{
    if (!f)
        return;
    g_free(f->gpu);
    g_free(f->text);
    g_free(f->fix);
    g_free(f);
}

const char *gpup_finding_level_name(enum gpup_finding_level level)
{
    static const char *const names[] = {"ok", "warn", "FAIL"};

    return names[level];
}

struct checkup {
    const struct gpup_system *system;
    GPtrArray *findings;
    char *root;    /* that /sys is in */
    char *maker;   /* of the machine */
    bool hardware; /* there is a GPU that hardware partitions or a whole one can come from */
    const struct gpup_pci *pci; /* being looked at, or NULL */
};

#define SAY(c, level, id, fix, ...)                                                                \
    g_ptr_array_add((c)->findings,                                                                 \
                    gpup_finding_new(GPUP_FINDING_##level, id,                                     \
                                     (c)->pci ? (c)->pci->address : NULL, fix, __VA_ARGS__))

static bool exists(const struct checkup *c, const char *path)
{
    return gpup_sysfs_exists(c->root, path);
}

/* ---- firmware ---- */

/* What the setting is called on the big makers' machines. The maker as DMI has it, in small
 * letters: "Dell Inc.", "HPE", "HP", "Lenovo", "LENOVO", "ASUSTeK COMPUTER INC.". */
static const struct {
    const char *maker, *iommu, *sriov, *above;
} firmware[] = {
    {"dell", "Virtualization Technology and, on AMD, IOMMU Support (Processor Settings)",
     "SR-IOV Global Enable (Integrated Devices)",
     "Memory Mapped I/O above 4GB (Integrated Devices)"},
    {"hp", "Intel VT-d or AMD I/O Virtualization Technology (Virtualization Options)",
     "SR-IOV (Virtualization Options)", "PCIe 64-bit BAR support (PCIe Device Configuration)"},
    {"hewlett-packard", "Intel VT-d or AMD I/O Virtualization Technology (Virtualization Options)",
     "SR-IOV (Virtualization Options)", "PCIe 64-bit BAR support (PCIe Device Configuration)"},
    {"lenovo", "Intel VT for Directed I/O or IOMMU (System Settings, Processors, I/O ports)",
     "SR-IOV (System Settings, Devices and I/O Ports)",
     "PCI 64-Bit Resource Allocation (Devices and I/O Ports)"},
    {"supermicro", "Intel VT for Directed I/O, or IOMMU (Advanced, NB or CPU Configuration)",
     "SR-IOV Support (Advanced, PCIe/PCI/PnP Configuration)",
     "Above 4G Decoding (Advanced, PCIe/PCI/PnP Configuration)"},
    {"asus", "Intel VT-d, or IOMMU (Advanced)", "SR-IOV Support (Advanced, PCI Subsystem Settings)",
     "Above 4G Decoding (Advanced, PCI Subsystem Settings)"},
    {"", "VT-d (Intel) or AMD-Vi, IOMMU (AMD)", "SR-IOV", "Above 4G Decoding"},
};

static gsize firmware_of(const struct checkup *c)
{
    g_autofree char *maker = g_ascii_strdown(c->maker, -1);
    gsize i = 0;

    while (*firmware[i].maker && !strstr(maker, firmware[i].maker))
        i++;
    return i;
}

/* ---- the host ---- */

/* What of the kernel command line switches the IOMMU off, or NULL. */
static const char *switched_off(const char *line)
{
    static const char *const words[] = {"intel_iommu=off", "amd_iommu=off", "iommu=off"};

    for (size_t w = 0; w < G_N_ELEMENTS(words); w++) {
        if (strstr(line, words[w]))
            return words[w];
    }
    return NULL;
}

static void check_iommu(struct checkup *c)
{
    g_autoptr(GPtrArray) units = gpup_sysfs_list(c->system->sysfs, "class/iommu");
    g_autofree char *path = g_build_filename(c->system->proc, "cpuinfo", NULL);
    g_autofree char *cpu = NULL;
    g_autofree char *line = gpup_sysfs_read(c->system->proc, "cmdline");
    g_autofree char *fix = NULL;
    const char *off;
    const char *name = firmware[firmware_of(c)].iommu;

    if (units->len > 0) {
        SAY(c, OK, "iommu", NULL, "IOMMU on (%s)", (char *)units->pdata[0]);
        return;
    }
    g_file_get_contents(path, &cpu, NULL, NULL);
    off = line ? switched_off(line) : NULL;
    if (off)
        fix = g_strdup_printf("take %s out of the kernel command line, and reboot", off);
    else if ((cpu && strstr(cpu, "AuthenticAMD")) || (line && strstr(line, "intel_iommu=on")))
        fix = g_strdup_printf("in the firmware, switch on: %s; then reboot", name);
    else
        fix = g_strdup_printf("in the firmware, switch on: %s; add intel_iommu=on to the kernel "
                              "command line; then reboot",
                              name);
    if (c->hardware)
        SAY(c, FAIL, "iommu", fix, "no IOMMU: no VM can have a hardware partition or a whole GPU");
    else
        SAY(c, OK, "iommu", NULL, "no IOMMU, and no GPU here that needs one");
}

static void check_kvm(struct checkup *c)
{
    if (gpup_sysfs_exists(c->system->dev, "kvm"))
        SAY(c, OK, "kvm", NULL, "KVM");
    else
        SAY(c, WARN, "kvm", "switch on virtualization (VT-x, SVM) in the firmware; modprobe kvm",
            "no /dev/kvm: VMs run, but very slowly");
}

static void check_vfio(struct checkup *c)
{
    g_autofree char *release = gpup_sysfs_read(c->system->proc, "sys/kernel/osrelease");
    g_autofree char *modules =
        release ? g_build_filename(c->root, "lib/modules", release, "kernel/drivers/vfio/pci", NULL)
                : NULL;

    if (!c->hardware)
        return;
    if (gpup_sysfs_exists(c->system->sysfs, "bus/pci/drivers/vfio-pci") ||
        (modules && g_file_test(modules, G_FILE_TEST_IS_DIR)))
        SAY(c, OK, "vfio", NULL, "vfio-pci");
    else
        SAY(c, FAIL, "vfio", "install a kernel with CONFIG_VFIO_PCI",
            "this kernel has no vfio-pci: no VM can have a hardware partition");
}

static void check_libvirt(struct checkup *c)
{
    const char *const hook = GPUP_SYSCONFDIR "/libvirt/hooks/qemu.d/gpup";
    g_autofree char *path = g_build_filename(c->root, hook, NULL);

    if (g_file_test(path, G_FILE_TEST_IS_EXECUTABLE))
        SAY(c, OK, "libvirt-hook", NULL, "libvirt's hook");
    else
        SAY(c, FAIL, "libvirt-hook",
            "install gpup's package again, or link " GPUP_SBINDIR "/gpup-hook to it; then "
            "systemctl reload libvirtd",
            "%s is not there: VMs would start without their partition", hook);
}

/* Whether libvirt's rules for VMs read a file of ours: Debian 12's do so only if this host's own
 * addition to them says so. */
static bool apparmor_reads_ours(const struct checkup *c)
{
    static const char *const files[] = {"etc/apparmor.d/abstractions/libvirt-qemu",
                                        "etc/apparmor.d/local/abstractions/libvirt-qemu"};

    for (size_t i = 0; i < G_N_ELEMENTS(files); i++) {
        g_autofree char *path = g_build_filename(c->root, files[i], NULL);
        g_autofree char *text = NULL;

        if (g_file_get_contents(path, &text, NULL, NULL) &&
            (strstr(text, "abstractions/libvirt-qemu.d") || strstr(text, "/gpup-vhost-user-gpu")))
            return true;
    }
    return false;
}

static void check_apparmor(struct checkup *c)
{
    if (!exists(c, "etc/apparmor.d/abstractions/libvirt-qemu.d/gpup"))
        SAY(c, FAIL, "confinement",
            "install " GPUP_SYSCONFDIR "/apparmor.d/abstractions/libvirt-qemu.d/gpup (gpup's "
            "package has it); see " GPUP_DOCDIR "/security.md",
            "AppArmor is on and gpup's rules are not there: VMs with virtio partitions do not "
            "start");
    else if (!apparmor_reads_ours(c))
        SAY(c, FAIL, "confinement",
            "echo '  include if exists <abstractions/libvirt-qemu.d>' >>" GPUP_SYSCONFDIR
            "/apparmor.d/local/abstractions/libvirt-qemu",
            "AppArmor is on and libvirt's rules for VMs do not read gpup's: VMs with virtio "
            "partitions do not start");
    else
        SAY(c, OK, "confinement", NULL, "AppArmor rules");
}

static void check_confinement(struct checkup *c)
{
    g_autofree char *on = gpup_sysfs_read(c->system->sysfs, "module/apparmor/parameters/enabled");
    g_autofree char *enforcing = gpup_sysfs_read(c->system->sysfs, "fs/selinux/enforce");

    if (g_strcmp0(on, "Y") == 0 && exists(c, "etc/apparmor.d/abstractions/libvirt-qemu"))
        check_apparmor(c);
    if (g_strcmp0(enforcing, "1") == 0)
        SAY(c, WARN, "confinement", "see " GPUP_DOCDIR "/security.md",
            "SELinux is enforcing, and gpup brings no rules for it: hardware partitions work, "
            "virtio partitions may be refused");
}

static void check_lockdown(struct checkup *c)
{
    g_autofree char *mode = gpup_sysfs_read(c->system->sysfs, "kernel/security/lockdown");

    if (mode && (strstr(mode, "[integrity]") || strstr(mode, "[confidentiality]")))
        SAY(c, WARN, "lockdown", "kernel 6.19 and later needs no debugfs for Intel GPUs",
            "the kernel is locked down (Secure Boot): what older kernels offer in debugfs cannot "
            "be set");
}

/* ---- a GPU ---- */

static void check_driver(struct checkup *c, const char *wanted)
{
    g_autofree char *module =
        c->pci->driver ? g_build_filename(c->system->sysfs, "module", c->pci->driver, NULL) : NULL;
    g_autofree char *version = module ? gpup_sysfs_read(module, "version") : NULL;
    g_autofree char *fix = wanted ? g_strdup_printf("load %s", wanted) : NULL;
    g_autofree char *in_place =
        g_strdup_printf("load %s in its place: blacklist %s in /etc/modprobe.d, "
                        "and reboot",
                        wanted ? wanted : "its host driver", c->pci->driver ? c->pci->driver : "");

    if (!c->pci->driver)
        SAY(c, FAIL, "driver", fix ? fix : "load its host driver", "no driver has it");
    else if (gpup_vfio_is_driver(c->pci->driver))
        SAY(c, OK, "driver", NULL, "%s: given whole to VMs", c->pci->driver);
    else if (strcmp(c->pci->driver, "nvidia") == 0 && gpup_vgpu_model(c->pci) &&
             !gpup_sysfs_exists(c->system->sysfs, "module/nvidia_vgpu_vfio"))
        SAY(c, FAIL, "driver",
            "install the vGPU host driver (NVIDIA vGPU or AI Enterprise); without it: gpup gpu "
            "passthrough, or virtio partitions with kind=virtio in gpup.conf",
            "ordinary NVIDIA driver%s%s loaded: it makes no vGPUs", version ? " " : "",
            version ? version : "");
    else if (gpup_vgpu_model(c->pci) && strcmp(c->pci->driver, "nvidia") != 0)
        SAY(c, FAIL, "driver",
            "install the vGPU host driver (NVIDIA vGPU or AI Enterprise), which takes its place",
            "driver %s makes no vGPUs", c->pci->driver);
    else if (wanted && c->pci->total_vfs > 0 && !gpup_vgpu_model(c->pci) &&
             !gpup_pci_may_make_vfs(c->pci))
        SAY(c, WARN, "driver", in_place, "driver %s makes no VFs", c->pci->driver);
    else
        SAY(c, OK, "driver", NULL, "driver %s%s%s", c->pci->driver, version ? " " : "",
            version ? version : "");
}

/* Lines 7 to 12 of the file are the windows of the VFs' BARs; those that found no place are 0. */
static bool windows_assigned(const struct gpup_pci *pci)
{
    g_autofree char *path = g_build_filename(pci->dir, "resource", NULL);
    g_autofree char *text = NULL;
    g_auto(GStrv) lines = NULL;
    bool any = false;

    if (!g_file_get_contents(path, &text, NULL, NULL))
        return true; /* nothing to say */
    lines = g_strsplit(text, "\n", 0);
    for (guint i = 7; i < 13 && i < g_strv_length(lines); i++)
        any = any || g_ascii_strtoull(lines[i], NULL, 16) != 0;
    return any || g_strv_length(lines) < 13;
}

static void check_sriov(struct checkup *c, const char *wanted)
{
    gsize i = firmware_of(c);
    g_autofree char *sriov = g_strdup_printf("in the firmware, switch on: %s and %s",
                                             firmware[i].sriov, firmware[i].above);
    g_autofree char *above =
        g_strdup_printf("in the firmware, switch on: %s; or add pci=realloc to the kernel command "
                        "line",
                        firmware[i].above);

    if (c->pci->total_vfs == 0 && wanted)
        SAY(c, FAIL, "sriov", sriov, "it can have partitions, but shows no SR-IOV");
    else if (c->pci->total_vfs > 0 && !windows_assigned(c->pci))
        SAY(c, FAIL, "sriov", above, "no address space for its VFs' memory");
    else if (c->pci->total_vfs > 0)
        SAY(c, OK, "sriov", NULL, "SR-IOV: up to %" G_GUINT64_FORMAT " VFs",
            (guint64)c->pci->total_vfs);
}

static void check_interface(struct checkup *c)
{
    struct gpup_finding *found = gpup_check_interface(c->system, c->pci);

    if (found)
        g_ptr_array_add(c->findings, found);
}

static void check_group(struct checkup *c)
{
    struct gpup_finding *found = gpup_check_group(c->system, c->pci);

    if (found)
        g_ptr_array_add(c->findings, found);
}

static bool is_hardware(const struct gpup_pci *pci)
{
    return pci->total_vfs > 0 || gpup_model_of(pci) ||
           (pci->driver && gpup_vfio_is_driver(pci->driver));
}

static void check_gpu(struct checkup *c, const struct gpup_pci *pci)
{
    const struct gpup_model *model = gpup_model_of(pci);
    const char *wanted = model ? model->host_driver : NULL;

    c->pci = pci;
    check_driver(c, wanted);
    if (!wanted && pci->total_vfs == 0)
        SAY(c, OK, "model", NULL,
            "not among the models with hardware partitions: virtio partitions, or gpup gpu "
            "passthrough");
    else if (!wanted)
        SAY(c, WARN, "model",
            "gpup gpu partition tells whether its driver makes VFs; else gpup gpu passthrough, or "
            "virtio partitions with kind=virtio in gpup.conf",
            "SR-IOV, but not on the list of models (%04x:%04x): by the PCI standard only",
            (unsigned)pci->vendor, (unsigned)pci->device);
    check_sriov(c, wanted);
    check_interface(c);
    if (is_hardware(pci))
        check_group(c);
    if (model)
        SAY(c, OK, "guest-driver", NULL, "guests need %s", model->guest_driver);
    c->pci = NULL;
}

GPtrArray *gpup_check(const struct gpup_system *system)
{
    g_autoptr(GPtrArray) gpus = gpup_pci_list(system);
    struct checkup c = {.system = system};

    c.findings = g_ptr_array_new_with_free_func((GDestroyNotify)gpup_finding_free);
    c.root = g_path_get_dirname(system->sysfs);
    c.maker = gpup_sysfs_read(system->sysfs, "class/dmi/id/sys_vendor");
    if (!c.maker)
        c.maker = g_strdup("");
    for (guint i = 0; i < gpus->len; i++)
        c.hardware = c.hardware || is_hardware(gpus->pdata[i]);
    check_iommu(&c);
    check_kvm(&c);
    check_vfio(&c);
    check_libvirt(&c);
    check_confinement(&c);
    check_lockdown(&c);
    for (guint i = 0; i < gpus->len; i++)
        check_gpu(&c, gpus->pdata[i]);
    g_free(c.root);
    g_free(c.maker);
    return c.findings;
}
