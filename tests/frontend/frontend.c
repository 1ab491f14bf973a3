/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "frontend.h"

#include "vgpu/vhost_user_message.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define USER         UINT64_C(0x7f0000000000)
#define AVAIL        8192u
#define USED         12288u
#define CURSOR       32768u  /* the cursor queue, laid out likewise */
#define REQUEST      65536u  /* the command lies here */
#define ANSWER       131072u /* and its answer here */
#define WAIT_MS      60000
#define CURSOR_QUEUE 16u

/* ---- vhost-user ---- */

static void say(struct frontend *f, uint32_t request, uint32_t flags, const void *payload,
                uint32_t size, int fd)
{
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {0};
    struct vhost_user_header header = {request, VHOST_USER_VERSION | flags, size};
    struct iovec iov[2] = {{&header, sizeof(header)}, {(void *)(uintptr_t)payload, size}};
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

static uint64_t hear(struct frontend *f, uint32_t request)
{
    struct vhost_user_message m;

    g_assert_cmpint(vhost_user_receive(f->sock, &m, NULL), ==, 1);
    g_assert_cmpuint(m.header.request, ==, request);
    return m.payload.u64;
}

static uint64_t get(struct frontend *f, uint32_t request)
{
    say(f, request, 0, NULL, 0, -1);
    return hear(f, request);
}

static void set(struct frontend *f, uint32_t request, const void *payload, uint32_t size, int fd)
{
    say(f, request, VHOST_USER_NEED_REPLY, payload, size, fd);
    g_assert_cmpuint(hear(f, request), ==, 0);
}

/* As QEMU says it: without waiting, but for what its releases wait for. */
static void tell(struct frontend *f, uint32_t request, const void *payload, uint32_t size, int fd)
{
    bool waits = f->speaks == FRONTEND_EXACT ||
                 (request == VHOST_USER_SET_VRING_ENABLE && f->speaks >= FRONTEND_QEMU_8);

    if (waits)
        set(f, request, payload, size, fd);
    else
        say(f, request, 0, payload, size, fd);
}

static void tell_queues(struct frontend *f, uint32_t request, const int fds[2])
{
    for (uint64_t i = 0; i < 2; i++)
        tell(f, request, &i, sizeof(i), fds[i]);
}

static void enable_queues(struct frontend *f, uint32_t on)
{
    for (uint32_t i = 0; i < 2; i++) {
        const struct vhost_user_vring_state state = {i, on};

        tell(f, VHOST_USER_SET_VRING_ENABLE, &state, sizeof(state), -1);
    }
}

static void qemu_sets_up_queue(struct frontend *f, uint32_t index, uint32_t size, uint64_t at,
                               uint16_t from, int kick)
{
    const struct vhost_user_vring_state num = {index, size}, base = {index, from};
    const struct vhost_user_vring_addr addr = {
        .index = index, .desc = USER + at, .avail = USER + at + AVAIL, .used = USER + at + USED};
    const uint64_t queue = index;

    tell(f, VHOST_USER_SET_VRING_NUM, &num, sizeof(num), -1);
    tell(f, VHOST_USER_SET_VRING_BASE, &base, sizeof(base), -1);
    tell(f, VHOST_USER_SET_VRING_ADDR, &addr, sizeof(addr), -1);
    tell(f, VHOST_USER_SET_VRING_KICK, &queue, 8, kick);
}

/* At DRIVER_OK, and at cont. */
static void qemu_starts(struct frontend *f, bool first)
{
    const struct vhost_user_mem_reg region = {.region = {0, FRONTEND_MEMORY, USER, 0}};
    const int calls[2] = {f->call, f->cursor.call};
    const uint64_t features = f->features | UINT64_C(1) << 40; /* not offered: RING_RESET */

    tell_queues(f, VHOST_USER_SET_VRING_CALL, calls);
    tell(f, VHOST_USER_SET_FEATURES, &features, sizeof(features), -1);
    if (first)
        set(f, VHOST_USER_ADD_MEM_REG, &region, sizeof(region), f->memory_fd);
    qemu_sets_up_queue(f, 0, FRONTEND_QUEUE, 0, f->base, f->kick);
    qemu_sets_up_queue(f, 1, CURSOR_QUEUE, CURSOR, f->cursor.base, f->cursor.kick);
    enable_queues(f, 1);
    tell_queues(f, VHOST_USER_SET_VRING_CALL, calls);
}

static void qemu_greets(struct frontend *f)
{
    const struct vhost_user_config config = {.size = sizeof(struct virtio_gpu_config)};
    const int calls[2] = {f->call, f->cursor.call};
    struct vhost_user_message m;
    uint64_t protocol;

    f->features = get(f, VHOST_USER_GET_FEATURES) & ~(UINT64_C(1) << VIRTIO_RING_F_EVENT_IDX);
    protocol = get(f, VHOST_USER_GET_PROTOCOL_FEATURES);
    tell(f, VHOST_USER_SET_PROTOCOL_FEATURES, &protocol, sizeof(protocol), -1);
    g_assert_cmpuint(get(f, VHOST_USER_GET_QUEUE_NUM), ==, 2);
    g_assert_cmpuint(get(f, VHOST_USER_GET_MAX_MEM_SLOTS), >=, 8);
    tell(f, VHOST_USER_SET_OWNER, NULL, 0, -1);
    get(f, VHOST_USER_GET_FEATURES);
    for (uint64_t i = 0; i < 2; i++) {
        tell(f, VHOST_USER_SET_VRING_CALL, &i, sizeof(i), calls[i]);
        tell(f, VHOST_USER_SET_VRING_ERR, &i, sizeof(i), calls[i]);
    }
    say(f, VHOST_USER_GET_CONFIG, 0, &config, 12 + config.size, -1);
    g_assert_cmpint(vhost_user_receive(f->sock, &m, NULL), ==, 1);
    g_assert_cmpuint(m.header.request, ==, VHOST_USER_GET_CONFIG);
    g_assert_cmpuint(m.header.size, ==, 12 + config.size);
    if (f->speaks >= FRONTEND_QEMU_10) /* the machine is reset before it runs */
        tell(f, VHOST_USER_RESET_DEVICE, NULL, 0, -1);
    qemu_starts(f, true);
}

static void set_up_queue(struct frontend *f, uint32_t index, uint32_t size, uint64_t at,
                         uint16_t from, int kick, int call)
{
    const struct vhost_user_vring_state num = {index, size}, base = {index, from}, on = {index, 1};
    const struct vhost_user_vring_addr addr = {
        .index = index, .desc = USER + at, .avail = USER + at + AVAIL, .used = USER + at + USED};
    const uint64_t queue = index;

    set(f, VHOST_USER_SET_VRING_NUM, &num, sizeof(num), -1);
    set(f, VHOST_USER_SET_VRING_BASE, &base, sizeof(base), -1);
    set(f, VHOST_USER_SET_VRING_ADDR, &addr, sizeof(addr), -1);
    set(f, VHOST_USER_SET_VRING_CALL, &queue, 8, call);
    set(f, VHOST_USER_SET_VRING_KICK, &queue, 8, kick);
    set(f, VHOST_USER_SET_VRING_ENABLE, &on, sizeof(on), -1);
}

static void set_up_queues(struct frontend *f)
{
    if (f->speaks != FRONTEND_EXACT) {
        qemu_starts(f, false);
        return;
    }
    set_up_queue(f, 0, FRONTEND_QUEUE, 0, f->base, f->kick, f->call);
    set_up_queue(f, 1, CURSOR_QUEUE, CURSOR, f->cursor.base, f->cursor.kick, f->cursor.call);
}

void frontend_set_display(struct frontend *f, int fd)
{
    tell(f, VHOST_USER_GPU_SET_SOCKET, NULL, 0, fd);
    if (f->speaks != FRONTEND_EXACT)
        frontend_ping(f); /* QEMU says it before the queues run */
}

static void greet(struct frontend *f)
{
    const struct vhost_user_mem_reg region = {.region = {0, FRONTEND_MEMORY, USER, 0}};
    uint64_t features = get(f, VHOST_USER_GET_FEATURES) & ~(UINT64_C(1) << VIRTIO_RING_F_EVENT_IDX);
    uint64_t protocol = get(f, VHOST_USER_GET_PROTOCOL_FEATURES);

    say(f, VHOST_USER_SET_PROTOCOL_FEATURES, 0, &protocol, 8, -1);
    g_assert_cmpuint(get(f, VHOST_USER_GET_QUEUE_NUM), ==, 2);
    set(f, VHOST_USER_SET_FEATURES, &features, 8, -1);
    set(f, VHOST_USER_ADD_MEM_REG, &region, sizeof(region), f->memory_fd);
    set_up_queues(f);
}

/* ---- life ---- */

static void exec_backend(int fd, const char *const *argv, const char *pid_file)
{
    g_autoptr(GPtrArray) all = g_ptr_array_new_with_free_func(g_free);

    for (; *argv; argv++)
        g_ptr_array_add(all, g_strdup(*argv));
    g_ptr_array_add(all, g_strdup_printf("--fd=%d", fd));
    g_ptr_array_add(all, NULL);
    if (pid_file) {
        g_autofree char *text = g_strdup_printf("%d\n", getpid());

        if (!g_file_set_contents(pid_file, text, -1, NULL))
            _exit(127);
    }
    execv(g_ptr_array_index(all, 0), (char **)all->pdata);
    _exit(127);
}

static enum frontend_speaks speaks(void)
{
    static const char *const names[] = {"", "7.2", "8", "10"};
    const char *name = g_getenv("GPUP_TEST_QEMU");

    for (unsigned i = 1; name && i < G_N_ELEMENTS(names); i++) {
        if (strcmp(name, names[i]) == 0)
            return (enum frontend_speaks)i;
    }
    g_assert_null(name);
    return FRONTEND_EXACT;
}

void frontend_start_backend(struct frontend *f, const char *const *argv)
{
    const char *pid_file = f->pid_file;
    int pair[2];

    memset(f, 0, sizeof(*f));
    f->speaks = speaks();
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), ==, 0);
    f->sock = pair[0];
    fcntl(f->sock, F_SETFD, FD_CLOEXEC);
    f->memory_fd = memfd_create("guest", MFD_CLOEXEC);
    g_assert_cmpint(ftruncate(f->memory_fd, FRONTEND_MEMORY), ==, 0);
    f->memory = mmap(NULL, FRONTEND_MEMORY, PROT_READ | PROT_WRITE, MAP_SHARED, f->memory_fd, 0);
    g_assert_true(f->memory != MAP_FAILED);
    f->desc = (void *)f->memory;
    f->avail = (void *)(f->memory + AVAIL);
    f->used = (void *)(f->memory + USED);
    f->kick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    f->call = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    f->cursor.desc = (void *)(f->memory + CURSOR);
    f->cursor.avail = (void *)(f->memory + CURSOR + AVAIL);
    f->cursor.used = (void *)(f->memory + CURSOR + USED);
    f->cursor.kick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    f->cursor.call = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    f->pid = fork();
    g_assert_cmpint(f->pid, >=, 0);
    if (f->pid == 0)
        exec_backend(pair[1], argv, pid_file);
    close(pair[1]);
    if (f->speaks == FRONTEND_EXACT)
        greet(f);
    else
        qemu_greets(f);
}

