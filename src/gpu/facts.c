/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gpu/facts.h"

#include <string.h>

struct gpup_facts *gpup_facts_new(void)
{
    struct gpup_facts *facts = g_new0(struct gpup_facts, 1);

    facts->form = GPUP_FORM_VFIO;
    facts->counts = g_array_new(FALSE, TRUE, sizeof(struct gpup_count));
    facts->functions = g_array_new(FALSE, TRUE, sizeof(struct gpup_function));
    facts->notes = g_ptr_array_new_with_free_func(g_free);
    return facts;
}

void gpup_facts_free(struct gpup_facts *facts)
{
    if (!facts)
        return;
    g_array_unref(facts->counts);
    g_array_unref(facts->functions);
    g_ptr_array_unref(facts->notes);
    g_free(facts->unusable);
    g_free(facts->name);
    g_free(facts->key);
    g_free(facts);
}

void gpup_facts_note(struct gpup_facts *facts, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    g_ptr_array_add(facts->notes, g_strdup_vprintf(fmt, args));
    va_end(args);
}

void gpup_facts_unusable(struct gpup_facts *facts, const char *fmt, ...)
{
    va_list args;

    g_free(facts->unusable);
    va_start(args, fmt);
    facts->unusable = g_strdup_vprintf(fmt, args);
    va_end(args);
}

void gpup_facts_count(struct gpup_facts *facts, unsigned n, uint64_t vram)
{
    struct gpup_count count = {n, vram};

    g_array_append_val(facts->counts, count);
}

void gpup_facts_equal_counts(struct gpup_facts *facts, unsigned most)
{
    for (unsigned n = 1; n <= most; n++)
        gpup_facts_count(facts, n, facts->resource[GPUP_VRAM].total / n);
}

void gpup_facts_function(struct gpup_facts *facts, const struct gpup_function *function)
{
    g_array_append_vals(facts->functions, function, 1);
}

/* ---- between processes ---- */

GVariant *gpup_function_to_variant(const struct gpup_function *f)
{
    return g_variant_new("(ssst)", f->address, f->mdev, f->driver, f->vram);
}

void gpup_function_from_variant(GVariant *variant, struct gpup_function *f)
{
    const char *address, *mdev, *driver;
    guint64 vram;

    g_variant_get(variant, "(&s&s&st)", &address, &mdev, &driver, &vram);
    *f = (struct gpup_function){.vram = vram};
    g_strlcpy(f->address, address, sizeof(f->address));
    g_strlcpy(f->mdev, mdev, sizeof(f->mdev));
    g_strlcpy(f->driver, driver, sizeof(f->driver));
}

GVariant *gpup_grant_to_variant(const struct gpup_grant *grant)
{
    GVariantBuilder builder;

    g_variant_builder_init(&builder, G_VARIANT_TYPE("a(ttt)"));
    for (int r = 0; r < GPUP_RESOURCES; r++)
        g_variant_builder_add(&builder, "(ttt)", grant->share[r].min, grant->share[r].weight,
                              grant->share[r].cap);
    return g_variant_builder_end(&builder);
}

void gpup_grant_from_variant(GVariant *variant, struct gpup_grant *grant)
{
    *grant = (struct gpup_grant){0};
    for (gsize r = 0; r < GPUP_RESOURCES && r < g_variant_n_children(variant); r++) {
        guint64 min, weight, cap;

        g_variant_get_child(variant, r, "(ttt)", &min, &weight, &cap);
        grant->share[r] = (struct gpup_share){min, weight, cap};
    }
}

