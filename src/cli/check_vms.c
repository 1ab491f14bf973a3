/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/check_vms.h"

#include "cli/cli.h"
#include "gpu/check.h"
#include "gpu/models.h"

#include <string.h>

/* An agent that does not answer costs gpupd two times three seconds. */
#define GUEST_TIMEOUT_MS 15000

static const char *kind_of(GpupVM *vm)
{
    const char *kind = "";

    g_variant_lookup(gpup_vm_get_adapter(vm), "kind", "&s", &kind);
    return kind;
}

/* ---- room ---- */

static bool is_ready(GpupGPU *gpu, const char *kind)
{
    const char *mode = cli_text(gpup_gpu_get_mode(gpu));

    return strcmp(cli_text(gpup_gpu_get_kind(gpu)), kind) == 0 &&
           (strcmp(mode, "partitioned") == 0 || strcmp(mode, "passthrough") == 0);
}

static void check_room(const struct cli_bus *bus, const char *kind, GPtrArray *findings)
{
    guint partitions = 0, vms = 0;

    for (guint i = 0; i < bus->gpus->len; i++) {
        if (is_ready(bus->gpus->pdata[i], kind))
            partitions += gpup_gpu_get_partition_count(bus->gpus->pdata[i]);
    }
    for (guint i = 0; i < bus->vms->len; i++)
        vms += gpup_vm_get_has_adapter(bus->vms->pdata[i]) &&
               strcmp(kind_of(bus->vms->pdata[i]), kind) == 0;
    if (vms == 0)
        return;
    if (vms > partitions)
        g_ptr_array_add(findings,
                        gpup_finding_new(GPUP_FINDING_WARN, "room", NULL,
                                         "gpup gpu partition GPU N makes more (gpup gpu show GPU "
                                         "lists the valid counts)",
                                         "%u VM%s with an adapter of kind %s, %u partition%s: not "
                                         "all can run at the same time",
                                         vms, vms == 1 ? "" : "s", kind, partitions,
                                         partitions == 1 ? "" : "s"));
    else
        g_ptr_array_add(findings, gpup_finding_new(GPUP_FINDING_OK, "room", NULL, NULL,
                                                   "room for all VMs of kind %s (%u of %u)", kind,
                                                   vms, partitions));
}

/* ---- guests ---- */

/* The GPU that a VM has, is to have, or can only have; NULL: that is open. */
static GpupGPU *gpu_of(const struct cli_bus *bus, GpupVM *vm)
{
    const char *partition = cli_text(gpup_vm_get_partition(vm));
    g_autofree char *has = g_strndup(partition, strcspn(partition, "/"));
    const char *pinned = "";
    GpupGPU *only = NULL;

    if (*has)
        return cli_bus_gpu(bus, has);
    g_variant_lookup(gpup_vm_get_adapter(vm), "gpu", "&s", &pinned);
    if (*pinned)
        return cli_bus_gpu(bus, pinned);
    for (guint i = 0; i < bus->gpus->len; i++) {
        GpupGPU *gpu = bus->gpus->pdata[i];

        if (!is_ready(gpu, kind_of(vm)))
            continue;
        if (only && g_strcmp0(gpup_gpu_get_pci_id(only), gpup_gpu_get_pci_id(gpu)) != 0)
            return NULL;
        only = gpu;
    }
    return only;
}

/* "10de:25b6 10de:14a9" */
static bool read_pci(GpupGPU *gpu, struct gpup_pci *pci)
{
    g_auto(GStrv) words = g_strsplit_set(cli_text(gpup_gpu_get_pci_id(gpu)), ": ", 0);
    guint64 ids[4];

    if (g_strv_length(words) != G_N_ELEMENTS(ids))
        return false;
    for (gsize i = 0; i < G_N_ELEMENTS(ids); i++) {
        if (!g_ascii_string_to_unsigned(words[i], 16, 0, 0xffff, &ids[i], NULL))
            return false;
    }
    *pci = (struct gpup_pci){
        .vendor = ids[0], .device = ids[1], .subvendor = ids[2], .subdevice = ids[3]};
    return true;
}

