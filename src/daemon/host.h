/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_DAEMON_HOST_H
#define GPUP_DAEMON_HOST_H

#include "core/resolve.h"
#include "daemon/claim.h"
#include "daemon/config.h"
#include "daemon/events.h"
#include "daemon/health.h"
#include "vm/device.h"

#include <glib.h>

struct gpup_change;
struct gpup_error;

/* The folders of one gpupd. */
struct gpup_folders {
    const char *state;       /* /var/lib/gpup */
    const char *run;         /* /run/gpup */
    const char *libvirt_run; /* /run/libvirt/qemu */
    const char *sysfs;       /* NULL: /sys */
    const char *dev;         /* NULL: /dev */
    const char *proc;        /* NULL: /proc */
    const char *gpu_helper;  /* program; NULL: as installed */
};

/*
 * This host's GPUs and who holds their partitions: the verbs, without D-Bus, libvirt or sockets.
 * Used by the main thread only; nothing here blocks but small files (gpup_host_new() waits for
 * the GPUs).
 */
struct gpup_host;

/* Something about GPUs, partitions or claims is different now. */
typedef void (*gpup_host_changed)(void *data);

/* Looks for GPUs, applies what is stored, takes up the reservations of this boot. The arguments
 * outlive the host. */
struct gpup_host *gpup_host_new(const struct gpup_config *config,
                                const struct gpup_folders *folders, gpup_host_changed changed,
                                void *data, struct gpup_error **err);
void gpup_host_free(struct gpup_host *host);
/* Something is being done to a GPU, by a thread that uses the host's folders and configuration. */
bool gpup_host_is_busy(struct gpup_host *host);

/* From now on tells what VMs got, gave back and were refused. Borrowed; either may be NULL. */
void gpup_host_record(struct gpup_host *host, struct gpup_events *events,
                      struct gpup_health *health);

/* What is said where a GPU was there a moment ago. */
#define GPUP_GPU_GONE "the GPU is not in this host any more: gpup rescan shows what is"

struct gpup_gpu *const *gpup_host_gpus(struct gpup_host *host, size_t *n);
/* By its stable key, and by where it is; NULL: it is not in this host. */
struct gpup_gpu *gpup_host_gpu_by_key(struct gpup_host *host, const char *key);
struct gpup_gpu *gpup_host_gpu_at(struct gpup_host *host, const char *id);
/* What an administrator has to know, one line each; owned by the host. */
GPtrArray *gpup_host_problems(struct gpup_host *host);
const struct gpup_config *gpup_host_config(struct gpup_host *host);
const char *gpup_host_sysfs(struct gpup_host *host);

/* Drops what is stored for a GPU that is not here any more. dry_run: says whether that could be
 * done. */
int gpup_host_forget(struct gpup_host *host, const char *key, bool dry_run,
                     struct gpup_error **err);
/* Looking again: gpup_change_run() in between, on any thread. */
struct gpup_change *gpup_host_begin_rescan(struct gpup_host *host);
/* In place of the end: `lines` get what it would change, and nothing is. */
void gpup_host_preview_rescan(struct gpup_host *host, struct gpup_change *change, GPtrArray *lines);
int gpup_host_end_rescan(struct gpup_host *host, struct gpup_change *change,
                         struct gpup_error **err);

/* Names of the VMs that hold a partition of the GPU (char *). */
GPtrArray *gpup_host_holders(struct gpup_host *host, const struct gpup_gpu *gpu);
/* "software: 4 partitions of 512 MiB, also after reboot"; the caller frees it. */
char *gpup_host_describe(const struct gpup_gpu *gpu, unsigned count);
/* `lines` (char *) get what was done, or with dry_run would be. */
int gpup_host_partition(struct gpup_host *host, struct gpup_gpu *gpu, unsigned count, bool dry_run,
                        GPtrArray *lines, struct gpup_error **err);
/* The same without blocking: gpup_change_run() in between, on any thread. key: the GPU's. */
struct gpup_change *gpup_host_begin_partition(struct gpup_host *host, struct gpup_gpu *gpu,
                                              unsigned count, struct gpup_error **err);
int gpup_host_end_partition(struct gpup_host *host, struct gpup_change *change, const char *key,
                            unsigned count, GPtrArray *lines, struct gpup_error **err);
/* A GPU given whole to VMs (bound to VFIO, also after a reboot), or back to the host: without
 * blocking, as above. */
struct gpup_change *gpup_host_begin_passthrough(struct gpup_host *host, struct gpup_gpu *gpu,
                                                bool on, struct gpup_error **err);
