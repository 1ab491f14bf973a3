/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/error.h"
#include "daemon/server.h"
#include "wire/render.h"
#include "wire/seqpacket.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

/* gpupd's socket, as whoever may connect sees it: libvirt's hook, and processes of VMs that were
 * taken over. */

#define WAIT_MS 20000
#define MANY    1100

#define ADAPTER "11111111-2222-4333-8444-000000000001"

struct fixture {
    char *dir, *path;
    struct gpup_folders folders;
    struct gpup_config config;
    struct gpup_host *host;
    struct gpup_events *events;
    struct gpup_server *server;
    struct gpup_cgroups *cgroups;
    char *group; /* made-up: of the partition's renderer; NULL: there is none */
};

static void ignore(void *data)
{
}

/* Where gpupd makes the group of a partition below this mount point, with files as the kernel puts
 * there. NULL: this process has no cgroup v2. */
static char *make_group(const char *mount)
{
    static const char *const files[] = {"memory.max", "cpu.weight", "cpu.max", "pids.max"};
    g_autofree char *text = NULL;
    g_autofree char *above = NULL;
    g_autofree char *base = NULL;
    g_autofree char *control = NULL;
    char *group, *line;

    g_assert_true(g_file_get_contents("/proc/self/cgroup", &text, NULL, NULL));
    line = strstr(text, "0::/");
    if (!line)
        return NULL;
    above = g_path_get_dirname(g_strchomp(strtok(line + 3, "\n")));
    base =
        g_build_filename(mount, strcmp(above, "/") == 0 ? "gpup.slice" : above, "partitions", NULL);
    group = g_strdup_printf("%s/partition-" ADAPTER, base);
    g_assert_cmpint(g_mkdir_with_parents(group, 0755), ==, 0);
    control = g_build_filename(base, "cgroup.subtree_control", NULL);
    g_assert_true(g_file_set_contents(control, "", -1, NULL));
    for (size_t i = 0; i < G_N_ELEMENTS(files); i++) {
        g_autofree char *path = g_build_filename(group, files[i], NULL);

        g_assert_true(g_file_set_contents(path, "", -1, NULL));
    }
    return group;
}

static void open_server(struct fixture *f, bool with_group)
{
    struct gpup_server_setup setup = {.changed = ignore};
    g_autofree char *conf = NULL;

    f->dir = g_dir_make_tmp("gpup-server-XXXXXX", NULL);
    g_assert_cmpint(g_chmod(f->dir, 0755), ==, 0);
    conf = g_build_filename(f->dir, "gpup.conf", NULL);
    f->path = g_build_filename(f->dir, "gpupd.sock", NULL);
    f->folders = (struct gpup_folders){f->dir, f->dir, f->dir};
    g_assert_cmpint(gpup_config_read(conf, &f->config, NULL), ==, 0);
    f->config.software_memory = UINT64_C(1) << 30;
    f->host = gpup_host_new(&f->config, &f->folders, ignore, NULL, NULL);
    f->events = gpup_events_new(f->dir);
    setup.host = f->host;
    setup.events = f->events;
    f->group = with_group ? make_group(f->dir) : NULL;
    f->cgroups = gpup_cgroups_new(f->group ? f->dir : "/nonexistent");
    setup.renderer = "/nonexistent";
    setup.render_user = "root";
    setup.cgroups = f->cgroups;
    setup.folders = &f->folders;
    f->server = gpup_server_new(&setup, NULL);
    g_assert_nonnull(f->server);
    g_assert_cmpint(g_chmod(f->path, 0666), ==, 0); /* a test's stranger has no group */
}

static void set_up(struct fixture *f, gconstpointer data)
{
    open_server(f, false);
}

static void set_up_with_group(struct fixture *f, gconstpointer data)
{
    open_server(f, true);
}

static void tear_down(struct fixture *f, gconstpointer data)
{
    char *argv[] = {(char *)"rm", (char *)"-rf", f->dir, NULL};

    gpup_server_free(f->server);
    gpup_cgroups_free(f->cgroups);
    gpup_events_free(f->events);
    gpup_host_free(f->host);
    g_spawn_sync(NULL, argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL, NULL, NULL, NULL);
    g_free(f->group);
    g_free(f->path);
    g_free(f->dir);
}

static int connect_to(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

    g_strlcpy(address.sun_path, path, sizeof(address.sun_path));
    if (sock >= 0 && connect(sock, (struct sockaddr *)&address, sizeof(address)) < 0) {
        close(sock);
        return -1;
    }
    return sock;
}