/* By what its definition says. */
static void check_system(GpupVM *vm, GpupGPU *gpu, const struct gpup_model *model,
                         GPtrArray *findings)
{
    const char *system = cli_text(gpup_vm_get_system(vm));
    g_autofree char *fix = NULL;

    if (!*system || gpup_model_lists(model, system))
        return;
    fix =
        g_strdup_printf("its maker lists: %s; virt-xml %s --edit --osinfo NAME mends a definition "
                        "that is wrong",
                        model->systems, cli_text(gpup_vm_get_name(vm)));
    g_ptr_array_add(findings,
                    gpup_finding_new(GPUP_FINDING_WARN, "guest", gpup_gpu_get_id(gpu), fix,
                                     "%s runs %s, which the GPU's maker does not list as a guest",
                                     cli_text(gpup_vm_get_name(vm)), system));
}

static const char *text_of(GVariant *guest, const char *name)
{
    const char *text = "";

    g_variant_lookup(guest, name, "&s", &text);
    return text;
}

static void say_guest(GpupVM *vm, GpupGPU *gpu, const struct gpup_model *model, GVariant *guest,
                      GPtrArray *findings)
{
    const char *name = cli_text(gpup_vm_get_name(vm)), *id = gpup_gpu_get_id(gpu);
    const char *system = text_of(guest, "system"), *driver = text_of(guest, "driver");
    g_autofree char *fix = g_strdup_printf("install in the guest: %s",
                                           model ? model->guest_driver : "its maker's driver");
    const char *what = *system ? system : "a guest";

    if (*driver)
        g_ptr_array_add(findings,
                        gpup_finding_new(GPUP_FINDING_OK, "guest", id, NULL, "%s: %s with %s %s",
                                         name, what, driver, text_of(guest, "driver-version")));
    else if (g_variant_lookup(guest, "driver", "&s", &driver))
        g_ptr_array_add(findings, gpup_finding_new(GPUP_FINDING_WARN, "guest", id, fix,
                                                   "%s: %s has no driver for its GPU", name, what));
    else
        g_ptr_array_add(findings, gpup_finding_new(GPUP_FINDING_OK, "guest", id, NULL,
                                                   "%s: %s, kernel %s (drivers not told)", name,
                                                   what, text_of(guest, "kernel")));
}

/* By what the guest says, where its agent runs and the caller may ask. */
static void ask_guest(const struct cli_bus *bus, GpupVM *vm, GpupGPU *gpu,
                      const struct gpup_pci *pci, GPtrArray *findings)
{
    g_autoptr(GVariant) guest = NULL;

    if (!*cli_text(gpup_vm_get_partition(vm)) ||
        strcmp(cli_text(gpup_vm_get_state(vm)), "running") != 0)
        return;
    if (gpup_manager_call_get_guest_sync(bus->manager, cli_text(gpup_vm_get_name(vm)),
                                         (guint)pci->vendor, CLI_READ_FLAGS, GUEST_TIMEOUT_MS,
                                         &guest, NULL, NULL))
        say_guest(vm, gpu, gpup_model_of(pci), guest, findings);
}

static void check_guest(const struct cli_bus *bus, GpupVM *vm, GPtrArray *findings)
{
    GpupGPU *gpu = gpu_of(bus, vm);
    const struct gpup_model *model;
    struct gpup_pci pci;

    if (strcmp(kind_of(vm), "virtio") == 0 || !gpu || !read_pci(gpu, &pci))
        return;
    model = gpup_model_of(&pci);
    if (model && strcmp(kind_of(vm), "sriov") == 0)
        check_system(vm, gpu, model, findings);
    ask_guest(bus, vm, gpu, &pci, findings);
}

void cli_check_vms(const struct cli_bus *bus, GPtrArray *findings)
{
    static const char *const kinds[] = {"virtio", "sriov", "passthrough"};

    for (gsize i = 0; i < G_N_ELEMENTS(kinds); i++)
        check_room(bus, kinds[i], findings);
    for (guint i = 0; i < bus->vms->len; i++) {
        if (gpup_vm_get_has_adapter(bus->vms->pdata[i]))
            check_guest(bus, bus->vms->pdata[i], findings);
    }
}
