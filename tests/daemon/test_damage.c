/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/error.h"
#include "core/units.h"
#include "daemon/events.h"
#include "daemon/health.h"
#include "daemon/host.h"
#include "daemon/underway.h"
#include "tree.h"

#include <glib/gstdio.h>
#include <string.h>

/*
 * Every file that gpupd reads of what it has written, damaged in every place: cut off, with other
 * bytes, with numbers that are none or too large. It is used or set aside with a message, gpupd
 * goes on with the next one, and what is written afterwards is read again.
 */

#define ADAPTER "11111111-2222-4333-8444-00000000000a"
#define VM                                                                                         \
    "<domain id='7'><name>desk1</name><uuid>11111111-2222-4333-8444-000000000001</uuid><metadata>" \
    "<g:adapter xmlns:g='urn:gpup:adapter:1' id='" ADAPTER "' kind='virtio'/></metadata><devices>" \
    "<video><model type='vga'/></video><video><model type='virtio'><acceleration rendernode="      \
    "'/run/gpup/vm/" ADAPTER "'/></model></video></devices></domain>"

struct fixture {
    char *dir;
    struct gpup_folders folders;
    struct gpup_config config;
};

static GString *said; /* of the log, since it was emptied */

static void listen_to_text(const char *domain, GLogLevelFlags level, const char *text, void *data)
{
    g_string_append_printf(said, "%s\n", text);
}

static GLogWriterOutput listen(GLogLevelFlags level, const GLogField *fields, gsize n, void *data)
{
    for (gsize i = 0; i < n; i++) {
        if (strcmp(fields[i].key, "MESSAGE") == 0)
            g_string_append_printf(said, "%s\n", (const char *)fields[i].value);
    }
    return G_LOG_WRITER_HANDLED;
}

static void set_up(struct fixture *f, gconstpointer data)
{
    g_autofree char *conf = NULL;

    /* in memory: it is written thousands of times */
    f->dir = g_mkdtemp(g_strdup("/dev/shm/gpup-damage-XXXXXX"));
    if (!f->dir)
        f->dir = g_dir_make_tmp("gpup-damage-XXXXXX", NULL);
    conf = g_build_filename(f->dir, "gpup.conf", NULL);
    f->folders = (struct gpup_folders){.state = f->dir,
                                       .run = f->dir,
                                       .libvirt_run = f->dir,
                                       .sysfs = f->dir}; /* without a GPU in it */
    g_assert_cmpint(gpup_config_read(conf, &f->config, NULL), ==, 0);
    f->config.software_memory = UINT64_C(1) << 30;
    g_string_truncate(said, 0);
}

static void tear_down(struct fixture *f, gconstpointer data)
{
    gpup_config_clear(&f->config);
    remove_tree(f->dir);
    g_free(f->dir);
}

/* ---- kinds of damage ---- */

static void add_bytes(GPtrArray *all, const char *text, gsize n)
{
    g_ptr_array_add(all, g_bytes_new(text, n));
}

static void add_other_bytes(GPtrArray *all, const char *text)
{
    static const char bytes[] = {'\0', '\n', '\xff', '='};
    gsize n = strlen(text);

    for (gsize at = 0; at < n; at++) {
        for (gsize k = 0; k < sizeof(bytes); k++) {
            g_autofree char *copy = g_strdup(text);

            copy[at] = bytes[k];
            add_bytes(all, copy, n);
        }
    }
}

/* Each word behind a sign, in turn, becomes something else. */
static void add_other_values(GPtrArray *all, const char *text, const char *signs)
{
    static const char *const values[] = {"",
                                         "-1",
                                         "0",
                                         "2",
                                         "256",
                                         "4294967296",
                                         "4294967297",
                                         "9223372036854775807",
                                         "18446744073709551615",
                                         "18446744073709551616",
                                         "99999999999999999999999999999999",
                                         "../../../etc/passwd",
                                         "true"};

    for (const char *at = strpbrk(text, signs); at; at = strpbrk(at + 1, signs)) {
        const char *rest = at + 1 + strcspn(at + 1, " \t\n");

        for (gsize i = 0; i < G_N_ELEMENTS(values); i++) {
            g_autofree char *copy =
                g_strdup_printf("%.*s%s%s", (int)(at + 1 - text), text, values[i], rest);

            add_bytes(all, copy, strlen(copy));
        }
    }
}

static GPtrArray *damages_of(const char *path, const char *signs)
{
    GPtrArray *all = g_ptr_array_new_with_free_func((GDestroyNotify)g_bytes_unref);
    g_autofree char *text = NULL;

    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    for (gsize n = 0; n < strlen(text); n++)
        add_bytes(all, text, n);
    add_other_bytes(all, text);
    add_other_values(all, text, signs);
    return all;
}

