/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gpu/vgpu_type.h"

#include <stdio.h>
#include <string.h>

#define GIB  (UINT64_C(1) << 30)
#define MOST 32u /* vGPUs of a GPU */

bool gpup_vgpu_parse(const char *name, uint64_t *framebuffer, char *class)
{
    const char *last = strrchr(name, '-');
    char *end = NULL;
    guint64 size;

    if (!last || last == name || !g_ascii_isdigit(last[1]))
        return false;
    size = g_ascii_strtoull(last + 1, &end, 10);
    if (!strchr("QBCA", *end) || !*end || end[1] || size > 1024)
        return false;
    /* "H100-1-10C": one part of the GPU's own division */
    if (last - name >= 2 && last[-2] == '-' && g_ascii_isdigit(last[-1]))
        return false;
    *framebuffer = size ? size * GIB : GIB / 2;
    *class = *end;
    return true;
}

static bool is_of(const struct gpup_vgpu_type *type, char class)
{
    uint64_t framebuffer;
    char its_class;

    return gpup_vgpu_parse(type->name, &framebuffer, &its_class) && its_class == class;
}

const struct gpup_vgpu_type *gpup_vgpu_for_count(GArray *types, char class, uint64_t memory,
                                                 unsigned n)
{
    const struct gpup_vgpu_type *best = NULL;

    for (guint i = 0; i < types->len && n > 0 && n <= MOST; i++) {
        const struct gpup_vgpu_type *type = &g_array_index(types, struct gpup_vgpu_type, i);

        if (is_of(type, class) && type->framebuffer <= memory / n &&
            (type->most == 0 || n <= type->most) &&
            (!best || type->framebuffer > best->framebuffer))
            best = type;
    }
    return best;
}

const struct gpup_vgpu_type *gpup_vgpu_for_size(GArray *types, char class, uint64_t bytes)
{
    const struct gpup_vgpu_type *best = NULL;

    for (guint i = 0; i < types->len; i++) {
        const struct gpup_vgpu_type *type = &g_array_index(types, struct gpup_vgpu_type, i);

        if (is_of(type, class) && type->framebuffer >= bytes &&
            (!best || type->framebuffer < best->framebuffer))
            best = type;
    }
    return best;
}

/* ---- models ---- */

static const unsigned char sizes_16[] = {1, 2, 4, 8, 16, 0};
static const unsigned char sizes_24[] = {1, 2, 3, 4, 6, 8, 12, 24, 0};
static const unsigned char sizes_48[] = {1, 2, 3, 4, 6, 8, 12, 16, 24, 48, 0};
static const unsigned char sizes_80[] = {4, 5, 8, 10, 16, 20, 40, 80, 0};
static const unsigned char sizes_96[] = {2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 96, 0};

/* NVIDIA's vGPU software supports these (Virtual GPU Software, Supported Products; ids of
 * pci.ids). */
static const struct gpup_vgpu_model models[] = {
    {0x25b6, 0x14a9, "A16", 16, sizes_16, 4},
    {0x25b6, 0, "A2", 16, sizes_16, 1},
    {0x2236, 0, "A10", 24, sizes_24, 1},
    {0x2235, 0, "A40", 48, sizes_48, 1},
    {0x27b8, 0, "L4", 24, sizes_24, 1},
    {0x27b6, 0, "L2", 24, sizes_24, 1},
    {0x26b5, 0, "L40", 48, sizes_48, 1},
    {0x26b9, 0, "L40S", 48, sizes_48, 1},
    {0x26ba, 0, "L20", 48, sizes_48, 1},
    {0x2bb5, 0, "RTX PRO 6000 Blackwell SE", 96, sizes_96, 1},
    {0x2331, 0, "H100 PCIe", 80, sizes_80, 1},
};

const struct gpup_vgpu_model *gpup_vgpu_model(const struct gpup_pci *pci)
{
    for (gsize i = 0; pci->vendor == 0x10de && i < G_N_ELEMENTS(models); i++) {
        if (models[i].device == pci->device &&
            (models[i].subdevice == 0 || models[i].subdevice == pci->subdevice))
            return &models[i];
    }
    return NULL;
}

GArray *gpup_vgpu_model_types(const struct gpup_vgpu_model *model, char class)
{
    GArray *types = g_array_new(FALSE, TRUE, sizeof(struct gpup_vgpu_type));

    for (const unsigned char *size = model->sizes; *size; size++) {
        struct gpup_vgpu_type type = {.framebuffer = *size * GIB,
                                      .most = MIN(model->memory / *size, MOST)};

        snprintf(type.name, sizeof(type.name), "%s-%u%c", model->name, *size, class);
        g_array_append_val(types, type);
    }
    return types;
}
