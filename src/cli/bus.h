/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_CLI_BUS_H
#define GPUP_CLI_BUS_H

#include "gpup-dbus.h"

/* gpupd as it was when the command began: nothing here changes while the command runs. */
struct cli_bus {
    GpupManager *manager;
    GPtrArray *gpus;       /* GpupGPU, by id */
    GPtrArray *partitions; /* GpupPartition, by GPU and index */
    GPtrArray *vms;        /* GpupVM, by name */
};

/* Exit codes, like all that says itself what went wrong. connect: the manager only. */
int cli_bus_connect(struct cli_bus *bus);
int cli_bus_load(struct cli_bus *bus);
void cli_bus_clear(struct cli_bus *bus);

typedef struct cli_bus cli_bus; /* for g_auto */
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(cli_bus, cli_bus_clear)

/* Borrowed from the bus. */
int cli_bus_find_gpu(const struct cli_bus *bus, const char *word, GpupGPU **gpu);
int cli_bus_find_vm(const struct cli_bus *bus, const char *word, GpupVM **vm);
/* The GPU with this id, short id or key, or NULL. */
GpupGPU *cli_bus_gpu(const struct cli_bus *bus, const char *id);
/* The partition that is written "GPU/index", or NULL. */
GpupPartition *cli_bus_partition(const struct cli_bus *bus, const char *name);
/* Live figures of a partition in use; NULL where there are none (or no partition): a VM may end at
 * any time, so that is no failure. */
GVariant *cli_partition_usage(GpupPartition *partition);
gboolean cli_partition_is_of(GpupPartition *partition, GpupGPU *gpu);
/* "03:00.0/2" for "0000:03:00.0/2"; "" stays "". */
char *cli_partition_short_name(const struct cli_bus *bus, const char *name);

/* What this host does not offer and what is wrong with libvirt, as notes. */
void cli_bus_notes(const struct cli_bus *bus);

/* For a{sv} of options: adds `name` when it is set (a number: when it is not 0). */
void cli_option_bool(GVariantBuilder *options, const char *name, gboolean value);
void cli_option_number(GVariantBuilder *options, const char *name, guint32 value);
/* Prints what a method that changes something said, or why it failed. Its exit code. action: as for
 * cli_bus_error(). */
int cli_bus_outcome(gboolean done, char *const *lines, gboolean dry_run, const GError *error,
                    const char *action);

/* The polkit actions that methods need. */
#define CLI_ACTION_ADAPTER   "org.gpup1.adapter"
#define CLI_ACTION_PARTITION "org.gpup1.partition"
#define CLI_ACTION_START     "org.gpup1.start"

/* How methods that change something are called: they may ask for a password and take long. */
#define CLI_CALL_FLAGS   G_DBUS_CALL_FLAGS_ALLOW_INTERACTIVE_AUTHORIZATION
#define CLI_CALL_TIMEOUT G_MAXINT
/* How methods that read are called. */
#define CLI_READ_FLAGS   G_DBUS_CALL_FLAGS_NO_AUTO_START
#define CLI_READ_TIMEOUT (-1)

#endif