static void add_lists(const struct gpup_facts *facts, GVariantBuilder *builder)
{
    GVariantBuilder counts, functions, notes, resources;

    g_variant_builder_init(&counts, G_VARIANT_TYPE("a(ut)"));
    for (guint i = 0; i < facts->counts->len; i++) {
        const struct gpup_count *count = &g_array_index(facts->counts, struct gpup_count, i);

        g_variant_builder_add(&counts, "(ut)", count->n, count->vram);
    }
    g_variant_builder_init(&functions, G_VARIANT_TYPE("a(ssst)"));
    for (guint i = 0; i < facts->functions->len; i++)
        g_variant_builder_add_value(&functions, gpup_function_to_variant(&g_array_index(
                                                    facts->functions, struct gpup_function, i)));
    g_variant_builder_init(&notes, G_VARIANT_TYPE("as"));
    for (guint i = 0; i < facts->notes->len; i++)
        g_variant_builder_add(&notes, "s", facts->notes->pdata[i]);
    g_variant_builder_init(&resources, G_VARIANT_TYPE("a(tu)"));
    for (int r = 0; r < GPUP_RESOURCES; r++)
        g_variant_builder_add(&resources, "(tu)", facts->resource[r].total,
                              (guint32)facts->resource[r].enforcement);
    g_variant_builder_add(builder, "{sv}", "counts", g_variant_builder_end(&counts));
    g_variant_builder_add(builder, "{sv}", "functions", g_variant_builder_end(&functions));
    g_variant_builder_add(builder, "{sv}", "notes", g_variant_builder_end(&notes));
    g_variant_builder_add(builder, "{sv}", "resources", g_variant_builder_end(&resources));
}

static void add_text(GVariantBuilder *builder, const char *name, const char *text)
{
    if (text)
        g_variant_builder_add(builder, "{sv}", name, g_variant_new_string(text));
}

GVariant *gpup_facts_to_variant(const struct gpup_facts *facts)
{
    GVariantBuilder builder;

    g_variant_builder_init(&builder, G_VARIANT_TYPE_VARDICT);
    g_variant_builder_add(&builder, "{sv}", "form", g_variant_new_uint32(facts->form));
    g_variant_builder_add(&builder, "{sv}", "elastic", g_variant_new_boolean(facts->elastic));
    add_lists(facts, &builder);
    add_text(&builder, "unusable", facts->unusable);
    add_text(&builder, "name", facts->name);
    add_text(&builder, "key", facts->key);
    return g_variant_builder_end(&builder);
}

static void read_resources(GVariant *dict, struct gpup_facts *facts)
{
    g_autoptr(GVariant) list = g_variant_lookup_value(dict, "resources", G_VARIANT_TYPE("a(tu)"));

    for (gsize r = 0; list && r < GPUP_RESOURCES && r < g_variant_n_children(list); r++) {
        guint64 total;
        guint32 enforcement;

        g_variant_get_child(list, r, "(tu)", &total, &enforcement);
        facts->resource[r].total = total;
        facts->resource[r].enforcement = enforcement <= GPUP_ENFORCE_HARD
                                             ? (enum gpup_enforcement)enforcement
                                             : GPUP_ENFORCE_NONE;
    }
}

static void read_counts(GVariant *dict, struct gpup_facts *facts)
{
    g_autoptr(GVariant) list = g_variant_lookup_value(dict, "counts", G_VARIANT_TYPE("a(ut)"));

    for (gsize i = 0; list && i < g_variant_n_children(list) && i < GPUP_MAX_SLOTS; i++) {
        guint32 n;
        guint64 vram;

        g_variant_get_child(list, i, "(ut)", &n, &vram);
        if (n > 0 && n <= GPUP_MAX_SLOTS)
            gpup_facts_count(facts, n, vram);
    }
}

static void read_functions(GVariant *dict, struct gpup_facts *facts)
{
    g_autoptr(GVariant) list = g_variant_lookup_value(dict, "functions", G_VARIANT_TYPE("a(ssst)"));

    for (gsize i = 0; list && i < g_variant_n_children(list) && i < GPUP_MAX_SLOTS; i++) {
        g_autoptr(GVariant) child = g_variant_get_child_value(list, i);
        struct gpup_function function;

        gpup_function_from_variant(child, &function);
        gpup_facts_function(facts, &function);
    }
}

struct gpup_facts *gpup_facts_from_variant(GVariant *dict)
{
    struct gpup_facts *facts = gpup_facts_new();
    g_auto(GStrv) notes = NULL;
    guint32 form = 0;
    gboolean elastic = FALSE;

