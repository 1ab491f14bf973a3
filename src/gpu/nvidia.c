/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/error.h"
#include "core/units.h"
#include "gpu/sriov.h"
#include "gpu/sysfs.h"
#include "gpu/vfio.h"
#include "gpu/vgpu_type.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/*
 * NVIDIA vGPU. VFs are made by NVIDIA's own tool (sriov-manage), all at once; a vGPU of a type is
 * then made on a VF:
 *
 *   Linux 6.8 and later: VF/nvidia/{creatable_vgpu_types,current_vgpu_type}; the VF stays with the
 *                        nvidia driver (its own VFIO). It is made here when the GPU is partitioned.
 *   before that:         VF/mdev_supported_types/nvidia-ID/create; a mediated device with the
 *                        adapter's UUID. It is made when a VM starts.
 *
 * (NVIDIA, Virtual GPU Software User Guide.) Types are numbered per GPU and may be numbered anew
 * after each change, so the numbers are read every time. Settings: vgpu-class, vgpu-mode,
 * vgpu-scheduler, vgpu-slice-ms (gpup.conf(5)).
 */

#define VENDOR_NVIDIA 0x10deu
#define TOOL_TRIES    5
#define TOOL_WAIT_US  (G_USEC_PER_SEC)

/* ---- what is set ---- */

static const char *setting(const struct gpup_target *t, const char *name, const char *otherwise)
{
    const char *value;

    return t->settings && g_variant_lookup(t->settings, name, "&s", &value) ? value : otherwise;
}

static char class_of(const struct gpup_target *t)
{
    return *setting(t, "vgpu-class", "Q");
}

static bool is_mixed(const struct gpup_target *t)
{
    return strcmp(setting(t, "vgpu-mode", "homogeneous"), "heterogeneous") == 0;
}

static char *vf_dir(const struct gpup_target *t, const char *address)
{
    return g_build_filename(t->system->sysfs, "bus", "pci", "devices", address, NULL);
}

/* Other drivers of the host may have mediated devices too: VFs tell, once there are any. */
static bool is_mdev(const struct gpup_target *t)
{
    g_autoptr(GPtrArray) vfs = gpup_pci_vfs(t->pci);
    g_autofree char *dir = vfs->len > 0 ? vf_dir(t, vfs->pdata[0]) : NULL;

    return gpup_sysfs_exists(t->system->sysfs, "class/mdev_bus") &&
           !(dir && gpup_sysfs_exists(dir, "nvidia/current_vgpu_type"));
}

/* ---- NVIDIA's tools ---- */

/* Below the root that /sys is in. */
static char *tool_path(const struct gpup_target *t, const char *name)
{
    g_autofree char *root = g_path_get_dirname(t->system->sysfs);

    return g_build_filename(root, name, NULL);
}

/* Runs it; the output's last line in *said (the caller's). -EIO: it failed, and *said is why; else
 * it cannot be run, *said is NULL and err is filled. */
static int run_tool(const struct gpup_target *t, const char *const *argv, char **said,
                    struct gpup_error **err)
{
    g_autofree char *out = NULL;
    g_autofree char *errors = NULL;
    g_autoptr(GError) error = NULL;
    g_auto(GStrv) lines = NULL;
    const char *text;
    guint n;
    int status;

    *said = NULL;
    if (!g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_DEFAULT, NULL, NULL, &out, &errors,
                      &status, &error))
        return gpup_error_set(err, ENOENT,
                              "%s: %s cannot be run (%s): install NVIDIA's vGPU host "
                              "driver",
                              t->name, argv[0], error->message);
    text = errors && *g_strstrip(errors) ? errors : g_strstrip(out);
    lines = g_strsplit(text, "\n", 0);
    n = g_strv_length(lines);
    *said = g_strdup(n ? lines[n - 1] : "");
    return status == 0 ? 0 : -EIO;
}

/* It can fail and say so by its exit status, or only by what is (not) there afterwards; the lock is
 * refused while another program asks the driver something, so that is tried again. */
