/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <malloc.h>

/* Linked into a gpup-render: whatever it allocates is full of POISON's complement, whatever it has
 * freed of POISON. */
__attribute__((constructor)) static void poison(void)
{
    mallopt(M_PERTURB, POISON);
}
