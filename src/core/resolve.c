/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/resolve.h"

#include "core/error.h"
#include "core/text.h"
#include "core/units.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* What is being resolved, for the functions below. */
struct question {
    const struct gpup_adapter *adapter;
    const char *vm;
};

void gpup_verdict_clear(struct gpup_verdict *verdict)
{
    free(verdict->text);
    free(verdict->way_out);
    *verdict = (struct gpup_verdict){0};
}

static void say(struct gpup_verdict *v, int code, struct gpup_text *text, struct gpup_text *way_out)
{
    v->code = code;
    v->text = gpup_text_take(text);
    v->way_out = way_out && way_out->text ? gpup_text_take(way_out) : NULL;
}

static void add_value(struct gpup_text *t, enum gpup_resource r, uint64_t value)
{
    char buf[GPUP_UNIT_BUF];

    if (r == GPUP_VRAM)
        gpup_text_add(t, "%s", gpup_format_size(value, buf, sizeof(buf)));
    else
        gpup_text_add(t, "%s", gpup_format_share((uint32_t)value, buf, sizeof(buf)));
}

/* As it is typed: "1.5GiB", "33.33%". Never more than `value`. */
static void add_typed(struct gpup_text *t, enum gpup_resource r, uint64_t value)
{
    char buf[GPUP_UNIT_BUF];
    char *space;

    if (r == GPUP_VRAM)
        gpup_format_size(value, buf, sizeof(buf));
    else
        gpup_format_share((uint32_t)value, buf, sizeof(buf));
    space = strchr(buf, ' ');
    if (space)
        memmove(space, space + 1, strlen(space));
    gpup_text_add(t, "%s", buf);
}

/* "gpup assign win15 --vram 1.5GiB::" */
static void suggest_minimum(struct gpup_text *way_out, const struct question *q,
                            enum gpup_resource r, uint64_t value)
{
    gpup_text_add(way_out, "gpup assign %s --%s ", q->vm, gpup_resource_name(r));
    add_typed(way_out, r, value);
    gpup_text_add(way_out, "::");
}

/* Who holds what there is too little of, and how much each. */
static void suggest_stopping(struct gpup_text *way_out, const struct gpup_gpu *gpu,
                             enum gpup_resource r)
{
    bool first = true;

    for (size_t i = 0; i < gpu->n_slots; i++) {
        const struct gpup_slot *slot = &gpu->slots[i];

        if (gpup_slot_is_free(slot) || slot->grant.share[r].min == 0)
            continue;
        gpup_text_add(way_out, "%s%s (", first ? "stop one of " : " ",
                      slot->vm ? slot->vm : "(unknown)");
        add_value(way_out, r, slot->grant.share[r].min);
        gpup_text_add(way_out, ")");
        first = false;
    }
}

static void add_holders(struct gpup_text *t, const struct gpup_gpu *gpu)
{
    for (size_t i = 0; i < gpu->n_slots; i++) {
        if (!gpup_slot_is_free(&gpu->slots[i]))
            gpup_text_add(t, " %s", gpu->slots[i].vm ? gpu->slots[i].vm : "(unknown)");
    }
}

static uint64_t clamp(uint64_t value, uint64_t low, uint64_t high)
{
    if (value < low)
        return low;
    return value > high ? high : value;
}

/* The largest valid count whose equal part of memory is at least `need`; 0 when there is none. */
static unsigned count_for(const struct gpup_gpu *gpu, uint64_t need)
{
    unsigned best = 0;

    for (size_t i = 0; i < gpu->n_valid_counts; i++) {
        unsigned count = gpu->valid_counts[i];

        if (count > best && gpup_gpu_equal_part(gpu, GPUP_VRAM, count) >= need)
            best = count;
    }
    return best;
}

/* The smallest valid count whose equal part of memory is at most `most`; 0 when there is none. */
static unsigned count_within(const struct gpup_gpu *gpu, uint64_t most)
{
    unsigned best = 0;

    for (size_t i = 0; i < gpu->n_valid_counts; i++) {
        unsigned count = gpu->valid_counts[i];

        if ((best == 0 || count < best) && gpup_gpu_equal_part(gpu, GPUP_VRAM, count) <= most)
            best = count;
    }
    return best;
}

static void suggest_count(struct gpup_text *way_out, const struct gpup_gpu *gpu, unsigned count)
{
    size_t used = gpu->n_slots - gpup_gpu_free_slots(gpu);

    if (count == 0)
        return;
    gpup_text_add(way_out, "gpup gpu partition %s %u", gpup_gpu_short_id(gpu), count);
    if (used > 0) {
        gpup_text_add(way_out, " --power-off-vms   (powers off");
        add_holders(way_out, gpu);
        gpup_text_add(way_out, ")");
    }
}

