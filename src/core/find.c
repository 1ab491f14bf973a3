/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/error.h"
#include "core/resolve.h"
#include "core/text.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

const char *gpup_gpu_short_id(const struct gpup_gpu *gpu)
{
    return gpup_short_id(gpu->id);
}

static bool same(const char *a, const char *b)
{
    return a && strcasecmp(a, b) == 0;
}

/* How well a word fits a GPU: 3 names exactly one thing, 2 its name, 1 the start of its name. */
static int rank(const struct gpup_gpu *gpu, const char *word)
{
    if (same(gpu->id, word) || same(gpup_gpu_short_id(gpu), word) || same(gpu->key, word) ||
        same(gpu->node, word))
        return 3;
    if (same(gpu->name, word))
        return 2;
    return gpu->name && strncasecmp(gpu->name, word, strlen(word)) == 0 ? 1 : 0;
}

static void list_gpus(struct gpup_text *t, struct gpup_gpu *const *gpus, size_t n, const char *word,
                      int wanted)
{
    const char *separator = "";

    for (size_t i = 0; i < n; i++) {
        if (wanted && rank(gpus[i], word) != wanted)
            continue;
        gpup_text_add(t, "%s%s (%s)", separator, gpup_gpu_short_id(gpus[i]), gpus[i]->name);
        separator = ", ";
    }
}

int gpup_find_gpu(struct gpup_gpu *const *gpus, size_t n_gpus, const char *word, size_t *index,
                  struct gpup_error **err)
{
    GPUP_AUTO_TEXT list = {0};
    int best = 0;
    size_t n_best = 0;

    for (size_t i = 0; *word && i < n_gpus; i++) {
        int r = rank(gpus[i], word);

        if (r > best) {
            best = r;
            n_best = 0;
        }
        if (r == best && r > 0 && n_best++ == 0)
            *index = i;
    }
    if (n_best == 1)
        return 0;
    list_gpus(&list, gpus, n_gpus, word, best);
    if (n_best > 1)
        return gpup_error_set(err, EINVAL, "'%s' could be any of: %s", word, list.text);
    if (n_gpus == 0)
        return gpup_error_set(err, ENOENT, "no GPU '%s': this host has none", word);
    return gpup_error_set(err, ENOENT, "no GPU '%s': there are %s", word, list.text);
}
