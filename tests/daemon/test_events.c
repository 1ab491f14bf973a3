/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/caller.h"
#include "daemon/events.h"
#include "daemon/health.h"
#include "daemon/resets.h"

#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* What gpupd remembers of what happened: events and health. */

struct fixture {
    char *dir, *path;
    struct gpup_events *events;
    struct gpup_health *health;
};

static void set_up(struct fixture *f, gconstpointer data)
{
    f->dir = g_dir_make_tmp("gpup-events-XXXXXX", NULL);
    f->path = g_build_filename(f->dir, "events", NULL);
    f->events = gpup_events_new(f->dir);
    f->health = gpup_health_new(f->dir);
}

static void tear_down(struct fixture *f, gconstpointer data)
{
    GDir *dir;

    gpup_events_free(f->events);
    gpup_health_free(f->health);
    dir = g_dir_open(f->dir, 0, NULL);
    for (const char *name = g_dir_read_name(dir); name; name = g_dir_read_name(dir)) {
        g_autofree char *path = g_build_filename(f->dir, name, NULL);

        g_remove(path);
    }
    g_dir_close(dir);
    g_rmdir(f->dir);
    g_free(f->dir);
    g_free(f->path);
}

static void reopen(struct fixture *f)
{
    gpup_events_free(f->events);
    f->events = gpup_events_new(f->dir);
}

/* "text*count" of each, in order, one a line. */
static char *said(struct fixture *f, guint limit, guint64 after, const char *gpu, const char *vm)
{
    g_autoptr(GVariant) list =
        g_variant_ref_sink(gpup_events_list(f->events, limit, after, gpu, vm));
    GString *text = g_string_new(NULL);

    for (gsize i = 0; i < g_variant_n_children(list); i++) {
        g_autoptr(GVariant) e = g_variant_get_child_value(list, i);
        const char *what;
        guint64 count;

        g_assert_true(g_variant_lookup(e, "text", "&s", &what));
        g_assert_true(g_variant_lookup(e, "count", "t", &count));
        g_string_append_printf(text, "%s*%" G_GUINT64_FORMAT "\n", what, count);
    }
    return g_string_free(text, FALSE);
}

#define assert_said(f, limit, after, gpu, vm, expected)                                            \
    do {                                                                                           \
        g_autofree char *said_ = said(f, limit, after, gpu, vm);                                   \
        g_assert_cmpstr(said_, ==, expected);                                                      \
    } while (0)

static void are_kept(struct fixture *f, gconstpointer data)
{
    struct stat st;

    gpup_events_add(f->events, GPUP_EVENT_PARTITION, "alice", "03:00.0", NULL, "4 partitions");
    gpup_events_add(f->events, GPUP_EVENT_REFUSED, GPUP_BY_LIBVIRT, NULL, "dé\tsk",
                    "no partition\n  line \"two\"\\");
    gpup_events_add(f->events, GPUP_EVENT_START, GPUP_BY_LIBVIRT, "03:00.0", "desk2", "third");
    for (int i = 0; i < 2; i++) {
        assert_said(f, 10, 0, NULL, NULL,
                    "4 partitions*1\nno partition\n  line \"two\"\\*1\nthird*1\n");
        assert_said(f, 1, 0, NULL, NULL, "third*1\n");
        assert_said(f, 10, 1, "03:00.0", NULL, "third*1\n");
        assert_said(f, 10, 0, NULL, "dé?sk", "no partition\n  line \"two\"\\*1\n");
        reopen(f);
    }
    g_assert_cmpint(g_stat(f->path, &st), ==, 0);
    g_assert_cmpint(st.st_mode & 0777, ==, 0600);
    gpup_events_add(f->events, GPUP_EVENT_STOP, GPUP_BY_LIBVIRT, NULL, NULL, "fourth");
    assert_said(f, 10, 3, NULL, NULL, "fourth*1\n"); /* ids go on */
}