static int ask_as_hook(int sock, const char *vm)
{
    struct gpup_msg_hook hook = {.header = {GPUP_MSG_HOOK, GPUP_GPUPD_VERSION}, .op = 99};
    int fd = memfd_create("xml", MFD_CLOEXEC), ret;

    g_strlcpy(hook.vm, vm, sizeof(hook.vm));
    ret = write(fd, "<domain/>", 9) == 9 ? gpup_seqpacket_send(sock, &hook, sizeof(hook), &fd, 1, 0)
                                         : -EIO;
    close(fd);
    return ret;
}

static gboolean too_late(void *data)
{
    g_error("gpupd did not answer");
    return G_SOURCE_REMOVE;
}

/* Serves until the descriptor can be read. */
static void serve_until(int fd)
{
    guint timer = g_timeout_add(WAIT_MS, too_late, NULL);
    struct pollfd p = {.fd = fd, .events = POLLIN};

    while (poll(&p, 1, 0) == 0)
        g_main_context_iteration(NULL, FALSE);
    g_source_remove(timer);
}

static void assert_hook_is_served(struct fixture *f)
{
    struct gpup_msg_answer answer = {0};
    int fd, sock = connect_to(f->path);

    g_assert_cmpint(sock, >=, 0);
    g_assert_cmpint(ask_as_hook(sock, "vm"), ==, 0);
    serve_until(sock);
    g_assert_cmpint(gpup_seqpacket_receive(sock, &answer, sizeof(answer), &fd, 1, NULL, 0), ==,
                    sizeof(answer));
    g_assert_cmpint(answer.status, ==, -EINVAL); /* there is no operation 99 */
    close(sock);
}

/* A process of the group that may connect; it runs until it is killed. False: there is none. */
static bool as_stranger(struct fixture *f, void (*attack)(const char *path), pid_t *pid)
{
    int done[2];

    if (geteuid() != 0) {
        g_test_skip("strangers are users other than ours: only root can be two");
        return false;
    }
    g_assert_cmpint(pipe(done), ==, 0);
    *pid = fork();
    if (*pid == 0) {
        alarm(2 * WAIT_MS / 1000);
        if (setgid(65534) < 0 || setuid(65534) < 0)
            _exit(1);
        attack(f->path);
        (void)!write(done[1], "", 1);
        for (;;)
            pause();
    }
    close(done[1]);
    serve_until(done[0]);
    close(done[0]);
    while (g_main_context_iteration(NULL, FALSE)) /* who is still in the queue */
        continue;
    return true;
}

static void hold_many(const char *path)
{
    for (unsigned i = 0; i < MANY; i++)
        (void)!connect_to(path);
}

