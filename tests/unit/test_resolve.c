/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/error.h"
#include "core/resolve.h"

#include <errno.h>
#include <glib.h>

#define MIB (UINT64_C(1) << 20)

/* A virtio GPU of 2048 MiB (the software GPU's resources), cut into n. Freed with gpup_gpu_free. */
static struct gpup_gpu *make_gpu(const char *id, const char *name, size_t n)
{
    struct gpup_gpu *gpu = calloc(1, sizeof(*gpu));

    gpu->id = strdup(id);
    gpu->key = strdup(id);
    gpu->name = strdup(name);
    gpu->kind = GPUP_KIND_VIRTIO;
    gpu->mode = n ? GPUP_MODE_PARTITIONED : GPUP_MODE_UNUSED;
    gpu->elastic = true;
    gpu->resource[GPUP_VRAM] = (struct gpup_resource_info){2048 * MIB, GPUP_ENFORCE_HARD};
    gpu->resource[GPUP_COMPUTE] = (struct gpup_resource_info){1000000, GPUP_ENFORCE_SHARE};
    gpu->n_valid_counts = 32;
    gpu->valid_counts = calloc(32, sizeof(unsigned));
    for (unsigned i = 0; i < 32; i++)
        gpu->valid_counts[i] = i + 1;
    gpu->n_slots = n;
    gpu->slots = calloc(n ? n : 1, sizeof(*gpu->slots));
    return gpu;
}

static void take(struct gpup_gpu *gpu, unsigned slot, const char *vm,
                 const struct gpup_grant *grant)
{
    strcpy(gpu->slots[slot].adapter, "a");
    free(gpu->slots[slot].vm);
    gpu->slots[slot].vm = strdup(vm);
    gpu->slots[slot].grant = *grant;
}

struct fixture {
    struct gpup_gpu *gpus[2];
    struct gpup_adapter adapter;
};

static void set_up(struct fixture *f, gconstpointer data)
{
    f->gpus[0] = make_gpu("0000:03:00.0", "B50", 4);
    f->gpus[1] = make_gpu("software", "llvmpipe", 4);
    f->adapter = (struct gpup_adapter){.id = "x", .kind = GPUP_KIND_VIRTIO};
}

static void tear_down(struct fixture *f, gconstpointer data)
{
    gpup_gpu_free(f->gpus[0]);
    gpup_gpu_free(f->gpus[1]);
}

static void one_full_partition_by_default(struct fixture *f, gconstpointer data)
{
    struct gpup_placement p;

    g_assert_cmpint(gpup_resolve(f->gpus, 2, &f->adapter, "vm", GPUP_POLICY_SPREAD, &p, NULL, NULL),
                    ==, 0);
    g_assert_cmpuint(p.gpu, ==, 0);
    g_assert_cmpuint(p.slot, ==, 0);
    g_assert_cmpuint(p.grant.share[GPUP_VRAM].cap, ==, 512 * MIB);
    g_assert_cmpuint(p.grant.share[GPUP_COMPUTE].min, ==, 250000);
    g_assert_cmpuint(p.grant.share[GPUP_COMPUTE].weight, ==, 250000);
    g_assert_cmpuint(p.grant.share[GPUP_COMPUTE].cap, ==, 1000000);
    g_assert_cmpuint(p.grant.share[GPUP_ENCODE].cap, ==, 0);
}

static void policies(struct fixture *f, gconstpointer data)
{
    struct gpup_placement p;

    gpup_resolve(f->gpus, 2, &f->adapter, "vm", GPUP_POLICY_SPREAD, &p, NULL, NULL);
    take(f->gpus[0], 0, "one", &p.grant);
    gpup_resolve(f->gpus, 2, &f->adapter, "vm", GPUP_POLICY_SPREAD, &p, NULL, NULL);
    g_assert_cmpuint(p.gpu, ==, 1);
    gpup_resolve(f->gpus, 2, &f->adapter, "vm", GPUP_POLICY_PACK, &p, NULL, NULL);
    g_assert_cmpuint(p.gpu, ==, 0);
    g_assert_cmpuint(p.slot, ==, 1);
}