/* Is there something to choose from at all? */
static bool usable(const struct question *q, const struct gpup_gpu *gpu, struct gpup_verdict *v)
{
    GPUP_AUTO_TEXT text = {0};
    GPUP_AUTO_TEXT way_out = {0};

    if (gpu->changing) {
        gpup_text_add(&text, "is being partitioned at this moment");
        gpup_text_add(&way_out, "try again in a few seconds");
        say(v, EBUSY, &text, &way_out);
        return false;
    }
    switch (gpu->mode) {
    case GPUP_MODE_WEDGED:
    case GPUP_MODE_UNUSABLE:
        gpup_text_add(&text, "cannot be used: %s", gpu->reason ? gpu->reason : "unknown reason");
        say(v, EINVAL, &text, NULL);
        return false;
    case GPUP_MODE_UNUSED:
        gpup_text_add(&text, "not partitioned");
        gpup_text_add(&way_out, "gpup gpu partition %s N", gpup_gpu_short_id(gpu));
        say(v, EINVAL, &text, &way_out);
        return false;
    case GPUP_MODE_PASSTHROUGH: /* its one slot is all of it */
    case GPUP_MODE_PARTITIONED:
        break;
    }
    if (gpu->foreign && gpu->mode == GPUP_MODE_PASSTHROUGH) {
        gpup_text_add(&text, "it was bound to VFIO by something else");
        gpup_text_add(&way_out, "gpup gpu passthrough %s on   (takes it over)",
                      gpup_gpu_short_id(gpu));
        say(v, EINVAL, &text, &way_out);
        return false;
    }
    if (gpu->foreign) {
        gpup_text_add(&text, "its %zu VFs were made by something else", gpu->n_slots);
        gpup_text_add(&way_out, "gpup gpu partition %s %zu   (takes them over)",
                      gpup_gpu_short_id(gpu), gpu->n_slots);
        say(v, EINVAL, &text, &way_out);
        return false;
    }
    if (gpup_gpu_free_slots(gpu) > 0)
        return true;
    if (gpu->mode == GPUP_MODE_PASSTHROUGH)
        gpup_text_add(&text, "given whole to");
    else if (gpu->n_slots == 1)
        gpup_text_add(&text, "its one partition is used by");
    else
        gpup_text_add(&text, "all %zu used by", gpu->n_slots);
    add_holders(&text, gpu);
    gpup_text_add(&way_out, "stop one of");
    add_holders(&way_out, gpu);
    say(v, EBUSY, &text, &way_out);
    return false;
}

static bool too_little(struct gpup_verdict *v, int code, const struct question *q,
                       enum gpup_resource r, uint64_t have, const char *words, uint64_t need,
                       struct gpup_text *way_out)
{
    GPUP_AUTO_TEXT text = {0};

    add_value(&text, r, have);
    gpup_text_add(&text, " %s, %s needs ", words, q->vm);
    add_value(&text, r, need);
    if (r != GPUP_VRAM)
        gpup_text_add(&text, " of %s", gpup_resource_name(r));
    say(v, code, &text, way_out);
    return false;
}

static bool grant_fixed_vram(const struct question *q, const struct gpup_gpu *gpu,
                             struct gpup_share *share, struct gpup_verdict *v)
{
    const struct gpup_request *ask = &q->adapter->request[GPUP_VRAM];
    GPUP_AUTO_TEXT way_out = {0};

    if (ask->has_min && ask->min > gpu->fixed_vram) {
        suggest_count(&way_out, gpu, count_for(gpu, ask->min));
        if (!way_out.text && gpu->n_valid_counts > 0) /* not even with the fewest */
            suggest_minimum(&way_out, q, GPUP_VRAM,
                            gpup_gpu_equal_part(gpu, GPUP_VRAM, gpu->valid_counts[0]));
        return too_little(v, EINVAL, q, GPUP_VRAM, gpu->fixed_vram, "each", ask->min, &way_out);
    }
    if (ask->has_max && ask->max < gpu->fixed_vram) {
        GPUP_AUTO_TEXT text = {0};

        add_value(&text, GPUP_VRAM, gpu->fixed_vram);
        gpup_text_add(&text, " each, %s wants at most ", q->vm);
        add_value(&text, GPUP_VRAM, ask->max);
        suggest_count(&way_out, gpu, count_within(gpu, ask->max));
        say(v, EINVAL, &text, &way_out);
        return false;
    }
    *share = (struct gpup_share){gpu->fixed_vram, gpu->fixed_vram, gpu->fixed_vram};
    return true;
}