static int manage(const struct gpup_target *t, bool on, struct gpup_error **err)
{
    g_autofree char *path = tool_path(t, "usr/lib/nvidia/sriov-manage");
    const char *const argv[] = {path, on ? "-e" : "-d", t->pci->address, NULL};
    g_autofree char *said = NULL;
    unsigned n = 0;

    for (int i = 0; i < TOOL_TRIES; i++) {
        int ret;

        g_clear_pointer(&said, g_free);
        ret = run_tool(t, argv, &said, err);
        if (!said)
            return ret;
        ret = gpup_sriov_count(t, &n, err);
        if (ret < 0 || (n > 0) == on)
            return ret;
        if (!strstr(said, "unbindLock"))
            break;
        g_usleep(TOOL_WAIT_US);
    }
    return gpup_error_set(err, strstr(said, "unbindLock") ? EBUSY : EIO,
                          "%s: NVIDIA's sriov-manage could not %s VFs: %s%s", t->name,
                          on ? "make" : "remove", *said ? said : "it gives no reason, see dmesg",
                          strstr(said, "unbindLock")
                              ? " (another program uses the GPU: a monitoring service, nvidia-smi?)"
                              : "");
}

/* ---- types ---- */

static void add_type(GArray *types, unsigned id, const char *name)
{
    struct gpup_vgpu_type type = {.id = id};
    char class;

    if (!gpup_vgpu_parse(name, &type.framebuffer, &class))
        return;
    g_strlcpy(type.name, name, sizeof(type.name));
    g_array_append_val(types, type);
}

/* "744   : NVIDIA A2-1Q", a line each, after a header. */
static void read_creatable(const char *dir, GArray *types)
{
    g_autofree char *path = g_build_filename(dir, "nvidia", "creatable_vgpu_types", NULL);
    g_autofree char *text = NULL;
    g_auto(GStrv) lines = NULL;

    if (!g_file_get_contents(path, &text, NULL, NULL))
        return;
    lines = g_strsplit(text, "\n", 0);
    for (char **line = lines; *line; line++) {
        const char *colon = strchr(*line, ':');
        guint64 id = g_ascii_strtoull(*line, NULL, 10);

        if (colon && id > 0 && id <= G_MAXINT32)
            add_type(types, (unsigned)id, g_strstrip((char *)colon + 1));
    }
}

/* mdev_supported_types/nvidia-744/name, where one can be made now. */
static void read_mdev_types(const char *dir, GArray *types)
{
    g_autoptr(GPtrArray) names = gpup_sysfs_list(dir, "mdev_supported_types");

    for (guint i = 0; i < names->len; i++) {
        g_autofree char *type =
            g_build_filename(dir, "mdev_supported_types", names->pdata[i], NULL);
        g_autofree char *name = gpup_sysfs_read(type, "name");
        uint64_t free_instances = 0;

        gpup_sysfs_read_number(type, "available_instances", &free_instances);
        if (name && free_instances > 0 && g_str_has_prefix(names->pdata[i], "nvidia-"))
            add_type(
                types,
                (unsigned)g_ascii_strtoull((char *)names->pdata[i] + strlen("nvidia-"), NULL, 10),
                name);
    }
}

/* What can be made on this VF now. */
static GArray *types_of_vf(const struct gpup_target *t, const char *address)
{
    GArray *types = g_array_new(FALSE, TRUE, sizeof(struct gpup_vgpu_type));
    g_autofree char *dir = vf_dir(t, address);

    read_creatable(dir, types);
    if (types->len == 0)
        read_mdev_types(dir, types);
    return types;
}

/* What the GPU can have: as its driver says, else by the table of models. */
static GArray *types_of_gpu(const struct gpup_target *t, uint64_t *memory)
{
    const struct gpup_vgpu_model *model = gpup_vgpu_model(t->pci);
    g_autoptr(gpup_nvml) nvml = gpup_nvml_open(t->pci->address);
    GArray *types = nvml ? gpup_nvml_types(nvml) : NULL;

    *memory = t->memory;
    if (*memory == 0 && model)
        *memory = (uint64_t)model->memory << 30;
    if (*memory == 0 && nvml)
        *memory = gpup_nvml_memory(nvml);
    if (types && types->len > 0)
        return types;
    g_clear_pointer(&types, g_array_unref);
    return model ? gpup_vgpu_model_types(model, class_of(t))
                 : g_array_new(FALSE, TRUE, sizeof(struct gpup_vgpu_type));
}

