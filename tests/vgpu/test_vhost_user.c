/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/error.h"
#include "vgpu/loop.h"
#include "vgpu/vhost_user.h"
#include "vgpu/vhost_user_message.h"
#include "vgpu/virtqueue.h"

#include <glib.h>
#include <linux/virtio_ring.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

/* The front-end's side, as QEMU speaks it, against a device that answers each request with its own
 * bytes. The device runs in a thread. */
#define MEMORY 65536
#define USER   UINT64_C(0x7f0000000000)
#define SIZE   8
#define AVAIL  4096
#define USED   8192
#define DATA   16384

struct fixture {
    int sock, memory, kick, call;
    char *guest;
    struct vring_desc *desc;
    struct vring_avail *avail;
    struct vring_used *used;
    GThread *thread;
    /* the device's, read by the front-end after the thread has ended */
    struct vgpu_loop *loop;
    struct vhost_user *vhost;
    uint64_t features;
    int resets, stops, regions;
    uint32_t config;
};

static void dev_set_features(void *device, uint64_t features)
{
    ((struct fixture *)device)->features = features;
}

static void dev_get_config(void *device, uint32_t offset, void *data, uint32_t length)
{
    memset(data, (int)offset + 1, length);
}

static void dev_set_config(void *device, uint32_t offset, const void *data, uint32_t length)
{
    memcpy(&((struct fixture *)device)->config, data, MIN(length, 4));
}

static void dev_set_display(void *device, int fd)
{
    close(fd);
}

static void dev_kick(void *device, unsigned index, struct virtqueue *queue)
{
    struct virtqueue_element *e;

    while (virtqueue_pop(queue, &e, NULL) == 1) {
        char buf[64];
        size_t n = virtqueue_read(e, 0, buf, sizeof(buf));

        virtqueue_push(e, virtqueue_write(e, 0, buf, n));
    }
    virtqueue_notify(queue);
}

static void dev_stop(void *device, unsigned index, struct virtqueue *queue)
{
    ((struct fixture *)device)->stops++;
}

static void dev_reset(void *device)
{
    ((struct fixture *)device)->resets++;
}

static void dev_memory_added(void *device, const struct guest_region *region)
{
    ((struct fixture *)device)->regions++;
}

static void dev_memory_removed(void *device, const struct guest_region *region)
{
    ((struct fixture *)device)->regions--;
}

static void dev_closed(void *device)
{
    vgpu_loop_quit(((struct fixture *)device)->loop, 0);
}

static const struct vhost_user_device echo = {
    .features = UINT64_C(1) << 32 | UINT64_C(1) << VIRTIO_RING_F_INDIRECT_DESC,
    .n_queues = 2,
    .set_features = dev_set_features,
    .get_config = dev_get_config,
    .set_config = dev_set_config,
    .set_display = dev_set_display,
    .kick = dev_kick,
    .stop = dev_stop,
    .reset = dev_reset,
    .memory_added = dev_memory_added,
    .memory_removed = dev_memory_removed,
    .closed = dev_closed,
};

static void *run_device(void *data)
{
    vgpu_loop_run(((struct fixture *)data)->loop);
    return NULL;
}

static void set_up(struct fixture *f, gconstpointer data)
{
    int pair[2];

    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), ==, 0);
    f->sock = pair[0];
    f->memory = memfd_create("guest", MFD_CLOEXEC);
    g_assert_cmpint(ftruncate(f->memory, MEMORY), ==, 0);
    f->guest = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_SHARED, f->memory, 0);
    f->desc = (void *)f->guest;
    f->avail = (void *)(f->guest + AVAIL);
    f->used = (void *)(f->guest + USED);
    f->kick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    f->call = eventfd(0, EFD_CLOEXEC);
    f->loop = vgpu_loop_new(NULL);
    f->vhost = vhost_user_new(f->loop, pair[1], &echo, f, NULL);
    g_assert_nonnull(f->vhost);
    f->thread = g_thread_new("device", run_device, f);
}

