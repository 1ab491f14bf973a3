/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <glib.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sandbox/sandbox.h"

/*
 * What is possible from inside of the jail, tried by tests/render/walls.c: with all walls, and with
 * each kind of wall alone, so that none stands only because another one does.
 */

struct host {
    char *dir, *program, *file, *path;
    int listener;
    pid_t outsider;
};

/* To where another user can execute it: not all may look into the folder of the sources. */
static void copy_program(const char *path)
{
    g_autofree char *program = NULL;
    gsize length;

    g_assert_true(g_file_get_contents(g_getenv("GPUP_TEST_WALLS"), &program, &length, NULL));
    g_assert_true(g_file_set_contents(path, program, (gssize)length, NULL));
    g_assert_cmpint(g_chmod(path, 0755), ==, 0);
}

static void set_up(struct host *h, gconstpointer data)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    h->dir = g_dir_make_tmp("gpup-walls-XXXXXX", NULL);
    h->program = g_build_filename(h->dir, "walls", NULL);
    h->file = g_build_filename(h->dir, "secret", NULL);
    h->path = g_build_filename(h->dir, "socket", NULL);
    g_assert_cmpint(g_chmod(h->dir, 0777), ==, 0);
    copy_program(h->program);
    g_assert_true(g_file_set_contents(h->file, "secret", -1, NULL));
    g_assert_cmpint(g_chmod(h->file, 0666), ==, 0);
    h->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    g_strlcpy(address.sun_path, h->path, sizeof(address.sun_path));
    g_assert_cmpint(bind(h->listener, (struct sockaddr *)&address, sizeof(address)), ==, 0);
    g_assert_cmpint(listen(h->listener, 16), ==, 0);
    g_assert_cmpint(g_chmod(h->path, 0777), ==, 0);
    h->outsider = fork();
    g_assert_cmpint(h->outsider, >=, 0);
    if (h->outsider == 0) {
        if (geteuid() == 0 && setuid(65534) < 0) /* the renderer's user: only walls are between */
            _exit(1);
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (;;)
            pause();
    }
}

static void tear_down(struct host *h, gconstpointer data)
{
    g_autofree char *created = g_strconcat(h->file, ".new", NULL);

    kill(h->outsider, SIGKILL);
    waitpid(h->outsider, NULL, 0);
    close(h->listener);
    g_unlink(created);
    g_unlink(h->path);
    g_unlink(h->file);
    g_unlink(h->program);
    g_rmdir(h->dir);
    g_free(h->path);
    g_free(h->file);
    g_free(h->program);
    g_free(h->dir);
}

/* What the program could do, each with a space behind it. */
static char *possible(struct host *h, const char *calls, bool namespaces)
{
    g_autofree char *pid = g_strdup_printf("%d", h->outsider);
    char *argv[] = {(char *)"walls", (char *)(size_t)calls, h->file, h->path, pid, NULL};
    char *envp[] = {NULL};
    struct sandbox_fd fds[1] = {{.target = 7}};
    struct sandbox_spec spec = {.path = h->program,
                                .argv = argv,
                                .envp = envp,
                                .fds = fds,
                                .n_fds = 1,
                                .namespaces = namespaces,
                                .set_ids = geteuid() == 0,
                                .uid = 65534,
                                .gid = 65534,
                                .cgroup_fd = -1};
    GPUP_AUTO_ERROR err = NULL;
    unsigned degraded = 0;
    siginfo_t info = {0};
    char text[2048] = "";
    size_t used = 0;
    int ends[2], pidfd;
    ssize_t n;
    pid_t child;

    g_assert_cmpint(pipe(ends), ==, 0);
    fds[0].fd = ends[1];
    if (sandbox_spawn(&spec, &child, &pidfd, &degraded, &err) < 0)
        g_error("%s", gpup_error_message(err));
    close(ends[1]);
    while ((n = read(ends[0], text + used, sizeof(text) - 1 - used)) > 0)
        used += (size_t)n;
    close(ends[0]);
    g_assert_cmpint(waitid(P_PIDFD, (id_t)pidfd, &info, WEXITED), ==, 0);
    close(pidfd);
    g_assert_cmpint(info.si_code, ==, CLD_EXITED);
    g_assert_cmpint(info.si_status, ==, 0);
    g_assert_true(g_str_has_suffix(text, "end\n"));
    text[used - strlen("end\n")] = '\0';
    g_strdelimit(text, "\n", ' ');
    if (namespaces && degraded & (SANDBOX_NO_NAMESPACES | SANDBOX_NO_PRIVATE_ROOT))
        return NULL;
    return g_strdup(text);
}

static void assert_only(struct host *h, const char *calls, bool namespaces, const char *expected)
{
    g_autofree char *found = possible(h, calls, namespaces);

    if (found)
        g_assert_cmpstr(found, ==, expected);
    else
        g_test_skip("the kernel refuses namespaces to this user");
}

/* The test's own test: without walls nearly all of it is possible. */
static void no_walls(struct host *h, gconstpointer data)
{
    g_autofree char *found = possible(h, "none", false);

    for (const char *const *what =
             (const char *const[]){"open ", "create ", "connect ", "network ", "execute ", "fork ",
                                   "signal ", "block ", "code ", NULL};
         *what; what++)
        g_assert_nonnull(strstr(found, *what));
    g_assert_null(strstr(found, "mount "));
    g_assert_null(strstr(found, "root "));
}

static void namespaces_alone(struct host *h, gconstpointer data)
{
    g_autofree char *found = possible(h, "none", true);

    if (!found) {
        g_test_skip("the kernel refuses namespaces to this user");
        return;
    }
    for (const char *const *what =
             (const char *const[]){"open ", "create ", "connect ", "network ", "trace ", "signal ",
                                   "read-memory ", "mount ", "device ", "root ", "perf ", NULL};
         *what; what++)
        g_assert_null(strstr(found, *what));
}

static void calls_alone(struct host *h, gconstpointer data)
{
    /* which files a renderer may open is the private root's affair */
    assert_only(h, "software", false, "open create code ");
    assert_only(h, "gpu", false, "open create gpu code ");
}

static void renderer(struct host *h, gconstpointer data)
{
    assert_only(h, "software", true, "code ");
    assert_only(h, "gpu", true, "gpu code ");
}

/* gpup-vgpu has libvirt's confinement beside; it may go to gpupd's socket. */
static void vgpu(struct host *h, gconstpointer data)
{
    assert_only(h, "vgpu", false, "connect ");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add("/walls/none", struct host, NULL, set_up, no_walls, tear_down);
    g_test_add("/walls/namespaces-alone", struct host, NULL, set_up, namespaces_alone, tear_down);
    g_test_add("/walls/calls-alone", struct host, NULL, set_up, calls_alone, tear_down);
    g_test_add("/walls/renderer", struct host, NULL, set_up, renderer, tear_down);
    g_test_add("/walls/vgpu", struct host, NULL, set_up, vgpu, tear_down);
    return g_test_run();
}