void frontend_start(struct frontend *f, const char *const *options)
{
    g_autofree char *renderer = g_strdup_printf("--renderer=%s", g_getenv("GPUP_TEST_RENDER"));
    g_autoptr(GPtrArray) argv = g_ptr_array_new();

    g_ptr_array_add(argv, (gpointer)(size_t)g_getenv("GPUP_TEST_VGPU"));
    g_ptr_array_add(argv, renderer);
    for (; *options; options++)
        g_ptr_array_add(argv, (gpointer)(size_t)*options);
    g_ptr_array_add(argv, NULL);
    frontend_start_backend(f, (const char *const *)argv->pdata);
}

/* Hanging up ends gpup-vgpu, and that its renderer, which then is our child. */
void frontend_stop(struct frontend *f)
{
    pid_t renderer = frontend_renderer(f);
    int status;

    close(f->sock);
    g_assert_cmpint(waitpid(f->pid, &status, 0), ==, f->pid);
    g_assert_true(WIFEXITED(status));
    g_assert_cmpint(WEXITSTATUS(status), ==, 0);
    if (renderer > 0 && waitpid(renderer, NULL, 0) < 0)
        g_assert_cmpint(errno, ==, ECHILD); /* gpup-vgpu had reaped it */
    munmap(f->memory, FRONTEND_MEMORY);
    close(f->memory_fd);
    close(f->kick);
    close(f->call);
    close(f->cursor.kick);
    close(f->cursor.call);
}