/* Closes the front-end's end and waits for the device to notice. */
static void hang_up(struct fixture *f)
{
    if (f->sock >= 0)
        close(f->sock);
    f->sock = -1;
    if (f->thread)
        g_thread_join(f->thread);
    f->thread = NULL;
}

static void tear_down(struct fixture *f, gconstpointer data)
{
    hang_up(f);
    vhost_user_free(f->vhost);
    vgpu_loop_free(f->loop);
    munmap(f->guest, MEMORY);
    close(f->memory);
    close(f->kick);
    close(f->call);
}

static void send_message(struct fixture *f, uint32_t request, uint32_t flags, const void *payload,
                         uint32_t size, int fd)
{
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {0};
    struct vhost_user_header header = {request, VHOST_USER_VERSION | flags, size};
    struct iovec iov[2] = {{&header, sizeof(header)}, {(void *)payload, size}};
    struct msghdr msg = {.msg_iov = iov, .msg_iovlen = 2};

    if (fd >= 0) {
        struct cmsghdr *c;

        msg.msg_control = control;
        msg.msg_controllen = sizeof(control);
        c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(c), &fd, sizeof(int));
    }
    g_assert_cmpint(sendmsg(f->sock, &msg, MSG_NOSIGNAL), ==, sizeof(header) + size);
}

static uint64_t receive_u64(struct fixture *f, uint32_t request)
{
    struct vhost_user_message m;

    g_assert_cmpint(vhost_user_receive(f->sock, &m, NULL), ==, 1);
    g_assert_cmpuint(m.header.request, ==, request);
    g_assert_true(m.header.flags & VHOST_USER_REPLY);
    g_assert_cmpuint(m.header.size, ==, 8);
    return m.payload.u64;
}

static uint64_t get(struct fixture *f, uint32_t request)
{
    send_message(f, request, 0, NULL, 0, -1);
    return receive_u64(f, request);
}

/* Sends and waits for the acknowledgement: 0 is a yes. */
static uint64_t ack(struct fixture *f, uint32_t request, const void *payload, uint32_t size, int fd)
{
    send_message(f, request, VHOST_USER_NEED_REPLY, payload, size, fd);
    return receive_u64(f, request);
}

static void agree(struct fixture *f)
{
    uint64_t features = get(f, VHOST_USER_GET_FEATURES);
    uint64_t protocol = get(f, VHOST_USER_GET_PROTOCOL_FEATURES);

    g_assert_true(features & (UINT64_C(1) << VHOST_USER_F_PROTOCOL_FEATURES));
    g_assert_true(protocol & (1 << VHOST_USER_PROTOCOL_F_RESET_DEVICE));
    send_message(f, VHOST_USER_SET_PROTOCOL_FEATURES, 0, &protocol, 8, -1);
    features |= UINT64_C(1) << 40; /* as QEMU does, though it was not offered */
    g_assert_cmpuint(ack(f, VHOST_USER_SET_FEATURES, &features, 8, -1), ==, 0);
}

static const struct vhost_user_mem_reg region = {.region = {0, MEMORY, USER, 0}};

static void set_up_queue(struct fixture *f, uint32_t base)
{
    const struct vhost_user_vring_state num = {0, SIZE}, start = {0, base}, on = {0, 1};
    const struct vhost_user_vring_addr addr = {
        .desc = USER, .avail = USER + AVAIL, .used = USER + USED};
    const uint64_t zero = 0;

    g_assert_cmpuint(ack(f, VHOST_USER_SET_VRING_NUM, &num, sizeof(num), -1), ==, 0);
    g_assert_cmpuint(ack(f, VHOST_USER_SET_VRING_BASE, &start, sizeof(start), -1), ==, 0);
    g_assert_cmpuint(ack(f, VHOST_USER_SET_VRING_ADDR, &addr, sizeof(addr), -1), ==, 0);
    g_assert_cmpuint(ack(f, VHOST_USER_SET_VRING_CALL, &zero, 8, f->call), ==, 0);
    g_assert_cmpuint(ack(f, VHOST_USER_SET_VRING_KICK, &zero, 8, f->kick), ==, 0);
    g_assert_cmpuint(ack(f, VHOST_USER_SET_VRING_ENABLE, &on, sizeof(on), -1), ==, 0);
}

