/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/bus.h"
#include "cli/cli.h"
#include "core/adapter.h"

/* What to ask for, as typed. Options that are no words stay as the shell gave them: their names
 * need no conversion from the locale, hence G_OPTION_ARG_FILENAME. */
struct options {
    char *request[GPUP_RESOURCES];
    char *gpu, *kind, *display;
    gboolean force;
};

/* When it takes effect, of both commands. */
struct effect {
    gboolean live, restart, dry_run;
    char *timeout;
    guint32 seconds;
};

#define OPTION_RESTART(e)                                                                          \
    {                                                                                              \
        "restart", 0, 0, G_OPTION_ARG_NONE, &(e).restart,                                          \
            "If it runs, shut it down and start it again", NULL                                    \
    }
#define OPTION_TIMEOUT(e)                                                                          \
    {                                                                                              \
        "timeout", 0, 0, G_OPTION_ARG_FILENAME, &(e).timeout,                                      \
            "How long that waits for the guest (default: 60)", "SECONDS"                           \
    }

static int check_effect(const struct cli_args *args, struct effect *e)
{
    if (e->live && e->restart)
        return cli_usage_error(args, "--live changes it while it runs: without --restart");
    if (e->timeout && !e->restart)
        return cli_usage_error(args, "--timeout goes with --restart");
    return cli_parse_seconds(args, e->timeout, &e->seconds);
}

static GVariant *effect_options(const struct effect *e, gboolean force)
{
    GVariantBuilder options;

    g_variant_builder_init(&options, G_VARIANT_TYPE_VARDICT);
    cli_option_bool(&options, "dry-run", e->dry_run);
    cli_option_bool(&options, "force", force);
    cli_option_bool(&options, "live", e->live);
    cli_option_bool(&options, "restart", e->restart);
    cli_option_number(&options, "timeout", e->seconds);
    return g_variant_builder_end(&options);
}

static void clear_options(struct options *o)
{
    for (int r = 0; r < GPUP_RESOURCES; r++)
        g_free(o->request[r]);
    g_free(o->gpu);
    g_free(o->kind);
    g_free(o->display);
}

/* Wrong values are refused here: nobody needs to run for that. CLI_GO_ON when there are none. */
static int check_options(const struct cli_args *args, const struct options *o)
{
    struct gpup_request request;
    enum gpup_kind kind;
    enum gpup_display display;

    for (int r = 0; r < GPUP_RESOURCES; r++) {
        GPUP_AUTO_ERROR err = NULL;

        if (o->request[r] &&
            gpup_request_parse((enum gpup_resource)r, o->request[r], &request, &err) < 0)
            return cli_error(err);
    }
    if (o->kind && gpup_kind_from_name(o->kind, &kind) < 0)
        return cli_usage_error(
            args, "'%s' is not a kind of partition: virtio, sriov or passthrough", o->kind);
    if (o->display && gpup_display_from_name(o->display, &display) < 0)
        return cli_usage_error(args, "'%s' is not a display: off, pixels or dmabuf", o->display);
    return CLI_GO_ON;
}

static void add_text(GVariantBuilder *builder, const char *name, const char *value)
{
    if (value)
        g_variant_builder_add(builder, "{sv}", name, g_variant_new_string(value));
}

static int assign(const struct cli_bus *bus, const char *vm, const struct options *o,
                  const struct effect *e, const char *gpu)
{
    g_autoptr(GError) error = NULL;
    g_auto(GStrv) lines = NULL;
    GVariantBuilder adapter;
    gboolean done;

    g_variant_builder_init(&adapter, G_VARIANT_TYPE_VARDICT);
    add_text(&adapter, "kind", o->kind);
    add_text(&adapter, "gpu", gpu);
    add_text(&adapter, "display", o->display);
    for (int r = 0; r < GPUP_RESOURCES; r++)
        add_text(&adapter, gpup_resource_name((enum gpup_resource)r), o->request[r]);
    done = gpup_manager_call_assign_sync(bus->manager, vm, g_variant_builder_end(&adapter),
                                         effect_options(e, o->force), CLI_CALL_FLAGS,
                                         CLI_CALL_TIMEOUT, &lines, NULL, &error);
    return cli_bus_outcome(done, lines, e->dry_run, error, CLI_ACTION_ADAPTER);
}