static uint16_t stop_queue(struct frontend *f, uint32_t index)
{
    const struct vhost_user_vring_state state = {index, 0};
    struct vhost_user_message m;

    say(f, VHOST_USER_GET_VRING_BASE, 0, &state, sizeof(state), -1);
    g_assert_cmpint(vhost_user_receive(f->sock, &m, NULL), ==, 1);
    g_assert_cmpuint(m.header.request, ==, VHOST_USER_GET_VRING_BASE);
    return (uint16_t)m.payload.state.num;
}

void frontend_pause(struct frontend *f)
{
    const int calls[2] = {f->call, f->cursor.call};

    if (f->speaks != FRONTEND_EXACT) {
        tell_queues(f, VHOST_USER_SET_VRING_CALL, calls);
        enable_queues(f, 0);
    }
    f->base = stop_queue(f, 0);
    f->cursor.base = stop_queue(f, 1);
    if (f->speaks != FRONTEND_EXACT)
        tell_queues(f, VHOST_USER_SET_VRING_CALL, calls);
}

void frontend_resume(struct frontend *f)
{
    set_up_queues(f);
}

static void begin_anew(struct frontend *f)
{
    memset(f->memory, 0, REQUEST);
    f->seen = 0;
    f->base = f->cursor.base = 0;
    set_up_queues(f);
}

