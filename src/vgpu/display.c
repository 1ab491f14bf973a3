/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "vgpu/display.h"

#include "core/error.h"
#include "vgpu/device_internal.h"
#include "vgpu/display_share.h"
#include "vgpu/display_socket.h"
#include "vgpu/log.h"
#include "vgpu/loop.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <unistd.h>

#define CURSOR_PIXELS (DISPLAY_CURSOR_SIZE * DISPLAY_CURSOR_SIZE)
/* A display that does not tell of its head for that long: the guest is told what is usual. */
#define INFO_MS      1000u
#define USUAL_WIDTH  1280u
#define USUAL_HEIGHT 800u

struct box {
    uint32_t x, y, right, bottom; /* of the scanout; right and bottom are outside */
};

enum reading {
    READING_NOTHING,
    READING_SCANOUT,
    READING_CURSOR,
    READING_EXPORT, /* not pixels: a descriptor for them */
};

struct display {
    struct vgpu_device *device;
    struct display_socket *socket; /* NULL: QEMU shows nothing now */
    bool closed;                   /* it is to be freed */
    bool asked_features, accepted; /* the greeting's two steps */
    uint64_t features;

    bool info_wanted, info_asked;
    uint64_t info_count; /* answers so far */
    struct virtio_gpu_display_one head;
    struct vgpu_source *info_timer;

    uint32_t resource; /* 0: nothing is shown */
    struct {
        uint32_t x, y, width, height; /* the part of the resource that is shown */
    } part;
    bool scanout_changed;
    struct {
        uint32_t width, height;
    } told;               /* what QEMU believes; 0: nothing */
    bool share;           /* rendered pictures go to QEMU as dma-bufs */
    uint32_t told_shared; /* the resource that QEMU shows so; 0: none */
    bool showing;         /* QEMU has not answered the last update of it */
    struct display_shares shares;
    struct box damage, current; /* what has to be sent yet; what is being sent */

    enum reading reading;
    uint64_t read_seq;
    uint32_t read_from, read_to; /* lines of `current` that lie in the pixel area */

    struct {
        bool shape_changed, moved, visible, shape_wanted;
        uint32_t x, y, hot_x, hot_y;
        uint32_t resource; /* that its shape is read from */
        uint32_t shape[CURSOR_PIXELS];
    } cursor;
};

static bool is_empty(const struct box *b)
{
    return b->x >= b->right || b->y >= b->bottom;
}

static void add_box(struct box *to, const struct box *b)
{
    if (is_empty(b))
        return;
    if (is_empty(to)) {
        *to = *b;
        return;
    }
    to->x = b->x < to->x ? b->x : to->x;
    to->y = b->y < to->y ? b->y : to->y;
    to->right = b->right > to->right ? b->right : to->right;
    to->bottom = b->bottom > to->bottom ? b->bottom : to->bottom;
}

/* ---- pixels ---- */

/* Where blue, green and red lie in a pixel of this format; false: it cannot be shown. The names
 * say the order of the bytes in memory (virtio 1.2, 5.7.6.8). */
static bool order_of(uint32_t format, uint8_t order[4])
{
    static const struct {
        uint32_t format;
        uint8_t order[4]; /* of blue, green, red, alpha */
    } formats[] = {
        {VIRTIO_GPU_FORMAT_B8G8R8A8_UNORM, {0, 1, 2, 3}},
        {VIRTIO_GPU_FORMAT_B8G8R8X8_UNORM, {0, 1, 2, 3}},
        {VIRTIO_GPU_FORMAT_A8R8G8B8_UNORM, {3, 2, 1, 0}},
        {VIRTIO_GPU_FORMAT_X8R8G8B8_UNORM, {3, 2, 1, 0}},
        {VIRTIO_GPU_FORMAT_R8G8B8A8_UNORM, {2, 1, 0, 3}},
        {VIRTIO_GPU_FORMAT_R8G8B8X8_UNORM, {2, 1, 0, 3}},
        {VIRTIO_GPU_FORMAT_A8B8G8R8_UNORM, {1, 2, 3, 0}},
        {VIRTIO_GPU_FORMAT_X8B8G8R8_UNORM, {1, 2, 3, 0}},
    };

    for (size_t i = 0; i < sizeof(formats) / sizeof(*formats); i++) {
        if (formats[i].format == format) {
            memcpy(order, formats[i].order, 4);
            return true;
        }
    }
    return false;
}

