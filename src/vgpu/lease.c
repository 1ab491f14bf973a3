/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "vgpu/lease.h"

#include "core/error.h"
#include "fault/fault.h"
#include "vgpu/log.h"
#include "vgpu/loop.h"
#include "wire/gpu_time.h"
#include "wire/render.h"
#include "wire/seqpacket.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <syslog.h>
#include <unistd.h>

/* As long as libvirt's hook waits: a busy host starts VMs slowly, and refuses none. */
#define HELLO_TIMEOUT_MS 20000
/* While the VM starts, a gpupd that is being restarted is waited for. */
#define COMES_BACK_MS    5000u
#define TRY_EVERY_MS     100
#define FIRST_PAUSE_MS   250u
#define LONGEST_PAUSE_MS 5000u

struct lease {
    struct vgpu_loop *loop;
    const struct lease_events *events;
    void *data;
    char path[108];
    char adapter[40];
    int sock; /* -1: gpupd is away */
    struct vgpu_source *source, *retry_timer;
    uint32_t pause_ms;
    bool greeting; /* hello was sent, its answer is due */
    bool wanted;   /* a renderer, not yet brought */
    struct gpup_msg_usage reported;
};

union message {
    struct gpup_msg_header header;
    struct gpup_msg_answer answer;
    struct gpup_msg_grant grant;
};

static struct gpup_msg_header header(uint32_t type)
{
    return (struct gpup_msg_header){.type = type, .version = GPUP_GPUPD_VERSION};
}

static int connect_to(const char *path, struct gpup_error **err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (sock < 0)
        return gpup_error_set(err, errno, "socket: %s", strerror(errno));
    snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
    if (connect(sock, (struct sockaddr *)&address, sizeof(address)) < 0) {
        int code = errno;

        close(sock);
        return gpup_error_set(err, code, "gpupd cannot be reached at %s: %s", path, strerror(code));
    }
    return sock;
}

static int say_hello(const struct lease *lease, int sock, uint32_t flags, struct gpup_error **err)
{
    struct gpup_msg_hello hello = {.header = header(GPUP_MSG_HELLO),
                                   .flags = flags | GPUP_HELLO_GPU_TIME,
                                   .render_version = GPUP_RENDER_VERSION};
    int ret;

    memcpy(hello.adapter, lease->adapter, sizeof(hello.adapter));
    ret = gpup_seqpacket_send(sock, &hello, sizeof(hello), NULL, 0, MSG_DONTWAIT);
    return ret < 0 ? gpup_error_set(err, -ret, "greeting gpupd: %s", strerror(-ret)) : 0;
}

/* The text of a refusal, for a log. */
static const char *refusal(struct gpup_msg_answer *answer)
{
    answer->text[sizeof(answer->text) - 1] = '\0';
    return answer->text;
}

static int await_grant(int sock, struct gpup_msg_grant *grant, struct gpup_error **err)
{
    struct pollfd p = {.fd = sock, .events = POLLIN};
    union message m;
    ssize_t n;

    if (poll(&p, 1, HELLO_TIMEOUT_MS) <= 0)
        return gpup_error_set(err, ETIMEDOUT, "gpupd does not answer");
    n = gpup_seqpacket_receive(sock, &m, sizeof(m), NULL, 0, NULL, MSG_DONTWAIT);
    if (n == sizeof(m.answer) && m.header.type == GPUP_MSG_ANSWER)
        return gpup_error_set(err, EACCES, "gpupd refuses: %s", refusal(&m.answer));
    if (n != sizeof(m.grant) || m.header.type != GPUP_MSG_GRANT)
        return gpup_error_set(err, EPROTO, "gpupd answered what was not understood");
    *grant = m.grant;
    grant->vm[sizeof(grant->vm) - 1] = '\0';
    grant->partition[sizeof(grant->partition) - 1] = '\0';
    return 0;
}

/* ---- the connection, once it stands ---- */

static void lose(struct lease *lease, const char *why)
{
    if (lease->sock < 0)
        return;
    vgpu_log(LOG_WARNING, "the connection to gpupd ended (%s); the partition runs on", why);
    vgpu_source_remove(lease->source);
    lease->source = NULL;
    close(lease->sock);
    lease->sock = -1;
    lease->greeting = false;
    lease->events->lost(lease->data);
    lease->pause_ms = FIRST_PAUSE_MS;
    vgpu_timer_arm(lease->retry_timer, lease->pause_ms);
}

static void send_want(struct lease *lease)
{
    const struct gpup_msg_plain want = {.header = header(GPUP_MSG_WANT_RENDERER)};

    if (lease->sock >= 0 && !lease->greeting &&
        gpup_seqpacket_send(lease->sock, &want, sizeof(want), NULL, 0, MSG_DONTWAIT) < 0)
        lose(lease, "it cannot be written to");
}

static void on_answer(struct lease *lease, struct gpup_msg_answer *answer)
{
    if (lease->greeting) {
        lose(lease, refusal(answer));
    } else if (lease->wanted) {
        lease->wanted = false;
        lease->events->no_renderer(lease->data, refusal(answer));
    }
}