void frontend_reset(struct frontend *f)
{
    if (f->speaks != FRONTEND_EXACT)
        frontend_pause(f);
    if (f->speaks == FRONTEND_EXACT)
        set(f, VHOST_USER_RESET_DEVICE, NULL, 0, -1);
    for (unsigned i = 0; i < 3 && f->speaks >= FRONTEND_QEMU_10; i++)
        tell(f, VHOST_USER_RESET_DEVICE, NULL, 0, -1);
    begin_anew(f);
}

void frontend_reset_silently(struct frontend *f)
{
    frontend_pause(f);
    begin_anew(f);
}

uint64_t frontend_request(struct frontend *f, uint32_t request, const void *payload, uint32_t size,
                          int fd)
{
    say(f, request, VHOST_USER_NEED_REPLY, payload, size, fd);
    return hear(f, request);
}

/* Twice: the first may have been ready together with a kick, and served before it. */
void frontend_ping(struct frontend *f)
{
    for (int i = 0; i < 2; i++)
        g_assert_cmpuint(get(f, VHOST_USER_GET_QUEUE_NUM), ==, 2);
}

static struct vhost_user_mem_reg region_at(uint64_t guest, uint64_t size)
{
    return (struct vhost_user_mem_reg){.region = {guest, size, USER + guest, 0}};
}

uint64_t frontend_add_memory(struct frontend *f, uint64_t guest, uint64_t size, int fd)
{
    struct vhost_user_mem_reg region = region_at(guest, size);

    return frontend_request(f, VHOST_USER_ADD_MEM_REG, &region, sizeof(region), fd);
}

uint64_t frontend_remove_memory(struct frontend *f, uint64_t guest, uint64_t size)
{
    struct vhost_user_mem_reg region = region_at(guest, size);

    return frontend_request(f, VHOST_USER_REM_MEM_REG, &region, sizeof(region), -1);
}

/* ---- the control queue ---- */

static void describe(struct frontend *f, uint16_t index, uint64_t address, size_t size,
                     uint16_t flags)
{
    f->desc[index] =
        (struct vring_desc){address, (uint32_t)size, flags, (uint16_t)((index + 1) % 256)};
}

void frontend_offer_head(struct frontend *f, uint16_t head)
{
    const uint64_t one = 1;

    f->avail->ring[f->avail->idx % FRONTEND_QUEUE] = head;
    __atomic_store_n(&f->avail->idx, (uint16_t)(f->avail->idx + 1), __ATOMIC_RELEASE);
    g_assert_cmpint(write(f->kick, &one, sizeof(one)), ==, sizeof(one));
}

