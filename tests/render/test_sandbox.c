/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sandbox/sandbox.h"

static unsigned int closed_in_vain;

/* In place of libc's: a number that is closed twice may be another thread's by then. */
int close(int fd)
{
    int ret = (int)syscall(SYS_close, fd);

    if (ret < 0 && errno == EBADF)
        closed_in_vain++;
    return ret;
}

/* Runs a shell script in the sandbox; returns its exit status, `output` gets what it wrote to 7. */
static int run(struct sandbox_spec *spec, const char *script, char *output, size_t size,
               unsigned int *degraded)
{
    char *argv[] = {(char *)"sh", (char *)"-c", (char *)(size_t)script, NULL};
    char *envp[] = {(char *)"PATH=/usr/bin:/usr/sbin", NULL};
    struct sandbox_fd fds[1] = {{.target = 7}};
    GPUP_AUTO_ERROR err = NULL;
    siginfo_t info = {0};
    int ends[2], pidfd = -1;
    size_t used = 0;
    ssize_t n;
    pid_t pid;

    g_assert_cmpint(pipe(ends), ==, 0);
    fds[0].fd = ends[1];
    spec->path = "/usr/bin/dash";
    spec->argv = argv;
    spec->envp = envp;
    spec->fds = fds;
    spec->n_fds = 1;
    if (sandbox_spawn(spec, &pid, &pidfd, degraded, &err) < 0)
        g_error("%s", gpup_error_message(err));
    close(ends[1]);
    while ((n = read(ends[0], output + used, size - 1 - used)) > 0)
        used += (size_t)n;
    output[used] = '\0';
    close(ends[0]);
    g_assert_cmpint(waitid(P_PIDFD, (id_t)pidfd, &info, WEXITED), ==, 0);
    close(pidfd);
    return info.si_code == CLD_EXITED ? info.si_status : -info.si_status;
}

static void test_descriptors(void)
{
    struct sandbox_spec spec = {.cgroup_fd = -1};
    int leak = dup(1);
    char output[256];

    g_assert_cmpint(
        run(&spec,
            "exec >&7; for i in 0 3 4 5 6 7 8 9 10 11 12; do test -e /proc/self/fd/$i && echo $i; "
            "done; exit 42",
            output, sizeof(output), NULL),
        ==, 42);
    g_assert_cmpstr(output, ==, "0\n7\n");
    close(leak);
}

static void test_privileges(void)
{
    struct sandbox_spec spec = {
        .cgroup_fd = -1, .set_ids = geteuid() == 0, .uid = 65534, .gid = 65534};
    unsigned int degraded = ~0u;
    char output[512];

    g_assert_cmpint(run(&spec, "grep -E '^(CapEff|CapPrm|NoNewPrivs)' /proc/self/status >&7",
                        output, sizeof(output), &degraded),
                    ==, 0);
    g_assert_cmpstr(output, ==,
                    "CapPrm:\t0000000000000000\nCapEff:\t0000000000000000\nNoNewPrivs:\t1\n");
    g_assert_cmpuint(degraded, ==, 0);
}

static void test_namespaces(void)
{
    struct sandbox_spec spec = {
        .cgroup_fd = -1, .namespaces = true, .set_ids = geteuid() == 0, .uid = 65534, .gid = 65534};
    unsigned int degraded = ~0u;
    char output[512];

    run(&spec, "true", output, sizeof(output), &degraded);
    if (degraded & (SANDBOX_NO_NAMESPACES | SANDBOX_NO_PRIVATE_ROOT)) {
        g_test_skip("the kernel refuses namespaces to this user");
        return;
    }
    g_assert_cmpint(run(&spec,
                        "exec >&7; echo $$; echo /*; id -u; (: >/usr/x) 2>/dev/null || "
                        "echo ro; (: >/x) 2>/dev/null || echo ro; : >/tmp/x && echo tmp; "
                        "(: <>/dev/null) && echo null",
                        output, sizeof(output), &degraded),
                    ==, 0);
    g_autofree char *expected = g_strdup_printf(
        "1\n/dev /etc /lib%s /tmp /usr\n%u\nro\nro\ntmp\nnull\n",
        g_file_test("/lib64", G_FILE_TEST_EXISTS)
            ? (g_file_test("/lib32", G_FILE_TEST_EXISTS) ? " /lib32 /lib64" : " /lib64")
            : "",
        geteuid() == 0 ? 65534 : geteuid());
    g_assert_cmpstr(output, ==, expected);
}