static void memory_is_never_overcommitted(struct fixture *f, gconstpointer data)
{
    struct gpup_placement p;
    uint64_t sum = 0;
    int ret;

    f->adapter.request[GPUP_VRAM] = (struct gpup_request){
        .has_min = true, .min = 256 * MIB, .has_optimal = true, .optimal = 900 * MIB};
    for (unsigned i = 0; i < 4; i++) {
        ret = gpup_resolve(&f->gpus[1], 1, &f->adapter, "vm", GPUP_POLICY_SPREAD, &p, NULL, NULL);
        if (ret < 0)
            break;
        take(f->gpus[1], p.slot, "vm", &p.grant);
        sum += p.grant.share[GPUP_VRAM].cap;
    }
    g_assert_cmpuint(sum, <=, 2048 * MIB);
    /* 900, 900, then the 248 left do not meet the minimum */
    g_assert_cmpint(ret, ==, -ENOSPC);
    g_assert_cmpuint(sum, ==, 1800 * MIB);
}

static void shares_add_up_to_one_gpu(struct fixture *f, gconstpointer data)
{
    GPUP_AUTO_ERROR err = NULL;
    struct gpup_placement p;

    f->adapter.request[GPUP_COMPUTE] = (struct gpup_request){.has_min = true, .min = 600000};
    g_assert_cmpint(
        gpup_resolve(&f->gpus[1], 1, &f->adapter, "a", GPUP_POLICY_SPREAD, &p, NULL, NULL), ==, 0);
    take(f->gpus[1], p.slot, "a", &p.grant);
    g_assert_cmpint(
        gpup_resolve(&f->gpus[1], 1, &f->adapter, "b", GPUP_POLICY_SPREAD, &p, NULL, &err), ==,
        -ENOSPC);
    g_assert_cmpstr(gpup_error_message(err), ==,
                    "no partition for b\n"
                    "  software llvmpipe: 40 % left, b needs 60 % of compute\n"
                    "Stop one of a (60 %)");
}

static void a_minimum_that_nothing_holds(struct fixture *f, gconstpointer data)
{
    struct gpup_placement p;

    f->gpus[1]->resource[GPUP_COMPUTE].enforcement = GPUP_ENFORCE_NONE;
    f->adapter.request[GPUP_COMPUTE] = (struct gpup_request){.has_min = true, .min = 250000};
    g_assert_cmpint(
        gpup_resolve(&f->gpus[1], 1, &f->adapter, "a", GPUP_POLICY_SPREAD, &p, NULL, NULL), ==, 0);
    f->adapter.request[GPUP_COMPUTE].min = 250001;
    g_assert_cmpint(
        gpup_resolve(&f->gpus[1], 1, &f->adapter, "a", GPUP_POLICY_SPREAD, &p, NULL, NULL), ==,
        -EINVAL);
}

static void full_names_the_holders(struct fixture *f, gconstpointer data)
{
    GPUP_AUTO_ERROR err = NULL;
    struct gpup_verdict verdicts[2] = {0};
    struct gpup_placement p;
    const struct gpup_grant grant = {0};
    const char *const vms[] = {"win11", "win12", "win13", "win14"};

    for (unsigned i = 0; i < 4; i++)
        take(f->gpus[0], i, vms[i], &grant);
    f->gpus[1]->mode = GPUP_MODE_UNUSED;
    g_assert_cmpint(
        gpup_resolve(f->gpus, 2, &f->adapter, "win15", GPUP_POLICY_SPREAD, &p, verdicts, &err), ==,
        -EBUSY);
    g_assert_cmpstr(gpup_error_message(err), ==,
                    "no partition for win15\n"
                    "  03:00.0 B50: all 4 used by win11 win12 win13 win14\n"
                    "  software llvmpipe: not partitioned\n"
                    "Stop one of win11 win12 win13 win14; or gpup gpu partition software N");
    g_assert_cmpint(verdicts[0].code, ==, EBUSY);
    g_assert_false(verdicts[1].fits);
    gpup_verdict_clear(&verdicts[0]);
    gpup_verdict_clear(&verdicts[1]);
}

