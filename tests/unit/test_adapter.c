/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/adapter.h"
#include "core/error.h"

#include <errno.h>
#include <glib.h>

static void parses(void)
{
    struct gpup_request q;

    g_assert_cmpint(gpup_request_parse(GPUP_VRAM, "256M:512M:1G", &q, NULL), ==, 0);
    g_assert_true(q.has_min && q.has_optimal && q.has_max);
    g_assert_cmpuint(q.min, ==, 256u << 20);
    g_assert_cmpuint(q.max, ==, 1u << 30);
    g_assert_cmpint(gpup_request_parse(GPUP_VRAM, "512M", &q, NULL), ==, 0);
    g_assert_cmpuint(q.min, ==, q.max);
    g_assert_cmpint(gpup_request_parse(GPUP_COMPUTE, "::50%", &q, NULL), ==, 0);
    g_assert_true(!q.has_min && !q.has_optimal && q.has_max);
    g_assert_cmpuint(q.max, ==, 500000);
    g_assert_cmpint(gpup_request_parse(GPUP_VRAM, "::", &q, NULL), ==, 0);
    g_assert_false(q.has_min || q.has_optimal || q.has_max);
}

static void refuses(void)
{
    static const struct {
        enum gpup_resource r;
        const char *text;
        const char *part; /* of the message */
    } cases[] = {
        {GPUP_VRAM, "", "MIN:OPTIMAL:MAX"},
        {GPUP_VRAM, "1G:2G", "MIN:OPTIMAL:MAX"},
        {GPUP_VRAM, "1G:2G:3G:4G", "MIN:OPTIMAL:MAX"},
        {GPUP_VRAM, "2G:1G:4G", "minimum (2 GiB) is more than the optimal (1 GiB)"},
        {GPUP_VRAM, "2G::1G", "minimum (2 GiB) is more than the maximum (1 GiB)"},
        {GPUP_VRAM, ":2G:1G", "optimal (2 GiB) is more than the maximum (1 GiB)"},
        {GPUP_VRAM, "25%", "not a size"},
        {GPUP_VRAM, "4096", "less than 1 MiB"},
        {GPUP_COMPUTE, "1G", "not a share"},
        {GPUP_COMPUTE, "50", "write 50%"},
        {GPUP_ENCODE, "10%:120%:", "more than a whole GPU"},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        GPUP_AUTO_ERROR err = NULL;
        struct gpup_request q = {.min = 7};

        g_assert_cmpint(gpup_request_parse(cases[i].r, cases[i].text, &q, &err), <, 0);
        g_assert_nonnull(strstr(gpup_error_message(err), cases[i].part));
        g_assert_nonnull(strstr(gpup_error_message(err), gpup_resource_name(cases[i].r)));
        g_assert_cmpuint(q.min, ==, 7);
        g_assert_cmpint(gpup_request_parse(cases[i].r, cases[i].text, &q, NULL), ==, -EINVAL);
    }
}

static void checks_what_came_from_elsewhere(void)
{
    GPUP_AUTO_ERROR err = NULL;
    struct gpup_adapter a = {.kind = GPUP_KIND_VIRTIO};

    g_assert_cmpint(gpup_adapter_check(&a, NULL), ==, 0);
    a.request[GPUP_DECODE] = (struct gpup_request){.has_max = true, .max = 1000001};
    g_assert_cmpint(gpup_adapter_check(&a, &err), ==, -EINVAL);
    g_assert_nonnull(strstr(gpup_error_message(err), "decode"));
}

static void formats(void)
{
    static const char *const texts[] = {"512 MiB", "256 MiB:512 MiB:1 GiB", "::1 GiB"};
    char buf[128];
    struct gpup_request q;

    for (size_t i = 0; i < G_N_ELEMENTS(texts); i++) {
        g_assert_cmpint(gpup_request_parse(GPUP_VRAM, texts[i], &q, NULL), ==, 0);
        g_assert_cmpstr(gpup_request_format(GPUP_VRAM, &q, buf, sizeof(buf)), ==, texts[i]);
    }
    q = (struct gpup_request){0};
    g_assert_cmpstr(gpup_request_format(GPUP_VRAM, &q, buf, sizeof(buf)), ==, "default");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/adapter/parses", parses);
    g_test_add_func("/adapter/refuses", refuses);
    g_test_add_func("/adapter/check", checks_what_came_from_elsewhere);
    g_test_add_func("/adapter/format", formats);
    return g_test_run();
}
