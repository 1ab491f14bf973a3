/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_GPU_FACTS_H
#define GPUP_GPU_FACTS_H

#include "core/model.h"

#include <glib.h>

/* What a GPU's driver tells of it, on its way from the helper to gpupd. */
struct gpup_facts {
    enum gpup_form form;
    bool elastic;
    struct gpup_resource_info resource[GPUP_RESOURCES];
    GArray *counts;    /* struct gpup_count, ascending */
    GArray *functions; /* struct gpup_function: the partitions there are */
    GPtrArray *notes;  /* char *: what an administrator should know */
    char *unusable;    /* why it cannot be used, or NULL */
    char *name;        /* better than the PCI name, or NULL */
    char *key; /* better than the PCI function's: the driver's own serial or UUID; or NULL */
};

struct gpup_count {
    unsigned n;
    uint64_t vram; /* bytes of each partition */
};

struct gpup_facts *gpup_facts_new(void);
void gpup_facts_free(struct gpup_facts *facts);
typedef struct gpup_facts gpup_facts; /* for g_autoptr */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(gpup_facts, gpup_facts_free)

void gpup_facts_note(struct gpup_facts *facts, const char *fmt, ...) G_GNUC_PRINTF(2, 3);
void gpup_facts_unusable(struct gpup_facts *facts, const char *fmt, ...) G_GNUC_PRINTF(2, 3);
/* 1..most, each an equal part of the memory. */
void gpup_facts_equal_counts(struct gpup_facts *facts, unsigned most);
void gpup_facts_count(struct gpup_facts *facts, unsigned n, uint64_t vram);
void gpup_facts_function(struct gpup_facts *facts, const struct gpup_function *function);

/* Between processes: a{sv}. The reader trusts nothing but the types. */
GVariant *gpup_facts_to_variant(const struct gpup_facts *facts);
struct gpup_facts *gpup_facts_from_variant(GVariant *variant);
GVariant *gpup_function_to_variant(const struct gpup_function *function);
void gpup_function_from_variant(GVariant *variant, struct gpup_function *function);
GVariant *gpup_grant_to_variant(const struct gpup_grant *grant);
void gpup_grant_from_variant(GVariant *variant, struct gpup_grant *grant);

/* What stands behind a slot, as it is found now. A mediated device is known by who made it. */
void gpup_function_update(struct gpup_function *function, const struct gpup_function *now);

/* Puts the facts into the GPU; slots are replaced only where `slots` says so (they are free then).
 */
void gpup_facts_apply(const struct gpup_facts *facts, struct gpup_gpu *gpu, bool slots);

#endif
