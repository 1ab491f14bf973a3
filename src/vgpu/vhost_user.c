/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "vgpu/vhost_user.h"

#include "core/error.h"
#include "core/file.h"
#include "vgpu/log.h"
#include "vgpu/loop.h"
#include "vgpu/vhost_user_message.h"
#include "vgpu/virtqueue_internal.h"

#include <errno.h>
#include <linux/virtio_config.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <syslog.h>
#include <unistd.h>

#define MAX_QUEUES 8u
#define BIT(n)     (UINT64_C(1) << (n))

#define PROTOCOL_FEATURES                                                                          \
    (BIT(VHOST_USER_PROTOCOL_F_MQ) | BIT(VHOST_USER_PROTOCOL_F_REPLY_ACK) |                        \
     BIT(VHOST_USER_PROTOCOL_F_CONFIG) | BIT(VHOST_USER_PROTOCOL_F_RESET_DEVICE) |                 \
     BIT(VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS))

struct queue {
    struct vhost_user *vhost;
    unsigned index;
    struct virtqueue *virtqueue;
    struct virtqueue_setup setup;
    bool has_address, enabled;
    int kick, call;
    struct vgpu_source *kick_source;
};

struct vhost_user {
    struct vgpu_loop *loop;
    const struct vhost_user_device *ops;
    void *device;
    int fd;
    struct vgpu_source *source;
    uint64_t features, protocol_features;
    struct guest_memory memory;
    struct queue queues[MAX_QUEUES];
};

/* ---- queues ---- */

/* Each write wakes us once: how often it was written to is never read. */
static void on_kick(uint32_t events, void *data)
{
    struct queue *q = data;

    if (virtqueue_is_started(q->virtqueue))
        q->vhost->ops->kick(q->vhost->device, q->index, q->virtqueue);
}

static bool has_work(void *data)
{
    struct queue *q = data;

    return virtqueue_has_work(q->virtqueue);
}

static void drop_kick(struct queue *q)
{
    vgpu_source_remove(q->kick_source);
    q->kick_source = NULL;
    gpup_fd_close(&q->kick);
}

static uint16_t stop_queue(struct queue *q)
{
    uint16_t base = q->setup.base;

    if (virtqueue_is_started(q->virtqueue)) {
        q->vhost->ops->stop(q->vhost->device, q->index, q->virtqueue);
        base = virtqueue_stop(q->virtqueue);
        q->setup.base = base;
    }
    drop_kick(q);
    return base;
}

static bool may_run(const struct queue *q)
{
    bool enabled = q->enabled || !(q->vhost->features & BIT(VHOST_USER_F_PROTOCOL_FEATURES));

    return enabled && q->has_address && q->kick >= 0 && q->setup.size > 0;
}

/* A queue runs once it has its size, address, kick and (where protocol features are agreed on) was
 * enabled. */
static int start_if_ready(struct queue *q, struct gpup_error **err)
{
    int ret;

    if (!may_run(q) || virtqueue_is_started(q->virtqueue))
        return 0;
    q->setup.event_idx = q->vhost->features & BIT(VIRTIO_RING_F_EVENT_IDX);
    q->setup.indirect = q->vhost->features & BIT(VIRTIO_RING_F_INDIRECT_DESC);
    q->setup.call = q->call;
    ret = virtqueue_start(q->virtqueue, &q->setup, err);
    if (ret < 0)
        return gpup_error_wrap(err, "queue %u", q->index);
    vgpu_source_remove(q->kick_source); /* of a queue that lost its rings */
    q->kick_source = vgpu_loop_add(q->vhost->loop, q->kick, EPOLLIN | EPOLLET, on_kick, q, err);
    if (!q->kick_source) {
        virtqueue_stop(q->virtqueue);
        return -EIO;
    }
    vgpu_source_set_peek(q->kick_source, has_work);
    /* the driver may have offered before the kick was there */
    q->vhost->ops->kick(q->vhost->device, q->index, q->virtqueue);
    return 0;
}

