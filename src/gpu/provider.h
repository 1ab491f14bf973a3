/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_GPU_PROVIDER_H
#define GPUP_GPU_PROVIDER_H

#include "core/model.h"
#include "gpu/facts.h"
#include "gpu/pci.h"
#include "gpu/system.h"

struct gpup_error;

/* The GPU that an operation is about, in the helper process. */
struct gpup_target {
    const struct gpup_system *system;
    const struct gpup_pci *pci;
    const char *name;   /* for messages: "03:00.0" */
    uint64_t memory;    /* bytes, by gpup.conf; 0: not set */
    unsigned wanted;    /* partitions, by what is stored; 0: none */
    GVariant *settings; /* a{ss}: what else gpup.conf says about it, or NULL */
};

/* A slot that is readied for a VM, or cleared after it. */
struct gpup_work {
    unsigned slot;
    unsigned n_slots;
    const char *adapter; /* UUID; the mediated device's, where there is one */
    struct gpup_grant grant;
    struct gpup_function function; /* as known; an operation updates it */
};

/*
 * Knows one kind of GPU. Adding a vendor takes one file and one line of the table in providers.c.
 * Every operation returns a negative errno and fills err, and an operation that is not there (NULL)
 * is not needed for that kind.
 *
 * Two sorts: `probe` and `claims` run in gpupd and read only what the PCI core itself answers, or a
 * driver from its own memory, without asking the GPU. All others run in the helper process (see
 * job.h): they may block, hang, and load vendors' libraries. They keep no state.
 */
struct gpup_provider {
    const char *name; /* in requests to the helper and in logs */
    enum gpup_kind kind;

    /* Kinds that are not found by their PCI function: appends what it finds (struct gpup_gpu *,
     * owned by the array). One that is there but cannot be used is appended as unusable. */
    int (*probe)(const struct gpup_system *system, GPtrArray *gpus, struct gpup_error **err);
    /* Whether this PCI function is a GPU of this kind; the first provider that claims it has it. */
    bool (*claims)(const struct gpup_system *system, const struct gpup_pci *pci);

    /* What the GPU has and offers now: valid counts and what each gives, slots, resources. Not an
     * error: a GPU that cannot be used (facts->unusable). */
    int (*describe)(const struct gpup_target *target, struct gpup_facts *facts,
                    struct gpup_error **err);
    /* Makes n partitions where there are none, all or nothing; facts as after describe. */
    int (*create)(const struct gpup_target *target, unsigned n, struct gpup_facts *facts,
                  struct gpup_error **err);
    /* Removes all partitions. -EBUSY while one is open, naming the process. */
    int (*destroy)(const struct gpup_target *target, struct gpup_error **err);

    /* Readies a slot for a VM: checks its IOMMU group, turns the grant into the vendor's settings,
     * binds it to VFIO. Undoes all of it on failure. work->function: what the VM gets. */
    int (*prepare)(const struct gpup_target *target, struct gpup_work *work,
                   struct gpup_error **err);
    /* After the VM: resets it, unbinds it, clears what prepare set. Idempotent. */
    int (*release)(const struct gpup_target *target, struct gpup_work *work,
                   struct gpup_error **err);
};

extern const struct gpup_provider gpup_provider_whole;
extern const struct gpup_provider gpup_provider_gim;
extern const struct gpup_provider gpup_provider_nvidia;
extern const struct gpup_provider gpup_provider_xe;
extern const struct gpup_provider gpup_provider_sriov;
extern const struct gpup_provider gpup_provider_software;
extern const struct gpup_provider gpup_provider_rendernode;

/* All, the special before the general, ended by NULL. */
extern const struct gpup_provider *const gpup_providers[];
const struct gpup_provider *gpup_provider_by_name(const char *name);

#endif
