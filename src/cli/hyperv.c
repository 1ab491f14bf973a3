/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/hyperv.h"

#include "cli/cli.h"
#include "cli/powershell.h"
#include "core/adapter.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum index {
    VM_NAME, /* or NAME: what may come without its parameter's name */
    NAME = VM_NAME,
    VM,
    COUNT,
    INSTANCE_PATH,
    ADAPTER_ID,
    AMOUNTS,
    AMOUNTS_END = AMOUNTS + HYPERV_BOUNDS * GPUP_RESOURCES,
    PASSTHRU = AMOUNTS_END,
    WHAT_IF,
    CONFIRM,
    REFUSED,
    REFUSED_END = REFUSED + 5,
};

enum bound {
    MINIMUM,
    MAXIMUM,
    OPTIMAL
};

#define AMOUNTS_OF(resource)                                                                       \
    {"MinPartition" resource}, {"MaxPartition" resource},                                          \
    {                                                                                              \
        "OptimalPartition" resource                                                                \
    }
#define ELSEWHERE "gpup works on its own host: run it there"

/* By enum index. */
static const struct ps_parameter all[REFUSED_END + 1] = {
    {"VMName"},
    {"VM"},
    {"PartitionCount"},
    {"InstancePath"},
    {"AdapterId"},
    AMOUNTS_OF("VRAM"),
    AMOUNTS_OF("Compute"),
    AMOUNTS_OF("Encode"),
    AMOUNTS_OF("Decode"),
    {"Passthru", true},
    {"WhatIf", true},
    {"Confirm", true},
    {"ComputerName", false, ELSEWHERE},
    {"CimSession", false, ELSEWHERE},
    {"Credential", false, ELSEWHERE},
    {"HostPartitionableGpu", false, "gpup has no objects: write -Name and the GPU's name"},
    {"VMGpuPartitionAdapter", false, "gpup has no objects: write -VMName and the VM's name"},
    {0},
};

struct call;

struct cmdlet {
    struct cli_command command;
    int (*act)(struct call *call, const struct cli_args *args); /* gpupd's state is loaded */
    bool is_about_gpus, has_amounts, changes, adds;
};

struct call {
    const struct cmdlet *cmdlet;
    struct ps_parameter parameters[REFUSED_END + 1];
    struct cli_bus bus;
};

static const char *value(const struct call *call, enum index index)
{
    return call->parameters[index].value;
}

static void refuse_here(struct call *call, enum index index)
{
    call->parameters[index].refusal = "this cmdlet has no such parameter";
}

static void choose_parameters(struct call *call)
{
    const struct cmdlet *c = call->cmdlet;

    memcpy(call->parameters, all, sizeof(all));
    if (c->is_about_gpus) {
        call->parameters[NAME].name = "Name";
        refuse_here(call, VM);
        refuse_here(call, ADAPTER_ID);
    }
    if (!c->is_about_gpus || !c->changes)
        refuse_here(call, COUNT);
    for (enum index i = AMOUNTS; !c->has_amounts && i < AMOUNTS_END; i++)
        refuse_here(call, i);
    refuse_here(call, c->adds ? ADAPTER_ID : INSTANCE_PATH);
    for (enum index i = PASSTHRU; !c->changes && i <= CONFIRM; i++)
        refuse_here(call, i);
}

/* ---- what is done ---- */

/* CLI_GO_ON when it may be done. */
static int confirm(const struct call *call, const char *what)
{
    char answer[16];

    if (!ps_is_set(&call->parameters[CONFIRM]) || ps_is_set(&call->parameters[WHAT_IF]))
        return CLI_GO_ON;
    fprintf(stderr, "%s on %s? [Y/n] ", call->cmdlet->command.name, what);
    if (!fgets(answer, sizeof(answer), stdin))
        return cli_fail("nobody confirmed it: nothing was changed");
    g_strstrip(answer);
    if (*answer && g_ascii_strncasecmp(answer, "yes", strlen(answer)) != 0)
        return cli_fail("not confirmed: nothing was changed");
    return CLI_GO_ON;
}

static GVariant *options_of(const struct call *call)
{
    GVariantBuilder options;

    g_variant_builder_init(&options, G_VARIANT_TYPE_VARDICT);
    cli_option_bool(&options, "dry-run", ps_is_set(&call->parameters[WHAT_IF]));
    return g_variant_builder_end(&options);
}

