/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/device.h"
#include "gpu/bars.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <string.h>

/* Which function of the host stands in a VM's definition. */

#define GIB (UINT64_C(1) << 30)

/* Two GPUs of four VFs each, "a" and "b", with 4 GiB and 8 GiB each. */
struct world {
    struct gpup_gpu gpu[2];
    struct gpup_slot slots[2][4];
    struct gpup_gpu *gpus[2];
    GArray *users;
    struct gpup_adapter adapter;
};

static void set_up(struct world *w, gconstpointer data)
{
    static const char *const ids[] = {"0000:0a:00.0", "0000:0b:00.0"};

    for (int i = 0; i < 2; i++) {
        struct gpup_gpu *gpu = &w->gpu[i];

        *gpu = (struct gpup_gpu){.id = (char *)ids[i],
                                 .key = (char *)ids[i],
                                 .name = (char *)"GPU",
                                 .kind = GPUP_KIND_SRIOV,
                                 .form = GPUP_FORM_VFIO,
                                 .mode = GPUP_MODE_PARTITIONED,
                                 .slots = w->slots[i],
                                 .n_slots = 4,
                                 .fixed_vram = 4 * GIB * (unsigned)(i + 1)};
        gpu->resource[GPUP_VRAM] =
            (struct gpup_resource_info){gpu->fixed_vram * 4, GPUP_ENFORCE_HARD};
        for (int k = 0; k < 4; k++)
            g_snprintf(w->slots[i][k].function.address, GPUP_ADDRESS_SIZE, "0000:0%c:00.%d",
                       'a' + i, k + 1);
        w->gpus[i] = gpu;
    }
    w->adapter = (struct gpup_adapter){.kind = GPUP_KIND_SRIOV};
    w->users = g_array_new(FALSE, FALSE, sizeof(struct gpup_user));
}

static void tear_down(struct world *w, gconstpointer data)
{
    g_array_unref(w->users);
}

static void names(struct world *w, const char *uuid, const char *address)
{
    const struct gpup_user user = {uuid, address};

    g_array_append_val(w->users, user);
}

static void take(struct gpup_slot *slot, const char *adapter)
{
    g_strlcpy(slot->adapter, adapter, sizeof(slot->adapter));
    slot->vm = (char *)"other";
}

/* The address that the VM `uuid` is to name, "" when none can be had. */
static const char *chosen(struct world *w, const char *uuid, enum gpup_policy policy)
{
    size_t gpu;
    unsigned slot;

    if (gpup_slot_choose(w->gpus, 2, &w->adapter, "vm", uuid, w->users, policy, &gpu, &slot, NULL) <
        0)
        return "";
    return w->gpus[gpu]->slots[slot].function.address;
}

static void one_each(struct world *w, gconstpointer data)
{
    static const char *const uuids[] = {"1", "2", "3", "4", "5", "6", "7", "8"};
    g_autoptr(GHashTable) seen = g_hash_table_new(g_str_hash, g_str_equal);

    for (size_t i = 0; i < G_N_ELEMENTS(uuids); i++) {
        const char *address = chosen(w, NULL, GPUP_POLICY_SPREAD);

        g_assert_true(g_hash_table_add(seen, (char *)address));
        names(w, uuids[i], address);
    }
    /* and nobody has a reason to move */
    for (size_t i = 0; i < G_N_ELEMENTS(uuids); i++)
        g_assert_cmpstr(chosen(w, uuids[i], GPUP_POLICY_SPREAD), ==,
                        g_array_index(w->users, struct gpup_user, i).address);
    /* the ninth shares with one */
    g_assert_cmpstr(chosen(w, NULL, GPUP_POLICY_SPREAD), !=, "");
}

static void policies(struct world *w, gconstpointer data)
{
    names(w, "1", "0000:0b:00.1");
    g_assert_cmpstr(chosen(w, NULL, GPUP_POLICY_SPREAD), ==, "0000:0a:00.1");
    g_assert_cmpstr(chosen(w, NULL, GPUP_POLICY_PACK), ==, "0000:0b:00.2");
}