static void put(const char *path, GBytes *damage)
{
    gsize n;
    const char *data = g_bytes_get_data(damage, &n);

    g_string_truncate(said, 0);
    g_assert_true(g_file_set_contents_full(path, data ? data : "", (gssize)n,
                                           G_FILE_SET_CONTENTS_CONSISTENT, 0600, NULL));
}

static bool is_like(const char *path, GBytes *damage)
{
    g_autofree char *text = NULL;
    gsize n;

    return g_file_get_contents(path, &text, &n, NULL) && n == g_bytes_get_size(damage) &&
           (n == 0 || memcmp(text, g_bytes_get_data(damage, NULL), n) == 0);
}

/* Beside where it was there is what it was: removes that. */
static unsigned take_what_was_set_aside(const char *path, GBytes *damage)
{
    g_autofree char *folder = g_path_get_dirname(path);
    g_autofree char *name = g_path_get_basename(path);
    g_autoptr(GDir) dir = g_dir_open(folder, 0, NULL);
    const char *entry;
    unsigned n = 0;

    while ((entry = g_dir_read_name(dir))) {
        g_autofree char *file = g_build_filename(folder, entry, NULL);

        if (!g_str_has_prefix(entry, name) ||
            (!strstr(entry, ".damaged") && !strstr(entry, ".format-")))
            continue;
        g_assert_true(is_like(file, damage));
        g_assert_cmpint(g_remove(file), ==, 0);
        n++;
    }
    g_assert_cmpuint(n, <=, 1);
    g_assert_cmpint(n > 0, ==, strstr(said->str, "set aside") != NULL);
    return n;
}

/* ---- the files ---- */

static struct gpup_host *open_host(struct fixture *f)
{
    struct gpup_host *host = gpup_host_new(&f->config, &f->folders, NULL, NULL, NULL);

    g_assert_nonnull(host);
    return host;
}

static struct gpup_gpu *software(struct gpup_host *host)
{
    size_t n;
    struct gpup_gpu *const *gpus = gpup_host_gpus(host, &n);

    g_assert_cmpuint(n, ==, 1);
    return gpus[0];
}

static void partition(struct gpup_host *host, unsigned count)
{
    g_autoptr(GPtrArray) lines = g_ptr_array_new_with_free_func(g_free);

    g_assert_cmpint(gpup_host_partition(host, software(host), count, false, lines, NULL), ==, 0);
}

static void stored_counts(struct fixture *f, gconstpointer data)
{
    g_autofree char *path = g_build_filename(f->dir, "gpus", "software.conf", NULL);
    struct gpup_host *host = open_host(f);
    g_autoptr(GPtrArray) damages = NULL;

    partition(host, 4);
    gpup_host_free(host);
    damages = damages_of(path, "=");
    for (guint i = 0; i < damages->len; i++) {
        unsigned aside;

        put(path, damages->pdata[i]);
        host = open_host(f);
        aside = take_what_was_set_aside(path, damages->pdata[i]);
        /* what is used is a number of partitions; else it is set aside, or says nothing of us */
        g_assert_cmpuint(software(host)->n_slots, <=, 32);
        g_assert_cmpint(g_file_test(path, G_FILE_TEST_EXISTS), ==, aside == 0);
        if (software(host)->n_slots == 0)
            g_assert_cmpuint(gpup_host_problems(host)->len, >, 0);
        gpup_host_free(host);
    }
    host = open_host(f);
    partition(host, 0);
    partition(host, 3);
    gpup_host_free(host);
    host = open_host(f);
    g_assert_cmpuint(software(host)->n_slots, ==, 3);
    gpup_host_free(host);
}

static void on_prepared(const struct gpup_error *err, void *data)
{
    g_assert_null(err);
}

static void assert_sane(struct gpup_host *host, const struct gpup_claim *claim)
{
    g_assert_cmpuint(claim->slot, <, software(host)->n_slots);
    g_assert_cmpint(claim->domain, >=, -1);
    g_assert_cmpint(claim->renderer, >=, 0);
    for (int r = 0; r < GPUP_RESOURCES; r++) {
        if (r != GPUP_VRAM)
            g_assert_cmpuint(claim->grant.share[r].cap, <=, GPUP_PPM_FULL);
        g_assert_cmpuint(claim->grant.share[r].min, <=, UINT64_C(1) << 50);
    }
}