static void on_message(struct lease *lease, union message *m, ssize_t n, int *fds)
{
    if (n == sizeof(m->answer) && m->header.type == GPUP_MSG_ANSWER) {
        on_answer(lease, &m->answer);
    } else if (n == sizeof(m->grant) && m->header.type == GPUP_MSG_GRANT && lease->greeting) {
        lease->greeting = false;
        vgpu_log(LOG_INFO, "gpupd is back");
        lease->events->granted(lease->data, &m->grant);
        if (lease->wanted)
            send_want(lease);
    } else if (n == sizeof(m->grant) && m->header.type == GPUP_MSG_GRANT) {
        lease->events->granted(lease->data, &m->grant);
    } else if (n == sizeof(struct gpup_msg_plain) && m->header.type == GPUP_MSG_RENDERER &&
               fds[0] >= 0 && fds[1] >= 0 && lease->wanted) {
        lease->wanted = false;
        GPUP_FAULT("vgpu.renderer.given");
        lease->events->renderer(lease->data, fds[0], fds[1]);
        fds[0] = fds[1] = -1;
    } else if (n == sizeof(struct gpup_msg_plain) && m->header.type == GPUP_MSG_GPU_TIME &&
               fds[GPUP_GPU_TIME_FDS - 1] >= 0) {
        lease->events->gpu_time(lease->data, fds);
        for (int i = 0; i < GPUP_GPU_TIME_FDS; i++)
            fds[i] = -1;
    } else {
        lose(lease, "it said what was not understood");
    }
}

static void on_socket(uint32_t events, void *data)
{
    struct lease *lease = data;
    int fds[GPUP_GPU_TIME_FDS] = {-1, -1, -1, -1};
    union message m;
    ssize_t n = gpup_seqpacket_receive(lease->sock, &m, sizeof(m), fds, GPUP_GPU_TIME_FDS, NULL,
                                       MSG_DONTWAIT);

    if (n == -EAGAIN)
        return;
    if (n <= 0)
        lose(lease, n == 0 ? "gpupd ended" : strerror((int)-n));
    else
        on_message(lease, &m, n, fds);
    for (int i = 0; i < GPUP_GPU_TIME_FDS; i++) {
        if (fds[i] >= 0)
            close(fds[i]);
    }
}

static int attach(struct lease *lease, int sock, struct gpup_error **err)
{
    lease->source = vgpu_loop_add(lease->loop, sock, EPOLLIN, on_socket, lease, err);
    if (!lease->source) {
        close(sock);
        return -EIO;
    }
    lease->sock = sock;
    return 0;
}

static void on_retry(void *data)
{
    struct lease *lease = data;
    int sock = connect_to(lease->path, NULL);

    if (sock >= 0 &&
        say_hello(lease, sock, lease->events->has_renderer(lease->data) ? GPUP_HELLO_ADOPT : 0,
                  NULL) < 0) {
        close(sock);
        sock = -1;
    }
    if (sock >= 0 && attach(lease, sock, NULL) == 0) {
        lease->greeting = true;
        lease->reported = (struct gpup_msg_usage){0};
        return;
    }
    lease->pause_ms *= 2;
    if (lease->pause_ms > LONGEST_PAUSE_MS)
        lease->pause_ms = LONGEST_PAUSE_MS;
    vgpu_timer_arm(lease->retry_timer, lease->pause_ms);
}

/* ---- what the device asks for ---- */

void lease_want_renderer(struct lease *lease)
{
    lease->wanted = true;
    send_want(lease);
}

void lease_report(struct lease *lease, const struct gpup_msg_usage *usage)
{
    struct gpup_msg_usage m = *usage;

    m.header = header(GPUP_MSG_USAGE);
    if (lease->sock < 0 || lease->greeting || memcmp(&m, &lease->reported, sizeof(m)) == 0)
        return;
    if (gpup_seqpacket_send(lease->sock, &m, sizeof(m), NULL, 0, MSG_DONTWAIT) == 0)
        lease->reported = m;
}

/* The connection, once gpupd has given the grant; a refusal is final. */
static int greet(const struct lease *lease, struct gpup_msg_grant *grant, struct gpup_error **err)
{
    uint64_t until = vgpu_loop_now_ms() + COMES_BACK_MS;

    for (;;) {
        struct gpup_error *why = NULL;
        int sock = connect_to(lease->path, &why);
        int ret = sock < 0 ? sock : say_hello(lease, sock, 0, &why);

        if (ret >= 0)
            ret = await_grant(sock, grant, &why);
        if (ret == 0)
            return sock;
        if (sock >= 0)
            close(sock);
        if (ret == -EACCES || vgpu_loop_now_ms() > until)
            return gpup_error_move(err, why);
        gpup_error_free(why);
        poll(NULL, 0, TRY_EVERY_MS);
    }
}

struct lease *lease_new(struct vgpu_loop *loop, const char *socket_path, const char *adapter,
                        const struct lease_events *events, void *data, struct gpup_msg_grant *grant,
                        struct gpup_error **err)
{
    struct lease *lease = calloc(1, sizeof(*lease));
    int sock;

    if (!lease) {
        gpup_error_set(err, ENOMEM, "out of memory");
        return NULL;
    }
    *lease = (struct lease){.loop = loop, .events = events, .data = data, .sock = -1};
    snprintf(lease->path, sizeof(lease->path), "%s", socket_path);
    snprintf(lease->adapter, sizeof(lease->adapter), "%s", adapter);
    lease->retry_timer = vgpu_loop_add_timer(loop, on_retry, lease, err);
    GPUP_FAULT("vgpu.hello.begin");
    sock = lease->retry_timer ? greet(lease, grant, err) : -1;
    if (sock < 0 || attach(lease, sock, err) < 0) {
        lease_free(lease);
        return NULL;
    }
    GPUP_FAULT("vgpu.hello.granted");
    return lease;
}

void lease_free(struct lease *lease)
{
    if (!lease)
        return;
    vgpu_source_remove(lease->source);
    vgpu_source_remove(lease->retry_timer);
    if (lease->sock >= 0)
        close(lease->sock);
    free(lease);
}
