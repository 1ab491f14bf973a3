/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gpu/provider.h"

#include <string.h>

const struct gpup_provider *const gpup_providers[] = {
    &gpup_provider_whole, &gpup_provider_gim,        &gpup_provider_nvidia,   &gpup_provider_xe,
    &gpup_provider_sriov, &gpup_provider_rendernode, &gpup_provider_software, NULL,
};

const struct gpup_provider *gpup_provider_by_name(const char *name)
{
    for (size_t i = 0; gpup_providers[i]; i++) {
        if (strcmp(gpup_providers[i]->name, name) == 0)
            return gpup_providers[i];
    }
    return NULL;
}
