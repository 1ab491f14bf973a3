/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_TEST_SHOW_H
#define GPUP_TEST_SHOW_H

#include <stdbool.h>

/* Shows a known picture on the partition's head for so many seconds: from a buffer that the program
 * writes, or one that the GPU renders. The exit code. */
int show_picture(bool rendered, int seconds);

#endif
