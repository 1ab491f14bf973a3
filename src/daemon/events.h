/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_DAEMON_EVENTS_H
#define GPUP_DAEMON_EVENTS_H

#include <glib.h>

/*
 * Who changed what and when, and what went wrong: kept in STATE/events, so that it outlives gpupd
 * and the machine, and said to the log (the journal's fields: GPUP_EVENT, GPUP_USER, GPUP_GPU,
 * GPUP_VM). Bounded: the oldest go first, and what repeats itself is counted, not added.
 */
struct gpup_events;

enum gpup_event_kind {
    GPUP_EVENT_PARTITION, /* a GPU was cut, or its partitions were removed */
    GPUP_EVENT_ADAPTER,   /* an adapter was given, changed or taken away */
    GPUP_EVENT_START,     /* a VM got its partition */
    GPUP_EVENT_STOP,      /* a partition is free again */
    GPUP_EVENT_REFUSED,   /* a start was refused */
    GPUP_EVENT_POWER,     /* a VM was started, shut down or powered off through gpup */
    GPUP_EVENT_RENDERER,  /* a renderer ended */
    GPUP_EVENT_HANG,      /* a renderer was ended for taking too long */
    GPUP_EVENT_LIMIT,     /* a guest asked for more memory than its partition has */
    GPUP_EVENT_RESET,     /* the kernel's driver reset a GPU */
    GPUP_EVENT_PROBLEM,   /* something an administrator has to know */
    GPUP_EVENT_GPUPD,     /* gpupd started */
    GPUP_EVENT_KINDS,
};

const char *gpup_event_kind_name(enum gpup_event_kind kind);

#define GPUP_EVENTS_KEPT 1000u

/* The ones who act beside users. */
#define GPUP_BY_LIBVIRT "libvirt"
#define GPUP_BY_GPUPD   "gpupd"
#define GPUP_BY_GUEST   "guest"

/* What is kept is read; what cannot be read is set aside with a warning. Never fails: where nothing
 * can be written, events are kept in memory. */
struct gpup_events *gpup_events_new(const char *state_dir);
void gpup_events_free(struct gpup_events *events);

/* gpu: its short id, vm: its name; NULL where it is about none. Another one that says the same as
 * one of the last ten minutes adds to its count. */
void gpup_events_add(struct gpup_events *events, enum gpup_event_kind kind, const char *user,
                     const char *gpu, const char *vm, const char *fmt, ...) G_GNUC_PRINTF(6, 7);

/*
 * aa{sv}, floating, oldest first: "id" t, "time" t and "last" t (microseconds since 1970; the first
 * and the latest of "count" t alike), "kind" s, "user" s, "gpu" s, "vm" s, "text" s. At most
 * `limit` of the latest, after the one with the id `after`; of this VM and this GPU where they are
 * named.
 */
GVariant *gpup_events_list(struct gpup_events *events, guint limit, guint64 after, const char *gpu,
                           const char *vm);

#endif
