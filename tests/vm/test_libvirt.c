/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/error.h"
#include "vm/libvirt_error.h"
#include "vm/manager.h"

#include <errno.h>
#include <glib.h>
#include <string.h>

/*
 * The manager against libvirt's built-in test driver, which keeps definitions, starts, stops and
 * sends events, all in this process. It knows no hooks and its connection never ends: those are for
 * the lab.
 */

#define TEST_URI "test:///default" /* has one VM: test, running */
#define WAIT_S   60

struct world {
    struct gpup_manager *manager;
    GPtrArray *events; /* "EVENT UUID" */
    GThread *thread;   /* in which they have to come */
};

static void on_event(enum gpup_vm_event event, const char *uuid, const char *text, void *data)
{
    struct world *w = data;

    g_assert_true(g_thread_self() == w->thread);
    g_ptr_array_add(w->events,
                    g_strdup_printf("%d %s", (int)event, uuid ? uuid : (text ? text : "-")));
}

static bool seen(struct world *w, enum gpup_vm_event event, const char *detail)
{
    g_autofree char *want = g_strdup_printf("%d %s", (int)event, detail);

    for (guint i = 0; i < w->events->len; i++) {
        if (g_str_has_prefix(w->events->pdata[i], want))
            return true;
    }
    return false;
}

static gboolean too_late(void *data)
{
    g_error("no such event within %d s", WAIT_S);
    return G_SOURCE_REMOVE;
}

static void wait_for(struct world *w, enum gpup_vm_event event, const char *detail)
{
    guint timeout = g_timeout_add_seconds(WAIT_S, too_late, NULL);

    while (!seen(w, event, detail))
        g_main_context_iteration(NULL, TRUE);
    g_source_remove(timeout);
}

static void set_up(struct world *w, const void *uri)
{
    w->thread = g_thread_self();
    w->events = g_ptr_array_new_with_free_func(g_free);
    w->manager = gpup_manager_new(uri, on_event, w);
}

static void connected(struct world *w, const void *uri)
{
    set_up(w, uri);
    wait_for(w, GPUP_MANAGER_CONNECTED, "-");
}

static void tear_down(struct world *w, const void *uri)
{
    guint n;

    gpup_manager_free(w->manager);
    n = w->events->len;
    while (g_main_context_iteration(NULL, FALSE))
        continue;
    g_assert_cmpuint(w->events->len, ==, n); /* nothing comes after the end */
    g_ptr_array_unref(w->events);
}

static struct gpup_vm *get(struct world *w, const char *word)
{
    GPUP_AUTO_ERROR err = NULL;
    struct gpup_vm *vm = NULL;
    int ret = gpup_manager_get(w->manager, word, &vm, &err);

    g_assert_cmpstr(err ? err->message : NULL, ==, NULL);
    g_assert_cmpint(ret, ==, 0);
    return vm;
}

/* err is read after the call that fills it, in whatever order the arguments are made */
static void assert_failed(int ret, struct gpup_error **err, int code, const char *part)
{
    g_assert_cmpint(ret, ==, -code);
    if (!strstr(gpup_error_message(*err), part))
        g_error("'%s' is not in: %s", part, gpup_error_message(*err));
}

static struct gpup_adapter asks(void)
{
    struct gpup_adapter adapter = {.kind = GPUP_KIND_VIRTIO};

    adapter.request[GPUP_VRAM] = (struct gpup_request){.has_min = true, .min = 256 << 20};
    return adapter;
}

/* ---- reading ---- */

static void what_there_is(struct world *w, const void *uri)
{
    g_autoptr(gpup_vm) by_name = get(w, "test");
    g_autoptr(gpup_vm) by_uuid = get(w, by_name->uuid);
    g_autoptr(GPtrArray) list = NULL;
    struct gpup_vm *vm;

    g_assert_cmpint(gpup_manager_list(w->manager, &list, NULL), ==, 0);
    g_assert_cmpuint(list->len, ==, 1);
    vm = list->pdata[0];
    g_assert_cmpstr(vm->name, ==, "test");
    g_assert_cmpstr(vm->uuid, ==, by_name->uuid);
    g_assert_cmpstr(vm->state, ==, "running");
    g_assert_true(vm->active);
    g_assert_null(vm->adapter);
    g_assert_null(vm->problem);
    g_assert_cmpstr(by_uuid->name, ==, "test");
}

