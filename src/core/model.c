/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/model.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define NAME_OF(names, value)                                                                      \
    ((size_t)(value) < sizeof(names) / sizeof((names)[0]) ? (names)[value] : "unknown")

static const char *const resources[] = {"vram", "compute", "encode", "decode"};
static const char *const enforcements[] = {"none", "share", "hard"};
static const char *const kinds[] = {"virtio", "sriov", "passthrough"};
static const char *const modes[] = {"unused", "partitioned", "passthrough", "unusable", "wedged"};
static const char *const policies[] = {"spread", "pack"};
static const char *const displays[] = {"off", "pixels", "dmabuf"};

const char *gpup_resource_name(enum gpup_resource r)
{
    return NAME_OF(resources, r);
}

const char *gpup_enforcement_name(enum gpup_enforcement e)
{
    return NAME_OF(enforcements, e);
}

const char *gpup_kind_name(enum gpup_kind k)
{
    return NAME_OF(kinds, k);
}

const char *gpup_mode_name(enum gpup_mode m)
{
    return NAME_OF(modes, m);
}

const char *gpup_policy_name(enum gpup_policy p)
{
    return NAME_OF(policies, p);
}

static int find_name(const char *const *names, size_t n, const char *name)
{
    for (size_t i = 0; name && i < n; i++) {
        if (strcmp(names[i], name) == 0)
            return (int)i;
    }
    return -EINVAL;
}

int gpup_resource_from_name(const char *name, enum gpup_resource *r)
{
    int i = find_name(resources, sizeof(resources) / sizeof(resources[0]), name);

    if (i < 0)
        return i;
    *r = (enum gpup_resource)i;
    return 0;
}

const char *gpup_display_name(enum gpup_display d)
{
    return NAME_OF(displays, d);
}

int gpup_display_from_name(const char *name, enum gpup_display *d)
{
    int i = find_name(displays, sizeof(displays) / sizeof(displays[0]), name);

    if (i < 0)
        return i;
    *d = (enum gpup_display)i;
    return 0;
}

int gpup_kind_from_name(const char *name, enum gpup_kind *k)
{
    int i = find_name(kinds, sizeof(kinds) / sizeof(kinds[0]), name);

    if (i < 0)
        return i;
    *k = (enum gpup_kind)i;
    return 0;
}

int gpup_policy_from_name(const char *name, enum gpup_policy *p)
{
    int i = find_name(policies, sizeof(policies) / sizeof(policies[0]), name);

    if (i < 0)
        return i;
    *p = (enum gpup_policy)i;
    return 0;
}

const char *gpup_short_id(const char *id)
{
    return strncmp(id, "0000:", strlen("0000:")) == 0 ? id + strlen("0000:") : id;
}

bool gpup_slot_is_free(const struct gpup_slot *slot)
{
    return slot->adapter[0] == '\0';
}

size_t gpup_gpu_free_slots(const struct gpup_gpu *gpu)
{
    size_t n = 0;

    for (size_t i = 0; i < gpu->n_slots; i++)
        n += gpup_slot_is_free(&gpu->slots[i]);
    return n;
}

bool gpup_gpu_count_is_valid(const struct gpup_gpu *gpu, unsigned count)
{
    for (size_t i = 0; i < gpu->n_valid_counts; i++) {
        if (gpu->valid_counts[i] == count)
            return true;
    }
    return false;
}

uint64_t gpup_gpu_equal_part(const struct gpup_gpu *gpu, enum gpup_resource r, unsigned count)
{
    for (size_t i = 0; r == GPUP_VRAM && gpu->count_vram && i < gpu->n_valid_counts; i++) {
        if (gpu->valid_counts[i] == count)
            return gpu->count_vram[i];
    }
    return count ? gpu->resource[r].total / count : 0;
}

uint64_t gpup_gpu_available(const struct gpup_gpu *gpu, enum gpup_resource r)
{
    uint64_t left = gpu->resource[r].total;

    for (size_t i = 0; i < gpu->n_slots; i++) {
        const struct gpup_slot *slot = &gpu->slots[i];
        uint64_t taken;

        if (gpup_slot_is_free(slot))
            continue;
        taken = slot->grant.share[r].min;
        left = taken > left ? 0 : left - taken;
    }
    return left;
}

void gpup_gpu_clear_slots(struct gpup_gpu *gpu)
{
    for (size_t i = 0; i < gpu->n_slots; i++)
        free(gpu->slots[i].vm);
    free(gpu->slots);
    gpu->slots = NULL;
    gpu->n_slots = 0;
}

void gpup_gpu_free(struct gpup_gpu *gpu)
{
    if (!gpu)
        return;
    gpup_gpu_clear_slots(gpu);
    for (char **note = gpu->notes; note && *note; note++)
        free(*note);
    free(gpu->notes);
    free(gpu->count_vram);
    free(gpu->valid_counts);
    free(gpu->id);
    free(gpu->key);
    free(gpu->name);
    free(gpu->vendor);
    free(gpu->driver);
    free(gpu->node);
    free(gpu->pci_id);
    free(gpu->reason);
    free(gpu);
}

void gpup_adapter_free(struct gpup_adapter *adapter)
{
    if (!adapter)
        return;
    free(adapter->gpu);
    free(adapter);
}

struct gpup_adapter *gpup_adapter_copy(const struct gpup_adapter *adapter)
{
    struct gpup_adapter *copy = malloc(sizeof(*copy));

    if (!copy)
        return NULL;
    *copy = *adapter;
    if (adapter->gpu) {
        copy->gpu = strdup(adapter->gpu);
        if (!copy->gpu) {
            free(copy);
            return NULL;
        }
    }
    return copy;
}