static struct queue *queue_at(struct vhost_user *v, uint64_t index, struct gpup_error **err)
{
    if (index < v->ops->n_queues)
        return &v->queues[index];
    gpup_error_set(err, EPROTO, "there is no queue %llu", (unsigned long long)index);
    return NULL;
}

/* ---- messages: each handler returns 1 (answered by payload), 0 (done) or -errno ---- */

typedef int (*handler)(struct vhost_user *v, struct vhost_user_message *m, struct gpup_error **err);

static int answer_u64(struct vhost_user_message *m, uint64_t value)
{
    m->payload.u64 = value;
    m->header.size = sizeof(value);
    return 1;
}

static int get_features(struct vhost_user *v, struct vhost_user_message *m, struct gpup_error **err)
{
    return answer_u64(m, v->ops->features | BIT(VHOST_USER_F_PROTOCOL_FEATURES));
}

static int set_features(struct vhost_user *v, struct vhost_user_message *m, struct gpup_error **err)
{
    /* QEMU sets VIRTIO_F_RING_RESET though it was not offered: what was not offered is not on */
    v->features = m->payload.u64 & (v->ops->features | BIT(VHOST_USER_F_PROTOCOL_FEATURES));
    v->ops->set_features(v->device, v->features & v->ops->features);
    return 0;
}

static int get_protocol_features(struct vhost_user *v, struct vhost_user_message *m,
                                 struct gpup_error **err)
{
    return answer_u64(m, PROTOCOL_FEATURES);
}

static int set_protocol_features(struct vhost_user *v, struct vhost_user_message *m,
                                 struct gpup_error **err)
{
    v->protocol_features = m->payload.u64 & PROTOCOL_FEATURES;
    return 0;
}

static int nothing_to_do(struct vhost_user *v, struct vhost_user_message *m,
                         struct gpup_error **err)
{
    return 0;
}

static int get_queue_num(struct vhost_user *v, struct vhost_user_message *m,
                         struct gpup_error **err)
{
    return answer_u64(m, v->ops->n_queues);
}

static int get_max_mem_slots(struct vhost_user *v, struct vhost_user_message *m,
                             struct gpup_error **err)
{
    return answer_u64(m, GUEST_MEMORY_MAX_REGIONS);
}

static int add_region(struct vhost_user *v, const struct vhost_user_region *r, int fd,
                      struct gpup_error **err)
{
    uint32_t id;
    int ret = guest_memory_add(&v->memory, r->guest, r->user, r->size, r->offset, fd, &id, err);

    if (ret == 0)
        v->ops->memory_added(v->device, &v->memory.regions[v->memory.n_regions - 1]);
    return ret;
}

/* Rings may have been in what was taken away: such a queue stops until it is set up again. */
static void remap_queues(struct vhost_user *v)
{
    for (unsigned i = 0; i < v->ops->n_queues; i++) {
        struct queue *q = &v->queues[i];
        GPUP_AUTO_ERROR err = NULL;

        if (!virtqueue_is_started(q->virtqueue))
            continue;
        if (virtqueue_remap(q->virtqueue, &err) < 0)
            vgpu_log(LOG_WARNING, "queue %u: %s", i, gpup_error_message(err));
        else
            vhost_user_kick_again(v, i); /* one may have come while the rings were away */
    }
}

/* After the device was told. */
static void unmap_region(struct vhost_user *v, struct guest_region region)
{
    uint32_t id;

    for (unsigned i = 0; i < v->ops->n_queues; i++)
        virtqueue_forget_memory(v->queues[i].virtqueue, region.map, region.size);
    guest_memory_remove(&v->memory, region.guest, region.user, region.size, &id, NULL);
}