/* Connections that say nothing do not keep libvirt's hook out. */
static void crowd(struct fixture *f, gconstpointer data)
{
    pid_t pid;

    assert_hook_is_served(f);
    if (!as_stranger(f, hold_many, &pid))
        return;
    assert_hook_is_served(f);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

/* Who comes while there are no descriptors left waits, and gpupd does not spin meanwhile. */
static void no_descriptors(struct fixture *f, gconstpointer data)
{
    struct gpup_msg_answer answer = {0};
    struct rlimit limit, none;
    int fd, lowest, sock = connect_to(f->path);
    unsigned turns = 0;

    g_assert_cmpint(ask_as_hook(sock, "vm"), ==, 0);
    lowest = dup(sock);
    close(lowest);
    g_assert_cmpint(getrlimit(RLIMIT_NOFILE, &limit), ==, 0);
    none = (struct rlimit){(rlim_t)lowest, limit.rlim_max};
    g_test_expect_message(NULL, G_LOG_LEVEL_WARNING, "*a connection waits: Too many open files");
    g_assert_cmpint(setrlimit(RLIMIT_NOFILE, &none), ==, 0);
    for (unsigned i = 0; i < 1000; i++)
        turns += g_main_context_iteration(NULL, FALSE);
    g_assert_cmpint(setrlimit(RLIMIT_NOFILE, &limit), ==, 0);
    g_test_assert_expected_messages();
    g_assert_cmpuint(turns, <, 10);
    serve_until(sock);
    g_assert_cmpint(gpup_seqpacket_receive(sock, &answer, sizeof(answer), &fd, 1, NULL, 0), ==,
                    sizeof(answer));
    close(sock);
}

static void pretend(const char *path)
{
    for (unsigned i = 0; i < 10; i++) {
        struct gpup_msg_answer answer;
        char vm[32];
        int fd, sock = connect_to(path);

        g_snprintf(vm, sizeof(vm), "invented-%u", i);
        if (sock < 0 || ask_as_hook(sock, vm) < 0 ||
            gpup_seqpacket_receive(sock, &answer, sizeof(answer), &fd, 1, NULL, 0) < 0 ||
            answer.status != -EACCES)
            _exit(1);
        close(sock);
    }
}

/* What somebody says who is not the hook is no event of a VM's. */
static void pretender(struct fixture *f, gconstpointer data)
{
    g_autofree char *file = g_build_filename(f->dir, "events", NULL);
    g_autofree char *text = NULL;
    pid_t pid;

    if (!as_stranger(f, pretend, &pid))
        return;
    g_assert_cmpint(waitpid(pid, NULL, WNOHANG), ==, 0);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    g_file_get_contents(file, &text, NULL, NULL);
    g_assert_false(text && strstr(text, "invented"));
}

static void on_prepared(const struct gpup_error *err, void *data)
{
    if (err)
        g_error("%s", gpup_error_message(err));
}

/* A VM's device process: this one, which speaks this version with renderers. Its connection. */
static int become_vgpu(struct fixture *f, uint32_t render_version)
{
    static const char xml[] =
        "<domain id='7'><name>vm</name><uuid>11111111-2222-4333-8444-000000000002</uuid><metadata>"
        "<g:adapter xmlns:g='urn:gpup:adapter:1' id='" ADAPTER "' kind='virtio'/></metadata>"
        "<devices><video><model type='vga'/></video><video><model type='virtio'>"
        "<acceleration rendernode='/run/gpup/vm/" ADAPTER "'/></model></video></devices></domain>";
    g_autofree char *file = g_build_filename(f->dir, "7-vm-video0-vhost-user-gpu.pid", NULL);
    g_autofree char *pid = g_strdup_printf("%d", getpid());
    g_autoptr(GPtrArray) lines = g_ptr_array_new_with_free_func(g_free);
    struct gpup_msg_hello hello = {.header = {GPUP_MSG_HELLO, GPUP_GPUPD_VERSION},
                                   .render_version = render_version};
    struct gpup_msg_grant grant;
    struct gpup_gpu *const *gpus;
    int fd, sock;
    size_t n;

    gpus = gpup_host_gpus(f->host, &n);
    g_assert_cmpint(gpup_host_partition(f->host, gpus[n - 1], 2, false, lines, NULL), ==, 0);
    gpup_host_prepare(f->host, xml, strlen(xml), gpup_server_is_alive, f->server, on_prepared,
                      NULL);
    g_assert_true(g_file_set_contents(file, pid, -1, NULL));
    sock = connect_to(f->path);
    g_strlcpy(hello.adapter, ADAPTER, sizeof(hello.adapter));
    g_assert_cmpint(gpup_seqpacket_send(sock, &hello, sizeof(hello), NULL, 0, 0), ==, 0);
    serve_until(sock);
    g_assert_cmpint(gpup_seqpacket_receive(sock, &grant, sizeof(grant), &fd, 1, NULL, 0), ==,
                    sizeof(grant));
    g_assert_cmpuint(grant.header.type, ==, GPUP_MSG_GRANT);
    return sock;
}

/* A device process that never stops talking is hung up on; one that reports is not. */
static void talker(struct fixture *f, gconstpointer data)
{
    const struct gpup_msg_usage usage = {.header = {GPUP_MSG_USAGE, GPUP_GPUPD_VERSION}};
    int sock = become_vgpu(f, 0), ret = 0;

    for (unsigned i = 0; i < 10; i++)
        g_assert_cmpint(gpup_seqpacket_send(sock, &usage, sizeof(usage), NULL, 0, 0), ==, 0);
    assert_hook_is_served(f);
    g_assert_true(gpup_server_is_alive(ADAPTER, f->server));
    for (unsigned i = 0; i < 100000 && ret != -EPIPE && ret != -ECONNRESET; i++) {
        ret = gpup_seqpacket_send(sock, &usage, sizeof(usage), NULL, 0, MSG_DONTWAIT);
        g_main_context_iteration(NULL, FALSE);
    }
    g_assert_false(gpup_server_is_alive(ADAPTER, f->server));
    close(sock);
    assert_hook_is_served(f);
}

static char *events_of(struct fixture *f)
{
    g_autoptr(GVariant) events =
        g_variant_ref_sink(gpup_events_list(f->events, 100, 0, NULL, "vm"));

    return g_variant_print(events, FALSE);
}

/* gpup was upgraded, or the other way, while the VM ran: it keeps its partition, no renderer of
 * this release is started for it, and everybody who asks learns what to do. */
static void other_release(struct fixture *f, gconstpointer data)
{
    const struct gpup_msg_plain want = {{GPUP_MSG_WANT_RENDERER, GPUP_GPUPD_VERSION}};
    const bool newer = GPOINTER_TO_INT(data);
    int fd, sock = become_vgpu(f, newer ? GPUP_RENDER_VERSION + 1 : GPUP_RENDER_OLDEST - 1);
    const char *problem = gpup_server_problem(f->server, ADAPTER);
    struct gpup_msg_answer answer = {0};
    g_autofree char *events = events_of(f);

    g_assert_nonnull(problem);
    g_assert_nonnull(strstr(problem, newer ? "newer gpup" : "gpup was upgraded"));
    g_assert_nonnull(strstr(problem, "shut the VM down and start it again"));
    g_assert_nonnull(strstr(events, problem));
    g_assert_cmpint(gpup_seqpacket_send(sock, &want, sizeof(want), NULL, 0, 0), ==, 0);
    serve_until(sock);
    g_assert_cmpint(gpup_seqpacket_receive(sock, &answer, sizeof(answer), &fd, 1, NULL, 0), ==,
                    sizeof(answer));
    g_assert_cmpint(answer.status, ==, -EPROTONOSUPPORT);
    g_assert_cmpstr(answer.text, ==, problem);
    g_assert_true(gpup_server_is_alive(ADAPTER, f->server));
    close(sock);
}

static void this_release(struct fixture *f, gconstpointer data)
{
    int sock = become_vgpu(f, (uint32_t)GPOINTER_TO_UINT(data));

    g_assert_null(gpup_server_problem(f->server, ADAPTER));
    g_assert_null(gpup_server_problem(f->server, "another"));
    close(sock);
}

/* The kernel takes its time over the limits of a renderer's group: others are served. */
static void slow_limits(struct fixture *f, gconstpointer data)
{
    const struct gpup_msg_plain want = {
        .header = {GPUP_MSG_WANT_RENDERER, GPUP_GPUPD_VERSION},
    };
    g_autofree char *file = f->group ? g_build_filename(f->group, "memory.max", NULL) : NULL;
    struct gpup_msg_answer answer = {0};
    int sock, fifo, fd;

    if (!f->group) {
        g_test_skip("this machine has no cgroup v2");
        return;
    }
    sock = become_vgpu(f, GPUP_RENDER_VERSION);
    /* opening it to write waits until somebody reads */
    g_assert_cmpint(g_remove(file), ==, 0);
    g_assert_cmpint(mkfifo(file, 0600), ==, 0);
    alarm(3 * WAIT_MS / 1000); /* the main loop's own timer does not run while it is held up */
    g_assert_cmpint(gpup_seqpacket_send(sock, &want, sizeof(want), NULL, 0, 0), ==, 0);
    assert_hook_is_served(f);
    assert_hook_is_served(f);
    alarm(0);
    g_assert_cmpint(recv(sock, &answer, sizeof(answer), MSG_DONTWAIT), ==, -1); /* not yet */
    g_test_expect_message(NULL, G_LOG_LEVEL_WARNING, "*cannot execute /nonexistent*");
    fifo = open(file, O_RDWR | O_CLOEXEC);
    serve_until(sock);
    g_test_assert_expected_messages();
    g_assert_cmpint(gpup_seqpacket_receive(sock, &answer, sizeof(answer), &fd, 1, NULL, 0), ==,
                    sizeof(answer));
    g_assert_cmpint(answer.status, ==, -EIO);
    g_assert_nonnull(strstr(answer.text, "/nonexistent"));
    close(fifo);
    close(sock);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add("/server/crowd", struct fixture, NULL, set_up, crowd, tear_down);
    g_test_add("/server/no-descriptors", struct fixture, NULL, set_up, no_descriptors, tear_down);
    g_test_add("/server/pretender", struct fixture, NULL, set_up, pretender, tear_down);
    g_test_add("/server/release/this", struct fixture, GUINT_TO_POINTER(GPUP_RENDER_VERSION),
               set_up, this_release, tear_down);
    g_test_add("/server/release/untold", struct fixture, NULL, set_up, this_release, tear_down);
    g_test_add("/server/release/newer", struct fixture, GINT_TO_POINTER(true), set_up,
               other_release, tear_down);
    g_test_add("/server/release/older", struct fixture, GINT_TO_POINTER(false), set_up,
               other_release, tear_down);
    g_test_add("/server/talker", struct fixture, NULL, set_up, talker, tear_down);
    g_test_add("/server/slow-limits", struct fixture, NULL, set_up_with_group, slow_limits,
               tear_down);
    return g_test_run();
}
