/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_DAEMON_PREVIEW_H
#define GPUP_DAEMON_PREVIEW_H

#include "core/resolve.h"
#include "daemon/daemon.h"

/* gpup_resolve() on this host as it would be at this adapter's next start: what it holds now counts
 * as free. Changes nothing. The placement's index is that of gpup_host_gpus(). */
int gpup_preview_resolve(struct gpup_daemon *daemon, const struct gpup_adapter *adapter,
                         const char *vm, struct gpup_placement *placement,
                         struct gpup_verdict *verdicts, struct gpup_error **err);

#endif
