/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_VM_MANAGER_H
#define GPUP_VM_MANAGER_H

#include "core/model.h"
#include "vm/device.h"

#include <glib.h>

struct gpup_error;

/*
 * Whatever defines and runs VMs on this host. libvirt is the first (libvirt.c). All calls may block
 * (a hook of the same VM may be running) and are made from worker threads, never from the thread
 * that answers hooks; they are safe to make from several threads at once.
 */
struct gpup_manager;

struct gpup_vm {
    char *name;
    char *uuid;
    char *state; /* "running", "shut off", "paused", ... */
    bool active;
    int id;                          /* of this run, while it is active */
    struct gpup_adapter *adapter;    /* NULL: none */
    char address[GPUP_ADDRESS_SIZE]; /* what its adapter's <hostdev> names now, or "" */
    char **others;                   /* PCI functions that its user gave it by <hostdev> */
    char *system;                    /* the guest's by libosinfo, or NULL */
    char *problem;                   /* why its adapter cannot be read, or NULL */
    gint64 asked; /* for who keeps a list: when libvirt was asked for it (monotonic, us) */
};

void gpup_vm_free(struct gpup_vm *vm);
typedef struct gpup_vm gpup_vm; /* for g_autoptr */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(gpup_vm, gpup_vm_free)

enum gpup_vm_event {
    GPUP_VM_CHANGED,        /* defined, started, stopped, its adapter or state changed; a transient
                               VM that ends says no more than this */
    GPUP_VM_GONE,           /* undefined */
    GPUP_MANAGER_CONNECTED, /* (again): list everything anew; uuid is NULL */
    GPUP_MANAGER_LOST,      /* (or never there) uuid is NULL; text says why, again if it changes */
};

/* Called in the main context that was the default when the manager was made. */
typedef void (*gpup_manager_func)(enum gpup_vm_event event, const char *uuid, const char *text,
                                  void *data);

/*
 * Starts a thread that connects to `uri` (NULL: qemu:///system), keeps trying with a growing pause
 * (to 5 s) and reports through func. Never fails for want of a running libvirtd. Freed in the
 * thread whose main context it reports to, when no call is under way; after that func is not called
 * any more.
 */
struct gpup_manager *gpup_manager_new(const char *uri, gpup_manager_func func, void *data);
void gpup_manager_free(struct gpup_manager *manager);
/* Returns at once: calls that wait for a guest give up, and all new ones fail (-ECANCELED). */
void gpup_manager_end(struct gpup_manager *manager);
/* Its thread and its connection have ended (the main context wakes up when they do), so that
 * freeing it does not wait for libvirt. */
bool gpup_manager_has_ended(struct gpup_manager *manager);
typedef struct gpup_manager gpup_manager; /* for g_autoptr */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(gpup_manager, gpup_manager_free)

/* All VMs, sorted by name (struct gpup_vm *). -ENOTCONN with the reason while not connected. */
int gpup_manager_list(struct gpup_manager *manager, GPtrArray **vms, struct gpup_error **err);
/* One VM by name or UUID. -ENOENT lists what there is. */
int gpup_manager_get(struct gpup_manager *manager, const char *vm, struct gpup_vm **out,
                     struct gpup_error **err);

/* What a running guest tells of itself. */
struct gpup_guest {
    char *system;         /* "Windows 11 Enterprise", or NULL */
    char *kernel;         /* its release, or NULL */
    bool tells_drivers;   /* its agent does (Windows) */
    char *driver;         /* of its device of that vendor, or NULL: none */
    char *driver_version; /* or NULL */
};

void gpup_guest_clear(struct gpup_guest *guest);

/*
 * Asks the guest agent of a VM; a few seconds at most. vendor: PCI, of the GPU that it has. No
 * command is run in the guest. -EOPNOTSUPP: no agent answers, or none is set up.
 */
int gpup_manager_guest(struct gpup_manager *manager, const char *vm, unsigned vendor,
                       struct gpup_guest *guest, struct gpup_error **err);

/* The definition that a VM runs with (to be freed with g_free), or NULL when it does not run. */
char *gpup_manager_live_xml(struct gpup_manager *manager, const char *vm, struct gpup_error **err);

#define GPUP_ASSIGN_DRY_RUN 1u
#define GPUP_ASSIGN_FORCE   2u /* a Windows guest on a virtio partition */
#define GPUP_ASSIGN_LIVE    4u /* the caller changes what runs too: no word of the next start */

/*
 * Writes the adapter into the VM's persistent definition and adds its device, or changes the
 * values of the one it has (the kind of an existing adapter cannot change: -EINVAL). device: the
 * host's, for any kind but virtio, else NULL; one that the VM has stays. `lines`: what was (would
 * be) done, one line each, owned by the caller.
 */
int gpup_manager_assign(struct gpup_manager *manager, const char *vm,
                        const struct gpup_adapter *adapter, const struct gpup_device *device,
                        unsigned flags, GStrv *lines, struct gpup_error **err);
/* Removes exactly what assign added. -ENOENT when the VM has no adapter. */
int gpup_manager_unassign(struct gpup_manager *manager, const char *vm, unsigned flags,
                          GStrv *lines, struct gpup_error **err);

/* Makes the adapter's <hostdev> name this device from the VM's next start on. */
int gpup_manager_move(struct gpup_manager *manager, const char *vm,
                      const struct gpup_device *device, struct gpup_error **err);

/* device: what its adapter gets for this start only, whatever the definition says; or NULL. */
int gpup_manager_start(struct gpup_manager *manager, const char *vm,
                       const struct gpup_device *device, struct gpup_error **err);
/* power_off: pull the plug; else ask the guest and wait up to timeout_s; -ETIMEDOUT says so. */
int gpup_manager_stop(struct gpup_manager *manager, const char *vm, bool power_off,
                      unsigned timeout_s, struct gpup_error **err);

#endif
