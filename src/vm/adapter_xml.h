/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_VM_ADAPTER_XML_H
#define GPUP_VM_ADAPTER_XML_H

#include "core/model.h"
#include "wire/gpupd.h" /* GPUP_VM_DIR */

#include <stdbool.h>
#include <stddef.h>

struct gpup_error;

#define GPUP_ADAPTER_NS "urn:gpup:adapter:1"

/* What a libvirt domain XML says of itself, as far as gpup needs it. */
struct gpup_domain_info {
    char *name;
    char *uuid;
    int id;                       /* libvirt's number of the running VM, or -1 */
    struct gpup_adapter *adapter; /* NULL: none */
    int video;    /* index of the adapter's video device among all video devices, or -1 */
    bool hostdev; /* the adapter's <hostdev> is there, */
    char address[GPUP_ADDRESS_SIZE]; /* and what it names: "0000:03:00.1", "" for a mediated one */
    char *system;  /* the guest's by libosinfo ("http://microsoft.com/win/11"), or NULL: not told */
    char **others; /* the addresses of all other PCI <hostdev>, ended by NULL */
};

/* Whether the definition has the device of this adapter, which is its own. */
bool gpup_domain_has_device(const struct gpup_domain_info *info,
                            const struct gpup_adapter *adapter);

void gpup_domain_info_clear(struct gpup_domain_info *info);

/*
 * Reads a whole domain XML (at most 1 MiB; entities and network access are off). A domain without
 * an adapter is no error. -EINVAL with what is wrong with the XML or the adapter.
 */
int gpup_domain_info_read(const char *xml, size_t length, struct gpup_domain_info *info,
                          struct gpup_error **err);

#endif