/* Memory of an elastic slot: the optimal within min, max and what is left. */
static bool grant_vram(const struct question *q, const struct gpup_gpu *gpu,
                       struct gpup_share *share, struct gpup_verdict *v)
{
    const struct gpup_request *ask = &q->adapter->request[GPUP_VRAM];
    uint64_t total = gpu->resource[GPUP_VRAM].total;
    uint64_t left = gpup_gpu_available(gpu, GPUP_VRAM);
    uint64_t part = gpup_gpu_equal_part(gpu, GPUP_VRAM, (unsigned)gpu->n_slots);
    uint64_t max = ask->has_max ? ask->max : UINT64_MAX;
    uint64_t optimal, min, value;
    GPUP_AUTO_TEXT way_out = {0};

    if (!gpu->elastic)
        return grant_fixed_vram(q, gpu, share, v);
    optimal = ask->has_optimal ? ask->optimal : clamp(part, ask->has_min ? ask->min : 0, max);
    /* who names no minimum asked for what an equal split gives, or for the little it named */
    min = ask->has_min ? ask->min : (optimal < part ? optimal : part);
    if (min > total) {
        suggest_minimum(&way_out, q, GPUP_VRAM, total);
        return too_little(v, EINVAL, q, GPUP_VRAM, total, "in all", min, &way_out);
    }
    if (min > left) {
        suggest_stopping(&way_out, gpu, GPUP_VRAM);
        return too_little(v, ENOSPC, q, GPUP_VRAM, left, "left", min, &way_out);
    }
    value = clamp(optimal, min, max < left ? max : left);
    *share = (struct gpup_share){value, value, value};
    return true;
}

/* A share: {min, weight, cap} = {min, optimal, max}; the defaults are one full partition. */
static bool grant_share(const struct question *q, const struct gpup_gpu *gpu, enum gpup_resource r,
                        struct gpup_share *share, struct gpup_verdict *v)
{
    const struct gpup_request *ask = &q->adapter->request[r];
    const struct gpup_resource_info *info = &gpu->resource[r];
    uint64_t part = gpup_gpu_equal_part(gpu, r, (unsigned)gpu->n_slots);
    uint64_t left = gpup_gpu_available(gpu, r);
    uint64_t min;
    GPUP_AUTO_TEXT way_out = {0};

    *share = (struct gpup_share){0};
    if (info->total == 0) {
        if (!ask->has_min || ask->min == 0)
            return true;
        suggest_minimum(&way_out, q, r, 0);
        return too_little(v, EINVAL, q, r, 0, "there", ask->min, &way_out);
    }
    share->cap = ask->has_max ? ask->max : info->total;
    share->weight = ask->has_optimal ? ask->optimal : clamp(part, ask->min, share->cap);
    if (info->enforcement == GPUP_ENFORCE_NONE) {
        /* nothing holds a minimum here: only what an equal split gives on average is accepted */
        if (ask->has_min && ask->min > part) {
            suggest_minimum(&way_out, q, r, part);
            return too_little(v, EINVAL, q, r, part, "each on average (shared without limit)",
                              ask->min, &way_out);
        }
        share->min = ask->has_min ? ask->min : 0;
        return true;
    }
    min = ask->has_min ? ask->min : clamp(part, 0, share->weight);
    if (min > info->total)
        return too_little(v, EINVAL, q, r, info->total, "in all", min, NULL);
    if (min > left) {
        suggest_stopping(&way_out, gpu, r);
        return too_little(v, ENOSPC, q, r, left, "left", min, &way_out);
    }
    share->min = min;
    return true;
}

static bool consider(const struct question *q, const struct gpup_gpu *gpu, struct gpup_grant *grant,
                     struct gpup_verdict *v)
{
    GPUP_AUTO_TEXT text = {0};

    *v = (struct gpup_verdict){0};
    if (!usable(q, gpu, v) || !grant_vram(q, gpu, &grant->share[GPUP_VRAM], v))
        return false;
    for (int r = GPUP_COMPUTE; r < GPUP_RESOURCES; r++) {
        if (!grant_share(q, gpu, (enum gpup_resource)r, &grant->share[r], v))
            return false;
    }
    gpup_text_add(&text, "%zu of %zu free, ", gpup_gpu_free_slots(gpu), gpu->n_slots);
    add_value(&text, GPUP_VRAM, grant->share[GPUP_VRAM].cap);
    gpup_text_add(&text, " for %s", q->vm);
    v->fits = true;
    say(v, 0, &text, NULL);
    return true;
}

static unsigned first_free_slot(const struct gpup_gpu *gpu)
{
    for (size_t i = 0; i < gpu->n_slots; i++) {
        if (gpup_slot_is_free(&gpu->slots[i]))
            return (unsigned)i;
    }
    return 0;
}

/*
 * Whether a is the better place. Spread: the larger free part of the GPU, by slots; then by bytes
 * left. Pack: the reverse. Compared as fractions, without dividing; ties go to the lower id.
 */