static uint16_t next_slot(const struct frontend *f)
{
    return f->avail->idx % (FRONTEND_QUEUE / 2);
}

void frontend_offer_at(struct frontend *f, uint64_t request, size_t size, size_t room)
{
    uint16_t slot = next_slot(f);
    uint16_t head = (uint16_t)(slot * 2);
    uint64_t answer = ANSWER + slot * 16384u;

    g_assert_cmpuint(room, <=, 16384);
    memset(f->memory + answer, 0xee, room);
    describe(f, head, request, size, VRING_DESC_F_NEXT);
    describe(f, (uint16_t)(head + 1), answer, room, VRING_DESC_F_WRITE);
    frontend_offer_head(f, head);
}

/* One request at a time may use the request and answer areas; several may lie in flight when the
 * caller reads no answers' data. */
void frontend_offer(struct frontend *f, const void *command, size_t size, const void *more,
                    size_t more_size, size_t room)
{
    uint64_t request = REQUEST + next_slot(f) * 1024u;

    g_assert_cmpuint(size + more_size, <=, more_size ? 524288 : 1024);
    if (more_size)
        request = FRONTEND_DATA - 262144;
    memcpy(f->memory + request, command, size);
    if (more_size)
        memcpy(f->memory + request + size, more, more_size);
    frontend_offer_at(f, request, size + more_size, room);
}

size_t frontend_wait(struct frontend *f, void *reply, size_t room)
{
    struct vring_used_elem *elem;
    uint64_t count, answer;

    while (__atomic_load_n(&f->used->idx, __ATOMIC_ACQUIRE) == f->seen) {
        struct pollfd p = {.fd = f->call, .events = POLLIN};

        g_assert_cmpint(poll(&p, 1, WAIT_MS), ==, 1);
        g_assert_cmpint(read(f->call, &count, sizeof(count)), ==, sizeof(count));
    }
    elem = &f->used->ring[f->seen++ % FRONTEND_QUEUE];
    answer = f->desc[elem->id + 1].addr;
    if (reply)
        memcpy(reply, f->memory + answer, MIN(room, elem->len));
    return elem->len;
}

uint32_t frontend_command(struct frontend *f, const void *command, size_t size, void *reply,
                          size_t room)
{
    struct virtio_gpu_ctrl_hdr header;

    frontend_offer(f, command, size, NULL, 0, MAX(room, sizeof(header)));
    if (!reply) {
        reply = &header;
        room = sizeof(header);
    }
    g_assert_cmpuint(frontend_wait(f, reply, room), >=, sizeof(header));
    return ((struct virtio_gpu_ctrl_hdr *)reply)->type;
}

uint32_t frontend_command_more(struct frontend *f, const void *command, size_t size,
                               const void *more, size_t more_size)
{
    struct virtio_gpu_ctrl_hdr header;

    frontend_offer(f, command, size, more, more_size, sizeof(header));
    g_assert_cmpuint(frontend_wait(f, &header, sizeof(header)), ==, sizeof(header));
    return header.type;
}

void frontend_cursor(struct frontend *f, uint32_t type, uint32_t resource, uint32_t x, uint32_t y,
                     uint32_t hot_x, uint32_t hot_y)
{
    const struct virtio_gpu_update_cursor c = {.hdr = {.type = type},
                                               .pos = {.x = x, .y = y},
                                               .resource_id = resource,
                                               .hot_x = hot_x,
                                               .hot_y = hot_y};
    uint16_t slot = f->cursor.avail->idx % CURSOR_QUEUE;
    uint64_t at = CURSOR + 16384u + slot * 256u, count;
    const uint64_t one = 1;

    memcpy(f->memory + at, &c, sizeof(c));
    f->cursor.desc[slot] = (struct vring_desc){at, sizeof(c), 0, 0};
    f->cursor.avail->ring[slot] = slot;
    __atomic_store_n(&f->cursor.avail->idx, (uint16_t)(f->cursor.avail->idx + 1), __ATOMIC_RELEASE);
    g_assert_cmpint(write(f->cursor.kick, &one, sizeof(one)), ==, sizeof(one));
    while (__atomic_load_n(&f->cursor.used->idx, __ATOMIC_ACQUIRE) != f->cursor.avail->idx) {
        struct pollfd p = {.fd = f->cursor.call, .events = POLLIN};

        g_assert_cmpint(poll(&p, 1, WAIT_MS), ==, 1);
        g_assert_cmpint(read(f->cursor.call, &count, sizeof(count)), ==, sizeof(count));
    }
}

