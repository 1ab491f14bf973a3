/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "wire/gpupd.h"
#include "wire/seqpacket.h"

#include <gio/gio.h>
#include <glib/gstdio.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define BY_HAND "<domain><devices><hostdev mode='subsystem'/></devices></domain>"
#define WITH    "<domain><metadata xmlns:g='urn:gpup:adapter:1'/></domain>"
#define WITHOUT "<domain><name>x</name></domain>"

static char *hook_path;

/* A stand-in for gpupd that takes one request. */
struct fixture {
    char *dir, *path;
    int listener;
    GThread *thread;
    int32_t status; /* what it answers */
    const char *text;
    bool hang_up; /* closes instead of answering */
    bool slow;    /* takes 5 s to answer */
    struct gpup_msg_hook got;
    char xml[256];
};

static void *serve(void *data)
{
    struct fixture *f = data;
    struct gpup_msg_answer answer = {.header = {GPUP_MSG_ANSWER, GPUP_GPUPD_VERSION}};
    int sock = accept(f->listener, NULL, NULL);
    int fd = -1;

    if (sock < 0)
        return NULL;
    if (gpup_seqpacket_receive(sock, &f->got, sizeof(f->got), &fd, 1, NULL, 0) == sizeof(f->got) &&
        fd >= 0 && !f->hang_up) {
        if (f->slow)
            g_usleep(5 * G_USEC_PER_SEC);
        g_assert_cmpint(read(fd, f->xml, sizeof(f->xml) - 1), >, 0);
        answer.status = f->status;
        g_strlcpy(answer.text, f->text ? f->text : "", sizeof(answer.text));
        gpup_seqpacket_send(sock, &answer, sizeof(answer), NULL, 0, 0);
    }
    if (fd >= 0)
        close(fd);
    close(sock);
    return NULL;
}

static void set_up(struct fixture *f, gconstpointer data)
{
    f->dir = g_dir_make_tmp("gpup-hook-XXXXXX", NULL);
    f->path = g_build_filename(f->dir, "s", NULL);
    f->listener = -1;
}

static void start(struct fixture *f)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    g_strlcpy(address.sun_path, f->path, sizeof(address.sun_path));
    f->listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    g_assert_cmpint(bind(f->listener, (struct sockaddr *)&address, sizeof(address)), ==, 0);
    g_assert_cmpint(listen(f->listener, 1), ==, 0);
    f->thread = g_thread_new("gpupd", serve, f);
}

static void tear_down(struct fixture *f, gconstpointer data)
{
    if (f->thread) {
        shutdown(f->listener, SHUT_RDWR);
        g_thread_join(f->thread);
        close(f->listener);
    }
    g_remove(f->path);
    g_remove(f->dir);
    g_free(f->path);
    g_free(f->dir);
}

static int run(struct fixture *f, const char *op, const char *sub, const char *xml, char **errors)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GSubprocess) process =
        g_subprocess_new(G_SUBPROCESS_FLAGS_STDIN_PIPE | G_SUBPROCESS_FLAGS_STDOUT_PIPE |
                             G_SUBPROCESS_FLAGS_STDERR_PIPE,
                         &error, hook_path, "--socket", f->path, "desk1", op, sub, "-", NULL);
    g_autofree char *output = NULL;

    g_assert_no_error(error);
    g_subprocess_communicate_utf8(process, xml, NULL, &output, errors, &error);
    g_assert_no_error(error);
    g_assert_cmpstr(output, ==, ""); /* the XML stays as it is */
    return g_subprocess_get_exit_status(process);
}

/* Nobody listens, so a question would fail. */
static void a_vm_without_an_adapter_asks_nobody(struct fixture *f, gconstpointer data)
{
    g_autofree char *errors = NULL;

    g_assert_cmpint(run(f, "prepare", "begin", WITHOUT, &errors), ==, 0);
    g_assert_cmpstr(errors, ==, "");
}

static void fails_closed_without_gpupd(struct fixture *f, gconstpointer data)
{
    g_autofree char *errors = NULL, *at_release = NULL;

    g_assert_cmpint(run(f, "prepare", "begin", WITH, &errors), ==, 1);
    g_assert_cmpstr(errors, ==, "gpup: gpupd is not running: systemctl start gpupd\n");
    g_assert_cmpint(run(f, "release", "end", WITH, &at_release), ==, 0);
}

static void a_yes(struct fixture *f, gconstpointer data)
{
    g_autofree char *errors = NULL;

    start(f);
    g_assert_cmpint(run(f, "prepare", "begin", WITH, &errors), ==, 0);
    g_assert_cmpstr(errors, ==, "");
    g_assert_cmpuint(f->got.op, ==, GPUP_HOOK_PREPARE);
    g_assert_cmpstr(f->got.vm, ==, "desk1");
    g_assert_cmpstr(f->xml, ==, WITH);
}