static void what_there_is_not(struct world *w, const void *uri)
{
    GPUP_AUTO_ERROR err = NULL;
    struct gpup_vm *vm = NULL;
    struct gpup_adapter adapter = asks();
    struct gpup_guest guest;
    g_auto(GStrv) lines = NULL;

    assert_failed(gpup_manager_get(w->manager, "win11", &vm, &err), &err, ENOENT,
                  "no VM 'win11': there are test");
    g_assert_null(vm);
    assert_failed(gpup_manager_guest(w->manager, "win11", 0x8086, &guest, &err), &err, ENOENT,
                  "no VM 'win11': there are test");
    assert_failed(gpup_manager_start(w->manager, "win11", NULL, &err), &err, ENOENT, "win11");
    assert_failed(
        gpup_manager_stop(w->manager, "00000000-0000-4000-8000-000000000000", true, 0, &err), &err,
        ENOENT, "00000000");
    assert_failed(gpup_manager_assign(w->manager, "win11", &adapter, NULL, 0, &lines, &err), &err,
                  ENOENT, "win11");
    g_assert_null(lines);
}

/* ---- assigning ---- */

static void assign_and_unassign(struct world *w, const void *uri)
{
    struct gpup_adapter adapter = asks();
    g_autoptr(gpup_vm) before = get(w, "test");
    g_autoptr(gpup_vm) with = NULL, without = NULL;
    g_auto(GStrv) planned = NULL, done = NULL, undone = NULL;
    GPUP_AUTO_ERROR err = NULL;

    g_assert_cmpint(gpup_manager_assign(w->manager, "test", &adapter, NULL, GPUP_ASSIGN_DRY_RUN,
                                        &planned, NULL),
                    ==, 0);
    assert_failed(gpup_manager_unassign(w->manager, "test", 0, &undone, &err), &err, ENOENT,
                  "no adapter"); /* the dry run did nothing */
    g_assert_cmpint(gpup_manager_assign(w->manager, before->uuid, &adapter, NULL, 0, &done, NULL),
                    ==, 0);
    g_assert_cmpstrv(planned, done);
    g_assert_true(g_str_has_prefix(done[g_strv_length(done) - 1], "It is running"));
    with = get(w, "test");
    g_assert_cmpstr(with->problem, ==, NULL);
    g_assert_nonnull(with->adapter);
    g_assert_cmpuint(with->adapter->request[GPUP_VRAM].min, ==, 256 << 20);
    wait_for(w, GPUP_VM_CHANGED, before->uuid);
    g_assert_cmpint(gpup_manager_unassign(w->manager, "test", 0, &undone, NULL), ==, 0);
    without = get(w, "test");
    g_assert_null(without->adapter);
}

static void changing_keeps_the_id(struct world *w, const void *uri)
{
    struct gpup_adapter adapter = asks();
    g_autoptr(gpup_vm) first = NULL, second = NULL;
    g_auto(GStrv) lines = NULL, more = NULL;
    g_auto(GStrv) last = NULL;

    g_assert_cmpint(gpup_manager_assign(w->manager, "test", &adapter, NULL, 0, &lines, NULL), ==,
                    0);
    first = get(w, "test");
    adapter.request[GPUP_VRAM].min = 512 << 20;
    g_assert_cmpint(gpup_manager_assign(w->manager, "test", &adapter, NULL, 0, &more, NULL), ==, 0);
    second = get(w, "test");
    g_assert_cmpstr(first->adapter->id, ==, second->adapter->id);
    g_assert_cmpuint(second->adapter->request[GPUP_VRAM].min, ==, 512 << 20);
    g_assert_cmpint(gpup_manager_unassign(w->manager, "test", 0, &last, NULL), ==, 0);
}