static void print_lines(const struct call *call, char *const *lines)
{
    for (; lines && *lines; lines++) {
        g_autofree char *clean = cli_clean(*lines);

        printf("%s%s\n", ps_is_set(&call->parameters[WHAT_IF]) ? "What if: " : "", clean);
    }
}

/* Both lists are sorted by their names, and stay so when loaded again. */
static int reload(struct call *call)
{
    cli_bus_clear(&call->bus);
    return cli_bus_load(&call->bus);
}

/* ---- GPUs ---- */

static bool has_wildcard(const char *word)
{
    return strpbrk(word, "*?") != NULL;
}

static bool is_windows_path(const char *word)
{
    return g_str_has_prefix(word, "\\\\?\\") || g_ascii_strncasecmp(word, "PCI\\", 4) == 0 ||
           g_ascii_strncasecmp(word, "PCIP\\", 5) == 0;
}

static int windows_path(const char *parameter, const char *word)
{
    return cli_fail("%s: %s is a path of Windows: gpup gpu list shows this host's GPUs", parameter,
                    word);
}

/* GpupGPU, owned by the array; NULL after a message. Without a name: all. */
static GPtrArray *chosen_gpus(struct call *call, int *code)
{
    g_autoptr(GPtrArray) chosen = g_ptr_array_new_with_free_func(g_object_unref);
    const char *word = value(call, NAME);
    GpupGPU *gpu = NULL;

    if (word && is_windows_path(word)) {
        *code = windows_path("-Name", word);
        return NULL;
    }
    for (guint i = 0; (!word || has_wildcard(word)) && i < call->bus.gpus->len; i++) {
        gpu = call->bus.gpus->pdata[i];
        if (!word || ps_matches(word, cli_text(gpup_gpu_get_id(gpu))) ||
            ps_matches(word, cli_text(gpup_gpu_get_name(gpu))))
            g_ptr_array_add(chosen, g_object_ref(gpu));
    }
    if (word && !has_wildcard(word)) {
        *code = cli_bus_find_gpu(&call->bus, word, &gpu);
        if (*code != GPUP_EXIT_DONE)
            return NULL;
        g_ptr_array_add(chosen, g_object_ref(gpu));
    } else if (word && chosen->len == 0) {
        *code =
            cli_fail("no GPU is called like '%s': gpup gpu list shows the GPUs there are", word);
        return NULL;
    }
    return g_steal_pointer(&chosen);
}

static int get_gpus(struct call *call, const struct cli_args *args)
{
    int code = GPUP_EXIT_DONE;
    g_autoptr(GPtrArray) gpus = chosen_gpus(call, &code);

    for (guint i = 0; gpus && i < gpus->len; i++)
        hyperv_print_gpu(gpus->pdata[i]);
    return code;
}

static int set_gpu(struct call *call, GpupGPU *gpu, guint count)
{
    g_autoptr(GError) error = NULL;
    g_auto(GStrv) lines = NULL;
    int code = confirm(call, cli_text(gpup_gpu_get_short_id(gpu)));

    if (code != CLI_GO_ON)
        return code;
    if (!gpup_gpu_call_set_partition_count_sync(gpu, count, options_of(call), CLI_CALL_FLAGS,
                                                CLI_CALL_TIMEOUT, &lines, NULL, &error))
        return cli_bus_error(error, CLI_ACTION_PARTITION);
    print_lines(call, lines);
    return GPUP_EXIT_DONE;
}

static int set_gpus(struct call *call, const struct cli_args *args)
{
    g_autoptr(GPtrArray) gpus = NULL;
    guint64 count;
    int code = GPUP_EXIT_DONE;

    if (!value(call, NAME) || !value(call, COUNT))
        return cli_usage_error(args, "-Name and -PartitionCount are needed");
    if (!g_ascii_string_to_unsigned(value(call, COUNT), 10, 0, G_MAXUINT16, &count, NULL))
        return cli_usage_error(args, "-PartitionCount: '%s' is not a number of partitions",
                               value(call, COUNT));
    gpus = chosen_gpus(call, &code);
    for (guint i = 0; gpus && code == GPUP_EXIT_DONE && i < gpus->len; i++)
        code = set_gpu(call, gpus->pdata[i], (guint)count);
    if (code != GPUP_EXIT_DONE || !ps_is_set(&call->parameters[PASSTHRU]))
        return code;
    code = reload(call);
    return code == GPUP_EXIT_DONE ? get_gpus(call, args) : code;
}