/* ---- what there is ---- */

static unsigned current_type(const struct gpup_target *t, const char *address)
{
    g_autofree char *dir = vf_dir(t, address);
    uint64_t id = 0;

    return gpup_sysfs_read_number(dir, "nvidia/current_vgpu_type", &id) ? (unsigned)id : 0;
}

/* GPUs for desktops show SR-IOV too: of those that are not in the table, only what the vGPU host
 * driver has. */
static bool nvidia_claims(const struct gpup_system *system, const struct gpup_pci *pci)
{
    return pci->vendor == VENDOR_NVIDIA &&
           (gpup_vgpu_model(pci) ||
            (pci->total_vfs > 0 && gpup_sysfs_exists(system->sysfs, "module/nvidia_vgpu_vfio")));
}

/* Whether it is NVIDIA's driver for hosts of vGPUs. */
static bool check_driver(const struct gpup_target *t, struct gpup_facts *facts)
{
    if (!t->pci->driver || strcmp(t->pci->driver, "nvidia") != 0) {
        gpup_facts_unusable(facts, "%s%s has it; NVIDIA's vGPU host driver is needed",
                            t->pci->driver ? "the driver " : "no driver",
                            t->pci->driver ? t->pci->driver : "");
        return false;
    }
    if (!gpup_sysfs_exists(t->system->sysfs, "module/nvidia_vgpu_vfio")) {
        gpup_facts_unusable(facts,
                            "the ordinary NVIDIA driver is loaded; install the vGPU host driver "
                            "(NVIDIA vGPU or AI Enterprise, from NVIDIA's licensing portal)");
        return false;
    }
    if (t->pci->total_vfs == 0) {
        gpup_facts_unusable(facts, "it offers no VFs: switch SR-IOV and 'Above 4G Decoding' on in "
                                   "the firmware");
        return false;
    }
    return true;
}

static void describe_counts(const struct gpup_target *t, struct gpup_facts *facts, GArray *types)
{
    unsigned most = (unsigned)MIN(t->pci->total_vfs, 32);

    for (unsigned n = 1; n <= most; n++) {
        const struct gpup_vgpu_type *type =
            gpup_vgpu_for_count(types, class_of(t), facts->resource[GPUP_VRAM].total, n);

        if (type)
            gpup_facts_count(facts, n, type->framebuffer);
    }
}

/* VFs that have a vGPU; where those are made when a VM starts, as many as are wanted. */
static void describe_functions(const struct gpup_target *t, struct gpup_facts *facts, GArray *types,
                               unsigned wanted)
{
    g_autoptr(GPtrArray) vfs = gpup_pci_vfs(t->pci);
    bool late = is_mdev(t) || is_mixed(t);
    const struct gpup_vgpu_type *equal;

    for (guint i = 0; i < vfs->len; i++) {
        struct gpup_function f = {0};
        unsigned id = late ? 0 : current_type(t, vfs->pdata[i]);

        if (late ? i >= wanted : id == 0)
            continue;
        g_strlcpy(f.address, vfs->pdata[i], sizeof(f.address));
        g_strlcpy(f.driver, "nvidia", sizeof(f.driver));
        gpup_facts_function(facts, &f);
    }
    equal = gpup_vgpu_for_count(types, class_of(t), facts->resource[GPUP_VRAM].total,
                                facts->functions->len);
    for (guint i = 0; equal && !facts->elastic && i < facts->functions->len; i++)
        g_array_index(facts->functions, struct gpup_function, i).vram = equal->framebuffer;
}

static void describe_limits(const struct gpup_target *t, struct gpup_facts *facts)
{
    facts->form = is_mdev(t) ? GPUP_FORM_MDEV : GPUP_FORM_VENDOR;
    facts->elastic = is_mixed(t);
    facts->resource[GPUP_VRAM].enforcement = GPUP_ENFORCE_HARD;
    facts->resource[GPUP_COMPUTE] = (struct gpup_resource_info){GPUP_PPM_FULL, GPUP_ENFORCE_SHARE};
    facts->resource[GPUP_ENCODE] = (struct gpup_resource_info){GPUP_PPM_FULL, GPUP_ENFORCE_NONE};
    facts->resource[GPUP_DECODE] = (struct gpup_resource_info){GPUP_PPM_FULL, GPUP_ENFORCE_NONE};
    if (strcmp(setting(t, "vgpu-scheduler", "best-effort"), "best-effort") == 0)
        facts->resource[GPUP_COMPUTE].enforcement = GPUP_ENFORCE_NONE;
}