static int add_mem_reg(struct vhost_user *v, struct vhost_user_message *m, struct gpup_error **err)
{
    int fd;

    if (m->n_fds != 1)
        return gpup_error_set(err, EPROTO, "a memory region comes with one descriptor, not %u",
                              m->n_fds);
    fd = m->fds[0];
    m->fds[0] = -1;
    return add_region(v, &m->payload.region.region, fd, err);
}

static int rem_mem_reg(struct vhost_user *v, struct vhost_user_message *m, struct gpup_error **err)
{
    const struct vhost_user_region *r = &m->payload.region.region;

    for (size_t i = 0; i < v->memory.n_regions; i++) {
        const struct guest_region *have = &v->memory.regions[i];

        if (have->guest == r->guest && have->user == r->user && have->size == r->size) {
            v->ops->memory_removed(v->device, have);
            unmap_region(v, *have);
            remap_queues(v);
            return 0;
        }
    }
    return gpup_error_set(err, ENOENT, "no such memory region");
}

static int set_mem_table(struct vhost_user *v, struct vhost_user_message *m,
                         struct gpup_error **err)
{
    const struct vhost_user_mem_table *t = &m->payload.table;
    int ret = 0;

    if (t->n > VHOST_USER_MAX_FDS || t->n != m->n_fds ||
        m->header.size < 8 + t->n * sizeof(t->regions[0]))
        return gpup_error_set(err, EPROTO, "a table of %u memory regions with %u descriptors", t->n,
                              m->n_fds);
    /* first all of the answers, which need the rings, then the memory */
    for (size_t i = 0; i < v->memory.n_regions; i++)
        v->ops->memory_removed(v->device, &v->memory.regions[i]);
    while (v->memory.n_regions > 0)
        unmap_region(v, v->memory.regions[0]);
    for (uint32_t i = 0; i < t->n && ret == 0; i++) {
        int fd = m->fds[i];

        m->fds[i] = -1;
        ret = add_region(v, &t->regions[i], fd, err);
    }
    remap_queues(v);
    return ret;
}

static int set_vring_num(struct vhost_user *v, struct vhost_user_message *m,
                         struct gpup_error **err)
{
    struct queue *q = queue_at(v, m->payload.state.index, err);

    if (!q)
        return -EPROTO;
    if (m->payload.state.num == 0 || m->payload.state.num > VIRTQUEUE_MAX_SIZE)
        return gpup_error_set(err, EPROTO, "queue %u cannot have %u entries", q->index,
                              m->payload.state.num);
    q->setup.size = (uint16_t)m->payload.state.num;
    return 0;
}

static int set_vring_addr(struct vhost_user *v, struct vhost_user_message *m,
                          struct gpup_error **err)
{
    struct queue *q = queue_at(v, m->payload.addr.index, err);

    if (!q)
        return -EPROTO;
    q->setup.desc = m->payload.addr.desc;
    q->setup.avail = m->payload.addr.avail;
    q->setup.used = m->payload.addr.used;
    q->has_address = true;
    return start_if_ready(q, err);
}

static int set_vring_base(struct vhost_user *v, struct vhost_user_message *m,
                          struct gpup_error **err)
{
    struct queue *q = queue_at(v, m->payload.state.index, err);

    if (!q)
        return -EPROTO;
    /* A queue that goes on does so where it was: one that begins anew is another driver's. Older
     * QEMU (7.2) tells of a guest's reboot in no other way. */
    if (q->index == 0 && m->payload.state.num == 0 && q->setup.base != 0 &&
        !virtqueue_is_started(q->virtqueue))
        v->ops->reset(v->device);
    q->setup.base = (uint16_t)m->payload.state.num;
    return 0;
}

static int get_vring_base(struct vhost_user *v, struct vhost_user_message *m,
                          struct gpup_error **err)
{
    struct queue *q = queue_at(v, m->payload.state.index, err);

    if (!q)
        return -EPROTO;
    m->payload.state.num = stop_queue(q);
    m->header.size = sizeof(m->payload.state);
    return 1;
}

