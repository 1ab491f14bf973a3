/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/error.h"
#include "daemon/host.h"
#include "fixture.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <string.h>

/* VMs that start with a function of a GPU: what gpupd does at `prepare` and `release`. */

#define GPU     "0000:03:00.0"
#define VF(n)   "0000:03:00." n
#define UUID(n) "11111111-2222-4333-8444-00000000000" n

struct starts {
    struct fake fake;
    char *dir, *state, *run;
    struct gpup_folders folders;
    struct gpup_config config;
    struct gpup_host *host;
};

static void open_host(struct starts *s)
{
    s->host = gpup_host_new(&s->config, &s->folders, NULL, NULL, NULL);
    g_assert_nonnull(s->host);
}

static void set_up(struct starts *s, gconstpointer data)
{
    g_autofree char *conf = NULL;

    fake_set_up(&s->fake, data);
    fake_order(&s->fake, "add " GPU " vendor=0x1234 device=0x0b50 class=0x038000 totalvfs=4 "
                         "driver=gpu");
    s->dir = g_dir_make_tmp("gpup-starts-XXXXXX", NULL);
    s->state = g_build_filename(s->dir, "state", NULL);
    s->run = g_build_filename(s->dir, "run", NULL);
    conf = g_build_filename(s->dir, "gpup.conf", NULL);
    s->folders = (struct gpup_folders){.state = s->state,
                                       .run = s->run,
                                       .libvirt_run = s->dir,
                                       .sysfs = s->fake.sysfs,
                                       .dev = s->fake.dev,
                                       .proc = s->fake.proc,
                                       .gpu_helper = s->fake.system.helper};
    g_assert_cmpint(gpup_config_read(conf, &s->config, NULL), ==, 0);
    open_host(s);
}

static void tear_down(struct starts *s, gconstpointer data)
{
    g_autofree char *remove = g_strdup_printf("rm -r '%s'", s->dir);

    gpup_host_free(s->host);
    gpup_config_clear(&s->config);
    fake_tear_down(&s->fake, data);
    g_assert_true(g_spawn_command_line_sync(remove, NULL, NULL, NULL, NULL));
    g_free(s->dir);
    g_free(s->state);
    g_free(s->run);
}

static struct gpup_gpu *gpu_of(struct starts *s)
{
    size_t n;
    struct gpup_gpu *const *gpus = gpup_host_gpus(s->host, &n);

    for (size_t i = 0; i < n; i++) {
        if (strcmp(gpus[i]->id, GPU) == 0)
            return gpus[i];
    }
    g_assert_not_reached();
}

static void partition(struct starts *s, unsigned count)
{
    g_autoptr(GPtrArray) lines = g_ptr_array_new_with_free_func(g_free);
    GPUP_AUTO_ERROR err = NULL;

    gpup_host_partition(s->host, gpu_of(s), count, false, lines, &err);
    g_assert_cmpstr(err ? err->message : NULL, ==, NULL);
}

static char *hostdev(const char *address, const char *alias)
{
    return g_strdup_printf(
        "<hostdev mode='subsystem' type='pci'><source><address domain='0x0000' bus='0x03' "
        "slot='0x00' function='0x%c'/></source>%s</hostdev>",
        address[strlen(address) - 1], alias);
}

/* A VM whose name, UUID and adapter end in `n`; by_hand: a function without gpup, or NULL. */
static char *vm(const char *n, const char *address, const char *by_hand)
{
    g_autofree char *id = g_strdup_printf(UUID("%s"), n);
    g_autofree char *own_alias = g_strdup_printf("<alias name='ua-gpup-%s'/>", id);
    g_autofree char *own = address ? hostdev(address, own_alias) : g_strdup("");
    g_autofree char *other = by_hand ? hostdev(by_hand, "") : g_strdup("");
    g_autofree char *metadata =
        address ? g_strdup_printf("<metadata><g:adapter xmlns:g='urn:gpup:adapter:1' id='%s' "
                                  "kind='sriov'/></metadata>",
                                  id)
                : g_strdup("");

    return g_strdup_printf("<domain id='7'><name>vm%s</name><uuid>%s</uuid>%s<devices>%s%s"
                           "</devices></domain>",
                           n, id, metadata, own, other);
}

struct outcome {
    bool done;
    int code;
    char *message;
};

static void on_prepared(const struct gpup_error *err, void *data)
{
    struct outcome *o = data;

    o->done = true;
    o->code = err ? -err->code : 0;
    o->message = g_strdup(err ? err->message : "");
}

static void begin(struct starts *s, const char *xml, struct outcome *o)
{
    *o = (struct outcome){0};
    gpup_host_prepare(s->host, xml, strlen(xml), NULL, NULL, on_prepared, o);
}

