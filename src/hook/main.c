/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/error.h"
#include "core/file.h"
#include "fault/fault.h"
#include "wire/gpupd.h"
#include "wire/seqpacket.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

/*
 * libvirt's hook for QEMU domains (libvirt.org/hooks.html): OBJECT OPERATION SUB-OPERATION EXTRA,
 * the domain XML on standard input. A VM without an adapter costs one scan of that XML, unless it
 * has a device of the host by hand, which may be a partition: then gpupd may object. What is
 * printed on standard error is what virsh shows when the start fails; standard output stays empty,
 * which leaves the XML as it is.
 */

#define MARK    "urn:gpup:adapter:1"
#define HOSTDEV "<hostdev"
#define MAX_XML ((size_t)1 << 20)
/* libvirt holds the VM's lock meanwhile. A start is slow on a busy host, or where hardware is
 * readied, rather than refused; what cannot be refused is seen later by asking libvirt. */
#define TIMEOUT_DECIDES_S 20
#define TIMEOUT_S         4
/* A gpupd that is being restarted is back within that time. */
#define RETRY_US INT64_C(2500000)
#define PAUSE_NS 50000000L

struct operation {
    const char *name, *sub;
    enum gpup_hook_op op;
    bool decides; /* the VM does not start (or come in) without a yes */
};

static const struct operation operations[] = {
    {"prepare", "begin", GPUP_HOOK_PREPARE, true},
    {"started", "begin", GPUP_HOOK_STARTED, false},
    {"release", "end", GPUP_HOOK_RELEASE, false},
    {"reconnect", "begin", GPUP_HOOK_RECONNECT, false},
    {"migrate", "begin", GPUP_HOOK_MIGRATE, true},
    {"restore", "begin", GPUP_HOOK_RESTORE, true},
};

/* The descriptor, now the caller's. */
static int steal_fd(int *fd)
{
    int stolen = *fd;

    *fd = -1;
    return stolen;
}

static const struct operation *find_operation(const char *name, const char *sub)
{
    for (size_t i = 0; i < sizeof(operations) / sizeof(operations[0]); i++) {
        if (strcmp(operations[i].name, name) == 0 && strcmp(operations[i].sub, sub) == 0)
            return &operations[i];
    }
    return NULL;
}

/*
 * libvirt is writing: nothing may be left in the pipe when this ends. Says whether the mark was in
 * what came, or in `tail`, the end of what was read before.
 */
static bool drain(const char *tail)
{
    char buffer[4096];
    size_t kept = strlen(tail);
    bool found = false;
    ssize_t n;

    memcpy(buffer, tail, kept);
    while ((n = read(STDIN_FILENO, buffer + kept, sizeof(buffer) - kept)) > 0) {
        size_t length = kept + (size_t)n;

        found = found || memmem(buffer, length, MARK, strlen(MARK));
        /* the mark may lie across two reads */
        kept = length < strlen(MARK) ? length : strlen(MARK) - 1;
        memmove(buffer, buffer + length - kept, kept);
    }
    return found;
}

/* All of standard input, to its end even where it is too long. */
static int read_xml(char *xml, size_t *length, struct gpup_error **err)
{
    *length = 0;
    for (;;) {
        ssize_t n = read(STDIN_FILENO, xml + *length, MAX_XML + 1 - *length);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return gpup_error_set(err, errno, "reading the VM's definition: %s", strerror(errno));
        if (n == 0)
            return 0;
        *length += (size_t)n;
        if (*length > MAX_XML) {
            if (!drain(xml + MAX_XML + 1 - strlen(MARK)) &&
                !memmem(xml, *length, MARK, strlen(MARK)))
                return 0; /* not ours, however long */
            return gpup_error_set(err, EINVAL, "the VM's definition is larger than 1 MiB");
        }
    }
}

