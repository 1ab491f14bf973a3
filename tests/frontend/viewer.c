/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "viewer.h"

#include "vgpu/display_message.h"

#include <endian.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define MAX_PAYLOAD (64u << 20)

/* false: the peer has gone. *fd gets a descriptor that came with it. */
static bool read_all(int from, void *data, size_t size, int *fd)
{
    size_t done = 0;

    while (done < size) {
        _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))];
        struct iovec iov = {(char *)data + done, size - done};
        struct msghdr msg = {.msg_iov = &iov,
                             .msg_iovlen = 1,
                             .msg_control = control,
                             .msg_controllen = sizeof(control)};
        ssize_t n = recvmsg(from, &msg, MSG_CMSG_CLOEXEC);
        struct cmsghdr *c;

        if (n <= 0)
            return false;
        c = CMSG_FIRSTHDR(&msg);
        if (c && fd)
            memcpy(fd, CMSG_DATA(c), sizeof(*fd));
        done += (size_t)n;
    }
    return true;
}

static void reply(struct viewer *v, uint32_t request, const void *payload, uint32_t size)
{
    const struct display_header header = {request, DISPLAY_FLAG_REPLY, size};

    if (v->silent)
        return;
    (void)!send(v->fd, &header, sizeof(header), MSG_NOSIGNAL | MSG_MORE);
    (void)!send(v->fd, payload, size, MSG_NOSIGNAL);
}

static void on_info(struct viewer *v)
{
    struct virtio_gpu_resp_display_info info = {
        .hdr = {.type = htole32(VIRTIO_GPU_RESP_OK_DISPLAY_INFO)},
        .pmodes = {{.r = {0, 0, VIEWER_WIDTH, VIEWER_HEIGHT}, .enabled = 1}}};

    reply(v, DISPLAY_GET_INFO, &info, sizeof(info));
}

static void on_scanout(struct viewer *v, const void *payload, uint32_t size)
{
    struct display_scanout m;

    g_assert_cmpuint(size, ==, sizeof(m));
    memcpy(&m, payload, size);
    g_assert_cmpuint(m.scanout, ==, 0);
    v->width = m.width;
    v->height = m.height;
    g_free(v->pixels);
    v->pixels = g_new0(uint32_t, (size_t)m.width * m.height);
    v->scanouts++;
}

/* QEMU checks neither the rectangle nor that there is a scanout. */
static void on_update(struct viewer *v, const char *payload, uint32_t size)
{
    struct display_update m;

    g_assert_cmpuint(size, >=, sizeof(m));
    memcpy(&m, payload, sizeof(m));
    g_assert_cmpuint(m.scanout, ==, 0);
    g_assert_cmpuint(m.width, >, 0);
    g_assert_cmpuint(m.height, >, 0);
    g_assert_cmpuint(m.x + m.width, <=, v->width);
    g_assert_cmpuint(m.y + m.height, <=, v->height);
    g_assert_cmpuint(size, ==, sizeof(m) + (size_t)m.width * m.height * 4);
    for (uint32_t i = 0; i < m.height; i++)
        memcpy(v->pixels + (size_t)(m.y + i) * v->width + m.x,
               payload + sizeof(m) + (size_t)i * m.width * 4, (size_t)m.width * 4);
    v->updates++;
    v->bytes += size - sizeof(m);
}

static void on_cursor(struct viewer *v, uint32_t request, const void *payload, uint32_t size)
{
    struct display_cursor_update m;

    g_assert_cmpuint(
        size, ==, request == DISPLAY_CURSOR_UPDATE ? sizeof(m) : sizeof(struct display_cursor_pos));
    g_assert_true(v->width > 0 || v->dmabuf >= 0);
    memcpy(&m, payload, size);
    g_assert_cmpuint(m.pos.scanout, ==, 0);
    v->cursor_x = m.pos.x;
    v->cursor_y = m.pos.y;
    v->cursor_visible = request != DISPLAY_CURSOR_POS_HIDE;
    if (request == DISPLAY_CURSOR_UPDATE) {
        v->hot_x = m.hot_x;
        v->hot_y = m.hot_y;
        memcpy(v->cursor, m.data, sizeof(v->cursor));
    }
    v->cursors++;
}