static void copy_line(unsigned char *to, const unsigned char *from, uint32_t pixels,
                      const uint8_t order[4])
{
    if (order[0] == 0) {
        memcpy(to, from, (size_t)pixels * VGPU_PIXEL_BYTES);
        return;
    }
    for (uint32_t i = 0; i < pixels; i++, to += VGPU_PIXEL_BYTES, from += VGPU_PIXEL_BYTES) {
        for (unsigned b = 0; b < VGPU_PIXEL_BYTES; b++)
            to[b] = from[order[b]];
    }
}

/* Asks the renderer for a rectangle of a resource; false: no room now, or no renderer. */
static bool read_back(struct display *s, uint32_t resource, uint32_t x, uint32_t y, uint32_t w,
                      uint32_t h, enum reading what)
{
    struct renderer *renderer = s->device->renderer;
    struct gpup_cmd_read_pixels *cmd =
        renderer_is_ready(renderer)
            ? renderer_reserve(renderer, GPUP_CMD_READ_PIXELS, sizeof(*cmd), true)
            : NULL;

    if (!cmd)
        return false;
    *cmd = (struct gpup_cmd_read_pixels){.record = cmd->record,
                                         .resource = resource,
                                         .x = x,
                                         .y = y,
                                         .w = w,
                                         .h = h,
                                         .stride = w * VGPU_PIXEL_BYTES};
    s->read_seq = renderer_seq(renderer);
    s->reading = what;
    renderer_commit(renderer);
    return true;
}

/* ---- what is told to QEMU, one message a call; true: one was sent ---- */

static bool send_greeting(struct display *s)
{
    if (!s->asked_features) {
        s->asked_features = true;
        display_socket_send(s->socket, DISPLAY_GET_PROTOCOL_FEATURES, 0, -1);
        return true;
    }
    return false;
}

static bool ask_info(struct display *s)
{
    if (!s->info_wanted || s->info_asked)
        return false;
    s->info_asked = true;
    display_socket_send(s->socket, DISPLAY_GET_INFO, 0, -1);
    return true;
}

/* ---- without a copy ---- */

#define MODIFIER_NONE UINT64_C(0x00ffffffffffffff) /* drm_fourcc.h: DRM_FORMAT_MOD_INVALID */

static void share_no_more(struct display *s, const char *why)
{
    vgpu_log(LOG_WARNING, "%s: its display goes by pixels: %s", s->device->grant.vm, why);
    s->share = false;
    display_shares_clear(&s->shares);
}

/* The shown resource, where it is to be shared. */
static const struct vgpu_resource *to_share(struct display *s)
{
    const struct vgpu_resource *resource =
        s->share && s->resource ? vgpu_resource_find(&s->device->objects, s->resource) : NULL;

    return resource && !resource->pixels && resource->in_renderer ? resource : NULL;
}

static void ask_export(struct display *s, uint32_t resource)
{
    struct renderer *renderer = s->device->renderer;
    struct gpup_cmd_resource *cmd =
        s->reading == READING_NOTHING && renderer_is_ready(renderer)
            ? renderer_reserve(renderer, GPUP_CMD_EXPORT, sizeof(*cmd), true)
            : NULL;

    if (!cmd)
        return;
    cmd->resource = resource;
    s->read_seq = renderer_seq(renderer);
    s->reading = READING_EXPORT;
    renderer_commit(renderer);
}