/* What would be refused again is no way out. */
static void ways_out_lead_out(struct fixture *f, gconstpointer data)
{
    static const struct {
        enum gpup_resource resource;
        struct gpup_request ask;
        bool fixed, unheld;
        const char *text, *way_out;
    } cases[] = {
        {GPUP_VRAM,
         {.has_min = true, .min = 5000 * MIB},
         false,
         false,
         "2 GiB in all, vm needs 4.88 GiB",
         "gpup assign vm --vram 2GiB::"},
        {GPUP_VRAM,
         {.has_min = true, .min = 1800 * MIB},
         false,
         false,
         "1.5 GiB left, vm needs 1.75 GiB",
         "stop one of desk1 (512 MiB)"},
        {GPUP_VRAM,
         {.has_min = true, .min = 5000 * MIB},
         true,
         false,
         "512 MiB each, vm needs 4.88 GiB",
         "gpup assign vm --vram 2GiB::"},
        {GPUP_VRAM,
         {.has_max = true, .max = 300 * MIB},
         true,
         false,
         "512 MiB each, vm wants at most 300 MiB",
         "gpup gpu partition software 7 --power-off-vms   (powers off desk1)"},
        {GPUP_COMPUTE,
         {.has_min = true, .min = 500000},
         false,
         true,
         "25 % each on average (shared without limit), vm needs 50 % of compute",
         "gpup assign vm --compute 25%::"},
        {GPUP_ENCODE,
         {.has_min = true, .min = 500000},
         false,
         false,
         "0 % there, vm needs 50 % of encode",
         "gpup assign vm --encode 0%::"},
    };
    const struct gpup_grant grant = {.share[GPUP_VRAM] = {512 * MIB, 512 * MIB, 512 * MIB}};

    take(f->gpus[1], 0, "desk1", &grant);
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        struct gpup_verdict verdict = {0};
        struct gpup_placement p;

        memset(f->adapter.request, 0, sizeof(f->adapter.request));
        f->adapter.request[cases[i].resource] = cases[i].ask;
        f->gpus[1]->elastic = !cases[i].fixed;
        f->gpus[1]->fixed_vram = 512 * MIB;
        f->gpus[1]->resource[GPUP_COMPUTE].enforcement =
            cases[i].unheld ? GPUP_ENFORCE_NONE : GPUP_ENFORCE_SHARE;
        g_assert_cmpint(
            gpup_resolve(&f->gpus[1], 1, &f->adapter, "vm", GPUP_POLICY_SPREAD, &p, &verdict, NULL),
            <, 0);
        g_assert_cmpstr(verdict.text, ==, cases[i].text);
        g_assert_cmpstr(verdict.way_out, ==, cases[i].way_out);
        gpup_verdict_clear(&verdict);
    }
}

static void elsewhere(struct fixture *f, gconstpointer data)
{
    struct gpup_verdict verdicts[2] = {0};
    GPUP_AUTO_ERROR err = NULL;
    struct gpup_placement p;
    char pin[] = "software", gone[] = "serial-5";

    f->adapter.gpu = pin;
    g_assert_cmpint(
        gpup_resolve(f->gpus, 2, &f->adapter, "vm", GPUP_POLICY_SPREAD, &p, verdicts, NULL), ==, 0);
    g_assert_cmpstr(verdicts[0].text, ==, "vm is to be on another GPU only");
    g_assert_cmpstr(verdicts[0].way_out, ==, "gpup assign vm --gpu ''");
    gpup_verdict_clear(&verdicts[0]);
    gpup_verdict_clear(&verdicts[1]);
    f->adapter.gpu = gone;
    g_assert_cmpint(gpup_resolve(f->gpus, 2, &f->adapter, "vm", GPUP_POLICY_SPREAD, &p, NULL, &err),
                    ==, -ENOENT);
    g_assert_cmpstr(gpup_error_message(err), ==,
                    "no partition for vm\n  its GPU serial-5 is not in this host\n"
                    "gpup assign vm --gpu GPU chooses another, --gpu '' any");
    f->adapter.gpu = NULL;
    f->adapter.kind = GPUP_KIND_SRIOV;
    g_assert_cmpint(
        gpup_resolve(f->gpus, 2, &f->adapter, "vm", GPUP_POLICY_SPREAD, &p, verdicts, &err), ==,
        -ENOENT);
    g_assert_cmpstr(verdicts[0].text, ==, "its partitions are virtio, the adapter of vm is sriov");
    g_assert_cmpstr(verdicts[0].way_out, ==, "gpup unassign vm, then gpup assign vm --kind virtio");
    g_assert_nonnull(strstr(gpup_error_message(err), "gpup unassign vm, then gpup assign vm"));
    gpup_verdict_clear(&verdicts[0]);
    gpup_verdict_clear(&verdicts[1]);
}