/* ---- shorthands ---- */

static struct virtio_gpu_ctrl_hdr fenced(struct frontend *f, uint32_t type, uint32_t context)
{
    return (struct virtio_gpu_ctrl_hdr){
        .type = type, .flags = VIRTIO_GPU_FLAG_FENCE, .fence_id = ++f->fence, .ctx_id = context};
}

uint32_t frontend_context(struct frontend *f, uint32_t type, uint32_t context)
{
    struct virtio_gpu_ctx_create c = {
        .hdr = {.type = type, .ctx_id = context}, .nlen = 4, .debug_name = "test"};
    size_t size = type == VIRTIO_GPU_CMD_CTX_CREATE ? sizeof(c) : sizeof(c.hdr);

    return frontend_command(f, &c, size, NULL, 0);
}

uint32_t frontend_context_resource(struct frontend *f, uint32_t type, uint32_t context,
                                   uint32_t resource)
{
    struct virtio_gpu_ctx_resource c = {.hdr = {.type = type, .ctx_id = context},
                                        .resource_id = resource};

    return frontend_command(f, &c, sizeof(c), NULL, 0);
}

uint32_t frontend_create_3d(struct frontend *f, uint32_t resource, uint32_t width, uint32_t height)
{
    struct virtio_gpu_resource_create_3d c = {.hdr = {.type = VIRTIO_GPU_CMD_RESOURCE_CREATE_3D},
                                              .resource_id = resource,
                                              .target = 2,
                                              .format = VIRTIO_GPU_FORMAT_B8G8R8A8_UNORM,
                                              .bind = 1 << 1 | 1 << 3, /* target, sampler */
                                              .width = width,
                                              .height = height,
                                              .depth = 1,
                                              .array_size = 1};

    return frontend_command(f, &c, sizeof(c), NULL, 0);
}

uint32_t frontend_create_2d(struct frontend *f, uint32_t resource, uint32_t width, uint32_t height)
{
    struct virtio_gpu_resource_create_2d c = {.hdr = {.type = VIRTIO_GPU_CMD_RESOURCE_CREATE_2D},
                                              .resource_id = resource,
                                              .format = VIRTIO_GPU_FORMAT_B8G8R8A8_UNORM,
                                              .width = width,
                                              .height = height};

    return frontend_command(f, &c, sizeof(c), NULL, 0);
}

uint32_t frontend_unref(struct frontend *f, uint32_t resource)
{
    struct virtio_gpu_resource_unref c = {.hdr = {.type = VIRTIO_GPU_CMD_RESOURCE_UNREF},
                                          .resource_id = resource};

    return frontend_command(f, &c, sizeof(c), NULL, 0);
}

/* In three pieces, two of which touch. */
uint32_t frontend_attach(struct frontend *f, uint32_t resource, uint64_t address, uint32_t length)
{
    struct virtio_gpu_resource_attach_backing c = {
        .hdr = {.type = VIRTIO_GPU_CMD_RESOURCE_ATTACH_BACKING},
        .resource_id = resource,
        .nr_entries = 3};
    uint32_t third = length / 3;
    const struct virtio_gpu_mem_entry entries[] = {{address, third, 0},
                                                   {address + third, third, 0},
                                                   {address + 2 * third, length - 2 * third, 0}};

    return frontend_command_more(f, &c, sizeof(c), entries, sizeof(entries));
}

uint32_t frontend_submit(struct frontend *f, uint32_t context, const uint32_t *dwords, size_t n)
{
    struct virtio_gpu_cmd_submit c = {.hdr = fenced(f, VIRTIO_GPU_CMD_SUBMIT_3D, context),
                                      .size = (uint32_t)(n * 4)};
    struct virtio_gpu_ctrl_hdr header;

    frontend_offer(f, &c, sizeof(c), dwords, n * 4, sizeof(header));
    g_assert_cmpuint(frontend_wait(f, &header, sizeof(header)), ==, sizeof(header));
    g_assert_cmpuint(header.fence_id, ==, f->fence);
    g_assert_cmpuint(header.flags, ==, VIRTIO_GPU_FLAG_FENCE);
    return header.type;
}

