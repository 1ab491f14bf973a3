/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/units.h"

#include "core/error.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

/* A decimal number as typed: value = whole + fraction / scale. */
struct decimal {
    uint64_t whole;
    uint64_t fraction;
    uint64_t scale;
    bool has_point;
};

#define FRACTION_DIGITS 9

/* Reads digits[.digits]. 0, -EINVAL or -ERANGE; *rest is what follows. Digits of the fraction
 * beyond the ninth are below a millionth of anything and dropped. */
static int read_decimal(const char *text, struct decimal *d, const char **rest)
{
    int digits = 0;

    *d = (struct decimal){.scale = 1};
    if (!isdigit((unsigned char)*text))
        return -EINVAL;
    for (; isdigit((unsigned char)*text); text++) {
        if (__builtin_mul_overflow(d->whole, UINT64_C(10), &d->whole) ||
            __builtin_add_overflow(d->whole, (uint64_t)(*text - '0'), &d->whole))
            return -ERANGE;
    }
    if (*text == '.') {
        d->has_point = true;
        text++;
        if (!isdigit((unsigned char)*text))
            return -EINVAL;
        for (; isdigit((unsigned char)*text); text++) {
            if (digits++ >= FRACTION_DIGITS)
                continue;
            d->fraction = d->fraction * 10 + (uint64_t)(*text - '0');
            d->scale *= 10;
        }
    }
    *rest = text;
    return 0;
}

static const char *skip_spaces(const char *text)
{
    while (*text == ' ' || *text == '\t')
        text++;
    return text;
}

static int unit_shift(const char *unit, unsigned *shift)
{
    static const struct {
        const char *name;
        unsigned shift;
    } units[] = {
        {"", 0},     {"b", 0},  {"k", 10},  {"kb", 10},  {"kib", 10}, {"m", 20},  {"mb", 20},
        {"mib", 20}, {"g", 30}, {"gb", 30}, {"gib", 30}, {"t", 40},   {"tb", 40}, {"tib", 40},
    };

    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
        if (strcasecmp(unit, units[i].name) == 0) {
            *shift = units[i].shift;
            return 0;
        }
    }
    return -EINVAL;
}

static int bad_size(const char *text, struct gpup_error **err)
{
    return gpup_error_set(err, EINVAL,
                          "'%s' is not a size: write a number and a unit, such as "
                          "512M, 2GiB or 1.5G",
                          text);
}

int gpup_parse_size(const char *text, uint64_t *bytes, struct gpup_error **err)
{
    struct decimal d;
    const char *rest;
    uint64_t whole;
    unsigned shift = 0;
    int ret = read_decimal(skip_spaces(text), &d, &rest);

    if (ret == -EINVAL || (ret == 0 && unit_shift(skip_spaces(rest), &shift) < 0))
        return bad_size(text, err);
    if (ret == 0 && shift == 0 && d.has_point)
        return gpup_error_set(err, EINVAL,
                              "'%s' is not a whole number of bytes: add a unit, such "
                              "as 1.5G",
                              text);
    if (ret < 0 || __builtin_mul_overflow(d.whole, UINT64_C(1) << shift, &whole))
        return gpup_error_set(err, ERANGE, "'%s' is too large a size", text);
    /* fraction < 10^9 < 2^30 and shift <= 40: the product may pass 64 bits */
    whole += (uint64_t)(((unsigned __int128)d.fraction << shift) / d.scale);
    *bytes = whole;
    return 0;
}

int gpup_parse_share(const char *text, uint32_t *ppm, struct gpup_error **err)
{
    struct decimal d;
    const char *rest = "";
    uint64_t value;
    int ret = read_decimal(skip_spaces(text), &d, &rest);

    rest = skip_spaces(rest);
    if (ret == 0 && *rest == '\0' && !d.has_point && d.whole <= 100)
        return gpup_error_set(err, EINVAL, "'%s' is not a share: write %" PRIu64 "%%", text,
                              d.whole);
    if (ret == -EINVAL || strcmp(rest, "%") != 0)
        return gpup_error_set(err, EINVAL, "'%s' is not a share: write a percentage, such as 25%%",
                              text);
    if (ret < 0 || d.whole > 100 || (d.whole == 100 && d.fraction > 0))
        return gpup_error_set(err, EINVAL, "'%s' is more than a whole GPU: shares are 0%% to 100%%",
                              text);
    value = d.whole * (GPUP_PPM_FULL / 100) + d.fraction * (GPUP_PPM_FULL / 100) / d.scale;
    *ppm = (uint32_t)value;
    return 0;
}

/* "WHOLE[.HH]" with trailing zeros dropped, then the unit. */
static char *format_hundredths(uint64_t hundredths, const char *unit, char *buf, size_t len)
{
    uint64_t whole = hundredths / 100;
    unsigned rest = (unsigned)(hundredths % 100);

    if (rest == 0)
        snprintf(buf, len, "%" PRIu64 " %s", whole, unit);
    else if (rest % 10 == 0)
        snprintf(buf, len, "%" PRIu64 ".%u %s", whole, rest / 10, unit);
    else
        snprintf(buf, len, "%" PRIu64 ".%02u %s", whole, rest, unit);
    return buf;
}

char *gpup_format_size(uint64_t bytes, char *buf, size_t len)
{
    static const char *const names[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    unsigned unit = 0;

    while (unit + 1 < sizeof(names) / sizeof(names[0]) && bytes >> (10 * (unit + 1)) != 0)
        unit++;
    return format_hundredths((uint64_t)(((unsigned __int128)bytes * 100) >> (10 * unit)),
                             names[unit], buf, len);
}

char *gpup_format_share(uint32_t ppm, char *buf, size_t len)
{
    return format_hundredths(ppm / (GPUP_PPM_FULL / 10000), "%", buf, len);
}