static void take_export(struct display *s, int status)
{
    const struct vgpu_resource *resource = to_share(s);
    struct gpup_render_exported exported;
    int fd;

    if (status < 0) {
        share_no_more(s, "the GPU's driver does not share it");
        return;
    }
    if (!renderer_take_export(s->device->renderer, &exported, &fd))
        return;
    if (!resource || exported.resource != resource->id)
        close(fd); /* something else is shown meanwhile */
    else if (!display_shares_add(&s->shares, resource, &exported, fd))
        share_no_more(s, "the renderer says of it what cannot be");
    else if (exported.modifier != 0 && exported.modifier != MODIFIER_NONE &&
             !(s->features & DISPLAY_F_DMABUF2))
        share_no_more(s, "this QEMU takes buffers in plain order only");
}

static void send_shared(struct display *s, const struct vgpu_resource *resource,
                        const struct display_share *share)
{
    const struct display_dmabuf_scanout2 m = {
        .scanout = {.x = s->part.x,
                    .y = s->part.y,
                    .width = s->part.width,
                    .height = s->part.height,
                    .fd_width = resource->shape.width,
                    .fd_height = resource->shape.height,
                    .fd_stride = share->stride,
                    .fourcc = (int32_t)share->fourcc},
        .modifier = share->modifier,
    };
    bool second = s->features & DISPLAY_F_DMABUF2;

    memcpy(display_socket_payload(s->socket), &m, sizeof(m));
    display_socket_send(s->socket, second ? DISPLAY_DMABUF_SCANOUT2 : DISPLAY_DMABUF_SCANOUT,
                        second ? sizeof(m) : sizeof(m.scanout), share->fd);
    s->told_shared = resource->id;
    s->told.width = s->part.width;
    s->told.height = s->part.height;
}

/* QEMU lets go of the buffer that it shows. */
static bool end_shared(struct display *s)
{
    const struct display_dmabuf_scanout none = {0};

    memcpy(display_socket_payload(s->socket), &none, sizeof(none));
    display_socket_send(s->socket, DISPLAY_DMABUF_SCANOUT, sizeof(none), -1);
    s->told_shared = 0;
    s->told.width = s->told.height = 0;
    return true;
}

static bool send_shared_update(struct display *s)
{
    const struct display_update m = {0, s->damage.x, s->damage.y, s->damage.right - s->damage.x,
                                     s->damage.bottom - s->damage.y};

    if (s->showing || is_empty(&s->damage))
        return false;
    s->damage = (struct box){0};
    s->showing = true;
    memcpy(display_socket_payload(s->socket), &m, sizeof(m));
    display_socket_send(s->socket, DISPLAY_DMABUF_UPDATE, sizeof(m), -1);
    return true;
}

static bool send_scanout(struct display *s)
{
    struct display_scanout *m = display_socket_payload(s->socket);
    const struct vgpu_resource *shared;

    if (!s->scanout_changed)
        return false;
    shared = to_share(s);
    if (shared) {
        const struct display_share *share = display_shares_find(&s->shares, shared->id);

        if (!share) {
            ask_export(s, shared->id);
            return false;
        }
        s->scanout_changed = false;
        send_shared(s, shared, share);
        return true;
    }
    if (s->told_shared)
        return end_shared(s);
    s->scanout_changed = false;
    *m = (struct display_scanout){0, s->part.width, s->part.height};
    if (s->resource == 0)
        m->width = m->height = 0;
    if (m->width == s->told.width && m->height == s->told.height)
        return false; /* a flip between buffers of one size: an update will do */
    s->told.width = m->width;
    s->told.height = m->height;
    display_socket_send(s->socket, DISPLAY_SCANOUT, sizeof(*m), -1);
    return true;
}