    if (g_variant_lookup(dict, "form", "u", &form) && form <= GPUP_FORM_MDEV)
        facts->form = (enum gpup_form)form;
    g_variant_lookup(dict, "elastic", "b", &elastic);
    facts->elastic = elastic;
    read_resources(dict, facts);
    read_counts(dict, facts);
    read_functions(dict, facts);
    if (g_variant_lookup(dict, "notes", "^as", &notes)) {
        for (char **note = notes; *note; note++)
            g_ptr_array_add(facts->notes, g_strdup(*note));
    }
    g_variant_lookup(dict, "unusable", "s", &facts->unusable);
    g_variant_lookup(dict, "name", "s", &facts->name);
    g_variant_lookup(dict, "key", "s", &facts->key);
    return facts;
}

/* ---- into a GPU ---- */

static void apply_counts(const struct gpup_facts *facts, struct gpup_gpu *gpu)
{
    size_t n = facts->counts->len;

    free(gpu->valid_counts);
    free(gpu->count_vram);
    gpu->valid_counts = g_new0(unsigned, n);
    gpu->count_vram = g_new0(uint64_t, n);
    gpu->n_valid_counts = n;
    for (size_t i = 0; i < n; i++) {
        const struct gpup_count *count = &g_array_index(facts->counts, struct gpup_count, i);

        gpu->valid_counts[i] = count->n;
        gpu->count_vram[i] = count->vram;
    }
}

static void apply_slots(const struct gpup_facts *facts, struct gpup_gpu *gpu)
{
    size_t n = facts->functions->len;

    gpup_gpu_clear_slots(gpu);
    gpu->slots = g_new0(struct gpup_slot, n);
    gpu->n_slots = n;
}

static void apply_notes(const struct gpup_facts *facts, struct gpup_gpu *gpu)
{
    size_t n = facts->notes->len;

    for (char **note = gpu->notes; note && *note; note++)
        free(*note);
    free(gpu->notes);
    gpu->notes = g_new0(char *, n + 1);
    for (size_t i = 0; i < n; i++)
        gpu->notes[i] = strdup(facts->notes->pdata[i]);
}

static void replace(char **text, const char *with)
{
    if (!with)
        return;
    free(*text);
    *text = strdup(with);
}

void gpup_function_update(struct gpup_function *function, const struct gpup_function *now)
{
    struct gpup_function updated = *now;

    if (!*updated.mdev)
        memcpy(updated.mdev, function->mdev, sizeof(updated.mdev));
    *function = updated;
}

/* The smallest of the partitions there are: what each of them has at least. */
static uint64_t smallest(const struct gpup_facts *facts, struct gpup_gpu *gpu)
{
    uint64_t least = 0;

    for (guint i = 0; i < facts->functions->len; i++) {
        uint64_t vram = g_array_index(facts->functions, struct gpup_function, i).vram;

        if (vram > 0 && (least == 0 || vram < least))
            least = vram;
    }
    return least ? least : gpup_gpu_equal_part(gpu, GPUP_VRAM, facts->functions->len);
}

void gpup_facts_apply(const struct gpup_facts *facts, struct gpup_gpu *gpu, bool slots)
{
    gpu->form = facts->form;
    gpu->elastic = facts->elastic;
    memcpy(gpu->resource, facts->resource, sizeof(gpu->resource));
    apply_counts(facts, gpu);
    apply_notes(facts, gpu);
    replace(&gpu->name, facts->name);
    replace(&gpu->key, facts->key);
    if (slots)
        apply_slots(facts, gpu);
    for (size_t i = 0; i < gpu->n_slots && i < facts->functions->len; i++)
        gpup_function_update(&gpu->slots[i].function,
                             &g_array_index(facts->functions, struct gpup_function, i));
    gpu->fixed_vram = smallest(facts, gpu);
    free(gpu->reason);
    gpu->reason = facts->unusable ? strdup(facts->unusable) : NULL;
    gpu->mode = facts->unusable                      ? GPUP_MODE_UNUSABLE
                : gpu->kind == GPUP_KIND_PASSTHROUGH ? GPUP_MODE_PASSTHROUGH
                : gpu->n_slots                       ? GPUP_MODE_PARTITIONED
                                                     : GPUP_MODE_UNUSED;
}