/* A VM that is started in a loop, or a guest that breaks its renderer, pushes nothing else out. */
static void repeats_are_counted(struct fixture *f, gconstpointer data)
{
    g_autofree char *text = NULL;
    gsize lines = 0;

    gpup_events_add(f->events, GPUP_EVENT_ADAPTER, "root", NULL, "desk1", "given");
    gpup_events_add(f->events, GPUP_EVENT_ADAPTER, "root", NULL, "desk1", "given");
    for (int i = 0; i < 5000; i++) {
        gpup_events_add(f->events, GPUP_EVENT_RENDERER, GPUP_BY_GUEST, NULL, "desk1", "ended");
        gpup_events_add(f->events, GPUP_EVENT_REFUSED, GPUP_BY_LIBVIRT, NULL, "desk2", "full");
    }
    assert_said(f, 10, 0, NULL, NULL, "given*1\ngiven*1\nended*5000\nfull*5000\n");
    g_assert_true(g_file_get_contents(f->path, &text, NULL, NULL));
    for (const char *p = text; (p = strchr(p, '\n')); p++)
        lines++;
    g_assert_cmpuint(lines, ==, 2 + 2 * 13);
    reopen(f); /* within a factor of two */
    assert_said(f, 10, 0, NULL, NULL, "given*1\ngiven*1\nended*4096\nfull*4096\n");
}

static void are_bounded(struct fixture *f, gconstpointer data)
{
    g_autofree char *long_text = g_strnfill(100000, 'x');
    g_autoptr(GVariant) list = NULL;
    struct stat st;

    for (guint i = 0; i < 5 * GPUP_EVENTS_KEPT; i++)
        gpup_events_add(f->events, GPUP_EVENT_START, "root", NULL, "vm", "%u", i);
    g_assert_cmpint(g_stat(f->path, &st), ==, 0);
    g_assert_cmpint(st.st_size, <, 2 * GPUP_EVENTS_KEPT * 80);
    reopen(f);
    list = g_variant_ref_sink(gpup_events_list(f->events, G_MAXUINT, 0, NULL, NULL));
    g_assert_cmpuint(g_variant_n_children(list), ==, GPUP_EVENTS_KEPT);
    assert_said(f, 1, 0, NULL, NULL, "4999*1\n");
    gpup_events_add(f->events, GPUP_EVENT_START, "root", NULL, "vm", "%s", long_text);
    g_assert_cmpint(g_stat(f->path, &st), ==, 0);
    g_assert_cmpint(st.st_size, <, 2 * GPUP_EVENTS_KEPT * 80);
}

static void add_to_file(struct fixture *f, const char *text, gssize length)
{
    FILE *file = fopen(f->path, "a");

    g_assert_nonnull(file);
    g_assert_cmpuint(fwrite(text, 1, (gsize)length, file), ==, length);
    g_assert_cmpint(fclose(file), ==, 0);
}

static void damage(struct fixture *f, gconstpointer data)
{
    static const struct {
        const char *text;
        gssize length;
    } cases[] = {
        {"1\t7\tx\n", 6},
        {"2\t7\t1\t1\t1\tstart\troot\t\t\ttext\n", 29},
        {"1\t7\t1\t1\t1\tnonsense\troot\t\t\ttext\n", 32},
        {"1\t7\t1\t1\t1\tstart\troot\t\t\t\xff\n", 26},
        {"\0\0\0\0", 4},
    };

    gpup_events_add(f->events, GPUP_EVENT_START, "root", NULL, NULL, "first");
    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *aside = i == 0
                                     ? g_strconcat(f->path, ".damaged", NULL)
                                     : g_strdup_printf("%s.damaged-%u", f->path, (unsigned)i + 1);

        add_to_file(f, cases[i].text, cases[i].length);
        g_test_expect_message(NULL, G_LOG_LEVEL_WARNING, "*damaged*set aside*");
        reopen(f);
        g_test_assert_expected_messages();
        g_assert_true(g_file_test(aside, G_FILE_TEST_EXISTS));
        assert_said(f, 10, 0, NULL, NULL, "first*1\n");
        reopen(f); /* whole again: nothing more to say */
    }
}

/* The machine lost power in the middle of a line: that is a line less, or its end only. */
static void cut_off(struct fixture *f, gconstpointer data)
{
    struct stat st;

    gpup_events_add(f->events, GPUP_EVENT_START, "root", NULL, NULL, "first");
    g_assert_cmpint(g_stat(f->path, &st), ==, 0);
    g_assert_cmpint(truncate(f->path, st.st_size - 1), ==, 0);
    reopen(f);
    gpup_events_add(f->events, GPUP_EVENT_START, "root", NULL, NULL, "second");
    reopen(f);
    assert_said(f, 10, 0, NULL, NULL, "first*1\nsecond*1\n");
}

