/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "vgpu/log.h"

#include <glib.h>
#include <string.h>
#include <sys/mman.h>
#include <syslog.h>
#include <unistd.h>

static unsigned int said(struct vgpu_log_budget *budget, uint64_t now_ms, unsigned int lines)
{
    unsigned int n = 0, left_out;

    for (unsigned int i = 0; i < lines; i++)
        n += vgpu_log_may(budget, now_ms, &left_out);
    return n;
}

/* However often a guest makes it speak. */
static void has_an_end(void)
{
    struct vgpu_log_budget budget = {0};
    unsigned int left_out;
    uint64_t now = 12345678;

    g_assert_cmpuint(said(&budget, now, 100000), ==, VGPU_LOG_BURST);
    g_assert_cmpuint(said(&budget, now + VGPU_LOG_REFILL_MS - 1, 1000), ==, 0);
    now += VGPU_LOG_REFILL_MS;
    g_assert_true(vgpu_log_may(&budget, now, &left_out));
    g_assert_cmpuint(left_out, ==, 100000 - VGPU_LOG_BURST + 1000);
    g_assert_cmpuint(said(&budget, now, 1000), ==, 0);
    now += 3 * VGPU_LOG_REFILL_MS;
    g_assert_cmpuint(said(&budget, now, 1000), ==, 3);
    now += UINT64_C(1) << 40;
    g_assert_cmpuint(said(&budget, now, 1000), ==, VGPU_LOG_BURST);
}

static void is_text(void)
{
    int file = memfd_create("log", MFD_CLOEXEC), was = dup(STDERR_FILENO);
    char text[4096] = "";

    g_assert_cmpint(dup2(file, STDERR_FILENO), ==, STDERR_FILENO);
    vgpu_log(LOG_INFO, "%s: a\nGPUP_USER=root", "desk\r\033[2J1");
    g_assert_cmpint(dup2(was, STDERR_FILENO), ==, STDERR_FILENO);
    g_assert_cmpint(pread(file, text, sizeof(text) - 1, 0), >, 0);
    g_assert_cmpstr(text, ==, "gpup-vgpu: desk??[2J1: a?GPUP_USER=root\n");
    close(file);
    close(was);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/log/has-an-end", has_an_end);
    g_test_add_func("/log/is-text", is_text);
    return g_test_run();
}