/* Two threads at once: both changes are made, one after the other. */
static void *assign_many(void *data)
{
    struct world *w = data;

    for (int i = 0; i < 20; i++) {
        struct gpup_adapter adapter = asks();
        g_auto(GStrv) lines = NULL;

        g_assert_cmpint(gpup_manager_assign(w->manager, "test", &adapter, NULL, 0, &lines, NULL),
                        ==, 0);
    }
    return NULL;
}

static void several_threads(struct world *w, const void *uri)
{
    GThread *threads[4];
    g_autoptr(gpup_vm) vm = NULL;
    g_auto(GStrv) lines = NULL;

    for (size_t i = 0; i < G_N_ELEMENTS(threads); i++)
        threads[i] = g_thread_new("assign", assign_many, w);
    for (size_t i = 0; i < G_N_ELEMENTS(threads); i++)
        g_thread_join(threads[i]);
    vm = get(w, "test");
    g_assert_nonnull(vm->adapter);
    g_assert_null(vm->problem);
    g_assert_cmpint(gpup_manager_unassign(w->manager, "test", 0, &lines, NULL), ==, 0);
}

/* ---- starting and stopping ---- */

static void stop_and_start(struct world *w, const void *uri)
{
    GPUP_AUTO_ERROR err = NULL;
    g_autoptr(gpup_vm) stopped = NULL, running = NULL;

    assert_failed(gpup_manager_start(w->manager, "test", NULL, &err), &err, EBUSY,
                  "running already");
    g_assert_cmpint(gpup_manager_stop(w->manager, "test", false, 10, NULL), ==, 0);
    stopped = get(w, "test");
    g_assert_false(stopped->active);
    g_assert_cmpstr(stopped->state, ==, "shut off");
    wait_for(w, GPUP_VM_CHANGED, stopped->uuid);
    assert_failed(gpup_manager_stop(w->manager, "test", false, 10, &err), &err, EBUSY,
                  "not running");
    g_assert_cmpint(gpup_manager_start(w->manager, "test", NULL, NULL), ==, 0);
    running = get(w, "test");
    g_assert_true(running->active);
    g_assert_cmpint(gpup_manager_stop(w->manager, "test", true, 0, NULL), ==, 0);
    g_assert_cmpint(gpup_manager_start(w->manager, "test", NULL, NULL), ==, 0);
}

/* ---- a device of the host ---- */

static void a_device_of_the_host(struct world *w, const void *uri)
{
    const struct gpup_device one = {.form = GPUP_FORM_VFIO, .address = "0000:41:00.1"};
    const struct gpup_device two = {.form = GPUP_FORM_VFIO, .address = "0000:41:00.2"};
    const struct gpup_device three = {.form = GPUP_FORM_VFIO, .address = "0000:41:00.3"};
    const struct gpup_adapter adapter = {.kind = GPUP_KIND_SRIOV};
    g_autoptr(gpup_vm) assigned = NULL, moved = NULL, running = NULL;
    g_auto(GStrv) lines = NULL, more = NULL;
    GPUP_AUTO_ERROR err = NULL;

    assert_failed(gpup_manager_move(w->manager, "test", &two, &err), &err, ENOENT, "<hostdev>");
    g_assert_cmpint(gpup_manager_stop(w->manager, "test", true, 0, NULL), ==, 0);
    g_assert_cmpint(gpup_manager_assign(w->manager, "test", &adapter, &one, 0, &lines, NULL), ==,
                    0);
    assigned = get(w, "test");
    g_assert_cmpstr(assigned->problem, ==, NULL);
    g_assert_cmpstr(assigned->address, ==, "0000:41:00.1");
    g_assert_cmpint(gpup_manager_move(w->manager, "test", &two, NULL), ==, 0);
    moved = get(w, "test");
    g_assert_cmpstr(moved->address, ==, "0000:41:00.2");
    g_assert_cmpstr(moved->adapter->id, ==, assigned->adapter->id);
    /* for this start only */
    g_assert_cmpint(gpup_manager_start(w->manager, "test", &three, NULL), ==, 0);
    running = get(w, "test");
    g_assert_true(running->active);
    g_assert_cmpstr(running->address, ==, "0000:41:00.2");
    g_assert_cmpint(gpup_manager_unassign(w->manager, "test", 0, &more, NULL), ==, 0);
}