/* "2 of 4": the GPUs of one card, by address, below the card's own bridge. */
static void name_on_board(const struct gpup_target *t, const struct gpup_vgpu_model *model,
                          struct gpup_facts *facts)
{
    g_autofree char *real = realpath(t->pci->dir, NULL);
    g_autofree char *port = real ? g_path_get_dirname(real) : NULL;
    g_autofree char *bridge = port ? g_path_get_dirname(port) : NULL;
    g_autoptr(GPtrArray) ports = bridge ? gpup_sysfs_list(bridge, "") : NULL;
    unsigned n = 0, mine = 0;

    for (guint i = 0; ports && i < ports->len; i++) {
        g_autofree char *below = g_build_filename(bridge, ports->pdata[i], NULL);
        g_autoptr(GPtrArray) functions = gpup_sysfs_list(below, "");

        for (guint k = 0; gpup_pci_is_address(ports->pdata[i]) && k < functions->len; k++) {
            g_autoptr(gpup_pci) other = gpup_pci_is_address(functions->pdata[k])
                                            ? gpup_pci_read(t->system, functions->pdata[k])
                                            : NULL;

            if (!other || other->is_vf || gpup_vgpu_model(other) != model)
                continue;
            n++;
            if (strcmp(other->address, t->pci->address) == 0)
                mine = n;
        }
    }
    if (model->per_board > 1 && mine > 0)
        facts->name = g_strdup_printf("%s %u of %u", model->name, mine, MAX(n, model->per_board));
}

static int describe(const struct gpup_target *t, unsigned wanted, struct gpup_facts *facts,
                    struct gpup_error **err)
{
    const struct gpup_vgpu_model *model = gpup_vgpu_model(t->pci);
    g_autoptr(GArray) types = NULL;
    unsigned n = 0;
    int ret = 0;

    if (model)
        facts->name = g_strdup(model->name);
    if (model && model->per_board > 1) {
        g_clear_pointer(&facts->name, g_free);
        name_on_board(t, model, facts);
    }
    if (!check_driver(t, facts))
        return 0;
    ret = gpup_sriov_count(t, &n, err);
    if (ret < 0)
        return ret;
    types = types_of_gpu(t, &facts->resource[GPUP_VRAM].total);
    describe_limits(t, facts);
    describe_counts(t, facts, types);
    describe_functions(t, facts, types, wanted);
    if (facts->counts->len == 0)
        gpup_facts_unusable(facts,
                            "its driver offers no vGPU types of class %c: set vgpu-class= in "
                            "section [gpu %s] of gpup.conf",
                            class_of(t), t->pci->address);
    return 0;
}

static int nvidia_describe(const struct gpup_target *t, struct gpup_facts *facts,
                           struct gpup_error **err)
{
    return describe(t, t->wanted, facts, err);
}

/* ---- making vGPUs ---- */

static bool has_mdev(const struct gpup_target *t, const char *address)
{
    g_autofree char *dir = vf_dir(t, address);
    g_autoptr(GPtrArray) names = gpup_sysfs_list(dir, "");

    for (guint i = 0; i < names->len; i++) {
        if (g_uuid_string_is_valid(names->pdata[i]))
            return true;
    }
    return false;
}

static bool has_vgpus(const struct gpup_target *t)
{
    g_autoptr(GPtrArray) vfs = gpup_pci_vfs(t->pci);

    for (guint i = 0; i < vfs->len; i++) {
        if (current_type(t, vfs->pdata[i]) != 0 || has_mdev(t, vfs->pdata[i]))
            return true;
    }
    return false;
}

/* offered: what the driver does offer. A GPU that has no vGPU has room for one of some type. */
static int no_type(const struct gpup_target *t, const GArray *offered, uint64_t bytes, unsigned i,
                   struct gpup_error **err)
{
    char size[GPUP_UNIT_BUF];