static void on_dmabuf(struct viewer *v, uint32_t request, const void *payload, uint32_t size,
                      int fd)
{
    struct display_dmabuf_scanout2 m = {0};

    g_assert_cmpuint(size, ==, request == DISPLAY_DMABUF_SCANOUT2 ? sizeof(m) : sizeof(m.scanout));
    memcpy(&m, payload, size);
    g_assert_cmpuint(m.scanout.scanout, ==, 0);
    if (v->dmabuf >= 0)
        close(v->dmabuf);
    v->dmabuf = fd;
    v->dmabuf_width = m.scanout.fd_width;
    v->dmabuf_height = m.scanout.fd_height;
    v->dmabuf_stride = m.scanout.fd_stride;
    v->dmabuf_fourcc = (uint32_t)m.scanout.fourcc;
    v->dmabuf_modifier = m.modifier;
    v->dmabufs++;
}

static void take(struct viewer *v, const struct display_header *header, const char *payload, int fd)
{
    switch (header->request) {
    case DISPLAY_GET_PROTOCOL_FEATURES:
        reply(v, header->request, &v->features, sizeof(v->features));
        break;
    case DISPLAY_SET_PROTOCOL_FEATURES:
        g_assert_cmpuint(header->size, ==, 8);
        break;
    case DISPLAY_GET_INFO:
        on_info(v);
        break;
    case DISPLAY_SCANOUT:
        on_scanout(v, payload, header->size);
        break;
    case DISPLAY_UPDATE:
        on_update(v, payload, header->size);
        break;
    case DISPLAY_CURSOR_POS:
    case DISPLAY_CURSOR_POS_HIDE:
    case DISPLAY_CURSOR_UPDATE:
        on_cursor(v, header->request, payload, header->size);
        break;
    case DISPLAY_DMABUF_SCANOUT:
    case DISPLAY_DMABUF_SCANOUT2:
        g_assert_true(header->request == DISPLAY_DMABUF_SCANOUT || v->features & DISPLAY_F_DMABUF2);
        on_dmabuf(v, header->request, payload, header->size, fd);
        break;
    case DISPLAY_DMABUF_UPDATE:
        g_assert_cmpint(v->dmabuf, >=, 0);
        v->dmabuf_updates++;
        reply(v, header->request, NULL, 0);
        break;
    default:
        g_error("QEMU does not know request %u", header->request);
    }
}

static gpointer run(gpointer data)
{
    struct viewer *v = data;
    struct display_header header;
    int fd = -1;

    while (read_all(v->fd, &header, sizeof(header), &fd)) {
        g_autofree char *payload = NULL;

        g_assert_cmpuint(header.size, <=, MAX_PAYLOAD);
        g_assert_cmpuint(header.flags, ==, 0);
        payload = g_malloc(header.size + 1u);
        if (!read_all(v->fd, payload, header.size, &fd))
            break;
        g_mutex_lock(&v->lock);
        take(v, &header, payload, fd);
        g_cond_broadcast(&v->changed);
        g_mutex_unlock(&v->lock);
        fd = -1;
    }
    g_mutex_lock(&v->lock);
    v->ended = true;
    g_cond_broadcast(&v->changed);
    g_mutex_unlock(&v->lock);
    return NULL;
}

void viewer_start(struct viewer *v, struct frontend *f, uint32_t features)
{
    int pair[2];

    memset(v, 0, sizeof(*v));
    g_mutex_init(&v->lock);
    g_cond_init(&v->changed);
    v->features = features;
    v->dmabuf = -1;
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), ==, 0);
    v->fd = pair[0];
    frontend_set_display(f, pair[1]);
    close(pair[1]);
    v->thread = g_thread_new("viewer", run, v);
}

void viewer_stop(struct viewer *v)
{
    shutdown(v->fd, SHUT_RDWR);
    g_thread_join(v->thread);
    close(v->fd);
    if (v->dmabuf >= 0)
        close(v->dmabuf);
    g_free(v->pixels);
    g_mutex_clear(&v->lock);
    g_cond_clear(&v->changed);
}

void viewer_wait(struct viewer *v, bool (*done)(struct viewer *v, const void *data),
                 const void *data)
{
    gint64 until = g_get_monotonic_time() + 60 * G_TIME_SPAN_SECOND;

    g_mutex_lock(&v->lock);
    while (!done(v, data))
        g_assert_true(g_cond_wait_until(&v->changed, &v->lock, until));
    g_mutex_unlock(&v->lock);
}