static int set_vring_enable(struct vhost_user *v, struct vhost_user_message *m,
                            struct gpup_error **err)
{
    struct queue *q = queue_at(v, m->payload.state.index, err);

    if (!q)
        return -EPROTO;
    q->enabled = m->payload.state.num != 0;
    if (q->enabled)
        return start_if_ready(q, err);
    if (virtqueue_is_started(q->virtqueue)) {
        v->ops->stop(v->device, q->index, q->virtqueue);
        q->setup.base = virtqueue_stop(q->virtqueue);
        vgpu_source_remove(q->kick_source);
        q->kick_source = NULL;
    }
    return 0;
}

/* The queue that a kick, call or err message is for, and its descriptor (-1: none). */
static struct queue *queue_and_fd(struct vhost_user *v, struct vhost_user_message *m, int *fd,
                                  struct gpup_error **err)
{
    bool none = m->payload.u64 & VHOST_USER_VRING_NO_FD;

    if (m->n_fds != (none ? 0u : 1u)) {
        gpup_error_set(err, EPROTO, "%u descriptors for a queue", m->n_fds);
        return NULL;
    }
    *fd = none ? -1 : m->fds[0];
    return queue_at(v, m->payload.u64 & VHOST_USER_VRING_INDEX_MASK, err);
}

static int set_vring_kick(struct vhost_user *v, struct vhost_user_message *m,
                          struct gpup_error **err)
{
    int fd;
    struct queue *q = queue_and_fd(v, m, &fd, err);

    if (!q)
        return -EPROTO;
    if (virtqueue_is_started(q->virtqueue))
        stop_queue(q);
    drop_kick(q);
    q->kick = fd;
    if (fd >= 0)
        m->fds[0] = -1;
    return start_if_ready(q, err);
}

static int set_vring_call(struct vhost_user *v, struct vhost_user_message *m,
                          struct gpup_error **err)
{
    int fd;
    struct queue *q = queue_and_fd(v, m, &fd, err);

    if (!q)
        return -EPROTO;
    gpup_fd_close(&q->call);
    q->call = fd;
    if (fd >= 0)
        m->fds[0] = -1;
    virtqueue_set_call(q->virtqueue, fd);
    return 0;
}

/* Errors of a queue are logged; the descriptor for them is not needed. */
static int set_vring_err(struct vhost_user *v, struct vhost_user_message *m,
                         struct gpup_error **err)
{
    int fd;

    return queue_and_fd(v, m, &fd, err) ? 0 : -EPROTO;
}

static int gpu_set_socket(struct vhost_user *v, struct vhost_user_message *m,
                          struct gpup_error **err)
{
    int fd = m->fds[0];

    if (m->n_fds != 1)
        return gpup_error_set(err, EPROTO, "one descriptor was expected, %u came", m->n_fds);
    m->fds[0] = -1;
    v->ops->set_display(v->device, fd);
    return 0;
}

static int check_config(const struct vhost_user_message *m, struct gpup_error **err)
{
    const struct vhost_user_config *c = &m->payload.config;
    uint32_t end;

    if (c->size > VHOST_USER_MAX_CONFIG || __builtin_add_overflow(c->offset, c->size, &end) ||
        end > VHOST_USER_MAX_CONFIG || m->header.size < 12 + c->size)
        return gpup_error_set(err, EPROTO, "configuration at %u of %u bytes", c->offset, c->size);
    return 0;
}

static int get_config(struct vhost_user *v, struct vhost_user_message *m, struct gpup_error **err)
{
    struct vhost_user_config *c = &m->payload.config;
    int ret = check_config(m, err);

    if (ret < 0)
        return ret;
    memset(c->data, 0, sizeof(c->data));
    v->ops->get_config(v->device, c->offset, c->data, c->size);
    m->header.size = 12 + c->size;
    return 1;
}

