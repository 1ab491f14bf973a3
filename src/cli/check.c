/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gpu/check.h"

#include "cli/bus.h"
#include "cli/check_vms.h"
#include "cli/cli.h"
#include "cli/json.h"
#include "gpu/pci.h"

#include <stdio.h>
#include <string.h>

/* What this host has of what partitions need: from the system itself, then what gpupd adds. */

static void add(GPtrArray *findings, enum gpup_finding_level level, const char *id, const char *gpu,
                const char *fix, const char *text)
{
    g_ptr_array_add(findings, gpup_finding_new(level, id, gpu, fix, "%s", text));
}

/* What gpupd knows of a GPU: it asked the driver. */
static void add_gpu(GPtrArray *findings, GpupGPU *gpu)
{
    const char *const *notes = gpup_gpu_get_degraded(gpu);
    const char *mode = cli_text(gpup_gpu_get_mode(gpu));
    const char *id = gpup_gpu_get_id(gpu);
    bool broken = strcmp(mode, "unusable") == 0 || strcmp(mode, "wedged") == 0;

    if (broken)
        add(findings, GPUP_FINDING_FAIL, "gpu", id, NULL, cli_text(gpup_gpu_get_reason(gpu)));
    for (; notes && *notes; notes++)
        add(findings, GPUP_FINDING_WARN, "gpu", id, NULL, *notes);
}

static bool gpupd_runs(void)
{
    g_autoptr(GDBusConnection) connection = g_bus_get_sync(G_BUS_TYPE_SYSTEM, NULL, NULL);
    g_autoptr(GVariant) answer = NULL;
    gboolean owned = FALSE;

    if (connection)
        answer = g_dbus_connection_call_sync(
            connection, "org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus",
            "NameHasOwner", g_variant_new("(s)", "org.gpup1"), G_VARIANT_TYPE("(b)"),
            CLI_READ_FLAGS, CLI_READ_TIMEOUT, NULL, NULL);
    if (answer)
        g_variant_get(answer, "(b)", &owned);
    return owned;
}

static void add_vm(GPtrArray *findings, GpupVM *vm)
{
    const char *problem = cli_text(gpup_vm_get_problem(vm));

    if (gpup_vm_get_has_adapter(vm) && *problem) {
        g_autofree char *text = g_strdup_printf("%s: %s", cli_text(gpup_vm_get_name(vm)), problem);

        add(findings, GPUP_FINDING_WARN, "vm", NULL, NULL, text);
    }
}

static void add_libvirt(GPtrArray *findings, const char *why)
{
    g_autofree char *text = g_strdup_printf("libvirt cannot be reached: %s", why);

    add(findings, GPUP_FINDING_FAIL, "libvirt", NULL, "systemctl start libvirtd", text);
}

static void add_gpupd(GPtrArray *findings)
{
    g_auto(cli_bus) bus = {0};
    const char *const *lines;

    if (!gpupd_runs() || cli_bus_load(&bus) != GPUP_EXIT_DONE) {
        add(findings, GPUP_FINDING_FAIL, "gpupd", NULL, "systemctl enable --now gpupd",
            "gpupd does not run: VMs with a partition do not start");
        return;
    }
    add(findings, GPUP_FINDING_OK, "gpupd", NULL, NULL, "gpupd runs");
    if (!gpup_manager_get_libvirt_connected(bus.manager))
        add_libvirt(findings, cli_text(gpup_manager_get_libvirt_error(bus.manager)));
    lines = gpup_manager_get_degraded(bus.manager);
    for (; lines && *lines; lines++)
        add(findings, GPUP_FINDING_WARN, "gpupd", NULL, NULL, *lines);
    for (guint i = 0; i < bus.gpus->len; i++)
        add_gpu(findings, bus.gpus->pdata[i]);
    for (guint i = 0; i < bus.vms->len; i++)
        add_vm(findings, bus.vms->pdata[i]);
    cli_check_vms(&bus, findings);
}

static guint count(GPtrArray *findings, enum gpup_finding_level level)
{
    guint n = 0;

    for (guint i = 0; i < findings->len; i++)
        n += ((struct gpup_finding *)findings->pdata[i])->level == level;
    return n;
}

