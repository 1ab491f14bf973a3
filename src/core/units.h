/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_CORE_UNITS_H
#define GPUP_CORE_UNITS_H

#include <stddef.h>
#include <stdint.h>

struct gpup_error;

#define GPUP_PPM_FULL UINT32_C(1000000) /* a whole GPU, in parts per million */

/*
 * A size as users type it, into bytes. Accepts a decimal number (a fraction is allowed with a
 * unit: 1.5G) and an optional unit, case-insensitive, optionally after a space: B, K/KiB/KB,
 * M/MiB/MB, G/GiB/GB, T/TiB/TB; all of them powers of 1024. Without a unit: bytes.
 * Rounded down to whole bytes. -EINVAL with what would be accepted; -ERANGE when it overflows.
 */
int gpup_parse_size(const char *text, uint64_t *bytes, struct gpup_error **err);

/*
 * A share as users type it, into parts per million: "25%", "12.5 %"; 0% .. 100%. Without the sign
 * it is refused: it could be a percentage or a fraction.
 */
int gpup_parse_share(const char *text, uint32_t *ppm, struct gpup_error **err);

/*
 * Formats for people: "512 MiB", "3.44 GiB" (at most two decimals, trailing zeros dropped);
 * "25 %", "33.33 %". buf gets at most len bytes, always terminated; returns buf.
 */
char *gpup_format_size(uint64_t bytes, char *buf, size_t len);
char *gpup_format_share(uint32_t ppm, char *buf, size_t len);

#define GPUP_UNIT_BUF 32 /* enough for either */

#endif
