/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/cli.h"
#include "cli/hyperv.h"
#include "core/units.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* What pages about paravirtual GPUs tell to write for every resource: 10^9 of nothing in
 * particular, and "no limit". */
#define PLACEHOLDER      UINT64_C(1000000000)
#define PLACEHOLDER_NONE UINT64_MAX

static bool read_number(const char *text, uint64_t *number)
{
    guint64 n;
    bool hex = g_ascii_strncasecmp(text, "0x", 2) == 0;

    if (!g_ascii_string_to_unsigned(hex ? text + 2 : text, hex ? 16 : 10, 0, G_MAXUINT64, &n, NULL))
        return false;
    *number = n;
    return true;
}

static bool is_placeholder(uint64_t number)
{
    return number == PLACEHOLDER || number == PLACEHOLDER_NONE;
}

static int refuse(const char *parameter, const char *text, const char *why, const char *instead)
{
    GPUP_AUTO_ERROR err = NULL;

    gpup_error_set(&err, EINVAL, "%s: %s is %s; write %s. Nothing changed", parameter, text, why,
                   instead);
    return cli_error(err);
}

static int read_size(const char *parameter, const char *text, uint64_t *bytes)
{
    GPUP_AUTO_ERROR err = NULL;
    char size[GPUP_UNIT_BUF];
    bool plain = read_number(text, bytes);

    if (plain && is_placeholder(*bytes))
        return refuse(parameter, text, "a placeholder of paravirtual GPUs",
                      "a size such as 512MB or 2GB");
    if (!plain && gpup_parse_size(text, bytes, &err) < 0) {
        gpup_error_wrap(&err, "%s", parameter);
        return cli_error(err);
    }
    gpup_format_size(*bytes, size, sizeof(size));
    if (plain)
        printf("%s: read as bytes = %s\n", parameter, size);
    else
        printf("%s: %s = %s, %" G_GUINT64_FORMAT " bytes\n", parameter, text, size, *bytes);
    return CLI_GO_ON;
}

static int read_share(const char *parameter, enum gpup_resource r, const char *text,
                      uint64_t *value)
{
    GPUP_AUTO_ERROR err = NULL;
    char share[GPUP_UNIT_BUF];
    uint64_t number;
    uint32_t ppm;

    if (read_number(text, &number))
        return refuse(parameter, text,
                      is_placeholder(number) ? "a placeholder of paravirtual GPUs"
                      : r == GPUP_COMPUTE    ? "no share: Hyper-V counts gigaflops here"
                                             : "no share: Hyper-V counts streams of 540p60 here",
                      "a share such as 50%");
    if (gpup_parse_share(text, &ppm, &err) < 0) {
        gpup_error_wrap(&err, "%s", parameter);
        return cli_error(err);
    }
    printf("%s: %s of the GPU\n", parameter, gpup_format_share(ppm, share, sizeof(share)));
    *value = ppm;
    return CLI_GO_ON;
}

int hyperv_amount(const char *parameter, enum gpup_resource r, const char *text, uint64_t *value)
{
    return r == GPUP_VRAM ? read_size(parameter, text, value)
                          : read_share(parameter, r, text, value);
}