static bool send_cursor(struct display *s)
{
    const struct display_cursor_pos pos = {0, s->cursor.x, s->cursor.y};

    /* QEMU keeps one for the scanout only */
    if (s->told.width == 0)
        return false;
    if (s->cursor.shape_changed && s->cursor.visible) {
        struct display_cursor_update *m = display_socket_payload(s->socket);

        s->cursor.shape_changed = s->cursor.moved = false;
        m->pos = pos;
        m->hot_x = s->cursor.hot_x;
        m->hot_y = s->cursor.hot_y;
        memcpy(m->data, s->cursor.shape, sizeof(m->data));
        display_socket_send(s->socket, DISPLAY_CURSOR_UPDATE, sizeof(*m), -1);
        return true;
    }
    if (!s->cursor.moved || s->cursor.shape_wanted)
        return false;
    s->cursor.moved = false;
    memcpy(display_socket_payload(s->socket), &pos, sizeof(pos));
    display_socket_send(s->socket, s->cursor.visible ? DISPLAY_CURSOR_POS : DISPLAY_CURSOR_POS_HIDE,
                        sizeof(pos), -1);
    return true;
}

static bool want_cursor_shape(struct display *s)
{
    const struct vgpu_resource *resource;

    /* the pixel area may still hold lines that have to be sent */
    if (!s->cursor.shape_wanted || s->reading != READING_NOTHING || s->current.y < s->read_to)
        return false;
    resource = vgpu_resource_find(&s->device->objects, s->cursor.resource);
    if (!resource || !resource->in_renderer) {
        s->cursor.shape_wanted = false;
        return false;
    }
    read_back(s, resource->id, 0, 0, DISPLAY_CURSOR_SIZE, DISPLAY_CURSOR_SIZE, READING_CURSOR);
    return false;
}

/* Sends as many lines of `current` as a message holds, from `pixels`, whose first line is `line`
 * of it. */
static void send_strip(struct display *s, const unsigned char *pixels, uint64_t stride,
                       uint32_t lines, const uint8_t order[4])
{
    const uint32_t width = s->current.right - s->current.x;
    const size_t room = DISPLAY_MAX_MESSAGE - sizeof(struct display_update);
    unsigned char *payload = display_socket_payload(s->socket);
    struct display_update update = {0, s->current.x, s->current.y, width, 0};
    uint64_t fits = room / ((uint64_t)width * VGPU_PIXEL_BYTES);

    update.height = lines < fits ? lines : (uint32_t)fits;
    memcpy(payload, &update, sizeof(update));
    for (uint32_t i = 0; i < update.height; i++)
        copy_line(payload + sizeof(update) + (size_t)i * width * VGPU_PIXEL_BYTES,
                  pixels + i * stride, width, order);
    s->current.y += update.height;
    display_socket_send(s->socket, DISPLAY_UPDATE,
                        sizeof(update) + (size_t)update.height * width * VGPU_PIXEL_BYTES, -1);
}

/* A part of the renderer's picture: read back first, as much as the pixel area holds. */
static bool send_rendered(struct display *s, const struct vgpu_resource *resource,
                          const uint8_t order[4])
{
    const uint32_t width = s->current.right - s->current.x;
    const uint64_t stride = (uint64_t)width * VGPU_PIXEL_BYTES;
    const unsigned char *pixels;
    uint64_t size;

    if (s->reading != READING_NOTHING || !renderer_is_ready(s->device->renderer))
        return false;
    pixels = renderer_pixels(s->device->renderer, &size);
    if (s->current.y < s->read_to) {
        send_strip(s, pixels + (s->current.y - s->read_from) * stride, stride,
                   s->read_to - s->current.y, order);
        return true;
    }
    s->read_from = s->current.y;
    s->read_to = s->current.bottom;
    if (s->read_to - s->read_from > size / stride)
        s->read_to = s->read_from + (uint32_t)(size / stride);
    if (!read_back(s, resource->id, s->part.x + s->current.x, s->part.y + s->read_from, width,
                   s->read_to - s->read_from, READING_SCANOUT))
        s->read_to = s->read_from;
    return false;
}