static void fixed_slots(struct fixture *f, gconstpointer data)
{
    GPUP_AUTO_ERROR err = NULL;
    struct gpup_placement p;
    const struct gpup_grant grant = {0};

    f->gpus[0]->elastic = false;
    f->gpus[0]->fixed_vram = 512 * MIB;
    take(f->gpus[0], 0, "cad1", &grant);
    f->adapter.request[GPUP_VRAM] = (struct gpup_request){.has_min = true, .min = 1000 * MIB};
    g_assert_cmpint(
        gpup_resolve(f->gpus, 1, &f->adapter, "win15", GPUP_POLICY_SPREAD, &p, NULL, &err), ==,
        -EINVAL);
    g_assert_cmpstr(gpup_error_message(err), ==,
                    "no partition for win15\n"
                    "  03:00.0 B50: 512 MiB each, win15 needs 1000 MiB\n"
                    "gpup gpu partition 03:00.0 2 --power-off-vms   (powers off cad1)");
    f->adapter.request[GPUP_VRAM] = (struct gpup_request){.has_max = true, .max = 100 * MIB};
    g_assert_cmpint(gpup_resolve(f->gpus, 1, &f->adapter, "w", GPUP_POLICY_SPREAD, &p, NULL, NULL),
                    ==, -EINVAL);
}

static void pins_and_kinds(struct fixture *f, gconstpointer data)
{
    struct gpup_placement p;
    char pin[] = "software";

    f->adapter.gpu = pin;
    g_assert_cmpint(gpup_resolve(f->gpus, 2, &f->adapter, "a", GPUP_POLICY_SPREAD, &p, NULL, NULL),
                    ==, 0);
    g_assert_cmpuint(p.gpu, ==, 1);
    f->adapter.gpu = NULL;
    f->adapter.kind = GPUP_KIND_SRIOV;
    g_assert_cmpint(gpup_resolve(f->gpus, 2, &f->adapter, "a", GPUP_POLICY_SPREAD, &p, NULL, NULL),
                    ==, -ENOENT);
}

static void finds_by_any_word(struct fixture *f, gconstpointer data)
{
    GPUP_AUTO_ERROR err = NULL;
    size_t i = 9;

    g_assert_cmpint(gpup_find_gpu(f->gpus, 2, "03:00.0", &i, NULL), ==, 0);
    g_assert_cmpuint(i, ==, 0);
    g_assert_cmpint(gpup_find_gpu(f->gpus, 2, "b5", &i, NULL), ==, 0);
    g_assert_cmpint(gpup_find_gpu(f->gpus, 2, "LLVMPIPE", &i, NULL), ==, 0);
    g_assert_cmpuint(i, ==, 1);
    g_assert_cmpint(gpup_find_gpu(f->gpus, 2, "a16", &i, &err), ==, -ENOENT);
    g_assert_cmpstr(gpup_error_message(err), ==,
                    "no GPU 'a16': there are 03:00.0 (B50), software (llvmpipe)");
    free(f->gpus[1]->name);
    f->gpus[1]->name = strdup("B50");
    g_assert_cmpint(gpup_find_gpu(f->gpus, 2, "b50", &i, &err), ==, -EINVAL);
    g_assert_cmpstr(gpup_error_message(err), ==,
                    "'b50' could be any of: 03:00.0 (B50), software (B50)");
    g_assert_cmpint(gpup_find_gpu(f->gpus, 2, "", &i, NULL), ==, -ENOENT);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *path;
        void (*func)(struct fixture *, gconstpointer);
    } tests[] = {
        {"/resolve/default", one_full_partition_by_default},
        {"/resolve/policies", policies},
        {"/resolve/memory", memory_is_never_overcommitted},
        {"/resolve/shares", shares_add_up_to_one_gpu},
        {"/resolve/unenforced-minimum", a_minimum_that_nothing_holds},
        {"/resolve/full", full_names_the_holders},
        {"/resolve/ways-out", ways_out_lead_out},
        {"/resolve/elsewhere", elsewhere},
        {"/resolve/fixed", fixed_slots},
        {"/resolve/pins-and-kinds", pins_and_kinds},
        {"/resolve/find-gpu", finds_by_any_word},
    };

    g_test_init(&argc, &argv, NULL);
    for (size_t i = 0; i < G_N_ELEMENTS(tests); i++)
        g_test_add(tests[i].path, struct fixture, NULL, set_up, tests[i].func, tear_down);
    return g_test_run();
}