static int set_config(struct vhost_user *v, struct vhost_user_message *m, struct gpup_error **err)
{
    int ret = check_config(m, err);

    if (ret == 0)
        v->ops->set_config(v->device, m->payload.config.offset, m->payload.config.data,
                           m->payload.config.size);
    return ret;
}

static int reset_device(struct vhost_user *v, struct vhost_user_message *m, struct gpup_error **err)
{
    for (unsigned i = 0; i < v->ops->n_queues; i++) {
        stop_queue(&v->queues[i]);
        v->queues[i].enabled = false;
        v->queues[i].has_address = false;
        v->queues[i].setup.base = 0;
    }
    v->ops->reset(v->device);
    return 0;
}

static const struct {
    handler handle;
    uint32_t least; /* bytes of payload */
} handlers[] = {
    [VHOST_USER_GET_FEATURES] = {get_features, 0},
    [VHOST_USER_SET_FEATURES] = {set_features, 8},
    [VHOST_USER_SET_OWNER] = {nothing_to_do, 0},
    [VHOST_USER_SET_MEM_TABLE] = {set_mem_table, 8},
    [VHOST_USER_SET_VRING_NUM] = {set_vring_num, 8},
    [VHOST_USER_SET_VRING_ADDR] = {set_vring_addr, sizeof(struct vhost_user_vring_addr)},
    [VHOST_USER_SET_VRING_BASE] = {set_vring_base, 8},
    [VHOST_USER_GET_VRING_BASE] = {get_vring_base, 8},
    [VHOST_USER_SET_VRING_KICK] = {set_vring_kick, 8},
    [VHOST_USER_SET_VRING_CALL] = {set_vring_call, 8},
    [VHOST_USER_SET_VRING_ERR] = {set_vring_err, 8},
    [VHOST_USER_GET_PROTOCOL_FEATURES] = {get_protocol_features, 0},
    [VHOST_USER_SET_PROTOCOL_FEATURES] = {set_protocol_features, 8},
    [VHOST_USER_GET_QUEUE_NUM] = {get_queue_num, 0},
    [VHOST_USER_SET_VRING_ENABLE] = {set_vring_enable, 8},
    [VHOST_USER_GET_CONFIG] = {get_config, 12},
    [VHOST_USER_SET_CONFIG] = {set_config, 12},
    [VHOST_USER_GPU_SET_SOCKET] = {gpu_set_socket, 0},
    [VHOST_USER_RESET_DEVICE] = {reset_device, 0},
    [VHOST_USER_GET_MAX_MEM_SLOTS] = {get_max_mem_slots, 0},
    [VHOST_USER_ADD_MEM_REG] = {add_mem_reg, sizeof(struct vhost_user_mem_reg)},
    [VHOST_USER_REM_MEM_REG] = {rem_mem_reg, sizeof(struct vhost_user_mem_reg)},
};

static int handle(struct vhost_user *v, struct vhost_user_message *m, struct gpup_error **err)
{
    uint32_t request = m->header.request;

    if (request >= sizeof(handlers) / sizeof(handlers[0]) || !handlers[request].handle)
        return gpup_error_set(err, ENOTSUP, "it is not known");
    if (m->header.size < handlers[request].least)
        return gpup_error_set(err, EPROTO, "it has %u bytes instead of %u", m->header.size,
                              handlers[request].least);
    return handlers[request].handle(v, m, err);
}