static void moves_on(struct world *w, gconstpointer data)
{
    names(w, "1", "0000:0a:00.1");
    names(w, "2", "0000:0a:00.1");
    w->adapter.gpu = (char *)"0000:0a:00.0";
    /* shared while there are others, then held */
    g_assert_cmpstr(chosen(w, "2", GPUP_POLICY_SPREAD), ==, "0000:0a:00.2");
    for (int i = 1; i < 4; i++)
        take(&w->slots[0][i], "x");
    g_assert_cmpstr(chosen(w, "2", GPUP_POLICY_SPREAD), ==, "0000:0a:00.1");
    take(&w->slots[0][0], "x");
    /* all are held: then it shares with nobody that waits, and stays there */
    names(w, "3", "0000:0a:00.3");
    g_assert_cmpstr(chosen(w, "3", GPUP_POLICY_SPREAD), ==, "0000:0a:00.3");
    /* what is being cleared is free in a moment */
    take(&w->slots[0][2], GPUP_CLEARING);
    g_assert_cmpstr(chosen(w, "3", GPUP_POLICY_SPREAD), ==, "0000:0a:00.3");
    g_assert_cmpstr(chosen(w, "2", GPUP_POLICY_SPREAD), ==, "0000:0a:00.3");
    /* what is no partition any more is left */
    names(w, "4", "0000:0a:00.7");
    g_assert_cmpstr(chosen(w, "4", GPUP_POLICY_SPREAD), ==, "0000:0a:00.3");
}

static void what_suits(struct world *w, gconstpointer data)
{
    w->adapter.request[GPUP_VRAM] = (struct gpup_request){.has_min = true, .min = 6 * GIB};
    g_assert_cmpstr(chosen(w, NULL, GPUP_POLICY_SPREAD), ==, "0000:0b:00.1");
    w->gpu[1].foreign = true;
    g_assert_cmpstr(chosen(w, NULL, GPUP_POLICY_SPREAD), ==, "");
    w->adapter.request[GPUP_VRAM] = (struct gpup_request){0};
    w->gpu[0].mode = GPUP_MODE_WEDGED;
    g_assert_cmpstr(chosen(w, NULL, GPUP_POLICY_SPREAD), ==, "");
}

static void large_bars(struct world *w, gconstpointer data)
{
    /* a Flex 170's VF: 16 MiB, not prefetchable; 8 GiB; and a ROM, which does not count */
    static const char text[] = "0x00000000d0000000 0x00000000d0ffffff 0x0000000000140204\n"
                               "0x0000000000000000 0x0000000000000000 0x0000000000000000\n"
                               "0x0000380000000000 0x00003801ffffffff 0x000000000014220c\n"
                               "0x0000000000000000 0x0000000000000000 0x0000000000000000\n"
                               "0x0000000000000000 0x0000000000000000 0x0000000000000000\n"
                               "0x0000000000000000 0x0000000000000000 0x0000000000000000\n"
                               "0x0000380000000000 0x00003801ffffffff 0x000000000014220c\n";
    g_autofree char *root = g_dir_make_tmp("gpup-bars-XXXXXX", NULL);
    g_autofree char *dir = g_build_filename(root, "bus/pci/devices/0000:0a:00.1", NULL);
    g_autofree char *file = g_build_filename(dir, "resource", NULL);
    g_autofree char *remove = g_strdup_printf("rm -r '%s'", root);

    g_assert_cmpint(g_mkdir_with_parents(dir, 0700), ==, 0);
    g_assert_true(g_file_set_contents(file, text, -1, NULL));
    g_assert_cmpuint(gpup_pci_large_bars(root, "0000:0a:00.1"), ==, 8 * GIB);
    g_assert_true(g_file_set_contents(file, "0x1\nnonsense", -1, NULL));
    g_assert_cmpuint(gpup_pci_large_bars(root, "0000:0a:00.1"), ==, 0);
    g_assert_cmpuint(gpup_pci_large_bars(root, "0000:0a:00.2"), ==, 0);
    g_assert_true(g_spawn_command_line_sync(remove, NULL, NULL, NULL, NULL));
}

int main(int argc, char **argv)
{
    static const struct {
        const char *path;
        void (*func)(struct world *, gconstpointer);
    } tests[] = {
        {"/device/one-each", one_each},     {"/device/policies", policies},
        {"/device/moves-on", moves_on},     {"/device/suits", what_suits},
        {"/device/large-bars", large_bars},
    };

    g_test_init(&argc, &argv, NULL);
    for (size_t i = 0; i < G_N_ELEMENTS(tests); i++)
        g_test_add(tests[i].path, struct world, NULL, set_up, tests[i].func, tear_down);
    return g_test_run();
}