static bool better(const struct gpup_gpu *a, const struct gpup_gpu *b, enum gpup_policy policy)
{
    uint64_t x = (uint64_t)gpup_gpu_free_slots(a) * b->n_slots;
    uint64_t y = (uint64_t)gpup_gpu_free_slots(b) * a->n_slots;

    if (x == y) {
        x = gpup_gpu_available(a, GPUP_VRAM);
        y = gpup_gpu_available(b, GPUP_VRAM);
    }
    if (x == y)
        return strcmp(a->id, b->id) < 0;
    return policy == GPUP_POLICY_SPREAD ? x > y : x < y;
}

static bool is_candidate(const struct question *q, const struct gpup_gpu *gpu)
{
    if (gpu->kind != q->adapter->kind)
        return false;
    return !q->adapter->gpu || strcmp(gpu->key, q->adapter->gpu) == 0;
}

/* Why a GPU is no candidate. */
static void say_excluded(const struct question *q, const struct gpup_gpu *gpu,
                         struct gpup_verdict *v)
{
    GPUP_AUTO_TEXT text = {0};
    GPUP_AUTO_TEXT way_out = {0};

    if (gpu->kind != q->adapter->kind) {
        gpup_text_add(&text, "its partitions are %s, the adapter of %s is %s",
                      gpup_kind_name(gpu->kind), q->vm, gpup_kind_name(q->adapter->kind));
        gpup_text_add(&way_out, "gpup unassign %s, then gpup assign %s --kind %s", q->vm, q->vm,
                      gpup_kind_name(gpu->kind));
    } else {
        gpup_text_add(&text, "%s is to be on another GPU only", q->vm);
        gpup_text_add(&way_out, "gpup assign %s --gpu ''", q->vm);
    }
    say(v, EINVAL, &text, &way_out);
}

static int refuse(const struct question *q, struct gpup_gpu *const *gpus, size_t n_gpus,
                  struct gpup_error **err)
{
    GPUP_AUTO_TEXT lines = {0};
    GPUP_AUTO_TEXT ways = {0};
    size_t considered = 0;
    int code = EINVAL;

    for (size_t i = 0; i < n_gpus; i++) {
        struct gpup_verdict v;
        struct gpup_grant grant;

        if (!is_candidate(q, gpus[i]))
            continue;
        considered++;
        consider(q, gpus[i], &grant, &v);
        gpup_text_add(&lines, "\n  %s %s: %s", gpup_gpu_short_id(gpus[i]), gpus[i]->name, v.text);
        if (v.way_out && !(ways.text && strstr(ways.text, v.way_out)))
            gpup_text_add(&ways, "%s%s", ways.text ? "; or " : "\n", v.way_out);
        if (v.code == EBUSY || (v.code == ENOSPC && code != EBUSY))
            code = v.code;
        gpup_verdict_clear(&v);
    }
    if (considered == 0 && q->adapter->gpu)
        return gpup_error_set(err, ENOENT,
                              "no partition for %s\n  its GPU %s is not in this host\n"
                              "gpup assign %s --gpu GPU chooses another, --gpu '' any",
                              q->vm, q->adapter->gpu, q->vm);
    if (considered == 0)
        return gpup_error_set(err, ENOENT,
                              "no partition for %s\n  this host has no GPU for %s "
                              "partitions\ngpup unassign %s, then gpup assign %s takes the kind "
                              "that it has",
                              q->vm, gpup_kind_name(q->adapter->kind), q->vm, q->vm);
    if (!ways.text && q->adapter->gpu)
        gpup_text_add(&ways, "\ngpup assign %s --gpu GPU chooses another, --gpu '' any", q->vm);
    if (ways.text && strncmp(ways.text, "\nstop", 5) == 0)
        ways.text[1] = 'S';
    return gpup_error_set(err, code, "no partition for %s%s%s", q->vm, lines.text ? lines.text : "",
                          ways.text ? ways.text : "");
}

int gpup_resolve(struct gpup_gpu *const *gpus, size_t n_gpus, const struct gpup_adapter *adapter,
                 const char *vm, enum gpup_policy policy, struct gpup_placement *placement,
                 struct gpup_verdict *verdicts, struct gpup_error **err)
{
    const struct question q = {adapter, vm};
    bool found = false;

    for (size_t i = 0; i < n_gpus; i++) {
        struct gpup_verdict v = {0};
        struct gpup_grant grant = {0};

        if (!is_candidate(&q, gpus[i])) {
            say_excluded(&q, gpus[i], &v);
        } else if (consider(&q, gpus[i], &grant, &v) &&
                   (!found || better(gpus[i], gpus[placement->gpu], policy))) {
            found = true;
            *placement = (struct gpup_placement){i, first_free_slot(gpus[i]), grant};
        }
        if (verdicts)
            verdicts[i] = v;
        else
            gpup_verdict_clear(&v);
    }
    if (!found)
        return refuse(&q, gpus, n_gpus, err);
    if (verdicts)
        verdicts[placement->gpu].chosen = true;
    return 0;
}
