/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_GPU_MODELS_H
#define GPUP_GPU_MODELS_H

#include "gpu/pci.h"

/* A kind of GPU that can have VFs, as its maker describes it. */
struct gpup_model {
    const char *host_driver;
    const char *guest_driver;
    const char *systems;    /* for people: the guests that the maker lists */
    const char *const *ids; /* the same by libosinfo, ended by NULL: an id that begins so is listed,
                               what follows is a minor version */
};

/* NULL: not known. */
const struct gpup_model *gpup_model_of(const struct gpup_pci *pci);

bool gpup_model_lists(const struct gpup_model *model, const char *system);

#endif
