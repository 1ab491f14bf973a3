/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef FAKESYS_MACHINE_H
#define FAKESYS_MACHINE_H

#include "tree.h"

#include <stdint.h>

/*
 * A machine with GPUs, as the kernel shows and treats it: drivers/pci/iov.c,
 * drivers/pci/pci-driver.c and drivers/vfio/pci, and the drivers of three vendors.
 */

struct device {
    char *address;
    char *dir;         /* "/sys/devices/..." */
    struct device *pf; /* of a VF */
    int index;         /* of a VF, from 0 */
    GHashTable *facts; /* name -> value, as given when it was added */
    char *driver;      /* bound now, or NULL */
    char *override;    /* or NULL */
    int group;         /* IOMMU group, -1: none */
    bool held;         /* a VM has it open */
    /* of a PF */
    int numvfs, totalvfs, offset, stride, made_at_most;
    bool autoprobe, busy, hang;
    GPtrArray *vfs;       /* struct device * */
    GHashTable *failures; /* operation -> GINT_TO_POINTER(errno) */
};

extern const char *machine_mount;
extern GHashTable *devices; /* address -> struct device * */

void machine_init(const char *mount);
/* One line written to /control; 0 or a negative errno. */
int machine_control(char *line);

const char *device_fact(const struct device *d, const char *name, const char *otherwise);
int device_number(const struct device *d, const char *name, int otherwise);
/* The negative errno that this operation is to fail with, or 0. */
int device_failure(const struct device *d, const char *op);
/* Waits while the PF is told to hang. */
void device_wait(struct device *pf);
/* Makes VFs or removes them, as the PF's driver does when it is asked to. */
int device_set_numvfs(struct device *pf, int n);
int device_bind(struct device *d, const char *driver);
/* A file of the device. */
struct node *device_file(struct device *d, unsigned mode, const char *text, const char *name);

/* What each vendor's driver adds; `on`: VFs were made, or are about to go. */
void xe_add(struct device *pf);
void xe_vfs(struct device *pf, bool on);
void nvidia_add(struct device *pf);
void nvidia_vfs(struct device *pf, bool on);
int nvidia_control(struct device *pf, char **words);
void gim_add(struct device *pf);

#endif