static void echo_once(struct fixture *f, const char *text)
{
    struct pollfd p = {.fd = f->call, .events = POLLIN};
    uint16_t before = f->used->idx;
    uint64_t one = 1;

    strcpy(f->guest + DATA, text);
    memset(f->guest + DATA + 100, 0, 64);
    f->desc[0] = (struct vring_desc){DATA, (uint32_t)strlen(text), VRING_DESC_F_NEXT, 1};
    f->desc[1] = (struct vring_desc){DATA + 100, 64, VRING_DESC_F_WRITE, 0};
    f->avail->ring[f->avail->idx % SIZE] = 0;
    __atomic_store_n(&f->avail->idx, (uint16_t)(f->avail->idx + 1), __ATOMIC_RELEASE);
    g_assert_cmpint(write(f->kick, &one, 8), ==, 8);
    g_assert_cmpint(poll(&p, 1, 10000), ==, 1);
    g_assert_cmpint(read(f->call, &one, 8), ==, 8);
    g_assert_cmpuint(__atomic_load_n(&f->used->idx, __ATOMIC_ACQUIRE), ==, (uint16_t)(before + 1));
    g_assert_cmpstr(f->guest + DATA + 100, ==, text);
}

static void handshake_and_traffic(struct fixture *f, gconstpointer data)
{
    agree(f);
    g_assert_cmpuint(get(f, VHOST_USER_GET_QUEUE_NUM), ==, 2);
    g_assert_cmpuint(get(f, VHOST_USER_GET_MAX_MEM_SLOTS), ==, GUEST_MEMORY_MAX_REGIONS);
    g_assert_cmpuint(ack(f, VHOST_USER_ADD_MEM_REG, &region, sizeof(region), f->memory), ==, 0);
    set_up_queue(f, 0);
    echo_once(f, "one");
    echo_once(f, "two");
    hang_up(f);
    g_assert_cmpuint(f->features, ==, echo.features);
    g_assert_cmpint(f->regions, ==, 1);
}

/* QEMU's stop and cont: the base comes back and the queue goes on from it. */
static void stop_and_continue(struct fixture *f, gconstpointer data)
{
    const struct vhost_user_vring_state state = {0, 0};
    struct vhost_user_message m;

    agree(f);
    g_assert_cmpuint(ack(f, VHOST_USER_ADD_MEM_REG, &region, sizeof(region), f->memory), ==, 0);
    set_up_queue(f, 0);
    echo_once(f, "one");
    send_message(f, VHOST_USER_GET_VRING_BASE, 0, &state, sizeof(state), -1);
    g_assert_cmpint(vhost_user_receive(f->sock, &m, NULL), ==, 1);
    g_assert_cmpuint(m.payload.state.num, ==, 1);
    set_up_queue(f, m.payload.state.num);
    echo_once(f, "two");
    g_assert_cmpuint(ack(f, VHOST_USER_RESET_DEVICE, NULL, 0, -1), ==, 0);
    hang_up(f);
    g_assert_cmpint(f->stops, ==, 2);
    g_assert_cmpint(f->resets, ==, 1);
}

static void configuration(struct fixture *f, gconstpointer data)
{
    struct vhost_user_config config = {.offset = 4, .size = 8};
    struct vhost_user_message m;

    agree(f);
    send_message(f, VHOST_USER_GET_CONFIG, 0, &config, 20, -1);
    g_assert_cmpint(vhost_user_receive(f->sock, &m, NULL), ==, 1);
    g_assert_cmpuint(m.header.size, ==, 20);
    g_assert_cmpuint(m.payload.config.data[7], ==, 5);
    memcpy(config.data, "\1\2\3\4", 4);
    config.size = 4;
    g_assert_cmpuint(ack(f, VHOST_USER_SET_CONFIG, &config, 16, -1), ==, 0);
    config.offset = UINT32_MAX;
    g_assert_cmpuint(ack(f, VHOST_USER_SET_CONFIG, &config, 16, -1), ==, 1);
    hang_up(f);
    g_assert_cmpuint(f->config, ==, 0x04030201);
}