static bool send_update(struct display *s)
{
    const struct vgpu_resource *resource;
    uint8_t order[4];

    if (s->told.width == 0 || s->scanout_changed)
        return false;
    if (s->told_shared)
        return send_shared_update(s);
    if (is_empty(&s->current)) {
        if (s->reading == READING_SCANOUT) /* of what is not shown any more: let it come first */
            return false;
        s->current = s->damage;
        s->damage = (struct box){0};
        s->read_from = s->read_to = s->current.y;
    }
    if (is_empty(&s->current))
        return false;
    resource = vgpu_resource_find(&s->device->objects, s->resource);
    if (!resource || !order_of(resource->shape.format, order) ||
        (!resource->pixels && !resource->in_renderer)) {
        s->current = (struct box){0};
        return false;
    }
    if (!resource->pixels)
        return send_rendered(s, resource, order);
    send_strip(s,
               resource->pixels + ((uint64_t)(s->part.y + s->current.y) * resource->shape.width +
                                   s->part.x + s->current.x) *
                                      VGPU_PIXEL_BYTES,
               (uint64_t)resource->shape.width * VGPU_PIXEL_BYTES, s->current.bottom - s->current.y,
               order);
    return true;
}

void display_pump(struct display *s)
{
    while (s && s->socket && !s->closed && display_socket_is_idle(s->socket)) {
        if (send_greeting(s))
            continue;
        if (!s->accepted)
            break;
        if (!ask_info(s) && !send_scanout(s) && !send_cursor(s) && !want_cursor_shape(s) &&
            !send_update(s))
            break;
    }
}

/* ---- what comes from QEMU ---- */

static void accept_features(struct display *s, const void *payload)
{
    memcpy(&s->features, payload, sizeof(s->features));
    /* the EDID is made here for every QEMU alike, from the size of the head */
    s->features &= DISPLAY_F_DMABUF2;
    if (s->accepted || !display_socket_is_idle(s->socket))
        return;
    memcpy(display_socket_payload(s->socket), &s->features, sizeof(s->features));
    display_socket_send(s->socket, DISPLAY_SET_PROTOCOL_FEATURES, sizeof(s->features), -1);
    s->accepted = true;
}

static void on_reply(void *data, uint32_t request, const void *payload)
{
    struct virtio_gpu_resp_display_info info;
    struct display *s = data;

    if (request == DISPLAY_GET_PROTOCOL_FEATURES) {
        accept_features(s, payload);
    } else if (request == DISPLAY_GET_INFO) {
        memcpy(&info, payload, sizeof(info));
        s->head = info.pmodes[0];
        s->info_wanted = s->info_asked = false;
        s->info_count++;
        vgpu_timer_disarm(s->info_timer);
        run_requests(s->device);
    } else if (request == DISPLAY_DMABUF_UPDATE) {
        s->showing = false;
    }
}

static void on_writable(void *data)
{
    display_pump(data);
}

static void on_closed(void *data)
{
    struct display *s = data;

    s->closed = true;
}

static const struct display_socket_events socket_events = {
    .writable = on_writable,
    .reply = on_reply,
    .closed = on_closed,
};

static void on_info_timer(void *data)
{
    struct display *s = data;

    s->info_wanted = s->info_asked = false;
    run_requests(s->device);
}

bool display_info(struct display *s, bool *asked, struct virtio_gpu_display_one *head)
{
    memset(head, 0, sizeof(*head));
    if (!s)
        return true;
    if (!*asked && s->socket && !s->closed) {
        *asked = true;
        s->info_wanted = true;
        vgpu_timer_arm(s->info_timer, INFO_MS);
        display_pump(s);
    }
    if (s->info_wanted && s->socket && !s->closed)
        return false;
    *head = s->head;
    if (s->info_count == 0) {
        head->r.width = htole32(USUAL_WIDTH);
        head->r.height = htole32(USUAL_HEIGHT);
        head->enabled = htole32(1);
    }
    return true;
}

/* ---- what comes from the guest ---- */

