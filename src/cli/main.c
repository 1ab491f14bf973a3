/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/cli.h"

#include <locale.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static const struct cli_command gpu_commands[] = {
    {"list", "", "Lists the GPUs of this host.", cli_gpu_list},
    {"show", "GPU", "Shows one GPU, its resources and its partitions.", cli_gpu_show},
    {"partition", "GPU N|--list", "Cuts a GPU into N partitions; 0 removes them.",
     cli_gpu_partition},
    {"passthrough", "GPU on|off", "Gives a GPU whole to VMs, or back to the host.",
     cli_gpu_passthrough},
    {0},
};

static const struct cli_command vm_commands[] = {
    {"list", "", "Lists the VMs: what they asked for and what they got.", cli_vm_list},
    {"show", "VM", "Shows one VM, its adapter and its partition.", cli_vm_show},
    {"start", "VM", "Starts a VM on a partition.", cli_vm_start},
    {"stop", "VM", "Asks a VM's guest to shut down and waits for it.", cli_vm_stop},
    {0},
};

static const struct cli_command commands[] = {
    {"status", "", "Shows the GPUs and what is wrong; the same as no command.", cli_status},
    {"check", "", "Says what this host lacks for GPU partitions, and what to change.", cli_check},
    {"gpu", NULL, "GPUs: list, show, partition, passthrough.", NULL, gpu_commands},
    {"assign", "VM", "Gives a VM a partition at each start, or changes what it asks for.",
     cli_assign},
    {"unassign", "VM", "Takes the partition from a VM again.", cli_unassign},
    {"vm", NULL, "VMs: list, show, start, stop.", NULL, vm_commands},
    {"explain", "VM", "Says where a VM would go, and why not elsewhere.", cli_explain},
    {"top", "", "Shows live what each VM gets of its GPU.", cli_top},
    {"events", "", "Says who changed what and when, and what went wrong.", cli_events},
    {"metrics", "", "Prints what is worth watching, as OpenMetrics for Prometheus.", cli_metrics},
    {"rescan", "", "Looks for GPUs again.", cli_rescan},
    {0},
};

static int help(const char *path, const struct cli_command *children)
{
    printf("Usage:\n  %s COMMAND [OPTION...]\n\nCommands:\n", path);
    for (const struct cli_command *c = children; c->name; c++)
        printf("  %-11s %s\n", c->name, c->summary);
    if (children == commands)
        printf("\nWithout a command: status. --version says which gpup this is.\n"
               "Hyper-V's cmdlets work too, such as gpup Get-VMHostPartitionableGpu.\n");
    printf("\n%s COMMAND --help says more about one; see also gpup(1).\n", path);
    return GPUP_EXIT_DONE;
}

static int unknown(const char *path, const struct cli_command *children, const char *word)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new();
    const char *nearest;

    for (const struct cli_command *c = children; c->name; c++)
        g_ptr_array_add(names, (gpointer)c->name);
    if (children == commands)
        cli_cmdlet_names(names);
    g_ptr_array_add(names, NULL);
    nearest = cli_nearest(word, (const char *const *)names->pdata);
    if (nearest)
        fprintf(stderr, "gpup: unknown command '%s': did you mean '%s %s'?\n", word, path, nearest);
    else
        fprintf(stderr, "gpup: unknown command '%s'; see %s --help\n", word, path);
    return GPUP_EXIT_USAGE;
}

static int incomplete(const char *path, const struct cli_command *children)
{
    fprintf(stderr, "gpup: after '%s' comes one of: ", path);
    for (const struct cli_command *c = children; c->name; c++)
        fprintf(stderr, "%s%s", c->name, c[1].name ? ", " : "\n");
    fprintf(stderr, "See %s --help\n", path);
    return GPUP_EXIT_USAGE;
}

static int run(const struct cli_command *command, const char *path, int argc, char **argv)
{
    struct cli_args args = {command, path, argc, argv};

    argv[0] = (char *)path;
    return command->run(&args);
}

static bool is_help(const char *word)
{
    return strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0;
}

/* argv[0] is the word that led here, argv[1] the next one. */
static int dispatch(const char *path, const struct cli_command *children, int argc, char **argv)
{
    const char *word = argc > 1 ? argv[1] : NULL;
    const struct cli_command *cmdlet = word && children == commands ? cli_cmdlet(word) : NULL;

    if (cmdlet) {
        g_autofree char *longer = g_strdup_printf("%s %s", path, cmdlet->name);

        return run(cmdlet, longer, argc - 1, argv + 1);
    }
    if (word && is_help(word))
        return help(path, children);
    if (!word)
        return incomplete(path, children);
    for (const struct cli_command *c = children; c->name; c++) {
        g_autofree char *longer = NULL;

        if (strcmp(c->name, word) != 0)
            continue;
        longer = g_strdup_printf("%s %s", path, word);
        if (c->children)
            return dispatch(longer, c->children, argc - 1, argv + 1);
        return run(c, longer, argc - 1, argv + 1);
    }
    return unknown(path, children, word);
}

static int top(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (!g_utf8_validate(argv[i], -1, NULL)) {
            fprintf(stderr, "gpup: argument %d is not UTF-8 text\n", i);
            return GPUP_EXIT_USAGE;
        }
    }
    if (argc > 1 && strcmp(argv[1], "--version") == 0) {
        printf("gpup %s\n", GPUP_VERSION);
        return GPUP_EXIT_DONE;
    }
    if (argc == 1 || (argv[1][0] == '-' && !is_help(argv[1])))
        return run(&commands[0], "gpup", argc, argv);
    return dispatch("gpup", commands, argc, argv);
}

int main(int argc, char **argv)
{
    int code;

    setlocale(LC_CTYPE, ""); /* the width of characters in tables; numbers stay as they are */
    code = top(argc, argv);
    if (fflush(stdout) == 0 && !ferror(stdout))
        return code;
    fprintf(stderr, "gpup: the output could not be written whole\n");
    return code == GPUP_EXIT_DONE ? GPUP_EXIT_FAILED : code;
}
