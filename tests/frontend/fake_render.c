/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "wire/render.h"
#include "wire/ring.h"
#include "wire/seqpacket.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

/*
 * A renderer on a GPU that there is not: renders nothing, but exports resources, as memfds instead
 * of dma-bufs. Of two it says what cannot be: UNSHARED is not exported, SHORT is too small. Once it
 * was asked for the third, ENDLESS, it answers commands but no fence.
 */

#define UNSHARED  20u
#define SHORT     21u
#define ENDLESS   22u
#define RESOURCES 64u

static struct {
    uint32_t width, height;
} resources[RESOURCES];

static int export_resource(int sock, uint32_t id)
{
    struct gpup_render_exported m = {.header = {GPUP_RENDER_EXPORTED, GPUP_RENDER_VERSION},
                                     .resource = id,
                                     .fourcc = 0x34325258 /* XR24 */,
                                     .modifier = 0};
    int fd, r;

    if (id >= RESOURCES || id == UNSHARED)
        return -ENOTSUP;
    m.width = resources[id].width;
    m.height = resources[id].height;
    m.stride = m.width * 4 + 256;
    fd = memfd_create("buffer", MFD_CLOEXEC);
    if (fd < 0 || ftruncate(fd, id == SHORT ? 4096 : (off_t)m.stride * m.height) < 0)
        return -errno;
    r = gpup_seqpacket_send(sock, &m, sizeof(m), &fd, 1, 0);
    close(fd);
    return r;
}

static int execute(int sock, const struct gpup_record *record)
{
    if (record->type == GPUP_CMD_RESOURCE_CREATE) {
        const struct gpup_cmd_resource_create *c = (const void *)record;

        if (c->resource < RESOURCES) {
            resources[c->resource].width = c->width;
            resources[c->resource].height = c->height;
        }
    } else if (record->type == GPUP_CMD_EXPORT) {
        return export_resource(sock,
                               ((const struct gpup_cmd_resource *)(const void *)record)->resource);
    }
    return 0;
}

static void serve(int sock, struct gpup_ring_end *commands, struct gpup_ring_end *events, int wake)
{
    for (;;) {
        struct pollfd fds[] = {{.fd = sock, .events = POLLIN}, {.fd = wake, .events = POLLIN}};
        const struct gpup_record *record;
        char message[512];
        int fd = -1;
        ssize_t n;

        n = gpup_seqpacket_receive(sock, message, sizeof(message), &fd, 1, NULL, MSG_DONTWAIT);
        if (fd >= 0)
            close(fd);
        if (n >= 0 && n < (ssize_t)sizeof(struct gpup_render_header))
            return;
        while (gpup_ring_peek(commands, &record) == 1) {
            struct gpup_event event = {.record = {GPUP_EVENT_DONE, sizeof(event), record->seq}};

            event.status = execute(sock, record);
            if (record->type == GPUP_CMD_FENCE) {
                event.record.type = GPUP_EVENT_FENCE;
                if (resources[ENDLESS].width > 0)
                    event.record.seq = 0;
            }
            gpup_ring_release(commands);
            if (event.record.seq != 0)
                (void)gpup_ring_put(events, &event.record);
        }
        if (gpup_ring_may_sleep(commands))
            poll(fds, 2, -1);
        gpup_ring_wake_clear(wake);
    }
}

int main(void)
{
    const int sock = 3; /* as gpup-vgpu passes it */
    struct gpup_render_ready ready = {.header = {GPUP_RENDER_READY, GPUP_RENDER_VERSION},
                                      .n_capsets = 1,
                                      .capsets = {{.id = 2, .max_version = 2, .size = 1400}},
                                      .renderer = "a GPU that there is not"};
    struct gpup_ring_end commands, events;
    struct gpup_render_setup setup;
    unsigned n_fds;
    int fds[3], capsets = memfd_create("capsets", MFD_CLOEXEC);
    char *shared;

    if (gpup_seqpacket_receive(sock, &setup, sizeof(setup), fds, 3, &n_fds, 0) != sizeof(setup))
        return 1;
    shared = mmap(NULL, setup.shared_size, PROT_READ | PROT_WRITE, MAP_SHARED, fds[0], 0);
    if (shared == MAP_FAILED || ftruncate(capsets, 1400) < 0 ||
        gpup_ring_end_init(&commands, shared + setup.command_offset, setup.command_size, fds[2]) <
            0 ||
        gpup_ring_end_init(&events, shared + setup.event_offset, setup.event_size, fds[2]) < 0 ||
        gpup_seqpacket_send(sock, &ready, sizeof(ready), &capsets, 1, 0) < 0)
        return 1;
    serve(sock, &commands, &events, fds[1]);
    return 0;
}