void display_set_scanout(struct display *s, const struct vgpu_resource *resource,
                         const struct virtio_gpu_rect *rect)
{
    uint8_t order[4];

    if (!s)
        return;
    if (resource && !order_of(resource->shape.format, order)) {
        vgpu_log(LOG_NOTICE, "%s: its picture has a format (%u) that cannot be shown",
                 s->device->grant.vm, resource->shape.format);
        resource = NULL;
    }
    s->resource = resource ? resource->id : 0;
    if (resource) {
        s->part.x = le32toh(rect->x);
        s->part.y = le32toh(rect->y);
        s->part.width = le32toh(rect->width);
        s->part.height = le32toh(rect->height);
        if (s->part.width == 0 || s->part.height == 0)
            s->resource = 0;
    }
    s->scanout_changed = true;
    /* what follows shows another picture; nothing of this one is known to be right in QEMU */
    s->current = (struct box){0};
    s->damage = s->resource ? (struct box){0, 0, s->part.width, s->part.height} : (struct box){0};
    display_pump(s);
}

void display_flush(struct display *s, const struct vgpu_resource *resource,
                   const struct virtio_gpu_rect *rect)
{
    struct box b;

    if (!s || s->resource == 0 || s->resource != resource->id)
        return;
    /* the rectangle lies in the resource, hence no overflow */
    b.x = le32toh(rect->x);
    b.y = le32toh(rect->y);
    b.right = b.x + le32toh(rect->width);
    b.bottom = b.y + le32toh(rect->height);
    b.x = b.x > s->part.x ? b.x - s->part.x : 0;
    b.y = b.y > s->part.y ? b.y - s->part.y : 0;
    b.right = b.right > s->part.x ? b.right - s->part.x : 0;
    b.bottom = b.bottom > s->part.y ? b.bottom - s->part.y : 0;
    if (b.right > s->part.width)
        b.right = s->part.width;
    if (b.bottom > s->part.height)
        b.bottom = s->part.height;
    add_box(&s->damage, &b);
    display_pump(s);
}

/* A shape that lies with us; whatever its size, QEMU takes 64 x 64. */
static void copy_shape(struct display *s, const unsigned char *pixels, uint32_t width,
                       uint32_t height, const uint8_t order[4])
{
    memset(s->cursor.shape, 0, sizeof(s->cursor.shape));
    for (uint32_t y = 0; y < height && y < DISPLAY_CURSOR_SIZE; y++)
        copy_line((unsigned char *)&s->cursor.shape[(size_t)y * DISPLAY_CURSOR_SIZE],
                  pixels + (uint64_t)y * width * VGPU_PIXEL_BYTES,
                  width < DISPLAY_CURSOR_SIZE ? width : DISPLAY_CURSOR_SIZE, order);
    s->cursor.shape_changed = true;
}

static void new_shape(struct display *s, uint32_t id)
{
    const struct vgpu_resource *resource = vgpu_resource_find(&s->device->objects, id);
    uint8_t order[4];

    s->cursor.resource = resource ? id : 0;
    s->cursor.visible =
        resource && vgpu_resource_is_picture(resource) && order_of(resource->shape.format, order);
    s->cursor.shape_wanted = false;
    s->cursor.shape_changed = false;
    if (!s->cursor.visible)
        return;
    if (resource->pixels)
        copy_shape(s, resource->pixels, resource->shape.width, resource->shape.height, order);
    else
        s->cursor.shape_wanted = resource->shape.width >= DISPLAY_CURSOR_SIZE &&
                                 resource->shape.height >= DISPLAY_CURSOR_SIZE;
}

void display_cursor(struct display *s, const struct virtio_gpu_update_cursor *c)
{
    if (!s || le32toh(c->pos.scanout_id) != 0)
        return;
    if (le32toh(c->hdr.type) == VIRTIO_GPU_CMD_UPDATE_CURSOR) {
        s->cursor.hot_x = le32toh(c->hot_x) % DISPLAY_CURSOR_SIZE;
        s->cursor.hot_y = le32toh(c->hot_y) % DISPLAY_CURSOR_SIZE;
        new_shape(s, le32toh(c->resource_id));
    } else if (le32toh(c->hdr.type) != VIRTIO_GPU_CMD_MOVE_CURSOR) {
        return;
    }
    s->cursor.x = le32toh(c->pos.x);
    s->cursor.y = le32toh(c->pos.y);
    s->cursor.moved = true;
    display_pump(s);
}