/* ---- no libvirt ---- */

static void nobody_there(struct world *w, const void *uri)
{
    GPUP_AUTO_ERROR err = NULL;
    g_autoptr(GPtrArray) list = NULL;
    struct gpup_adapter adapter = asks();
    g_auto(GStrv) lines = NULL;

    wait_for(w, GPUP_MANAGER_LOST, "");
    assert_failed(gpup_manager_list(w->manager, &list, &err), &err, ENOTCONN, "libvirt");
    g_assert_null(list);
    assert_failed(gpup_manager_assign(w->manager, "test", &adapter, NULL, 0, &lines, &err), &err,
                  ENOTCONN, "libvirt");
    assert_failed(gpup_manager_start(w->manager, "test", NULL, &err), &err, ENOTCONN, "libvirt");
}

static void freed_at_once(void)
{
    for (int i = 0; i < 20; i++) {
        struct world w;

        set_up(&w, TEST_URI);
        tear_down(&w, NULL);
    }
}

/* ---- errors ---- */

#define HOOK(vm, text)                                                                             \
    "Hook script execution failed: internal error: Child process (LC_ALL=C "                       \
    "PATH=/usr/bin:/bin HOME=/root /etc/libvirt/hooks/qemu.d/gpup " vm                             \
    " prepare begin -) unexpected exit status 1: " text "\n"

static void errors(void)
{
    static const struct {
        int libvirt;
        const char *message;
        int code;
        const char *text;
    } cases[] = {
        {VIR_ERR_HOOK_SCRIPT_FAILED, HOOK("win11", "gpup: no partition for win11\n  03:00.0: full"),
         EBUSY, "no partition for win11\n  03:00.0: full"},
        {VIR_ERR_HOOK_SCRIPT_FAILED, HOOK("win11", "gpup: gpupd is not running"), EIO,
         "gpupd is not running"},
        {VIR_ERR_HOOK_SCRIPT_FAILED, HOOK("gpup: x", "gpup: gpupd is not running"), EIO,
         "gpupd is not running"},
        {VIR_ERR_HOOK_SCRIPT_FAILED, HOOK("a", "warning\ngpup: no partition for a"), EBUSY,
         "no partition for a"},
        {VIR_ERR_NO_DOMAIN, "Domain not found", ENOENT, "win11: Domain not found"},
        {VIR_ERR_ACCESS_DENIED, "no", EACCES, "win11: no"},
        {VIR_ERR_INTERNAL_ERROR, "internal error: x", EIO, "win11: internal error: x"},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        GPUP_AUTO_ERROR err = NULL;
        const virError error = {.code = cases[i].libvirt, .message = (char *)cases[i].message};

        g_assert_cmpint(gpup_libvirt_error_from(&err, "win11", &error), ==, -cases[i].code);
        g_assert_cmpstr(gpup_error_message(err), ==, cases[i].text);
    }
    g_assert_cmpint(gpup_libvirt_error_from(NULL, "win11", NULL), ==, -EIO);
}

#define ADD(path, set_up_by, test)                                                                 \
    g_test_add("/libvirt/" path, struct world, TEST_URI, set_up_by, test, tear_down)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("read", connected, what_there_is);
    ADD("unknown", connected, what_there_is_not);
    ADD("assign", connected, assign_and_unassign);
    ADD("change", connected, changing_keeps_the_id);
    ADD("threads", connected, several_threads);
    ADD("stop-and-start", connected, stop_and_start);
    ADD("host-device", connected, a_device_of_the_host);
    g_test_add("/libvirt/nobody", struct world, "qemu+unix:///system?socket=/nonexistent/socket",
               set_up, nobody_there, tear_down);
    g_test_add_func("/libvirt/freed-at-once", freed_at_once);
    g_test_add_func("/libvirt/errors", errors);
    return g_test_run();
}