/* Mesa's settings for programs by name are there for a GPU's driver only. */
static void test_driver_settings(void)
{
    const char *const node[] = {"/dev/full", NULL};
    struct sandbox_spec spec = {.cgroup_fd = -1, .namespaces = true};
    unsigned int degraded = ~0u;
    char output[256];

    if (!g_file_test("/usr/share/drirc.d/00-mesa-defaults.conf", G_FILE_TEST_EXISTS)) {
        g_test_skip("no Mesa is installed");
        return;
    }
    run(&spec, "ls /usr/share/drirc.d >&7", output, sizeof(output), &degraded);
    if (degraded & (SANDBOX_NO_NAMESPACES | SANDBOX_NO_PRIVATE_ROOT)) {
        g_test_skip("the kernel refuses namespaces to this user");
        return;
    }
    g_assert_cmpstr(output, ==, "");
    g_assert_cmpint(run(&spec, "test -d /usr/share/drirc.d && ! touch /usr/share/drirc.d/x", output,
                        sizeof(output), NULL),
                    ==, 0);
    spec.device_nodes = node;
    run(&spec, "ls /usr/share/drirc.d >&7", output, sizeof(output), NULL);
    g_assert_nonnull(strstr(output, "00-mesa-defaults.conf"));
}

static void test_cgroup(void)
{
    struct sandbox_spec spec = {.namespaces = true};
    unsigned int degraded = ~0u;
    const char *root = g_file_test("/sys/fs/cgroup/unified", G_FILE_TEST_IS_DIR)
                           ? "/sys/fs/cgroup/unified"
                           : "/sys/fs/cgroup";
    g_autofree char *path = g_strdup_printf("%s/gpup-test-%d", root, (int)getpid());
    g_autofree char *file = g_build_filename(path, "cgroup.procs", NULL);
    char output[4096];

    /* Not a cgroup at all: started without, and told. */
    spec.cgroup_fd = open("/tmp", O_PATH | O_DIRECTORY | O_CLOEXEC);
    g_assert_cmpint(run(&spec, "exit 3", output, sizeof(output), &degraded), ==, 3);
    g_assert_cmpuint(degraded & SANDBOX_NO_CGROUP, ==, SANDBOX_NO_CGROUP);
    close(spec.cgroup_fd);
    g_assert_cmpuint(closed_in_vain, ==, 0);

    if (mkdir(path, 0755) < 0 || access(file, W_OK) < 0) {
        rmdir(path);
        g_test_skip("no cgroup v2 that this user may make groups in");
        return;
    }
    spec.cgroup_fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    spec.namespaces = false;
    g_assert_cmpint(run(&spec, "cat /proc/self/cgroup >&7", output, sizeof(output), &degraded), ==,
                    0);
    close(spec.cgroup_fd);
    rmdir(path);
    g_assert_cmpuint(degraded, ==, 0);
    g_assert_nonnull(strstr(output, "/gpup-test-"));
}

static void test_errors(void)
{
    char *argv[] = {(char *)"x", NULL}, *envp[] = {NULL};
    struct sandbox_spec spec = {
        .path = "/nowhere/at-all", .argv = argv, .envp = envp, .cgroup_fd = -1};
    GPUP_AUTO_ERROR err = NULL;
    g_autofree char *file = NULL;
    int pidfd, fd;
    pid_t pid;

    g_assert_cmpint(sandbox_spawn(&spec, &pid, &pidfd, NULL, &err), ==, -ENOENT);
    g_assert_nonnull(strstr(gpup_error_message(err), "/nowhere/at-all"));

    /* An error of exec itself comes back too. */
    fd = g_file_open_tmp("gpup-XXXXXX", &file, NULL);
    g_assert_cmpint(write(fd, "\177ELFx", 5), ==, 5);
    g_assert_cmpint(fchmod(fd, 0755), ==, 0);
    close(fd);
    spec.path = file;
    g_assert_cmpint(sandbox_spawn(&spec, &pid, &pidfd, NULL, &err), ==, -ENOEXEC);
    spec.namespaces = true;
    g_assert_cmpint(sandbox_spawn(&spec, &pid, &pidfd, NULL, &err), ==, -ENOEXEC);
    g_assert_cmpint(waitpid(-1, NULL, WNOHANG), ==, -1); /* nothing is left to reap */
    unlink(file);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/sandbox/descriptors", test_descriptors);
    g_test_add_func("/sandbox/privileges", test_privileges);
    g_test_add_func("/sandbox/namespaces", test_namespaces);
    g_test_add_func("/sandbox/driver-settings", test_driver_settings);
    g_test_add_func("/sandbox/cgroup", test_cgroup);
    g_test_add_func("/sandbox/errors", test_errors);
    return g_test_run();
}
