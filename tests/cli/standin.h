/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_TESTS_STANDIN_H
#define GPUP_TESTS_STANDIN_H

#include "gpup-dbus.h"

/*
 * What answers org.gpup1 in these tests: a few made-up GPUs and VMs on a private bus, in this
 * process. It records what it was asked and answers as told.
 */
struct standin {
    GSubprocess *bus;
    char *address;
    GDBusConnection *connection;
    GDBusObjectManagerServer *objects;
    GpupManager *manager;
    guint64 looks;     /* set: GPU time is told, and a second goes by between two looks at it */
    const char *guest; /* what GetGuest answers, printed; NULL: that no agent does */
    GString *asked;    /* "Assign('desk1', {...}, {...})" for each call, one line each */
    /* set: every method but those that read fails with this D-Bus error */
    const char *error, *message;
    gboolean hang_up; /* leave the bus instead of answering */
    guint owner;
    gboolean acquired;
};

/* An empty private bus; nobody owns org.gpup1. */
void standin_bus_up(struct standin *s);
/* The whole host. */
void standin_up(struct standin *s);
void standin_down(struct standin *s);
/* Removes all GPUs and VMs. */
void standin_empty(struct standin *s);

#endif