static void await(struct outcome *o)
{
    gint64 until = g_get_monotonic_time() + 20 * G_USEC_PER_SEC;

    while (!o->done) {
        g_assert_cmpint(g_get_monotonic_time(), <, until);
        g_main_context_iteration(NULL, TRUE);
    }
}

/* The message, "" for a start that may go on. */
static char *prepare(struct starts *s, const char *xml)
{
    struct outcome o;

    begin(s, xml, &o);
    await(&o);
    return o.message;
}

static void starts(struct starts *s, const char *xml)
{
    g_autofree char *message = prepare(s, xml);

    g_assert_cmpstr(message, ==, "");
}

static void refused(struct starts *s, const char *xml, const char *part)
{
    g_autofree char *message = prepare(s, xml);

    if (!strstr(message, part))
        g_error("'%s' is not in '%s'", part, message);
}

static void release(struct starts *s, const char *xml)
{
    char adapter[37];

    gpup_host_release(s->host, xml, strlen(xml), adapter);
}

static gboolean tick(void *data)
{
    return G_SOURCE_CONTINUE;
}

static void await_free(struct starts *s, size_t n)
{
    gint64 until = g_get_monotonic_time() + 20 * G_USEC_PER_SEC;
    guint timer = g_timeout_add(10, tick, NULL);

    while (gpup_gpu_free_slots(gpu_of(s)) != n) {
        gpup_host_try_again(s->host);
        g_assert_cmpint(g_get_monotonic_time(), <, until);
        g_main_context_iteration(NULL, TRUE);
    }
    g_source_remove(timer);
}

static void driver_is(struct starts *s, const char *address, const char *driver)
{
    g_autofree char *link = g_strdup_printf("%s/bus/pci/devices/%s/driver", s->fake.sysfs, address);
    g_autofree char *target = g_file_read_link(link, NULL);
    g_autofree char *name = target ? g_path_get_basename(target) : g_strdup("");

    g_assert_cmpstr(name, ==, driver);
}

/* ---- */

static void what_it_names(struct starts *s, gconstpointer data)
{
    g_autofree char *one = vm("1", VF("2"), NULL);

    partition(s, 4);
    driver_is(s, VF("2"), "");
    starts(s, one);
    g_assert_cmpstr(gpu_of(s)->slots[1].vm, ==, "vm1");
    driver_is(s, VF("2"), "vfio-pci");
    release(s, one);
    await_free(s, 4);
    driver_is(s, VF("2"), "");
}

static void taken_by_another(struct starts *s, gconstpointer data)
{
    g_autofree char *one = vm("1", VF("1"), NULL);
    g_autofree char *two = vm("2", VF("1"), NULL);
    g_autofree char *gone = vm("3", VF("7"), NULL);

    partition(s, 2);
    starts(s, one);
    refused(s, two, "used by vm1");
    refused(s, two, "gpup vm start vm2");
    refused(s, gone, "no partition any more");
    release(s, two); /* libvirt says so after every refusal */
    g_assert_cmpstr(gpu_of(s)->slots[0].vm, ==, "vm1");
}

static void nothing_free(struct starts *s, gconstpointer data)
{
    g_autofree char *one = vm("1", VF("1"), NULL);
    g_autofree char *two = vm("2", VF("1"), NULL);

    partition(s, 1);
    starts(s, one);
    refused(s, two, "its one partition is used by vm1");
}

/* Stopped and started again at once, while the function is still being cleared. */
static void again_at_once(struct starts *s, gconstpointer data)
{
    g_autofree char *one = vm("1", VF("1"), NULL);
    g_autofree char *two = vm("2", VF("1"), NULL);

    partition(s, 1);
    starts(s, one);
    release(s, one);
    starts(s, one);
    release(s, one);
    starts(s, two);
    g_assert_cmpstr(gpu_of(s)->slots[0].vm, ==, "vm2");
}

/* The start is given up while the function is being readied: nothing is left of it. */
static void given_up(struct starts *s, gconstpointer data)
{
    g_autofree char *one = vm("1", VF("1"), NULL);
    struct outcome o;

    partition(s, 2);
    begin(s, one, &o);
    g_assert_false(o.done);
    release(s, one);
    await(&o);
    g_assert_cmpint(o.code, <, 0);
    g_free(o.message);
    await_free(s, 2);
    driver_is(s, VF("1"), "");
    starts(s, one);
}

static void readying_fails(struct starts *s, gconstpointer data)
{
    g_autofree char *one = vm("1", VF("1"), NULL);

    partition(s, 2);
    fake_order(&s->fake, "hold " VF("1") " qemu");
    refused(s, one, "is open in qemu");
    fake_order(&s->fake, "close " VF("1"));
    await_free(s, 2);
    starts(s, one);
}

