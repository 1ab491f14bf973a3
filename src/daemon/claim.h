/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_DAEMON_CLAIM_H
#define GPUP_DAEMON_CLAIM_H

#include "core/model.h"

#include <glib.h>
#include <sys/types.h>

struct gpup_error;

/* An adapter's hold on a partition, from its VM's `prepare` to `release`: kept in RUN/reservations
 * so that it outlives gpupd, and bound to this boot. */
struct gpup_claim {
    char adapter[37];
    char *vm, *uuid; /* of the VM */
    char *gpu;       /* the GPU's stable key */
    unsigned slot;
    unsigned count; /* how many partitions the GPU had when it was taken */
    int domain;     /* libvirt's number of the running VM, or -1 */
    struct gpup_grant grant;
    enum gpup_display display;
    gint64 since;           /* monotonic, microseconds; when gpupd learnt of it */
    bool started;           /* QEMU runs */
    char nonce[37];         /* of this start */
    bool reserved;          /* for a start of ours that has not come to `prepare` */
    bool preparing;         /* its partition is being readied */
    bool dropped;           /* it is to be freed once that is done */
    bool by_hand;           /* no adapter: its user put the function into the VM's definition */
    pid_t renderer;         /* started last for it, or 0 */
    guint64 renderer_start; /* and when (/proc/PID/stat): tells it from a later process */
};

/* A new one, of a start that begins now. */
struct gpup_claim *gpup_claim_new(const char *adapter, const char *vm, const char *uuid,
                                  int domain);
void gpup_claim_free(struct gpup_claim *claim);
typedef struct gpup_claim gpup_claim; /* for g_autoptr */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(gpup_claim, gpup_claim_free)

/* Writes the reservation and the file that libvirt hands to gpup-vgpu (RUN/vm/ADAPTER). */
int gpup_claim_save(const char *run_dir, const struct gpup_claim *claim, struct gpup_error **err);
/* Removes both. */
void gpup_claim_forget(const char *run_dir, const char *adapter);
/* All reservations of this boot (struct gpup_claim *); others are removed, damaged ones set aside,
 * with a line each in `problems` (char *). */
GPtrArray *gpup_claim_load_all(const char *run_dir, GPtrArray *problems);

#endif
