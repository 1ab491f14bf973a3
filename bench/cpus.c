/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cpus.h"

#include <glib.h>

const cpu_set_t *cpus_allowed(void)
{
    static cpu_set_t set; /* as it was before anything was moved */

    if (CPU_COUNT(&set) == 0)
        g_assert_cmpint(sched_getaffinity(0, sizeof(set), &set), ==, 0);
    return &set;
}

unsigned cpus_count(void)
{
    return (unsigned)CPU_COUNT(cpus_allowed());
}

void cpus_keep_to(size_t number)
{
    size_t left = number % cpus_count();
    cpu_set_t one;

    CPU_ZERO(&one);
    for (int cpu = 0; cpu < CPU_SETSIZE && CPU_COUNT(&one) == 0; cpu++) {
        if (CPU_ISSET(cpu, cpus_allowed()) && left-- == 0)
            CPU_SET(cpu, &one);
    }
    g_assert_cmpint(sched_setaffinity(0, sizeof(one), &one), ==, 0);
}