/* What can be refused is refused, and the connection goes on. */
static void refusals(struct fixture *f, gconstpointer data)
{
    struct vhost_user_mem_reg bad = region;
    const struct vhost_user_vring_state no_queue = {2, SIZE}, too_large = {0, 4096};
    const uint64_t kick_without_fd = 0;

    agree(f);
    g_assert_cmpuint(ack(f, 99, NULL, 0, -1), ==, 1);
    g_assert_cmpuint(ack(f, VHOST_USER_ADD_MEM_REG, &region, sizeof(region), -1), ==, 1);
    bad.region.size = MEMORY * 2;
    g_assert_cmpuint(ack(f, VHOST_USER_ADD_MEM_REG, &bad, sizeof(bad), f->memory), ==, 1);
    g_assert_cmpuint(ack(f, VHOST_USER_REM_MEM_REG, &region, sizeof(region), -1), ==, 1);
    g_assert_cmpuint(ack(f, VHOST_USER_SET_VRING_NUM, &no_queue, 8, -1), ==, 1);
    g_assert_cmpuint(ack(f, VHOST_USER_SET_VRING_NUM, &too_large, 8, -1), ==, 1);
    g_assert_cmpuint(ack(f, VHOST_USER_SET_VRING_KICK, &kick_without_fd, 8, -1), ==, 1);
    g_assert_cmpuint(ack(f, VHOST_USER_SET_VRING_ADDR, &too_large, 8, -1), ==, 1);
    g_assert_cmpuint(get(f, VHOST_USER_GET_QUEUE_NUM), ==, 2);
}

/* Memory that is taken away with the rings in it stops the queue; nothing is touched any more. */
static void memory_goes_away(struct fixture *f, gconstpointer data)
{
    uint64_t one = 1;

    agree(f);
    g_assert_cmpuint(ack(f, VHOST_USER_ADD_MEM_REG, &region, sizeof(region), f->memory), ==, 0);
    set_up_queue(f, 0);
    echo_once(f, "one");
    g_assert_cmpuint(ack(f, VHOST_USER_REM_MEM_REG, &region, sizeof(region), -1), ==, 0);
    g_assert_cmpint(write(f->kick, &one, 8), ==, 8);
    g_assert_cmpuint(get(f, VHOST_USER_GET_QUEUE_NUM), ==, 2);
    hang_up(f);
    g_assert_cmpint(f->regions, ==, 0);
}

static void garbage_ends_the_connection(struct fixture *f, gconstpointer data)
{
    const struct vhost_user_header headers[] = {{1, 0, 0}, {1, VHOST_USER_VERSION, 1 << 20}};
    const struct vhost_user_header *header = &headers[GPOINTER_TO_INT(data)];
    char c;

    g_assert_cmpint(send(f->sock, header, sizeof(*header), MSG_NOSIGNAL), ==, sizeof(*header));
    g_thread_join(g_steal_pointer(&f->thread)); /* the device has ended by itself */
    vhost_user_free(g_steal_pointer(&f->vhost));
    g_assert_cmpint(recv(f->sock, &c, 1, 0), <=, 0);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *path;
        void (*func)(struct fixture *, gconstpointer);
        int data;
    } tests[] = {
        {"/vhost-user/handshake", handshake_and_traffic, 0},
        {"/vhost-user/stop-cont", stop_and_continue, 0},
        {"/vhost-user/config", configuration, 0},
        {"/vhost-user/refusals", refusals, 0},
        {"/vhost-user/memory-goes", memory_goes_away, 0},
        {"/vhost-user/bad-version", garbage_ends_the_connection, 0},
        {"/vhost-user/bad-size", garbage_ends_the_connection, 1},
    };

    g_test_init(&argc, &argv, NULL);
    for (size_t i = 0; i < G_N_ELEMENTS(tests); i++)
        g_test_add(tests[i].path, struct fixture, GINT_TO_POINTER(tests[i].data), set_up,
                   tests[i].func, tear_down);
    return g_test_run();
}