/* ---- adapters ---- */

static bool has_id(const struct call *call, GpupVM *vm)
{
    struct cli_request request;

    cli_read_adapter(gpup_vm_get_adapter(vm), &request);
    return !value(call, ADAPTER_ID) || g_ascii_strcasecmp(request.id, value(call, ADAPTER_ID)) == 0;
}

static int add_vms(struct call *call, const char *word, GPtrArray *chosen)
{
    GpupVM *vm;
    guint before = chosen->len;
    int code;

    for (guint i = 0; i < call->bus.vms->len; i++) {
        vm = call->bus.vms->pdata[i];
        if (ps_matches(word, cli_text(gpup_vm_get_name(vm))))
            g_ptr_array_add(chosen, g_object_ref(vm));
    }
    if (has_wildcard(word) && chosen->len == before)
        return cli_fail("no VM is called like '%s': gpup vm list shows the VMs there are", word);
    if (has_wildcard(word) || chosen->len == before + 1)
        return GPUP_EXIT_DONE;
    g_ptr_array_set_size(chosen, (gint)before); /* two that differ by case, or a UUID */
    code = cli_bus_find_vm(&call->bus, word, &vm);
    if (code == GPUP_EXIT_DONE)
        g_ptr_array_add(chosen, g_object_ref(vm));
    return code;
}

/* GpupVM; NULL after a message. */
static GPtrArray *chosen_vms(struct call *call, const struct cli_args *args, int *code)
{
    g_autoptr(GPtrArray) chosen = g_ptr_array_new_with_free_func(g_object_unref);
    const char *word = value(call, VM_NAME) ? value(call, VM_NAME) : value(call, VM);
    g_auto(GStrv) words = word ? ps_list(word) : NULL;

    *code = GPUP_EXIT_DONE;
    if (!words || !*words) {
        *code = cli_usage_error(args, "which VM? -VMName NAME");
        return NULL;
    }
    for (char **w = words; *code == GPUP_EXIT_DONE && *w; w++)
        *code = add_vms(call, *w, chosen);
    return *code == GPUP_EXIT_DONE ? g_steal_pointer(&chosen) : NULL;
}

static int get_adapters(struct call *call, const struct cli_args *args)
{
    int code;
    g_autoptr(GPtrArray) vms = chosen_vms(call, args, &code);
    bool none = true;

    for (guint i = 0; vms && i < vms->len; i++) {
        if (!gpup_vm_get_has_adapter(vms->pdata[i]) || !has_id(call, vms->pdata[i]))
            continue;
        hyperv_print_adapter(&call->bus, vms->pdata[i]);
        none = false;
    }
    if (code == GPUP_EXIT_DONE && none && value(call, ADAPTER_ID))
        return cli_fail("none of these VMs has an adapter with the id %s", value(call, ADAPTER_ID));
    return code;
}

/* What was asked of each resource and is given now; has_* tells which was. */
static int read_amounts(const struct call *call, struct gpup_request given[GPUP_RESOURCES])
{
    int code = CLI_GO_ON;

    memset(given, 0, GPUP_RESOURCES * sizeof(given[0]));
    for (int r = 0; r < GPUP_RESOURCES; r++) {
        struct gpup_request *q = &given[r];
        bool *const has[HYPERV_BOUNDS] = {&q->has_min, &q->has_max, &q->has_optimal};
        uint64_t *const to[HYPERV_BOUNDS] = {&q->min, &q->max, &q->optimal};

        for (int b = 0; code == CLI_GO_ON && b < HYPERV_BOUNDS; b++) {
            const struct ps_parameter *p = &call->parameters[AMOUNTS + r * HYPERV_BOUNDS + b];

            *has[b] = p->value != NULL;
            if (p->value)
                code = hyperv_amount(p->name, (enum gpup_resource)r, p->value, to[b]);
        }
    }
    return code;
}

static void add_bound(GString *text, enum gpup_resource r, bool has, uint64_t number)
{
    if (has && r == GPUP_VRAM)
        g_string_append_printf(text, "%" G_GUINT64_FORMAT, number);
    else if (has)
        g_string_append_printf(text, "%u.%04u%%", (unsigned)(number / 10000),
                               (unsigned)(number % 10000));
}