static int serve(struct vhost_user *v, struct vhost_user_message *m, struct gpup_error **err)
{
    bool wants_ack = m->header.flags & VHOST_USER_NEED_REPLY &&
                     v->protocol_features & BIT(VHOST_USER_PROTOCOL_F_REPLY_ACK);
    GPUP_AUTO_ERROR why = NULL;
    int ret = handle(v, m, &why);

    vhost_user_close_fds(m);
    if (ret < 0)
        vgpu_log(LOG_WARNING, "vhost-user request %u: %s", m->header.request,
                 gpup_error_message(why));
    /* a front-end that waits for an answer is told; one that does not could go on with a device
     * that is not set up as it believes */
    if (ret < 0 && ret != -ENOTSUP && !wants_ack) {
        gpup_error_set(err, EPROTO, "vhost-user request %u failed", m->header.request);
        return -EPROTO;
    }
    if (ret <= 0 && !wants_ack)
        return 0;
    if (ret <= 0)
        answer_u64(m, ret < 0);
    m->header.flags = VHOST_USER_VERSION | VHOST_USER_REPLY;
    return vhost_user_send(v->fd, m, err);
}

static void on_message(uint32_t events, void *data)
{
    struct vhost_user *v = data;
    struct vhost_user_message message;
    GPUP_AUTO_ERROR err = NULL;
    int ret = vhost_user_receive(v->fd, &message, &err);

    if (ret > 0)
        ret = serve(v, &message, &err) < 0 ? -EPROTO : 1;
    if (ret > 0)
        return;
    if (ret < 0)
        vgpu_log(LOG_ERR, "%s: the connection ends", gpup_error_message(err));
    vgpu_source_remove(v->source);
    v->source = NULL;
    v->ops->closed(v->device);
}

static int make_queues(struct vhost_user *v)
{
    for (unsigned i = 0; i < v->ops->n_queues; i++) {
        v->queues[i] = (struct queue){.vhost = v, .index = i, .kick = -1, .call = -1};
        v->queues[i].virtqueue = virtqueue_new(&v->memory);
        if (!v->queues[i].virtqueue)
            return -ENOMEM;
    }
    return 0;
}

struct vhost_user *vhost_user_new(struct vgpu_loop *loop, int fd,
                                  const struct vhost_user_device *ops, void *device,
                                  struct gpup_error **err)
{
    struct vhost_user *v = ops->n_queues <= MAX_QUEUES ? calloc(1, sizeof(*v)) : NULL;

    if (!v) {
        close(fd);
        gpup_error_set(err, ENOMEM, "out of memory");
        return NULL;
    }
    *v = (struct vhost_user){.loop = loop, .ops = ops, .device = device, .fd = fd};
    guest_memory_init(&v->memory);
    if (make_queues(v) < 0) {
        gpup_error_set(err, ENOMEM, "out of memory");
        vhost_user_free(v);
        return NULL;
    }
    v->source = vgpu_loop_add(loop, fd, EPOLLIN, on_message, v, err);
    if (!v->source) {
        vhost_user_free(v);
        return NULL;
    }
    return v;
}

void vhost_user_free(struct vhost_user *vhost)
{
    if (!vhost)
        return;
    vgpu_source_remove(vhost->source);
    for (unsigned i = 0; i < vhost->ops->n_queues; i++) {
        struct queue *q = &vhost->queues[i];

        if (!q->virtqueue)
            break;
        drop_kick(q);
        gpup_fd_close(&q->call);
        virtqueue_free(q->virtqueue);
    }
    guest_memory_clear(&vhost->memory);
    gpup_fd_close(&vhost->fd);
    free(vhost);
}

const struct guest_memory *vhost_user_memory(const struct vhost_user *vhost)
{
    return &vhost->memory;
}

void vhost_user_kick_again(struct vhost_user *vhost, unsigned index)
{
    const uint64_t one = 1;

    /* a full counter means that a kick is pending already */
    if (index < vhost->ops->n_queues && vhost->queues[index].kick >= 0 &&
        write(vhost->queues[index].kick, &one, sizeof(one)) < 0)
        return;
}

struct virtqueue *vhost_user_queue(struct vhost_user *vhost, unsigned index)
{
    if (index >= vhost->ops->n_queues || !virtqueue_is_running(vhost->queues[index].virtqueue))
        return NULL;
    return vhost->queues[index].virtqueue;
}