static void print_json(GPtrArray *findings)
{
    static const char *const levels[] = {"ok", "warning", "failure"};
    g_autoptr(JsonBuilder) json = cli_json_new();

    cli_json_number(json, "failures", count(findings, GPUP_FINDING_FAIL));
    cli_json_number(json, "warnings", count(findings, GPUP_FINDING_WARN));
    cli_json_array(json, "findings");
    for (guint i = 0; i < findings->len; i++) {
        const struct gpup_finding *f = findings->pdata[i];

        json_builder_begin_object(json);
        cli_json_string(json, "level", levels[f->level]);
        cli_json_string(json, "id", f->id);
        cli_json_string(json, "gpu", f->gpu);
        cli_json_string(json, "text", f->text);
        cli_json_string(json, "fix", f->fix);
        json_builder_end_object(json);
    }
    json_builder_end_array(json);
    cli_json_print(json);
}

static void print_finding(const struct gpup_finding *f)
{
    g_autofree char *text = cli_clean(f->text);
    g_autofree char *fix = f->fix ? cli_clean(f->fix) : NULL;

    printf("%-5s ", gpup_finding_level_name(f->level));
    if (f->gpu)
        printf("%s ", gpup_short_id(f->gpu));
    puts(text);
    if (fix)
        printf("      %s\n", fix);
}

/* What is in order goes into one line for the host and one for each GPU. */
static void print_ok(GPtrArray *findings, const char *gpu)
{
    const char *separator = "";

    for (guint i = 0; i < findings->len; i++) {
        const struct gpup_finding *f = findings->pdata[i];
        g_autofree char *text = cli_clean(f->text);

        if (f->level != GPUP_FINDING_OK || g_strcmp0(f->gpu, gpu) != 0)
            continue;
        if (!*separator)
            printf("ok    %s%s", gpu ? gpup_short_id(gpu) : "", gpu ? " " : "");
        printf("%s%s", separator, text);
        separator = ", ";
    }
    if (*separator)
        putchar('\n');
}

static void print_text(GPtrArray *findings)
{
    const char *last = NULL;
    guint failures = count(findings, GPUP_FINDING_FAIL);
    guint warnings = count(findings, GPUP_FINDING_WARN);

    print_ok(findings, NULL);
    for (guint i = 0; i < findings->len; i++) {
        const struct gpup_finding *f = findings->pdata[i];

        if (g_strcmp0(f->gpu, last) != 0 && f->gpu)
            print_ok(findings, f->gpu);
        last = f->gpu;
        if (f->level != GPUP_FINDING_OK)
            print_finding(f);
    }
    printf("%u failed, %u warning%s\n", failures, warnings, warnings == 1 ? "" : "s");
}

static gint compare(gconstpointer a, gconstpointer b)
{
    const struct gpup_finding *x = *(struct gpup_finding *const *)a;
    const struct gpup_finding *y = *(struct gpup_finding *const *)b;

    return g_strcmp0(x->gpu, y->gpu);
}

int cli_check(struct cli_args *args)
{
    gboolean as_json = FALSE;
    g_autofree char *root = NULL;
    g_autofree char *sysfs = NULL;
    g_autofree char *proc = NULL;
    g_autofree char *dev = NULL;
    g_autoptr(GPtrArray) findings = NULL;
    const GOptionEntry entries[] = {
        CLI_OPTION_JSON(&as_json),
        {"root", 0, 0, G_OPTION_ARG_FILENAME, &root,
         "Look at the system below this folder, without its gpupd", "DIR"},
        {0},
    };
    struct gpup_system system;
    int code = cli_parse(args, entries, 0, 0);

    if (code != CLI_GO_ON)
        return code;
    sysfs = g_build_filename(root ? root : "/", "sys", NULL);
    proc = g_build_filename(root ? root : "/", "proc", NULL);
    dev = g_build_filename(root ? root : "/", "dev", NULL);
    if (root && !g_file_test(sysfs, G_FILE_TEST_IS_DIR))
        return cli_usage_error(args, "%s: there is no such folder", sysfs);
    system = (struct gpup_system){.sysfs = sysfs, .proc = proc, .dev = dev};
    findings = gpup_check(&system);
    if (!root)
        add_gpupd(findings);
    g_ptr_array_sort(findings, compare);
    if (as_json)
        print_json(findings);
    else
        print_text(findings);
    return count(findings, GPUP_FINDING_FAIL) > 0 ? GPUP_EXIT_FAILED : GPUP_EXIT_DONE;
}
