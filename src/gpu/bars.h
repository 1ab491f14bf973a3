/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_GPU_BARS_H
#define GPUP_GPU_BARS_H

#include <stdint.h>

/* Bytes of a PCI function's 64-bit prefetchable memory BARs, for which a guest's firmware needs a
 * window; 0 where it cannot be told. sysfs: where it is mounted. */
uint64_t gpup_pci_large_bars(const char *sysfs, const char *address);

#endif
