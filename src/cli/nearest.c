/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/cli.h"

#include <string.h>

#define LONGEST 32

static unsigned min3(unsigned a, unsigned b, unsigned c)
{
    unsigned m = a < b ? a : b;

    return m < c ? m : c;
}

static char lower(char c)
{
    return g_ascii_tolower(c);
}

/* Letters to insert, drop, replace, or swap with their neighbour (optimal string alignment); in any
 * case. */
static unsigned distance(const char *a, const char *b)
{
    size_t la = strlen(a), lb = strlen(b);
    unsigned d[LONGEST + 1][LONGEST + 1];

    if (la > LONGEST || lb > LONGEST)
        return LONGEST;
    for (size_t i = 0; i <= la; i++)
        d[i][0] = (unsigned)i;
    for (size_t j = 0; j <= lb; j++)
        d[0][j] = (unsigned)j;
    for (size_t i = 1; i <= la; i++) {
        for (size_t j = 1; j <= lb; j++) {
            unsigned cost = lower(a[i - 1]) != lower(b[j - 1]);

            d[i][j] = min3(d[i - 1][j] + 1, d[i][j - 1] + 1, d[i - 1][j - 1] + cost);
            if (i > 1 && j > 1 && lower(a[i - 1]) == lower(b[j - 2]) &&
                lower(a[i - 2]) == lower(b[j - 1]) && d[i - 2][j - 2] + 1 < d[i][j])
                d[i][j] = d[i - 2][j - 2] + 1;
        }
    }
    return d[la][lb];
}

const char *cli_nearest(const char *word, const char *const *names)
{
    size_t length = strlen(word);
    unsigned best = length < 4 ? 2 : length < 12 ? 3 : 5; /* as good as this is a guess */
    const char *nearest = NULL;

    for (; *names; names++) {
        unsigned d = distance(word, *names);

        if (length >= 2 && strncmp(word, *names, length) == 0)
            d = 0;
        if (d < best) {
            best = d;
            nearest = *names;
        }
    }
    return nearest;
}
