/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/error.h"
#include "vm/adapter_xml.h"
#include "vm/domain.h"

#include <string.h>

/* A VM's definition: read, given an adapter, and freed of it. */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autofree char *xml = g_strndup((const char *)data, size);
    g_autofree char *with = NULL, *without = NULL;
    g_auto(GStrv) added = NULL, removed = NULL;
    const struct gpup_adapter adapter = {.kind = GPUP_KIND_VIRTIO};
    struct gpup_domain_info info;

    if (gpup_domain_info_read((const char *)data, size, &info, NULL) == 0)
        gpup_domain_info_clear(&info);
    if (gpup_domain_add_adapter(xml, &adapter, NULL, 0, &with, &added, NULL) == 0)
        gpup_domain_remove_adapter(with, &without, &removed, NULL);
    return 0;
}