uint32_t frontend_transfer(struct frontend *f, uint32_t type, uint32_t context, uint32_t resource,
                           uint32_t width, uint32_t height)
{
    struct virtio_gpu_transfer_host_3d c = {.hdr = fenced(f, type, context),
                                            .box = {0, 0, 0, width, height, 1},
                                            .resource_id = resource,
                                            .stride = width * 4};

    return frontend_command(f, &c, sizeof(c), NULL, 0);
}

#define HEADER(opcode, object, length) ((uint32_t)(opcode) | (object) << 8 | (length) << 16)

uint32_t frontend_clear(struct frontend *f, uint32_t context, uint32_t resource,
                        const float colour[4])
{
    enum {
        CREATE_OBJECT = 1,
        SET_FRAMEBUFFER = 5,
        CLEAR = 7,
        SET_SUB = 28,
        CREATE_SUB = 29
    };
    uint32_t stream[] = {HEADER(CREATE_SUB, 0u, 1u),
                         1,
                         HEADER(SET_SUB, 0u, 1u),
                         1,
                         HEADER(CREATE_OBJECT, 8u /* surface */, 5u),
                         100 + resource,
                         resource,
                         VIRTIO_GPU_FORMAT_B8G8R8A8_UNORM,
                         0,
                         0,
                         HEADER(SET_FRAMEBUFFER, 0u, 3u),
                         1,
                         0,
                         100 + resource,
                         HEADER(CLEAR, 0u, 8u),
                         4 /* colour buffer 0 */,
                         0,
                         0,
                         0,
                         0,
                         0,
                         0,
                         0};

    memcpy(&stream[16], colour, 4 * sizeof(float));
    return frontend_submit(f, context, stream, G_N_ELEMENTS(stream));
}

void frontend_start_drawing(struct frontend *f, uint32_t context, uint32_t resource)
{
    const uint32_t ok = VIRTIO_GPU_RESP_OK_NODATA;

    g_assert_cmphex(frontend_context(f, VIRTIO_GPU_CMD_CTX_CREATE, context), ==, ok);
    g_assert_cmphex(frontend_create_3d(f, resource, FRONTEND_WIDTH, FRONTEND_HEIGHT), ==, ok);
    g_assert_cmphex(frontend_attach(f, resource, FRONTEND_DATA, FRONTEND_PIXELS), ==, ok);
    g_assert_cmphex(
        frontend_context_resource(f, VIRTIO_GPU_CMD_CTX_ATTACH_RESOURCE, context, resource), ==,
        ok);
}

void frontend_assert_draws(struct frontend *f, uint32_t context, uint32_t resource)
{
    static const float blue[4] = {0.25f, 0.5f, 0.75f, 1.0f};
    static const unsigned char bgra[4] = {0xbf, 0x80, 0x40, 0xff};
    const uint32_t ok = VIRTIO_GPU_RESP_OK_NODATA;

    g_assert_cmphex(frontend_clear(f, context, resource, blue), ==, ok);
    memset(f->memory + FRONTEND_DATA, 0, FRONTEND_PIXELS);
    g_assert_cmphex(frontend_transfer(f, VIRTIO_GPU_CMD_TRANSFER_FROM_HOST_3D, context, resource,
                                      FRONTEND_WIDTH, FRONTEND_HEIGHT),
                    ==, ok);
    for (unsigned i = 0; i < FRONTEND_PIXELS; i++)
        g_assert_cmpint(ABS((int)f->memory[FRONTEND_DATA + i] - (int)bgra[i % 4]), <=, 1);
}

/* The first child of a process, or -1. */
static pid_t child_of(pid_t pid)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/task/%d/children", pid, pid);
    g_autofree char *text = NULL;

    if (pid <= 0 || !g_file_get_contents(path, &text, NULL, NULL) || !*text)
        return -1;
    return (pid_t)g_ascii_strtoll(text, NULL, 10);
}

/* gpup-vgpu has a process that starts renderers. */
pid_t frontend_renderer(const struct frontend *f)
{
    return child_of(child_of(f->pid));
}
