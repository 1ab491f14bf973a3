/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "sandbox/calls.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <linux/perf_event.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

/*
 * walls CALLS FILE SOCKET PID: what a program taken over by a guest would try, from inside of the
 * jail. Writes to descriptor 7 the names of what it could do, one a line. CALLS: none, vgpu,
 * software or gpu. FILE, SOCKET and PID are the host's.
 */

static const char *file, *path;
static pid_t outsider;

static bool opens(void)
{
    return open(file, O_RDONLY | O_CLOEXEC) >= 0;
}

static bool creates(void)
{
    char name[300];

    snprintf(name, sizeof(name), "%s.new", file);
    return open(name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600) >= 0;
}

static bool connects(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
    return fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0;
}

static bool has_network(void)
{
    const struct sockaddr loopback = {.sa_family = AF_INET};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    return fd >= 0 && bind(fd, &loopback, sizeof(loopback)) == 0 &&
           connect(fd, &(struct sockaddr){.sa_family = AF_INET, .sa_data = {0, 9, 127, 0, 0, 1}},
                   sizeof(loopback)) == 0;
}

/* In a child of its own where there can be one: a success would end this program. */
static bool executes(void)
{
    char *argv[] = {(char *)(size_t) "true", NULL}, *envp[] = {NULL};
    pid_t pid = fork();
    int status;

    if (pid < 0) {
        execve("/usr/bin/true", argv, envp);
        return false; /* refused, or we are gone and the list is empty: the test sees both */
    }
    if (pid == 0) {
        execve("/usr/bin/true", argv, envp);
        _exit(1);
    }
    return waitpid(pid, &status, 0) == pid && status == 0;
}

static bool forks(void)
{
    pid_t pid = fork();

    if (pid == 0)
        _exit(0);
    return pid > 0;
}

static bool traces(void)
{
    return ptrace(PTRACE_SEIZE, outsider, NULL, NULL) == 0;
}

static bool signals(void)
{
    return kill(outsider, 0) == 0;
}

static bool reads_memory(void)
{
    char byte;
    struct iovec here = {&byte, 1}, there = {(void *)(size_t)&byte, 1};

    return syscall(SYS_process_vm_readv, outsider, &here, 1UL, &there, 1UL, 0UL) == 1;
}

static bool mounts(void)
{
    return mount("tmpfs", "/tmp", "tmpfs", 0, NULL) == 0;
}

static bool makes_devices(void)
{
    return mknod("/tmp/zero", S_IFCHR | 0600, 0x105) == 0;
}

static bool becomes_root(void)
{
    return setuid(0) == 0 && geteuid() == 0 && mount("tmpfs", "/tmp", "tmpfs", 0, NULL) == 0;
}

static bool makes_namespaces(void)
{
    return unshare(CLONE_NEWUSER) == 0 || unshare(CLONE_NEWNS) == 0;
}

static bool makes_rings(void)
{
    struct io_uring_params params = {0};

    return syscall(SYS_io_uring_setup, 1, &params) >= 0;
}

static bool loads_programs(void)
{
    char attributes[64] = {0};

    return syscall(SYS_bpf, 0, attributes, sizeof(attributes)) >= 0 || errno == EFAULT;
}

static bool watches_others(void)
{
    struct perf_event_attr attributes = {.size = sizeof(attributes)};

    return syscall(SYS_perf_event_open, &attributes, outsider, -1, -1, 0) >= 0;
}

static bool uses_keys(void)
{
    return syscall(SYS_add_key, "user", "walls", "x", 1UL, -2 /* process keyring */) >= 0;
}

static bool types_for_others(void)
{
    char c = 'x';

    return ioctl(0, TIOCSTI, &c) == 0 || errno == ENOTTY;
}

/* Of a file that others have open too: they would wait where they never do. */
static bool makes_block(void)
{
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), off = 0;

    (void)!fcntl(fd, F_SETFL, 0);
    (void)!ioctl(fd, FIONBIO, &off);
    (void)!syscall(SYS_ioctl, fd, UINT64_C(1) << 32 | FIONBIO, &off);
    (void)!syscall(SYS_fcntl, fd, UINT64_C(1) << 32 | F_SETFL, 0);
    return !(fcntl(fd, F_GETFL) & O_NONBLOCK);
}

/* gpupd looks at each descriptor of a renderer that it meters. */
static bool opens_many(void)
{
    int fd, last = -1;

    while ((fd = eventfd(0, EFD_CLOEXEC)) >= 0 && fd < 2048)
        last = fd;
    for (int i = last; i > 63; i--)
        close(i);
    return fd >= 2048;
}

/* DRM_IOCTL_VERSION */
static bool drives_gpus(void)
{
    return ioctl(0, UINT64_C(0xc0406400), NULL) == 0 || errno == ENOTTY;
}

static bool makes_code(void)
{
    return mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1,
                0) != MAP_FAILED;
}

static const struct {
    const char *name;
    bool (*possible)(void);
} walls[] = {
    {"open", opens},
    {"create", creates},
    {"connect", connects},
    {"network", has_network},
    {"execute", executes},
    {"fork", forks},
    {"trace", traces},
    {"signal", signals},
    {"read-memory", reads_memory},
    {"mount", mounts},
    {"device", makes_devices},
    {"root", becomes_root},
    {"namespace", makes_namespaces},
    {"io_uring", makes_rings},
    {"bpf", loads_programs},
    {"perf", watches_others},
    {"keys", uses_keys},
    {"ioctl", types_for_others},
    {"gpu", drives_gpus},
    {"block", makes_block},
    {"many", opens_many},
    {"code", makes_code},
};

static int restrict_to(const char *calls)
{
    if (strcmp(calls, "vgpu") == 0)
        return sandbox_restrict_calls(SANDBOX_CALLS_VGPU, NULL);
    if (strcmp(calls, "software") == 0)
        return sandbox_restrict_calls(SANDBOX_CALLS_RENDER_SOFTWARE, NULL);
    if (strcmp(calls, "gpu") == 0)
        return sandbox_restrict_calls(SANDBOX_CALLS_RENDER_GPU, NULL);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc != 5)
        return 2;
    file = argv[2];
    path = argv[3];
    outsider = (pid_t)strtol(argv[4], NULL, 10);
    if (restrict_to(argv[1]) < 0)
        return 3;
    for (size_t i = 0; i < sizeof(walls) / sizeof(*walls); i++) {
        if (walls[i].possible())
            dprintf(7, "%s\n", walls[i].name);
    }
    dprintf(7, "end\n");
    return 0;
}