/* On a busy host gpupd takes its time: the VM starts later, and is not refused. */
static void a_late_yes(struct fixture *f, gconstpointer data)
{
    g_autofree char *errors = NULL;

    f->slow = true;
    start(f);
    g_assert_cmpint(run(f, "prepare", "begin", WITH, &errors), ==, 0);
    g_assert_cmpstr(errors, ==, "");
}

static void a_refusal(struct fixture *f, gconstpointer data)
{
    g_autofree char *errors = NULL;

    f->status = -EBUSY;
    f->text = "no partition for desk1\n  software llvmpipe: all 4 used by a b c d";
    start(f);
    g_assert_cmpint(run(f, "prepare", "begin", WITH, &errors), ==, 1);
    g_assert_cmpstr(errors, ==,
                    "gpup: no partition for desk1\n  software llvmpipe: all 4 used by a b c d\n");
}

/* Its device may be a partition: gpupd may object, but where it is not there the VM starts. */
static void a_device_by_hand(struct fixture *f, gconstpointer data)
{
    g_autofree char *alone = NULL, *errors = NULL, *restored = NULL;

    g_assert_cmpint(run(f, "prepare", "begin", BY_HAND, &alone), ==, 0);
    g_assert_cmpstr(alone, ==, "");
    f->status = -EBUSY;
    start(f);
    g_assert_cmpint(run(f, "restore", "begin", BY_HAND, &restored), ==, 0);
    g_assert_cmpint(run(f, "prepare", "begin", BY_HAND, &errors), ==, 1);
    g_assert_cmpstr(f->xml, ==, BY_HAND);
}

static void a_refusal_never_hurts_a_running_vm(struct fixture *f, gconstpointer data)
{
    g_autofree char *errors = NULL;

    f->status = -EIO;
    f->text = "trouble";
    start(f);
    g_assert_cmpint(run(f, "reconnect", "begin", WITH, &errors), ==, 0);
    g_assert_nonnull(strstr(errors, "trouble"));
}

static void gpupd_dies(struct fixture *f, gconstpointer data)
{
    g_autofree char *errors = NULL;

    f->hang_up = true;
    start(f);
    g_assert_cmpint(run(f, "prepare", "begin", WITH, &errors), ==, 1);
    g_assert_true(g_str_has_prefix(errors, "gpup: "));
}

static void other_operations(struct fixture *f, gconstpointer data)
{
    g_assert_cmpint(run(f, "start", "begin", WITH, NULL), ==, 0);
    g_assert_cmpint(run(f, "prepare", "end", WITH, NULL), ==, 0);
}

/* The mark at the very end, across the boundary of what is kept, and not at all. */
static void too_large(struct fixture *f, gconstpointer data)
{
    g_autofree char *large = g_strnfill(3 << 20, 'x');
    const size_t places[] = {0, (1 << 20) - 5, (3 << 20) - 18};

    g_assert_cmpint(run(f, "prepare", "begin", large, NULL), ==, 0);
    for (size_t i = 0; i < G_N_ELEMENTS(places); i++) {
        g_autofree char *marked = g_strdup(large);
        g_autofree char *errors = NULL;

        memcpy(marked + places[i], "urn:gpup:adapter:1", 18);
        g_assert_cmpint(run(f, "prepare", "begin", marked, &errors), ==, 1);
        g_assert_nonnull(strstr(errors, "1 MiB"));
    }
}

int main(int argc, char **argv)
{
    static const struct {
        const char *path;
        void (*func)(struct fixture *, gconstpointer);
    } tests[] = {
        {"/hook/without", a_vm_without_an_adapter_asks_nobody},
        {"/hook/no-gpupd", fails_closed_without_gpupd},
        {"/hook/yes", a_yes},
        {"/hook/late", a_late_yes},
        {"/hook/refusal", a_refusal},
        {"/hook/by-hand", a_device_by_hand},
        {"/hook/running", a_refusal_never_hurts_a_running_vm},
        {"/hook/gpupd-dies", gpupd_dies},
        {"/hook/other-operations", other_operations},
        {"/hook/too-large", too_large},
    };

    g_test_init(&argc, &argv, NULL);
    hook_path = argv[1];
    for (size_t i = 0; i < G_N_ELEMENTS(tests); i++)
        g_test_add(tests[i].path, struct fixture, NULL, set_up, tests[i].func, tear_down);
    return g_test_run();
}