static void no_room(struct fixture *f, gconstpointer data)
{
    struct gpup_events *events;

    g_test_expect_message(NULL, G_LOG_LEVEL_WARNING, "*cannot be written*");
    events = gpup_events_new("/dev/null/nowhere");
    g_assert_nonnull(events);
    gpup_events_add(events, GPUP_EVENT_START, "root", NULL, NULL, "first");
    gpup_events_add(events, GPUP_EVENT_START, "root", NULL, NULL, "second"); /* said once */
    g_test_assert_expected_messages();
    gpup_events_free(events);
}

/* ---- health ---- */

static guint64 count(struct fixture *f, enum gpup_trouble trouble)
{
    struct gpup_troubles total;

    gpup_health_get(f->health, "key", &total);
    return total.count[trouble];
}

static guint64 report(struct fixture *f, const char *nonce, guint64 deaths, guint64 hangs)
{
    const struct gpup_msg_usage usage = {.renderer_deaths = deaths, .renderer_hangs = hangs};
    struct gpup_troubles fresh;

    gpup_health_report(f->health, "key", "adapter", nonce, &usage, &fresh);
    return fresh.count[GPUP_TROUBLE_DEATH];
}

static void restart(struct fixture *f)
{
    gpup_health_free(f->health);
    f->health = gpup_health_new(f->dir);
}

static void counts_once(struct fixture *f, gconstpointer data)
{
    gint64 since = gpup_health_since(f->health);

    g_assert_cmpuint(report(f, "1", 2, 1), ==, 2);
    g_assert_cmpuint(report(f, "1", 2, 1), ==, 0);
    restart(f);
    g_assert_cmpuint(report(f, "1", 3, 1), ==, 1); /* told anew, after a restart of gpupd */
    g_assert_cmpuint(count(f, GPUP_TROUBLE_DEATH), ==, 3);
    g_assert_cmpuint(count(f, GPUP_TROUBLE_HANG), ==, 1);
    g_assert_cmpuint(report(f, "1", 0, 0), ==, 0); /* no honest device process says that */
    g_assert_cmpuint(count(f, GPUP_TROUBLE_DEATH), ==, 3);
    gpup_health_end(f->health, "adapter");
    g_assert_cmpuint(report(f, "2", 1, 0), ==, 1); /* its next start begins at none */
    g_assert_cmpuint(report(f, "3", 1, 0), ==, 1); /* also where the end was missed */
    gpup_health_add(f->health, "key", GPUP_TROUBLE_START);
    restart(f);
    g_assert_cmpuint(count(f, GPUP_TROUBLE_DEATH), ==, 5);
    g_assert_cmpuint(count(f, GPUP_TROUBLE_START), ==, 1);
    g_assert_cmpint(gpup_health_since(f->health), ==, since);
}

/* gpupd is killed between a report and its being written: it is told again and counted once. */
static void killed(struct fixture *f, gconstpointer data)
{
    g_autofree char *path = g_build_filename(f->dir, "health", NULL);
    g_autofree char *before = NULL;

    report(f, "1", 1, 0);
    gpup_health_flush(f->health);
    g_assert_true(g_file_get_contents(path, &before, NULL, NULL));
    report(f, "1", 2, 0);
    gpup_health_free(f->health);
    g_assert_true(g_file_set_contents(path, before, -1, NULL));
    f->health = gpup_health_new(f->dir);
    g_assert_cmpuint(report(f, "1", 2, 0), ==, 1);
    g_assert_cmpuint(count(f, GPUP_TROUBLE_DEATH), ==, 2);
}

static void resets(struct fixture *f, gconstpointer data)
{
    struct gpup_resets *r;

    g_assert_true(gpup_resets_is_one("change", "1", NULL));                /* i915 */
    g_assert_true(gpup_resets_is_one("change", NULL, "rebind,bus-reset")); /* since 6.15 */
    g_assert_true(gpup_resets_is_one("change", NULL, "none"));             /* it was, and goes on */
    g_assert_false(gpup_resets_is_one("change", "0", NULL));
    g_assert_false(gpup_resets_is_one("change", NULL, NULL)); /* a monitor was plugged in */
    g_assert_false(gpup_resets_is_one("add", "1", NULL));
    r = gpup_resets_new(NULL, NULL, NULL, NULL); /* the kernel lets us listen */
    g_assert_nonnull(r);
    gpup_resets_free(r);
}