void display_forget(struct display *s, uint32_t resource)
{
    if (!s || resource == 0)
        return;
    display_shares_forget(&s->shares, resource);
    if (s->cursor.resource == resource) {
        s->cursor.resource = 0;
        s->cursor.shape_wanted = false;
    }
    if (s->resource == resource)
        display_set_scanout(s, NULL, NULL);
}

void display_reset(struct display *s)
{
    if (!s)
        return;
    display_shares_clear(&s->shares);
    memset(&s->cursor, 0, sizeof(s->cursor));
    s->cursor.moved = true;
    display_set_scanout(s, NULL, NULL);
}

/* ---- the renderer ---- */

static void take_cursor(struct display *s)
{
    const struct vgpu_resource *resource =
        vgpu_resource_find(&s->device->objects, s->cursor.resource);
    uint8_t order[4];
    uint64_t size;

    if (!s->cursor.shape_wanted || !resource || !order_of(resource->shape.format, order))
        return;
    copy_shape(s, renderer_pixels(s->device->renderer, &size), DISPLAY_CURSOR_SIZE,
               DISPLAY_CURSOR_SIZE, order);
    s->cursor.shape_wanted = false;
}

bool display_finished(struct display *s, uint64_t seq, int status)
{
    enum reading what = s ? s->reading : READING_NOTHING;

    if (what == READING_NOTHING || seq != s->read_seq)
        return false;
    s->reading = READING_NOTHING;
    if (what == READING_CURSOR && status == 0)
        take_cursor(s);
    else if (what == READING_CURSOR)
        s->cursor.shape_wanted = false;
    else if (what == READING_EXPORT)
        take_export(s, status);
    else if (status < 0)
        s->current = (struct box){0};
    display_pump(s);
    return true;
}

void display_renderer_gone(struct display *s)
{
    if (!s)
        return;
    s->reading = READING_NOTHING;
    s->read_from = s->read_to = s->current.y;
    display_shares_clear(&s->shares);
    display_pump(s);
}

/* ---- life ---- */

void display_connect(struct display *s, int fd)
{
    GPUP_AUTO_ERROR err = NULL;

    if (!s) {
        close(fd);
        return;
    }
    display_socket_free(s->socket);
    s->closed = s->asked_features = s->accepted = s->info_asked = false;
    s->socket = display_socket_new(s->device->loop, fd, &socket_events, s, &err);
    if (!s->socket) {
        vgpu_log(LOG_ERR, "%s: the display: %s", s->device->grant.vm, gpup_error_message(err));
        return;
    }
    /* this one knows nothing yet */
    s->told.width = s->told.height = 0;
    s->told_shared = 0;
    s->showing = false;
    s->scanout_changed = s->resource != 0;
    s->current = (struct box){0};
    if (s->resource != 0)
        s->damage = (struct box){0, 0, s->part.width, s->part.height};
    s->cursor.shape_changed = s->cursor.visible && !s->cursor.shape_wanted;
    s->cursor.moved = true;
    display_pump(s);
}

struct display *display_new(struct vgpu_device *device, bool share, struct gpup_error **err)
{
    struct display *s = calloc(1, sizeof(*s));

    if (!s) {
        gpup_error_set(err, ENOMEM, "out of memory");
        return NULL;
    }
    s->device = device;
    s->share = share;
    display_shares_init(&s->shares);
    s->info_timer = vgpu_loop_add_timer(device->loop, on_info_timer, s, err);
    if (!s->info_timer) {
        free(s);
        return NULL;
    }
    return s;
}

void display_free(struct display *s)
{
    if (!s)
        return;
    display_socket_free(s->socket);
    display_shares_clear(&s->shares);
    vgpu_source_remove(s->info_timer);
    free(s);
}