/* As gpupd takes it: "MIN:OPTIMAL:MAX". What is not given stays as it is. NULL after a message. */
static char *merged(enum gpup_resource r, const struct gpup_request *old,
                    const struct gpup_request *given, int *code)
{
    GString *text = g_string_new(NULL);
    struct gpup_request check;
    GPUP_AUTO_ERROR err = NULL;

    add_bound(text, r, given->has_min || old->has_min, given->has_min ? given->min : old->min);
    g_string_append_c(text, ':');
    add_bound(text, r, given->has_optimal || old->has_optimal,
              given->has_optimal ? given->optimal : old->optimal);
    g_string_append_c(text, ':');
    add_bound(text, r, given->has_max || old->has_max, given->has_max ? given->max : old->max);
    if (gpup_request_parse(r, text->str, &check, &err) == 0)
        return g_string_free(text, FALSE);
    g_string_free(text, TRUE);
    *code = cli_error(err);
    return NULL;
}

static int add_requests(GVariantBuilder *adapter, const struct cli_request *old,
                        const struct gpup_request given[GPUP_RESOURCES])
{
    int code = CLI_GO_ON;

    for (int i = 0; code == CLI_GO_ON && i < GPUP_RESOURCES; i++) {
        enum gpup_resource r = (enum gpup_resource)i;
        g_autofree char *text = NULL;

        if (!given[r].has_min && !given[r].has_max && !given[r].has_optimal)
            continue;
        text = merged(r, &old->request[r], &given[r], &code);
        if (text)
            g_variant_builder_add(adapter, "{sv}", gpup_resource_name(r),
                                  g_variant_new_string(text));
    }
    return code;
}

/* The pin, where one is given. */
static int add_pin(struct call *call, GVariantBuilder *adapter)
{
    const char *path = value(call, INSTANCE_PATH);
    GpupGPU *gpu = NULL;
    int code;

    if (!path)
        return CLI_GO_ON;
    if (is_windows_path(path))
        return windows_path("-InstancePath", path);
    code = cli_bus_find_gpu(&call->bus, path, &gpu);
    if (code != GPUP_EXIT_DONE)
        return code;
    g_variant_builder_add(adapter, "{sv}", "gpu", g_variant_new_string(gpup_gpu_get_id(gpu)));
    return CLI_GO_ON;
}

static int change_one(struct call *call, GpupVM *vm,
                      const struct gpup_request given[GPUP_RESOURCES])
{
    g_autoptr(GError) error = NULL;
    g_auto(GStrv) lines = NULL;
    g_auto(GVariantBuilder) adapter = G_VARIANT_BUILDER_INIT(G_VARIANT_TYPE_VARDICT);
    struct cli_request old = {0};
    const char *name = cli_text(gpup_vm_get_name(vm));
    int code = add_pin(call, &adapter);

    if (gpup_vm_get_has_adapter(vm))
        cli_read_adapter(gpup_vm_get_adapter(vm), &old);
    if (code == CLI_GO_ON)
        code = add_requests(&adapter, &old, given);
    if (code == CLI_GO_ON)
        code = confirm(call, name);
    if (code != CLI_GO_ON)
        return code;
    if (!gpup_manager_call_assign_sync(call->bus.manager, name, g_variant_builder_end(&adapter),
                                       options_of(call), CLI_CALL_FLAGS, CLI_CALL_TIMEOUT, &lines,
                                       NULL, &error))
        return cli_bus_error(error, CLI_ACTION_ADAPTER);
    print_lines(call, lines);
    return GPUP_EXIT_DONE;
}

static int remove_one(struct call *call, GpupVM *vm)
{
    g_autoptr(GError) error = NULL;
    g_auto(GStrv) lines = NULL;
    const char *name = cli_text(gpup_vm_get_name(vm));
    int code = confirm(call, name);

    if (code != CLI_GO_ON)
        return code;
    if (!gpup_manager_call_unassign_sync(call->bus.manager, name, options_of(call), CLI_CALL_FLAGS,
                                         CLI_CALL_TIMEOUT, &lines, NULL, &error))
        return cli_bus_error(error, CLI_ACTION_ADAPTER);
    print_lines(call, lines);
    if (ps_is_set(&call->parameters[PASSTHRU])) /* as it was loaded: what was removed */
        hyperv_print_adapter(&call->bus, vm);
    return GPUP_EXIT_DONE;
}