static void reservations(struct fixture *f, gconstpointer data)
{
    g_autofree char *path = g_build_filename(f->dir, "reservations", ADAPTER, NULL);
    struct gpup_host *host = open_host(f);
    g_autoptr(GPtrArray) damages = NULL;

    partition(host, 4);
    gpup_host_prepare(host, VM, strlen(VM), NULL, NULL, on_prepared, NULL);
    gpup_host_free(host);
    damages = damages_of(path, "= ");
    for (guint i = 0; i < damages->len; i++) {
        struct gpup_claim *claim;

        put(path, damages->pdata[i]);
        host = open_host(f);
        claim = gpup_host_claim(host, ADAPTER);
        if (claim) {
            assert_sane(host, claim);
            g_assert_cmpuint(take_what_was_set_aside(path, damages->pdata[i]), ==, 0);
        } else if (take_what_was_set_aside(path, damages->pdata[i]) > 0) {
            g_assert_false(g_file_test(path, G_FILE_TEST_EXISTS));
            g_assert_cmpuint(gpup_host_problems(host)->len, >, 0);
        } else if (g_file_test(path, G_FILE_TEST_EXISTS)) {
            /* in order, but of a partition, or of a GPU, that there is not */
            g_assert_nonnull(strstr(said->str, "cannot be taken up again"));
        }
        gpup_host_free(host);
    }
}

static void under_way(struct fixture *f, gconstpointer data)
{
    g_autofree char *folder = g_build_filename(f->dir, "underway", NULL);
    g_autofree char *path = g_build_filename(folder, "0000:03:00.0", NULL);
    g_autofree char *aside = g_strconcat(path, ".damaged", NULL);

    g_assert_cmpint(g_mkdir_with_parents(path, 0700), ==, 0); /* a folder, where a file should be */
    g_assert_null(gpup_underway_peek(f->dir, "0000:03:00.0"));
    g_assert_true(g_file_test(aside, G_FILE_TEST_IS_DIR));
    g_assert_nonnull(strstr(said->str, "set aside"));
    gpup_underway_begin(f->dir, "0000:03:00.0", ADAPTER);
    g_assert_true(g_file_test(path, G_FILE_TEST_IS_REGULAR));
}

static void events(struct fixture *f, gconstpointer data)
{
    g_autofree char *path = g_build_filename(f->dir, "events", NULL);
    struct gpup_events *events = gpup_events_new(f->dir);
    g_autoptr(GPtrArray) damages = NULL;

    gpup_events_add(events, GPUP_EVENT_PARTITION, "alice", "03:00.0", NULL, "4 partitions");
    gpup_events_add(events, GPUP_EVENT_REFUSED, "libvirt", NULL, "desk\t1", "no\nroom");
    gpup_events_free(events);
    damages = damages_of(path, "\t");
    for (guint i = 0; i < damages->len; i++) {
        g_autoptr(GVariant) list = NULL;

        put(path, damages->pdata[i]);
        events = gpup_events_new(f->dir);
        take_what_was_set_aside(path, damages->pdata[i]);
        gpup_events_add(events, GPUP_EVENT_START, "root", NULL, "desk2", "added");
        gpup_events_free(events);
        g_string_truncate(said, 0);
        events = gpup_events_new(f->dir);
        g_assert_cmpstr(said->str, ==, ""); /* what was written is in order */
        list = g_variant_ref_sink(gpup_events_list(events, 9, 0, NULL, "desk2"));
        g_assert_cmpuint(g_variant_n_children(list), ==, 1);
        gpup_events_free(events);
    }
}

static void health(struct fixture *f, gconstpointer data)
{
    g_autofree char *path = g_build_filename(f->dir, "health", NULL);
    struct gpup_health *health = gpup_health_new(f->dir);
    const struct gpup_msg_usage usage = {.renderer_deaths = 3};
    g_autoptr(GPtrArray) damages = NULL;
    struct gpup_troubles fresh;

    gpup_health_report(health, "key", ADAPTER, "nonce", &usage, &fresh);
    gpup_health_free(health);
    damages = damages_of(path, "=");
    for (guint i = 0; i < damages->len; i++) {
        put(path, damages->pdata[i]);
        health = gpup_health_new(f->dir);
        take_what_was_set_aside(path, damages->pdata[i]);
        g_assert_cmpint(gpup_health_since(health), >, 0);
        g_assert_cmpint(gpup_health_since(health), <=, g_get_real_time());
        gpup_health_report(health, "key", ADAPTER, "nonce", &usage, &fresh); /* no overflow */
        gpup_health_free(health);
    }
}

int main(int argc, char **argv)
{
    static const struct {
        const char *path;
        void (*func)(struct fixture *, gconstpointer);
    } tests[] = {
        {"/damage/counts", stored_counts}, {"/damage/reservations", reservations},
        {"/damage/underway", under_way},   {"/damage/events", events},
        {"/damage/health", health},
    };
    int ret;

    said = g_string_new(NULL);
    g_test_init(&argc, &argv, NULL);
    g_log_set_always_fatal(G_LOG_FATAL_MASK);
    g_log_set_default_handler(listen_to_text, NULL);
    g_log_set_writer_func(listen, NULL, NULL);
    for (size_t i = 0; i < G_N_ELEMENTS(tests); i++)
        g_test_add(tests[i].path, struct fixture, NULL, set_up, tests[i].func, tear_down);
    ret = g_test_run();
    g_string_free(said, TRUE);
    return ret;
}
