/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_DAEMON_HOST_INTERNAL_H
#define GPUP_DAEMON_HOST_INTERNAL_H

#include "daemon/host.h"
#include "gpu/inventory.h"
#include "vm/adapter_xml.h"

/* What host.c, host_*.c and start.c share. */

struct gpup_host {
    const struct gpup_config *config;
    const struct gpup_folders *folders;
    gpup_host_changed changed;
    void *data;
    struct gpup_system system;
    struct gpup_inventory *inventory;
    GHashTable *claims; /* adapter -> struct gpup_claim *, owned */
    GPtrArray *problems;
    GPtrArray *pending; /* starts whose partition is being readied, borrowed */
    GPtrArray *waiting; /* struct gpup_start *: until what others had is cleared, owned */
    struct gpup_events *events;
    struct gpup_health *health;
    GHashTable *wedged;   /* keys of GPUs that did not answer when it was last looked */
    GHashTable *clearing; /* addresses of functions that are being cleared */
    GHashTable *again;    /* addresses of GPUs -> what could not be made of them: host_again.c */
    bool looking;         /* for GPUs, to drop one that has gone or find one that has come */
    bool look_again;      /* after that */
    gint64 asked;         /* monotonic, us: when wedged GPUs were asked again last */
    bool unsure;          /* a reservation was lost: a VM may run that is not known of */
    gint64 settled;       /* monotonic, us: when a partition was freed or a start refused last */
};

/* A VM's start, from its `prepare` until there is an answer. */
struct gpup_start {
    struct gpup_host *host;
    char *xml;
    size_t length;
    bool (*is_alive)(const char *adapter, void *data);
    void *alive_data;
    gpup_host_done done;
    void *data;
    guint timer;
};

void gpup_host_tell(struct gpup_host *h);
void gpup_host_tell_claim(struct gpup_host *h, const struct gpup_claim *claim,
                          enum gpup_event_kind kind, const char *user);

/* Something that an administrator has to know: into the log, and shown until GPUs are looked for
 * again. */
void gpup_host_problem(struct gpup_host *h, const char *text);
void gpup_host_add_problem(struct gpup_host *h, const char *fmt, ...) G_GNUC_PRINTF(2, 3);
void gpup_host_add_problems(struct gpup_host *h, GPtrArray *texts);
/* It is over; `text` as it was added. */
void gpup_host_drop_problem(struct gpup_host *h, const char *text);

/* ---- host_stored.c ---- */

/* Makes the partitions that are stored. wait: until that is done, so that VMs which start at boot
 * find them. */
void gpup_host_apply_stored(struct gpup_host *h, bool wait);
/* GPUs that were wedged and answer again get what is stored of them. */
void gpup_host_apply_to_recovered(struct gpup_host *h);
/* A GPU that is not here any more is shown until its last VM has stopped. */
void gpup_host_drop_gone(struct gpup_host *h);

/* A change of the GPU at this address failed half way: asks what there is now, and makes what is
 * stored. */
void gpup_host_repair(struct gpup_host *h, const char *address);
/* Asks the GPU at this address what there is, and makes what is stored of it. False: not now. */
bool gpup_host_make_stored(struct gpup_host *h, const char *address);
/* Nothing is under way any more on the GPU at this address, unless its driver still hangs. */
void gpup_host_change_ended(struct gpup_host *h, const char *address);

/* ---- host_again.c ---- */

GHashTable *gpup_host_again_table(void);
/* What is stored of the GPU at this address could not be made: shown as a problem, and tried again
 * after growing pauses, for some 10 minutes. */
void gpup_host_make_again(struct gpup_host *h, const char *address, const struct gpup_error *why);
/* It is made, or nothing is wanted of it any more. */
void gpup_host_is_made(struct gpup_host *h, const char *address);

/* ---- host_claims.c ---- */

/* Takes up the reservations of this boot. */
void gpup_host_adopt_claims(struct gpup_host *h);
/* Takes the slot and writes it down, or neither. The claim is the host's then, or freed. */
int gpup_host_take(struct gpup_host *h, struct gpup_claim *claim, struct gpup_gpu *gpu,
                   struct gpup_error **err);
/* Clears what a gpupd that was killed had not finished clearing. */
void gpup_host_clear_on(struct gpup_host *h);
/* Forgets what has been cleared. */
void gpup_host_note_cleared(struct gpup_host *h);
/* Frees it, at once or when its partition is ready. */
void gpup_host_drop_claim(struct gpup_host *h, const char *adapter, const char *user);

/* ---- start.c ---- */

/* Where a VM that starts goes: anywhere, or where its definition says. */
int gpup_host_place(struct gpup_host *h, const struct gpup_domain_info *info,
                    struct gpup_placement *placement, struct gpup_error **err);
/* Whether this start is the one that the claim was reserved for: then it is that start's. */
bool gpup_host_use_reservation(struct gpup_host *h, struct gpup_claim *claim,
                               const struct gpup_domain_info *info);
/* Readies the claim's partition, then calls `done`; frees it on failure. */
void gpup_host_ready(struct gpup_host *h, struct gpup_claim *claim, gpup_host_done done,
                     void *data);
/* Tries this start again, for the last time, once nothing is being cleared, or in a few seconds. */
void gpup_host_when_cleared(struct gpup_host *h, struct gpup_start *start);
void gpup_host_check_cleared(struct gpup_host *h);
void gpup_host_retry(struct gpup_host *h, struct gpup_start *start); /* host_prepare.c's */
void gpup_start_free(struct gpup_start *start);
/* The host ends before they do. */
void gpup_host_orphan_pending(struct gpup_host *h);

/* PCI functions that the VM's user gave it by hand: those that are partitions are taken, and what
 * another VM has is refused. */
int gpup_host_claim_others(struct gpup_host *h, const struct gpup_domain_info *info,
                           struct gpup_error **err);
void gpup_host_release_others(struct gpup_host *h, const struct gpup_domain_info *info);

#endif
