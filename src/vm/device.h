/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_VM_DEVICE_H
#define GPUP_VM_DEVICE_H

#include "core/model.h"

#define GPUP_MOST_COMPANIONS 7 /* a card has eight functions */

/* The host's device behind an adapter, as it is known before the VM starts. */
struct gpup_device {
    enum gpup_form form;             /* not GPUP_FORM_VIRTIO */
    char address[GPUP_ADDRESS_SIZE]; /* "0000:03:00.1"; not used for a mediated device */
    uint64_t memory;                 /* bytes of its 64-bit memory BARs; 0: not known */
    /* the card's other functions, which go with a GPU that is given whole */
    char companions[GPUP_MOST_COMPANIONS][GPUP_ADDRESS_SIZE];
    unsigned n_companions;
};

#endif
