/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_CORE_ADAPTER_H
#define GPUP_CORE_ADAPTER_H

#include "core/model.h"

struct gpup_error;

/*
 * Reads "MIN:OPTIMAL:MAX" as users type it for one resource; any part may be empty ("::50%"), a
 * single value without colons sets all three. vram takes sizes, the others shares. Checks
 * min <= optimal <= max. -EINVAL with what would be accepted.
 */
int gpup_request_parse(enum gpup_resource r, const char *text, struct gpup_request *request,
                       struct gpup_error **err);

/* The rules that hold for any adapter, wherever it came from: min <= optimal <= max, shares at
 * most 100 %, a size of at least 1 MiB (vram). -EINVAL names the resource and both values. */
int gpup_adapter_check(const struct gpup_adapter *adapter, struct gpup_error **err);

/* "512 MiB" or "256 MiB:512 MiB:1 GiB", "25 %", "default" when nothing is asked. Returns buf. */
char *gpup_request_format(enum gpup_resource r, const struct gpup_request *request, char *buf,
                          size_t len);

#endif