static int xml_memfd(const char *xml, size_t length, struct gpup_error **err)
{
    GPUP_AUTO_FD fd = memfd_create("gpup-domain", MFD_CLOEXEC);

    if (fd < 0)
        return gpup_error_set(err, errno, "passing the VM's definition on: %s", strerror(errno));
    if (write(fd, xml, length) != (ssize_t)length || lseek(fd, 0, SEEK_SET) < 0)
        return gpup_error_set(err, EIO, "passing the VM's definition on: it could not be copied");
    return steal_fd(&fd);
}

static int timed_out(struct gpup_error **err)
{
    return gpup_error_set(err, ETIMEDOUT, "gpupd did not answer in time: see journalctl -u gpupd");
}

static int64_t now_us(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

/* What is left until the deadline bounds the next step. */
static int set_timeout(int sock, int64_t deadline, struct gpup_error **err)
{
    int64_t left = deadline - now_us();
    struct timeval timeout = {.tv_sec = left / 1000000, .tv_usec = left % 1000000};

    if (left <= 0)
        return timed_out(err);
    if (setsockopt(sock, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)) < 0 ||
        setsockopt(sock, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout)) < 0)
        return gpup_error_set(err, errno, "making a socket: %s", strerror(errno));
    return 0;
}

static int connect_to_gpupd(const char *path, int64_t deadline, struct gpup_error **err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    GPUP_AUTO_FD sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    size_t length = strlen(path);

    if (length >= sizeof(address.sun_path))
        return gpup_error_set(err, EINVAL, "%s is too long for a socket", path);
    memcpy(address.sun_path, path, length + 1);
    if (sock < 0)
        return gpup_error_set(err, errno, "making a socket: %s", strerror(errno));
    if (set_timeout(sock, deadline, err) < 0)
        return -ETIMEDOUT;
    if (connect(sock, (const struct sockaddr *)&address, sizeof(address)) < 0) {
        if (errno == ENOENT || errno == ECONNREFUSED)
            return gpup_error_set(err, errno, "gpupd is not running: systemctl start gpupd");
        return gpup_error_set(err, errno, "connecting to gpupd (%s): %s", path, strerror(errno));
    }
    return steal_fd(&sock);
}

/* *refused: it did answer, and that was no. */
static int receive_answer(int sock, bool *refused, struct gpup_error **err)
{
    struct gpup_msg_answer answer;
    ssize_t n = gpup_seqpacket_receive(sock, &answer, sizeof(answer), NULL, 0, NULL, 0);

    if (n == -EAGAIN)
        return timed_out(err);
    if (n == 0 || n == -ECONNRESET)
        return gpup_error_set(err, EPIPE,
                              "gpupd ended while it was asked: systemctl restart gpupd");
    if (n < 0)
        return gpup_error_set(err, (int)-n, "asking gpupd: %s", strerror((int)-n));
    if (n != sizeof(answer) || answer.header.type != GPUP_MSG_ANSWER ||
        answer.header.version != GPUP_GPUPD_VERSION)
        return gpup_error_set(err, EPROTO,
                              "gpupd's answer is not understood: after an upgrade, "
                              "systemctl restart gpupd");
    if (answer.status == 0)
        return 0;
    answer.text[sizeof(answer.text) - 1] = '\0';
    *refused = true;
    return gpup_error_set(err, EIO, "%s", answer.text);
}

static int ask_once(const char *socket_path, const struct gpup_msg_hook *message, int fd,
                    int64_t deadline, bool *refused, struct gpup_error **err)
{
    GPUP_AUTO_FD sock = connect_to_gpupd(socket_path, deadline, err);
    int ret;

    if (sock < 0)
        return sock;
    ret = set_timeout(sock, deadline, err);
    if (ret < 0)
        return ret;
    ret = gpup_seqpacket_send(sock, message, sizeof(*message), &fd, 1, 0);
    if (ret < 0)
        return gpup_error_set(err, -ret, "asking gpupd: %s", strerror(-ret));
    GPUP_FAULT("hook.asked");
    ret = set_timeout(sock, deadline, err);
    if (ret == 0)
        ret = receive_answer(sock, refused, err);
    GPUP_FAULT("hook.answered");
    return ret;
}

