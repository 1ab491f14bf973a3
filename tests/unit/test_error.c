/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/error.h"

#include <errno.h>
#include <glib.h>

static void set_and_wrap(void)
{
    GPUP_AUTO_ERROR err = NULL;

    g_assert_cmpint(gpup_error_set(&err, EBUSY, "slot %d is taken", 3), ==, -EBUSY);
    g_assert_cmpint(gpup_error_wrap(&err, "starting %s", "desk1"), ==, -EBUSY);
    g_assert_cmpstr(gpup_error_message(err), ==, "starting desk1: slot 3 is taken");
    g_assert_cmpint(gpup_error_set(&err, ENOENT, "other"), ==, -ENOENT);
    g_assert_cmpstr(gpup_error_message(err), ==, "other");
}

static void without_a_place(void)
{
    GPUP_AUTO_ERROR from = NULL;

    g_assert_cmpint(gpup_error_set(NULL, ERANGE, "x"), ==, -ERANGE);
    g_assert_cmpint(gpup_error_wrap(NULL, "x"), ==, -EIO);
    gpup_error_set(&from, EPERM, "no");
    g_assert_cmpint(gpup_error_move(NULL, g_steal_pointer(&from)), ==, -EPERM);
    g_assert_cmpstr(gpup_error_message(NULL), ==, "unknown error");
}

static void exit_codes(void)
{
    static const struct {
        int code;
        enum gpup_exit exit;
    } cases[] = {
        {EINVAL, GPUP_EXIT_USAGE},   {ERANGE, GPUP_EXIT_USAGE},   {EBUSY, GPUP_EXIT_NOT_NOW},
        {ENOSPC, GPUP_EXIT_NOT_NOW}, {EAGAIN, GPUP_EXIT_NOT_NOW}, {ENOENT, GPUP_EXIT_FAILED},
        {EIO, GPUP_EXIT_FAILED},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        GPUP_AUTO_ERROR err = NULL;

        gpup_error_set(&err, cases[i].code, "x");
        g_assert_cmpint(gpup_error_exit_code(err), ==, cases[i].exit);
    }
    g_assert_cmpint(gpup_error_exit_code(NULL), ==, GPUP_EXIT_FAILED);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/error/set-and-wrap", set_and_wrap);
    g_test_add_func("/error/without-a-place", without_a_place);
    g_test_add_func("/error/exit-codes", exit_codes);
    return g_test_run();
}
