/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/error.h"
#include "daemon/host_internal.h"
#include "gpu/pci.h"

#include <errno.h>
#include <string.h>

/*
 * Partitions of hardware that are stored and could not be made are tried again for a while: a
 * driver that has just taken a GPU may wait for a service of its own (NVIDIA's nvidia-vgpud tells
 * it the types of vGPUs), and nothing tells when that is ready.
 */

#define FIRST_S 1u
#define MOST_S  64u
#define TRIES   14u /* some 10 minutes */

struct again {
    struct gpup_host *host;
    char *address;
    char *why;     /* it failed last */
    char *problem; /* as shown */
    unsigned tries;
    guint timer;
};

static void again_free(void *data)
{
    struct again *a = data;

    g_clear_handle_id(&a->timer, g_source_remove);
    g_free(a->address);
    g_free(a->why);
    g_free(a->problem);
    g_free(a);
}

GHashTable *gpup_host_again_table(void)
{
    return g_hash_table_new_full(g_str_hash, g_str_equal, NULL, again_free);
}

static void show(struct again *a, const char *how)
{
    if (a->problem)
        gpup_host_drop_problem(a->host, a->problem);
    g_free(a->problem);
    a->problem = g_strdup_printf("%s; %s", a->why, how);
    g_ptr_array_add(a->host->problems, g_strdup(a->problem));
}

static gboolean on_time(void *data)
{
    struct again *a = data;

    if (gpup_host_gpu_at(a->host, a->address) && !gpup_host_make_stored(a->host, a->address))
        return G_SOURCE_CONTINUE;
    a->timer = 0;
    if (!gpup_host_gpu_at(a->host, a->address)) /* a rescan finds it when it is back */
        g_hash_table_remove(a->host->again, a->address);
    return G_SOURCE_REMOVE;
}

static void give_up(struct again *a)
{
    g_warning("%s; given up after %u attempts: gpup rescan tries again", a->why, a->tries);
    show(a, "gpup rescan tries again");
    g_hash_table_remove(a->host->again, a->address);
}

static struct again *find(struct gpup_host *h, const char *address)
{
    struct again *a = g_hash_table_lookup(h->again, address);

    if (a)
        return a;
    a = g_new0(struct again, 1);
    a->host = h;
    a->address = g_strdup(address);
    g_hash_table_insert(h->again, a->address, a);
    return a;
}

void gpup_host_make_again(struct gpup_host *h, const char *address, const struct gpup_error *why)
{
    struct again *a = find(h, address);
    unsigned pause = MIN(FIRST_S << MIN(a->tries, 6u), MOST_S);

    a->tries++;
    if (g_strcmp0(a->why, gpup_error_message(why)) != 0) {
        g_free(a->why);
        a->why = g_strdup(gpup_error_message(why));
        g_warning("%s; it is tried again by itself for 10 minutes", a->why);
    }
    if (a->tries >= TRIES) {
        give_up(a);
        return;
    }
    show(a, "it is tried again by itself");
    g_clear_handle_id(&a->timer, g_source_remove);
    a->timer = g_timeout_add_seconds(pause, on_time, a);
}

void gpup_host_is_made(struct gpup_host *h, const char *address)
{
    struct again *a = g_hash_table_lookup(h->again, address);

    if (!a)
        return;
    g_message("%s: what is stored of it is done now, at attempt %u", gpup_short_id(address),
              a->tries + 1);
    gpup_host_drop_problem(h, a->problem);
    g_hash_table_remove(h->again, address);
}