/* gpupd is not there, or ended before it answered: asking again does no harm. */
static bool may_come_back(int ret)
{
    return ret == -ENOENT || ret == -ECONNREFUSED || ret == -EPIPE || ret == -ECONNRESET;
}

/* patient: a gpupd that is being restarted is waited for. */
static int ask(const char *socket_path, const struct operation *operation, const char *vm,
               const char *xml, size_t length, bool patient, bool *refused, struct gpup_error **err)
{
    struct gpup_msg_hook message = {
        .header = {.type = GPUP_MSG_HOOK, .version = GPUP_GPUPD_VERSION}, .op = operation->op};
    const struct timespec pause = {.tv_nsec = PAUSE_NS};
    const int64_t began = now_us();
    const int64_t deadline =
        began + (operation->decides ? TIMEOUT_DECIDES_S : TIMEOUT_S) * INT64_C(1000000);
    GPUP_AUTO_FD fd = -1;

    if (strlen(vm) >= sizeof(message.vm))
        return gpup_error_set(err, EINVAL, "the VM's name is longer than 255 bytes");
    memcpy(message.vm, vm, strlen(vm) + 1);
    fd = xml_memfd(xml, length, err);
    if (fd < 0)
        return fd;
    for (;;) {
        struct gpup_error *why = NULL;
        int ret = ask_once(socket_path, &message, fd, deadline, refused, &why);

        if (!patient || !may_come_back(ret) || now_us() - began > RETRY_US)
            return ret < 0 ? gpup_error_move(err, why) : ret;
        gpup_error_free(why);
        nanosleep(&pause, NULL);
    }
}

static int run(const char *socket_path, const struct operation *operation, const char *vm,
               struct gpup_error **err)
{
    static char xml[MAX_XML + 2]; /* one to see that it is too long, one to terminate it */
    bool ours, refused = false;
    size_t length;
    int ret = read_xml(xml, &length, err);

    if (ret < 0)
        return ret;
    ours = memmem(xml, length, MARK, strlen(MARK));
    if (!ours && (operation->op == GPUP_HOOK_MIGRATE || operation->op == GPUP_HOOK_RESTORE ||
                  !memmem(xml, length, HOSTDEV, strlen(HOSTDEV))))
        return 0;
    if (ours)
        GPUP_FAULT("hook.read");
    ret = ask(socket_path, operation, vm, xml, length, ours && operation->decides, &refused, err);
    return ours || refused ? ret : 0; /* no VM without an adapter waits for gpupd to be there */
}

int main(int argc, char **argv)
{
    const char *socket_path = GPUP_GPUPD_SOCKET;
    const struct operation *operation;
    GPUP_AUTO_ERROR err = NULL;

    if (argc > 2 && strcmp(argv[1], "--socket") == 0) {
        socket_path = argv[2];
        argc -= 2;
        argv += 2;
    }
    if (argc < 4) {
        bool help = argc == 2 && strcmp(argv[1], "--help") == 0;

        fprintf(help ? stdout : stderr,
                "Usage: gpup-hook [--socket PATH] VM OPERATION SUB-OPERATION [EXTRA]\n"
                "libvirt runs this with the VM's definition on standard input.\n");
        return help ? GPUP_EXIT_DONE : GPUP_EXIT_USAGE;
    }
    operation = find_operation(argv[2], argv[3]);
    if (!operation) {
        drain("");
        return GPUP_EXIT_DONE;
    }
    if (run(socket_path, operation, argv[1], &err) >= 0)
        return GPUP_EXIT_DONE;
    fprintf(stderr, "gpup: %s\n", gpup_error_message(err));
    return operation->decides ? GPUP_EXIT_FAILED : GPUP_EXIT_DONE;
}
