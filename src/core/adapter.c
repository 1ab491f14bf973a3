/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/adapter.h"

#include "core/error.h"
#include "core/units.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define SMALLEST_VRAM (UINT64_C(1) << 20)

static int parse_value(enum gpup_resource r, const char *text, uint64_t *value,
                       struct gpup_error **err)
{
    uint32_t ppm;
    int ret;

    if (r == GPUP_VRAM)
        return gpup_parse_size(text, value, err);
    ret = gpup_parse_share(text, &ppm, err);
    if (ret == 0)
        *value = ppm;
    return ret;
}

static char *format_value(enum gpup_resource r, uint64_t value, char *buf, size_t len)
{
    if (r == GPUP_VRAM)
        return gpup_format_size(value, buf, len);
    return gpup_format_share((uint32_t)value, buf, len);
}

static int check_order(enum gpup_resource r, const char *low_name, bool has_low, uint64_t low,
                       const char *high_name, bool has_high, uint64_t high, struct gpup_error **err)
{
    char a[GPUP_UNIT_BUF], b[GPUP_UNIT_BUF];

    if (!has_low || !has_high || low <= high)
        return 0;
    return gpup_error_set(err, EINVAL, "%s: the %s (%s) is more than the %s (%s)",
                          gpup_resource_name(r), low_name, format_value(r, low, a, sizeof(a)),
                          high_name, format_value(r, high, b, sizeof(b)));
}

static int check_request(enum gpup_resource r, const struct gpup_request *q,
                         struct gpup_error **err)
{
    uint64_t highest = 0;
    int ret;

    if (q->has_min)
        highest = q->min;
    if (q->has_optimal && q->optimal > highest)
        highest = q->optimal;
    if (q->has_max && q->max > highest)
        highest = q->max;
    if (r != GPUP_VRAM && highest > GPUP_PPM_FULL)
        return gpup_error_set(err, EINVAL, "%s: more than 100 %% of a GPU was asked for",
                              gpup_resource_name(r));
    ret = check_order(r, "minimum", q->has_min, q->min, "optimal", q->has_optimal, q->optimal, err);
    if (ret == 0)
        ret = check_order(r, "optimal", q->has_optimal, q->optimal, "maximum", q->has_max, q->max,
                          err);
    if (ret == 0)
        ret = check_order(r, "minimum", q->has_min, q->min, "maximum", q->has_max, q->max, err);
    if (ret < 0)
        return ret;
    if (r == GPUP_VRAM &&
        ((q->has_optimal && q->optimal < SMALLEST_VRAM) || (q->has_max && q->max < SMALLEST_VRAM)))
        return gpup_error_set(err, EINVAL,
                              "vram: less than 1 MiB is of no use; write a size with its unit, "
                              "such as 512M (a bare number counts bytes)");
    return 0;
}

/* The part between colons, copied out; -EINVAL when it does not fit. */
static int copy_part(const char *start, size_t length, char *buf, size_t len)
{
    if (length >= len)
        return -EINVAL;
    memcpy(buf, start, length);
    buf[length] = '\0';
    return 0;
}

static int parse_part(enum gpup_resource r, const char *start, size_t length, bool *has,
                      uint64_t *value, struct gpup_error **err)
{
    char part[64];
    int ret;

    *has = length > 0;
    if (length == 0)
        return 0;
    if (copy_part(start, length, part, sizeof(part)) < 0)
        return gpup_error_set(err, EINVAL, "%s: '%.20s...' is not a value", gpup_resource_name(r),
                              start);
    ret = parse_value(r, part, value, err);
    if (ret < 0)
        gpup_error_wrap(err, "%s", gpup_resource_name(r));
    return ret;
}

int gpup_request_parse(enum gpup_resource r, const char *text, struct gpup_request *request,
                       struct gpup_error **err)
{
    struct gpup_request q = {0};
    const char *first = strchr(text, ':');
    const char *second = first ? strchr(first + 1, ':') : NULL;
    int ret;

    if (*text == '\0' || (first && (!second || strchr(second + 1, ':'))))
        return gpup_error_set(err, EINVAL,
                              "%s: '%s' is not a request: write one value or "
                              "MIN:OPTIMAL:MAX, any of them empty",
                              gpup_resource_name(r), text);
    if (!first) {
        ret = parse_part(r, text, strlen(text), &q.has_min, &q.min, err);
        q.has_optimal = q.has_max = q.has_min;
        q.optimal = q.max = q.min;
    } else {
        ret = parse_part(r, text, (size_t)(first - text), &q.has_min, &q.min, err);
        if (ret == 0)
            ret = parse_part(r, first + 1, (size_t)(second - first - 1), &q.has_optimal, &q.optimal,
                             err);
        if (ret == 0)
            ret = parse_part(r, second + 1, strlen(second + 1), &q.has_max, &q.max, err);
    }
    if (ret == 0)
        ret = check_request(r, &q, err);
    if (ret == 0)
        *request = q;
    return ret;
}

int gpup_adapter_check(const struct gpup_adapter *adapter, struct gpup_error **err)
{
    if (adapter->kind != GPUP_KIND_VIRTIO && adapter->display != GPUP_DISPLAY_OFF)
        return gpup_error_set(err, EINVAL,
                              "display: only a virtio partition has a head that QEMU shows; this "
                              "one is %s",
                              gpup_kind_name(adapter->kind));
    for (int r = 0; r < GPUP_RESOURCES; r++) {
        int ret = check_request((enum gpup_resource)r, &adapter->request[r], err);

        if (ret < 0)
            return ret;
    }
    return 0;
}

char *gpup_request_format(enum gpup_resource r, const struct gpup_request *request, char *buf,
                          size_t len)
{
    char min[GPUP_UNIT_BUF] = "", optimal[GPUP_UNIT_BUF] = "", max[GPUP_UNIT_BUF] = "";

    if (!request->has_min && !request->has_optimal && !request->has_max) {
        snprintf(buf, len, "default");
        return buf;
    }
    if (request->has_min)
        format_value(r, request->min, min, sizeof(min));
    if (request->has_optimal)
        format_value(r, request->optimal, optimal, sizeof(optimal));
    if (request->has_max)
        format_value(r, request->max, max, sizeof(max));
    if (request->has_min && request->has_optimal && request->has_max &&
        request->min == request->max)
        snprintf(buf, len, "%s", min);
    else
        snprintf(buf, len, "%s:%s:%s", min, optimal, max);
    return buf;
}
