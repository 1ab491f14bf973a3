/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/error.h"
#include "core/units.h"

#include <errno.h>
#include <glib.h>

static void sizes(void)
{
    static const struct {
        const char *text;
        uint64_t bytes;
    } cases[] = {
        {"0", 0},
        {"4096", 4096},
        {"1B", 1},
        {"512M", UINT64_C(512) << 20},
        {"512 MiB", UINT64_C(512) << 20},
        {"2GiB", UINT64_C(2) << 30},
        {"2gb", UINT64_C(2) << 30},
        {"1.5G", UINT64_C(3) << 29},
        {"0.1K", 102},
        {"1.9999999999999K", 2047},
        {"1T", UINT64_C(1) << 40},
        {"18446744073709551615", UINT64_MAX},
        {"16777215T", UINT64_C(16777215) << 40},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        GPUP_AUTO_ERROR err = NULL;
        uint64_t bytes = 1;

        g_assert_cmpint(gpup_parse_size(cases[i].text, &bytes, &err), ==, 0);
        g_assert_cmpuint(bytes, ==, cases[i].bytes);
    }
}

static void bad_sizes(void)
{
    static const struct {
        const char *text;
        int code;
    } cases[] = {
        {"", EINVAL},
        {"M", EINVAL},
        {"-1M", EINVAL},
        {"1.M", EINVAL},
        {"1X", EINVAL},
        {"1 M x", EINVAL},
        {"0x10", EINVAL},
        {"1.5", EINVAL},
        {"50%", EINVAL},
        {"1e9", EINVAL},
        {"16777216T", ERANGE},
        {"18446744073709551616", ERANGE},
        {"99999999999999999999999G", ERANGE},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        GPUP_AUTO_ERROR err = NULL;
        uint64_t bytes = 7;

        g_assert_cmpint(gpup_parse_size(cases[i].text, &bytes, &err), ==, -cases[i].code);
        g_assert_nonnull(err);
        g_assert_cmpuint(bytes, ==, 7);
    }
}

static void shares(void)
{
    static const struct {
        const char *text;
        uint32_t ppm;
    } cases[] = {
        {"0%", 0}, {"25%", 250000}, {"12.5 %", 125000}, {"100%", 1000000}, {"33.333333%", 333333},
    };
    static const char *const bad[] = {"",    "25",   "0.25", "101%",    "100.1%",
                                      "-5%", "25%%", "x%",   "1000000", "99999999999999999999%"};

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        uint32_t ppm = 1;

        g_assert_cmpint(gpup_parse_share(cases[i].text, &ppm, NULL), ==, 0);
        g_assert_cmpuint(ppm, ==, cases[i].ppm);
    }
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        GPUP_AUTO_ERROR err = NULL;
        uint32_t ppm = 1;

        g_assert_cmpint(gpup_parse_share(bad[i], &ppm, &err), ==, -EINVAL);
        g_assert_cmpuint(ppm, ==, 1);
    }
}

static void a_bare_number_is_told_its_sign(void)
{
    GPUP_AUTO_ERROR err = NULL;
    uint32_t ppm;

    g_assert_cmpint(gpup_parse_share("25", &ppm, &err), ==, -EINVAL);
    g_assert_cmpstr(gpup_error_message(err), ==, "'25' is not a share: write 25%");
}

static void formats(void)
{
    char buf[GPUP_UNIT_BUF];

    g_assert_cmpstr(gpup_format_size(0, buf, sizeof(buf)), ==, "0 B");
    g_assert_cmpstr(gpup_format_size(1023, buf, sizeof(buf)), ==, "1023 B");
    g_assert_cmpstr(gpup_format_size(UINT64_C(512) << 20, buf, sizeof(buf)), ==, "512 MiB");
    g_assert_cmpstr(gpup_format_size(UINT64_C(3) << 29, buf, sizeof(buf)), ==, "1.5 GiB");
    g_assert_cmpstr(gpup_format_size(UINT64_C(3694000000), buf, sizeof(buf)), ==, "3.44 GiB");
    g_assert_cmpstr(gpup_format_size(UINT64_MAX, buf, sizeof(buf)), ==, "15.99 EiB");
    g_assert_cmpstr(gpup_format_share(250000, buf, sizeof(buf)), ==, "25 %");
    g_assert_cmpstr(gpup_format_share(333333, buf, sizeof(buf)), ==, "33.33 %");
    g_assert_cmpstr(gpup_format_share(1000000, buf, sizeof(buf)), ==, "100 %");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/units/sizes", sizes);
    g_test_add_func("/units/bad-sizes", bad_sizes);
    g_test_add_func("/units/shares", shares);
    g_test_add_func("/units/bare-number", a_bare_number_is_told_its_sign);
    g_test_add_func("/units/formats", formats);
    return g_test_run();
}