/* ---- who ---- */

static void caller(struct fixture *f, gconstpointer data)
{
    g_autofree char *proc = g_build_filename(f->dir, "77", NULL);
    g_autofree char *file = g_build_filename(proc, "loginuid", NULL);
    g_autofree char *direct = gpup_caller_name(f->dir, 0, 1);
    g_autofree char *nameless = gpup_caller_name(f->dir, 4000000, 0);
    g_autofree char *sudo = NULL;
    g_autofree char *none = NULL;

    g_assert_cmpstr(direct, ==, "root");
    g_assert_cmpstr(nameless, ==, "uid 4000000");
    g_assert_cmpint(g_mkdir(proc, 0700), ==, 0);
    g_assert_true(g_file_set_contents(file, "4000001", -1, NULL));
    sudo = gpup_caller_name(f->dir, 0, 77);
    g_assert_cmpstr(sudo, ==, "root (uid 4000001)");
    g_assert_true(g_file_set_contents(file, "4294967295", -1, NULL)); /* nobody logged in */
    none = gpup_caller_name(f->dir, 0, 77);
    g_assert_cmpstr(none, ==, "root");
    g_remove(file);
    g_rmdir(proc);
}

/* "EVENT USER GPU VM MESSAGE" of the last event that was logged. */
static char logged[256];

static GLogWriterOutput keep_log(GLogLevelFlags level, const GLogField *fields, gsize n,
                                 gpointer data)
{
    static const char *const names[] = {"GPUP_EVENT", "GPUP_USER", "GPUP_GPU", "GPUP_VM",
                                        "MESSAGE"};
    const char *values[G_N_ELEMENTS(names)] = {"-", "-", "-", "-", "-"};

    for (gsize i = 0; i < n; i++) {
        for (gsize k = 0; k < G_N_ELEMENTS(names); k++) {
            if (strcmp(fields[i].key, names[k]) == 0)
                values[k] = fields[i].value;
        }
    }
    g_snprintf(logged, sizeof(logged), "%s %s %s %s %s", values[0], values[1], values[2], values[3],
               values[4]);
    return G_LOG_WRITER_HANDLED;
}

/* The journal finds them by these fields. */
static void fields(struct fixture *f, gconstpointer data)
{
    gpup_events_add(f->events, GPUP_EVENT_REFUSED, GPUP_BY_LIBVIRT, NULL, "desk1", "no partition");
    g_assert_cmpstr(logged, ==, "refused libvirt  desk1 no partition");
    gpup_events_add(f->events, GPUP_EVENT_REFUSED, GPUP_BY_LIBVIRT, NULL, "desk1", "no partition");
    g_assert_cmpstr(logged, ==, "refused libvirt  desk1 no partition (2 times)");
    gpup_events_add(f->events, GPUP_EVENT_PARTITION, "root", "03:00.0", NULL, "4");
    g_assert_cmpstr(logged, ==, "partition root 03:00.0  4");
    /* a VM's name makes no event of its own */
    gpup_events_add(f->events, GPUP_EVENT_START, GPUP_BY_LIBVIRT, NULL, "a\nGPUP_USER=root\033[2J",
                    "%s: started", "a\r\033[2Jb");
    g_assert_cmpstr(logged, ==, "start libvirt  a?GPUP_USER=root?[2J a??[2Jb: started");
}

int main(int argc, char **argv)
{
    static const struct {
        const char *path;
        void (*func)(struct fixture *, gconstpointer);
    } tests[] = {
        {"/events/are-kept", are_kept},
        {"/events/repeats", repeats_are_counted},
        {"/events/bounded", are_bounded},
        {"/events/damage", damage},
        {"/events/cut-off", cut_off},
        {"/events/no-room", no_room},
        {"/events/fields", fields},
        {"/health/counts-once", counts_once},
        {"/health/killed", killed},
        {"/health/resets", resets},
        {"/caller", caller},
    };

    g_test_init(&argc, &argv, NULL);
    g_log_set_writer_func(keep_log, NULL, NULL);
    for (gsize i = 0; i < G_N_ELEMENTS(tests); i++)
        g_test_add(tests[i].path, struct fixture, NULL, set_up, tests[i].func, tear_down);
    return g_test_run();
}