static void reserved(struct starts *s, gconstpointer data)
{
    const struct gpup_adapter adapter = {.kind = GPUP_KIND_SRIOV, .id = UUID("1")};
    g_autofree char *two = vm("2", VF("1"), NULL);
    g_autofree char *one = NULL;
    struct gpup_device device;
    char nonce[37], other[37];
    GPUP_AUTO_ERROR err = NULL;

    partition(s, 2);
    starts(s, two);
    g_assert_cmpint(gpup_host_reserve(s->host, &adapter, "vm1", UUID("1"), &device, nonce, NULL),
                    ==, 0);
    g_assert_cmpstr(device.address, ==, VF("2"));
    g_assert_cmpint(device.form, ==, GPUP_FORM_VFIO);
    g_assert_cmpint(gpup_host_reserve(s->host, &adapter, "vm1", UUID("1"), &device, other, &err),
                    ==, -EBUSY);
    one = vm("1", VF("2"), NULL);
    starts(s, one);
    g_assert_false(gpup_host_claim(s->host, UUID("1"))->reserved);
    gpup_host_unreserve(s->host, UUID("1"), nonce); /* too late: it runs */
    g_assert_cmpstr(gpu_of(s)->slots[1].vm, ==, "vm1");
    driver_is(s, VF("2"), "vfio-pci");
}

static void a_reservation_is_taken_back(struct starts *s, gconstpointer data)
{
    const struct gpup_adapter adapter = {.kind = GPUP_KIND_SRIOV, .id = UUID("1")};
    struct gpup_device device;
    char nonce[37];

    partition(s, 1);
    g_assert_cmpint(gpup_host_reserve(s->host, &adapter, "vm1", UUID("1"), &device, nonce, NULL),
                    ==, 0);
    gpup_host_unreserve(s->host, UUID("1"), "another");
    g_assert_nonnull(gpup_host_claim(s->host, UUID("1")));
    gpup_host_unreserve(s->host, UUID("1"), nonce);
    g_assert_null(gpup_host_claim(s->host, UUID("1")));
    await_free(s, 1);
}

/* ---- what users gave VMs without gpup ---- */

static void by_hand(struct starts *s, gconstpointer data)
{
    g_autofree char *one = vm("1", VF("1"), NULL);
    g_autofree char *both = vm("1", VF("1"), VF("2"));
    g_autofree char *hand = vm("2", NULL, VF("1"));
    g_autofree char *whole = vm("3", NULL, VF("0"));
    g_autofree char *stranger = vm("4", NULL, VF("7"));

    partition(s, 2);
    starts(s, stranger); /* none of ours */
    starts(s, hand);
    g_assert_cmpstr(gpu_of(s)->slots[0].vm, ==, "vm2");
    refused(s, one, "used by vm2");
    refused(s, whole, "gpup gpu partition 03:00.0 0 first");
    release(s, hand);
    await_free(s, 2);
    starts(s, both);
    g_assert_cmpuint(gpup_gpu_free_slots(gpu_of(s)), ==, 0);
    refused(s, hand, "used by vm1");
    release(s, hand);
    g_assert_cmpuint(gpup_gpu_free_slots(gpu_of(s)), ==, 0);
    release(s, both);
    await_free(s, 2);
}

/* gpupd ended and came back: the reservations are there, the functions as they were. */
static void another_gpupd(struct starts *s, gconstpointer data)
{
    g_autofree char *both = vm("1", VF("1"), VF("2"));

    partition(s, 2);
    starts(s, both);
    gpup_host_free(s->host);
    open_host(s);
    g_assert_cmpuint(gpup_gpu_free_slots(gpu_of(s)), ==, 0);
    driver_is(s, VF("1"), "vfio-pci");
    release(s, both);
    await_free(s, 2);
    driver_is(s, VF("1"), "");
}

int main(int argc, char **argv)
{
    static const struct {
        const char *path;
        void (*func)(struct starts *, gconstpointer);
    } tests[] = {
        {"/starts/named", what_it_names},    {"/starts/taken", taken_by_another},
        {"/starts/none-free", nothing_free}, {"/starts/again", again_at_once},
        {"/starts/given-up", given_up},      {"/starts/fails", readying_fails},
        {"/starts/reserved", reserved},      {"/starts/unreserved", a_reservation_is_taken_back},
        {"/starts/by-hand", by_hand},        {"/starts/gpupd-restarts", another_gpupd},
    };

    g_test_init(&argc, &argv, NULL);
    g_log_set_always_fatal(G_LOG_LEVEL_ERROR | G_LOG_LEVEL_CRITICAL); /* failures warn */
    for (size_t i = 0; i < G_N_ELEMENTS(tests); i++)
        g_test_add(tests[i].path, struct starts, NULL, set_up, tests[i].func, tear_down);
    return g_test_run();
}