    if (offered->len == 0 && !has_vgpus(t))
        return gpup_error_set(err, EAGAIN,
                              "%s: its driver offers no types of vGPUs: nvidia-vgpud tells them to "
                              "it, and is not ready or does not run (systemctl status "
                              "nvidia-vgpud)",
                              t->name);
    return gpup_error_set(err, ENOSPC,
                          "%s: its driver offers no vGPU type of class %c with %s for partition "
                          "%u: another size may be in use on it, or vGPUs that somebody else made",
                          t->name, class_of(t), gpup_format_size(bytes, size, sizeof(size)), i);
}

/* What the driver means that refuses a vGPU of type `name` (NULL: to remove the one there is). */
static int explain_type(const struct gpup_target *t, const char *address, const char *name,
                        int code, struct gpup_error **err)
{
    const char *vf = gpup_short_id(address);

    if (code == EBUSY)
        return gpup_error_set(err, code, "%s: the vGPU on VF %s is in use: stop its VM first",
                              t->name, vf);
    if (!name)
        return gpup_error_set(err, code, "%s: the vGPU on VF %s cannot be removed: %s; see dmesg",
                              t->name, vf, g_strerror(code));
    switch (code) {
    case EPERM:
    case EEXIST:
        return gpup_error_set(err, code,
                              "%s: VF %s has a vGPU already, which somebody else made: remove it, "
                              "or gpup gpu partition %s 0 removes all",
                              t->name, vf, t->name);
    case EINVAL:
        return gpup_error_set(
            err, code,
            "%s: the driver does not offer %s on VF %s any more: vGPUs of another "
            "size are on the GPU, which takes one size only unless vgpu-mode= is "
            "heterogeneous (gpup.conf(5)), or its types have changed; try again",
            t->name, name, vf);
    case ENOSPC:
    case ENOMEM:
        return gpup_error_set(err, code,
                              "%s: no room for %s on VF %s: other vGPUs, or programs of the host, "
                              "have the GPU's memory (nvidia-smi and nvidia-smi vgpu list them)",
                              t->name, name, vf);
    case EIO:
        return gpup_error_set(err, code,
                              "%s: the driver refuses %s on VF %s: no room for it, or the GPU is "
                              "divided (MIG) and has no instance of this size; see dmesg",
                              t->name, name, vf);
    default:
        return gpup_error_set(err, code, "%s: VF %s does not take %s: %s; see dmesg", t->name, vf,
                              name, g_strerror(code));
    }
}

/* Writes the type (0, NULL: none) and reads it back. */
static int set_type(const struct gpup_target *t, const char *address, unsigned id, const char *name,
                    struct gpup_error **err)
{
    g_autofree char *dir = vf_dir(t, address);
    int ret = gpup_sysfs_write_number(dir, "nvidia/current_vgpu_type", id);

    if (ret < 0)
        return explain_type(t, address, name, -ret, err);
    if (current_type(t, address) == id)
        return 0;
    return gpup_error_set(err, EIO,
                          "%s: VF %s does not take %s: it reads back otherwise; see dmesg", t->name,
                          gpup_short_id(address), name ? name : "its vGPU away");
}

/* *made: what it has got, at least `bytes`. */
static int make_vgpu(const struct gpup_target *t, const char *address, unsigned i, uint64_t bytes,
                     uint64_t *made, struct gpup_error **err)
{
    g_autoptr(GArray) types = types_of_vf(t, address);
    const struct gpup_vgpu_type *type = gpup_vgpu_for_size(types, class_of(t), bytes);

    if (!type || (!is_mixed(t) && type->framebuffer != bytes))
        return no_type(t, types, bytes, i, err);
    *made = type->framebuffer;
    return set_type(t, address, type->id, type->name, err);
}

static void remove_vgpus(const struct gpup_target *t, GPtrArray *vfs)
{
    for (guint i = 0; i < vfs->len; i++) {
        if (current_type(t, vfs->pdata[i]) != 0)
            set_type(t, vfs->pdata[i], 0, NULL, NULL);
    }
}

