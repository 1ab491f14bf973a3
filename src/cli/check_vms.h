/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_CLI_CHECK_VMS_H
#define GPUP_CLI_CHECK_VMS_H

#include "cli/bus.h"

/* What gpup check says of the VMs with an adapter: whether there is room for all, and what runs in
 * them (struct gpup_finding *, added). */
void cli_check_vms(const struct cli_bus *bus, GPtrArray *findings);

#endif