int gpup_host_end_passthrough(struct gpup_host *host, struct gpup_change *change, const char *key,
                              bool on, GPtrArray *lines, struct gpup_error **err);
/* What it would say or says of it. The caller's. */
char *gpup_host_describe_passthrough(const struct gpup_gpu *gpu, bool on);

/* How something ended: called once, perhaps before the call that began it returns; err is NULL or
 * borrowed. */
typedef void (*gpup_host_done)(const struct gpup_error *err, void *data);

/*
 * A VM is about to start: resolves its adapter, takes the partition and readies it, or refuses. XML
 * is the domain's. is_alive tells whether the adapter's device process is connected.
 */
void gpup_host_prepare(struct gpup_host *host, const char *xml, size_t length,
                       bool (*is_alive)(const char *adapter, void *data), void *alive_data,
                       gpup_host_done done, void *data);

/* How long a start waits for what another VM had, and how often whoever polls looks. The hook has
 * 20 s for all of it. */
#define GPUP_CLEARING_MS      8000
#define GPUP_CLEARING_LOOK_MS 100

/* Some partition that was given back is being cleared. */
bool gpup_host_is_clearing(struct gpup_host *host);

/*
 * Before a VM is started by us: takes a partition for its adapter and says which device of the host
 * that start gets. The VM's `prepare` finds it; nonce (37 bytes) is for taking it back.
 */
int gpup_host_reserve(struct gpup_host *host, const struct gpup_adapter *adapter, const char *vm,
                      const char *uuid, struct gpup_device *device, char *nonce,
                      struct gpup_error **err);
/* The start failed before `prepare`. Otherwise nothing. */
void gpup_host_unreserve(struct gpup_host *host, const char *adapter, const char *nonce);

/* QEMU of this VM runs. */
void gpup_host_started(struct gpup_host *host, const char *xml, size_t length);
/* libvirt came back and this VM runs: a claim that was lost is taken up again where possible. */
int gpup_host_reconnect(struct gpup_host *host, const char *xml, size_t length,
                        struct gpup_error **err);
/* Whether a VM that runs has a partition among these functions, by hand, that is not claimed. */
bool gpup_host_misses(struct gpup_host *host, const char *uuid, char *const *others);
/* The VM has ended. adapter_out (37 bytes) gets the adapter whose partition was freed, or "". */
void gpup_host_release(struct gpup_host *host, const char *xml, size_t length, char *adapter_out);
/*
 * Changes what a running VM holds to what `wanted` asks for, in the partition it has; `used` bytes
 * of its memory are in use. dry_run: says whether that could be done. *grant (may be NULL) gets the
 * new grant. -EINVAL: only a start can do that; -EBUSY, -ENOSPC: not now. On failure all is as it
 * was.
 */
int gpup_host_regrant(struct gpup_host *host, struct gpup_claim *claim,
                      const struct gpup_adapter *wanted, uint64_t used, bool dry_run,
                      struct gpup_grant *grant, struct gpup_error **err);
/* Frees what this adapter holds. */
void gpup_host_free_adapter(struct gpup_host *host, const char *adapter);

/* Tries again to clear partitions that could not be cleared, and to reach GPUs whose driver did not
 * answer. Now and then. */
void gpup_host_try_again(struct gpup_host *host);

/* A driver has taken this PCI function. If it is a GPU's that was loaded anew, what is stored of
 * the GPU is set again; if the GPU had none, as early at boot, GPUs are looked for again. */
void gpup_host_driver_bound(struct gpup_host *host, const char *address);

/* The claim of an adapter or of a VM (by UUID), borrowed, or NULL. */
struct gpup_claim *gpup_host_claim(struct gpup_host *host, const char *adapter);
struct gpup_claim *gpup_host_claim_of_vm(struct gpup_host *host, const char *uuid);
/* All VMs that run are known: nothing that is in use looks free. */
void gpup_host_is_sure(struct gpup_host *host);
/* When a partition was freed or a start refused last (monotonic, microseconds): its VM was ending.
 */
gint64 gpup_host_settled(struct gpup_host *host);
GHashTable *gpup_host_claims(struct gpup_host *host); /* adapter -> struct gpup_claim * */
/* The GPU that a claim is on; NULL when it is gone. */
struct gpup_gpu *gpup_host_gpu_of(struct gpup_host *host, const struct gpup_claim *claim);
/* "03:00.0/1" into buf. */
void gpup_host_partition_name(struct gpup_host *host, const struct gpup_claim *claim, char *buf,
                              size_t size);

#endif