/* What is lost with a reboot, or when the driver is loaded anew. While there is no vGPU. */
static int set_up(const struct gpup_target *t, struct gpup_error **err)
{
    static const char *const names[] = {"", "best-effort", "equal-share", "fixed-share"};
    const char *scheduler = setting(t, "vgpu-scheduler", NULL);
    unsigned slice_ms = (unsigned)g_ascii_strtoull(setting(t, "vgpu-slice-ms", "0"), NULL, 10);
    g_autofree char *smi = tool_path(t, "usr/bin/nvidia-smi");
    const char *const argv[] = {smi, "vgpu", "-shm", "1", "-i", t->pci->address, NULL};
    g_autoptr(gpup_nvml) nvml = NULL;
    g_autofree char *said = NULL;
    int policy = 0;

    if (is_mixed(t) && run_tool(t, argv, &said, err) < 0)
        return said ? gpup_error_set(err, EIO,
                                     "%s: nvidia-smi cannot set the mode for vGPUs of different "
                                     "sizes: %s",
                                     t->name, said)
                    : -ENOENT;
    for (int i = 1; scheduler && i < 4; i++)
        policy = strcmp(scheduler, names[i]) == 0 ? i : policy;
    if (policy == 0)
        return 0;
    nvml = gpup_nvml_open(t->pci->address);
    if (!nvml)
        return gpup_error_set(err, EOPNOTSUPP,
                              "%s: vgpu-scheduler=%s needs NVIDIA's libnvidia-ml.so.1, which is "
                              "not there",
                              t->name, scheduler);
    return gpup_nvml_set_scheduler(nvml, (enum gpup_vgpu_scheduler)policy, slice_ms * 1000000, err);
}

static int make_all(const struct gpup_target *t, unsigned n, struct gpup_error **err)
{
    g_autoptr(GPtrArray) vfs = gpup_pci_vfs(t->pci);
    g_autoptr(GArray) types = NULL;
    const struct gpup_vgpu_type *type;
    uint64_t memory, made;
    int ret = set_up(t, err);

    if (ret == 0 && vfs->len < n)
        ret = gpup_error_set(err, EIO, "%s: sriov-manage made only %u VFs of %u", t->name, vfs->len,
                             n);
    if (ret < 0 || is_mdev(t) || is_mixed(t))
        return ret; /* a vGPU is made when its VM starts */
    types = types_of_gpu(t, &memory);
    type = gpup_vgpu_for_count(types, class_of(t), memory, n);
    if (!type)
        return no_type(t, types, memory / n, 0, err);
    for (unsigned i = 0; ret == 0 && i < n; i++)
        ret = make_vgpu(t, vfs->pdata[i], i, type->framebuffer, &made, err);
    if (ret < 0)
        remove_vgpus(t, vfs);
    return ret;
}

static int nvidia_create(const struct gpup_target *t, unsigned n, struct gpup_facts *facts,
                         struct gpup_error **err)
{
    unsigned before = 0;
    int ret = gpup_sriov_count(t, &before, err);

    if (ret == 0 && before == 0)
        ret = manage(t, true, err);
    if (ret < 0)
        return ret;
    ret = make_all(t, n, err);
    if (ret < 0 && before == 0)
        manage(t, false, NULL);
    return ret < 0 ? ret : describe(t, n, facts, err);
}

static int nvidia_destroy(const struct gpup_target *t, struct gpup_error **err)
{
    g_autoptr(GPtrArray) vfs = gpup_pci_vfs(t->pci);
    unsigned n = 0;
    int ret = gpup_sriov_check_closed(t, err);

    if (ret == 0)
        ret = gpup_sriov_count(t, &n, err);
    if (ret < 0 || n == 0)
        return ret;
    remove_vgpus(t, vfs);
    return manage(t, false, err);
}

/* ---- one vGPU ---- */

/* A VM that has it open would have its removal wait for ever. */
static int release_mdev(const struct gpup_target *t, struct gpup_work *work,
                        struct gpup_error **err)
{
    const char *uuid = *work->function.mdev ? work->function.mdev : work->adapter;
    g_autofree char *dir = g_build_filename(t->system->sysfs, "bus", "mdev", "devices", uuid, NULL);
    g_autofree char *holder = NULL;
    int ret = 0;