/* An adapter where there is to be one, none where there is to be none: before any is changed. */
static int check_vms(const struct call *call, const GPtrArray *vms, bool wants_one)
{
    for (guint i = 0; i < vms->len; i++) {
        GpupVM *vm = vms->pdata[i];
        const char *name = cli_text(gpup_vm_get_name(vm));

        if (!wants_one && gpup_vm_get_has_adapter(vm))
            return cli_fail("%s has an adapter already: Set-VMGpuPartitionAdapter changes it",
                            name);
        if (wants_one && !gpup_vm_get_has_adapter(vm))
            return cli_fail("%s has no adapter: Add-VMGpuPartitionAdapter gives it one", name);
        if (wants_one && !has_id(call, vm))
            return cli_fail("%s has no adapter with the id %s", name, value(call, ADAPTER_ID));
    }
    return GPUP_EXIT_DONE;
}

static int change_adapters(struct call *call, const struct cli_args *args, bool wants_one,
                           bool removes)
{
    struct gpup_request given[GPUP_RESOURCES];
    int code;
    g_autoptr(GPtrArray) vms = chosen_vms(call, args, &code);

    if (code == GPUP_EXIT_DONE)
        code = check_vms(call, vms, wants_one);
    if (code != GPUP_EXIT_DONE)
        return code;
    code = read_amounts(call, given);
    if (code != CLI_GO_ON)
        return code;
    code = GPUP_EXIT_DONE;
    for (guint i = 0; code == GPUP_EXIT_DONE && i < vms->len; i++)
        code = removes ? remove_one(call, vms->pdata[i]) : change_one(call, vms->pdata[i], given);
    if (code != GPUP_EXIT_DONE || removes || !ps_is_set(&call->parameters[PASSTHRU]))
        return code;
    code = reload(call);
    return code == GPUP_EXIT_DONE ? get_adapters(call, args) : code;
}

static int add_adapters(struct call *call, const struct cli_args *args)
{
    return change_adapters(call, args, false, false);
}

static int set_adapters(struct call *call, const struct cli_args *args)
{
    return change_adapters(call, args, true, false);
}

static int remove_adapters(struct call *call, const struct cli_args *args)
{
    return change_adapters(call, args, true, true);
}

/* ---- the table ---- */

static int run(struct cli_args *args);

static const struct cmdlet cmdlets[] = {
    {.command = {"Get-VMHostPartitionableGpu", "", "Lists the GPUs: gpup gpu list.", run},
     .act = get_gpus,
     .is_about_gpus = true},
    {.command = {"Set-VMHostPartitionableGpu", "",
                 "Cuts a GPU into partitions: gpup gpu partition.", run},
     .act = set_gpus,
     .is_about_gpus = true,
     .changes = true},
    {.command = {"Add-VMGpuPartitionAdapter", "", "Gives VMs an adapter: gpup assign.", run},
     .act = add_adapters,
     .has_amounts = true,
     .changes = true,
     .adds = true},
    {.command = {"Set-VMGpuPartitionAdapter", "",
                 "Changes what VMs' adapters ask for: gpup assign.", run},
     .act = set_adapters,
     .has_amounts = true,
     .changes = true},
    {.command = {"Get-VMGpuPartitionAdapter", "", "Shows VMs' adapters: gpup vm show.", run},
     .act = get_adapters},
    {.command = {"Remove-VMGpuPartitionAdapter", "", "Takes VMs' adapters away: gpup unassign.",
                 run},
     .act = remove_adapters,
     .changes = true},
};

static int run(struct cli_args *args)
{
    /* the command is its cmdlet's first member: no other is run here */
    struct call call = {.cmdlet = (const struct cmdlet *)args->command};
    int code;

    choose_parameters(&call);
    code = ps_parse(args, call.parameters);
    if (code == CLI_GO_ON) {
        code = cli_bus_load(&call.bus);
        if (code == GPUP_EXIT_DONE)
            code = call.cmdlet->act(&call, args);
    }
    ps_clear(call.parameters);
    cli_bus_clear(&call.bus);
    return code;
}

const struct cli_command *cli_cmdlet(const char *word)
{
    g_autofree char *plain = ps_plain_dashes(word);

    for (size_t i = 0; i < G_N_ELEMENTS(cmdlets); i++) {
        if (g_ascii_strcasecmp(plain, cmdlets[i].command.name) == 0)
            return &cmdlets[i].command;
    }
    return NULL;
}

void cli_cmdlet_names(GPtrArray *names)
{
    for (size_t i = 0; i < G_N_ELEMENTS(cmdlets); i++)
        g_ptr_array_add(names, (gpointer)cmdlets[i].command.name);
}