static int run(struct cli_args *args, const struct options *o, struct effect *e)
{
    g_auto(cli_bus) bus = {0};
    const char *id = o->gpu; /* "" removes the pin */
    int code = check_options(args, o);

    if (code == CLI_GO_ON)
        code = check_effect(args, e);
    if (code == CLI_GO_ON)
        code = cli_bus_load(&bus);
    if (code != GPUP_EXIT_DONE)
        return code;
    if (o->gpu && *o->gpu) {
        GpupGPU *gpu = NULL;

        code = cli_bus_find_gpu(&bus, o->gpu, &gpu);
        if (code != GPUP_EXIT_DONE)
            return code;
        id = gpup_gpu_get_id(gpu);
    }
    return assign(&bus, args->argv[1], o, e, id);
}

int cli_assign(struct cli_args *args)
{
    struct options o = {0};
    struct effect e = {0};
    const GOptionEntry entries[] = {
        {"vram", 0, 0, G_OPTION_ARG_FILENAME, &o.request[GPUP_VRAM],
         "GPU memory, such as 512M or 256M:512M:1G", "MIN:OPTIMAL:MAX"},
        {"compute", 0, 0, G_OPTION_ARG_FILENAME, &o.request[GPUP_COMPUTE],
         "GPU time, such as 25% or 10%:25%:50%", "MIN:OPTIMAL:MAX"},
        {"encode", 0, 0, G_OPTION_ARG_FILENAME, &o.request[GPUP_ENCODE],
         "Time of the video encoder", "MIN:OPTIMAL:MAX"},
        {"decode", 0, 0, G_OPTION_ARG_FILENAME, &o.request[GPUP_DECODE],
         "Time of the video decoder", "MIN:OPTIMAL:MAX"},
        {"gpu", 0, 0, G_OPTION_ARG_FILENAME, &o.gpu, "Only on this GPU ('': on any)", "GPU"},
        {"kind", 0, 0, G_OPTION_ARG_FILENAME, &o.kind, "virtio, sriov or passthrough", "KIND"},
        {"display", 0, 0, G_OPTION_ARG_FILENAME, &o.display, "off, pixels or dmabuf", "HOW"},
        {"force", 0, 0, G_OPTION_ARG_NONE, &o.force, "Also a Windows guest where it has no 3D",
         NULL},
        {"live", 0, 0, G_OPTION_ARG_NONE, &e.live, "If it runs, change what it has now as well",
         NULL},
        OPTION_RESTART(e),
        OPTION_TIMEOUT(e),
        CLI_OPTION_DRY_RUN(&e.dry_run),
        {0},
    };
    int code = cli_parse(args, entries, 1, 1);

    if (code == CLI_GO_ON)
        code = run(args, &o, &e);
    clear_options(&o);
    g_free(e.timeout);
    return code;
}

static int unassign(const char *vm, const struct effect *e)
{
    g_auto(cli_bus) bus = {0};
    g_autoptr(GError) error = NULL;
    g_auto(GStrv) lines = NULL;
    gboolean done;
    int code = cli_bus_connect(&bus);

    if (code != GPUP_EXIT_DONE)
        return code;
    done = gpup_manager_call_unassign_sync(bus.manager, vm, effect_options(e, FALSE),
                                           CLI_CALL_FLAGS, CLI_CALL_TIMEOUT, &lines, NULL, &error);
    return cli_bus_outcome(done, lines, e->dry_run, error, CLI_ACTION_ADAPTER);
}

int cli_unassign(struct cli_args *args)
{
    struct effect e = {0};
    const GOptionEntry entries[] = {
        OPTION_RESTART(e),
        OPTION_TIMEOUT(e),
        CLI_OPTION_DRY_RUN(&e.dry_run),
        {0},
    };
    int code = cli_parse(args, entries, 1, 1);

    if (code == CLI_GO_ON)
        code = check_effect(args, &e);
    if (code == CLI_GO_ON)
        code = unassign(args->argv[1], &e);
    g_free(e.timeout);
    return code;
}