    if (g_uuid_string_is_valid(uuid) && gpup_sysfs_exists(dir, "")) {
        holder = gpup_vfio_mdev_holder(t->system, uuid);
        if (holder)
            return gpup_error_set(err, EBUSY, "%s: the vGPU %s is open in %s", t->name, uuid,
                                  holder);
        ret = gpup_sysfs_write(dir, "remove", "1");
    }
    if (ret < 0)
        return gpup_error_set(err, -ret, "%s: the vGPU %s cannot be removed: %s; see dmesg",
                              t->name, uuid, g_strerror(-ret));
    *work->function.mdev = '\0';
    return 0;
}

static int make_mdev(const struct gpup_target *t, struct gpup_work *work,
                     const struct gpup_vgpu_type *type, struct gpup_error **err)
{
    g_autofree char *dir = vf_dir(t, work->function.address);
    g_autofree char *file = g_strdup_printf("mdev_supported_types/nvidia-%u/create", type->id);
    int ret = gpup_sysfs_write(dir, file, work->adapter);

    if (ret == -EEXIST) { /* left of another time, and on whichever VF */
        ret = release_mdev(t, work, err);
        if (ret < 0)
            return ret;
        ret = gpup_sysfs_write(dir, file, work->adapter);
    }
    return ret < 0 ? explain_type(t, work->function.address, type->name, -ret, err) : 0;
}

static int prepare_mdev(const struct gpup_target *t, struct gpup_work *work, uint64_t bytes,
                        struct gpup_error **err)
{
    g_autoptr(GArray) types = types_of_vf(t, work->function.address);
    const struct gpup_vgpu_type *type = gpup_vgpu_for_size(types, class_of(t), bytes);
    int ret;

    if (!g_uuid_string_is_valid(work->adapter))
        return gpup_error_set(err, EINVAL, "'%s' is no UUID", work->adapter);
    if (!type || (!is_mixed(t) && type->framebuffer != bytes))
        return no_type(t, types, bytes, work->slot, err);
    ret = make_mdev(t, work, type, err);
    if (ret < 0)
        return ret;
    g_strlcpy(work->function.mdev, work->adapter, sizeof(work->function.mdev));
    work->function.vram = type->framebuffer;
    return 0;
}

/* What each gets where all are alike. */
static uint64_t equal_size(const struct gpup_target *t, unsigned n)
{
    uint64_t memory;
    g_autoptr(GArray) types = types_of_gpu(t, &memory);
    const struct gpup_vgpu_type *type = gpup_vgpu_for_count(types, class_of(t), memory, n);

    return type ? type->framebuffer : 0;
}

static int nvidia_prepare(const struct gpup_target *t, struct gpup_work *work,
                          struct gpup_error **err)
{
    uint64_t bytes = is_mixed(t) ? work->grant.share[GPUP_VRAM].min : equal_size(t, work->n_slots);
    int ret = gpup_sriov_prepare_function(t, work, NULL, err);

    if (ret == 0 && !has_vgpus(t)) /* the first, or the driver was loaded anew since */
        ret = set_up(t, err);
    if (ret < 0)
        return ret;
    if (is_mdev(t))
        return prepare_mdev(t, work, bytes, err);
    /* it is there, unless the driver was loaded anew since */
    if (current_type(t, work->function.address) == 0)
        ret = make_vgpu(t, work->function.address, work->slot, bytes, &work->function.vram, err);
    return ret;
}

/* A vGPU that is made anew has nothing of the last VM in it. */
static int nvidia_release(const struct gpup_target *t, struct gpup_work *work,
                          struct gpup_error **err)
{
    int ret;

    if (is_mdev(t))
        return release_mdev(t, work, err);
    ret = gpup_sriov_check_function_closed(t, work, err);
    if (ret == 0 && current_type(t, work->function.address) != 0)
        ret = set_type(t, work->function.address, 0, NULL, err);
    if (ret == 0 && !is_mixed(t))
        ret = make_vgpu(t, work->function.address, work->slot, equal_size(t, work->n_slots),
                        &work->function.vram, err);
    return ret;
}

const struct gpup_provider gpup_provider_nvidia = {
    .name = "nvidia",
    .kind = GPUP_KIND_SRIOV,
    .claims = nvidia_claims,
    .describe = nvidia_describe,
    .create = nvidia_create,
    .destroy = nvidia_destroy,
    .prepare = nvidia_prepare,
    .release = nvidia_release,
};
