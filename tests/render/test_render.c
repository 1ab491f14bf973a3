/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <poll.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sandbox/jail.h"
#include "sandbox/sandbox.h"
#include "wire/ring.h"
#include "wire/seqpacket.h"

/* A renderer in its sandbox on the software GPU, driven as gpup-vgpu does it. */

#define COMMAND_DATA (UINT64_C(1) << 20)
#define EVENT_DATA   (UINT64_C(1) << 12)
#define PIXELS       (UINT64_C(1) << 20)
#define WAIT_MS      20000
#define GUEST_MEMORY (UINT64_C(1) << 20)

#define LOGGED       (-1) /* what it says is kept */

#define WIDTH        64u
#define HEIGHT       32u

struct peer {
    pid_t pid;
    int pidfd, sock, command_fd, event_fd, log_fd;
    unsigned char *shared, *guest;
    int shared_fd, guest_fd;
    struct gpup_render_setup setup;
    struct gpup_ring_end commands, events;
    uint64_t seq;
};

static const char *program;

static uint64_t up_64(uint64_t value)
{
    return (value + 63) & ~UINT64_C(63);
}

static void start(struct peer *peer)
{
    char *argv[] = {(char *)"gpup-render", (char *)"--socket-fd=3", NULL};
    char *envp[] = {(char *)"LP_NUM_THREADS=2", NULL};
    GPUP_AUTO_ERROR err = NULL;
    int socks[2];
    struct sandbox_fd fds[2] = {{.target = 3}, {.target = 2, .fd = peer->log_fd}};
    struct sandbox_spec spec = {
        .path = program,
        .argv = argv,
        .envp = envp,
        .fds = fds,
        .n_fds = peer->log_fd >= 0 ? 2 : 1,
        .namespaces = true,
        .set_ids = geteuid() == 0,
        .uid = 65534,
        .gid = 65534,
        .cgroup_fd = -1,
    };

    g_assert_cmpint(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, socks), ==, 0);
    fds[0].fd = socks[1];
    if (sandbox_spawn(&spec, &peer->pid, &peer->pidfd, NULL, &err) < 0)
        g_error("%s", gpup_error_message(err));
    close(socks[1]);
    peer->sock = socks[0];
}

static void make_shared(struct peer *peer)
{
    struct gpup_render_setup *setup = &peer->setup;

    setup->header.type = GPUP_RENDER_SETUP;
    setup->header.version = GPUP_RENDER_VERSION;
    setup->command_offset = 0;
    setup->command_size = gpup_ring_bytes(COMMAND_DATA);
    setup->event_offset = up_64(setup->command_size);
    setup->event_size = gpup_ring_bytes(EVENT_DATA);
    setup->pixel_offset = up_64(setup->event_offset + setup->event_size);
    setup->pixel_size = PIXELS;
    setup->shared_size = setup->pixel_offset + setup->pixel_size;
    setup->vram = UINT64_C(64) << 20;
    peer->shared_fd = memfd_create("shared", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    g_assert_cmpint(ftruncate(peer->shared_fd, (off_t)setup->shared_size), ==, 0);
    g_assert_cmpint(fcntl(peer->shared_fd, F_ADD_SEALS, F_SEAL_SHRINK), ==, 0);
    peer->shared =
        mmap(NULL, setup->shared_size, PROT_READ | PROT_WRITE, MAP_SHARED, peer->shared_fd, 0);
    g_assert_true(peer->shared != MAP_FAILED);
    peer->command_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    peer->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    g_assert_cmpint(gpup_ring_end_init(&peer->commands, peer->shared + setup->command_offset,
                                       setup->command_size, peer->command_fd),
                    ==, 0);
    g_assert_cmpint(gpup_ring_end_init(&peer->events, peer->shared + setup->event_offset,
                                       setup->event_size, peer->command_fd),
                    ==, 0);
}

static void send_setup(struct peer *peer)
{
    int fds[3] = {peer->shared_fd, peer->command_fd, peer->event_fd};

    g_assert_cmpint(gpup_seqpacket_send(peer->sock, &peer->setup, sizeof(peer->setup), fds, 3, 0),
                    ==, 0);
}

static void wait_readable(int fd)
{
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN};

    g_assert_cmpint(poll(&poll_fd, 1, WAIT_MS), ==, 1);
}

static void receive_ready(struct peer *peer)
{
    struct gpup_render_ready started, ready;
    int fd;

    wait_readable(peer->sock);
    g_assert_cmpint(gpup_seqpacket_receive(peer->sock, &started, sizeof(started), &fd, 1, NULL, 0),
                    ==, sizeof(started));
    g_assert_cmpuint(started.header.type, ==, GPUP_RENDER_STARTED);
    g_assert_cmpint(fd, ==, -1);
    wait_readable(peer->sock);
    g_assert_cmpint(gpup_seqpacket_receive(peer->sock, &ready, sizeof(ready), &fd, 1, NULL, 0), ==,
                    sizeof(ready));
    g_assert_cmpuint(ready.header.type, ==, GPUP_RENDER_READY);
    g_assert_cmpuint(ready.n_capsets, ==, 2);
    g_assert_cmpmem(&ready.capsets, sizeof(ready.capsets), &started.capsets,
                    sizeof(started.capsets));
    g_assert_cmpuint(ready.capsets[1].id, ==, 2);
    g_assert_cmpint(lseek(fd, 0, SEEK_END), ==, ready.capsets[0].size + ready.capsets[1].size);
    g_assert_cmpint(fcntl(fd, F_GET_SEALS) & F_SEAL_WRITE, !=, 0);
    g_assert_nonnull(strstr(ready.renderer, "llvmpipe"));
    close(fd);
}

static int wait_exit(struct peer *peer)
{
    siginfo_t info = {0};

    wait_readable(peer->pidfd);
    g_assert_cmpint(waitid(P_PIDFD, (id_t)peer->pidfd, &info, WEXITED), ==, 0);
    return info.si_code == CLD_EXITED ? info.si_status : -info.si_status;
}

static void setup(struct peer *peer, gconstpointer data)
{
    memset(peer, 0, sizeof(*peer));
    make_shared(peer);
    peer->log_fd = GPOINTER_TO_INT(data) == LOGGED ? memfd_create("log", MFD_CLOEXEC) : -1;
    start(peer);
    peer->guest_fd = memfd_create("guest", MFD_CLOEXEC);
    g_assert_cmpint(ftruncate(peer->guest_fd, GUEST_MEMORY), ==, 0);
    peer->guest = mmap(NULL, GUEST_MEMORY, PROT_READ | PROT_WRITE, MAP_SHARED, peer->guest_fd, 0);
    g_assert_true(peer->guest != MAP_FAILED);
}

static void teardown(struct peer *peer, gconstpointer data)
{
    close(peer->sock);
    close(peer->pidfd);
    close(peer->command_fd);
    close(peer->event_fd);
    close(peer->shared_fd);
    close(peer->guest_fd);
    if (peer->log_fd >= 0)
        close(peer->log_fd);
    munmap(peer->shared, peer->setup.shared_size);
    munmap(peer->guest, GUEST_MEMORY);
}

static struct gpup_event next_event(struct peer *peer)
{
    struct gpup_event event;
    int r;

    while ((r = gpup_ring_take(&peer->events, &event.record, sizeof(event))) == 0) {
        if (!gpup_ring_may_sleep(&peer->events))
            continue;
        wait_readable(peer->event_fd);
        gpup_ring_wake_clear(peer->event_fd);
    }
    g_assert_cmpint(r, ==, 1);
    g_assert_cmpuint(event.record.size, ==, sizeof(event));
    return event;
}

/* Sends a command with its size and type set and returns the status it is answered with. */
static int call(struct peer *peer, uint32_t type, void *command, size_t size)
{
    struct gpup_record *record = command;
    struct gpup_event event;

    *record = (struct gpup_record){.type = type, .size = (uint32_t)size, .seq = ++peer->seq};
    g_assert_cmpint(gpup_ring_put(&peer->commands, record), ==, 0);
    event = next_event(peer);
    g_assert_cmpuint(event.record.type, ==,
                     type == GPUP_CMD_FENCE ? GPUP_EVENT_FENCE : GPUP_EVENT_DONE);
    g_assert_cmpuint(event.record.seq, ==, peer->seq);
    return event.status;
}
#define CALL(peer, type, ...) call(peer, type, __VA_ARGS__, sizeof(*(__VA_ARGS__)))

static void add_memory(struct peer *peer, uint32_t region)
{
    struct gpup_render_memory message = {
        .header = {.type = GPUP_RENDER_MEMORY_ADD, .version = GPUP_RENDER_VERSION},
        .region = region,
        .size = GUEST_MEMORY,
    };

    g_assert_cmpint(
        gpup_seqpacket_send(peer->sock, &message, sizeof(message), &peer->guest_fd, 1, 0), ==, 0);
}

static int create_context(struct peer *peer, uint32_t id)
{
    struct gpup_cmd_context cmd = {.context = id, .name_length = 4, .name = "test"};

    return CALL(peer, GPUP_CMD_CONTEXT_CREATE, &cmd);
}

static int create_resource(struct peer *peer, uint32_t id)
{
    struct gpup_cmd_resource_create cmd = {
        .resource = id,
        .target = 2,              /* PIPE_TEXTURE_2D */
        .format = 1,              /* B8G8R8A8_UNORM */
        .bind = 1 << 1 | 1 << 18, /* render target, scanout */
        .width = WIDTH,
        .height = HEIGHT,
        .depth = 1,
        .array_size = 1,
        .flags = 1, /* first line at the top */
    };

    return CALL(peer, GPUP_CMD_RESOURCE_CREATE, &cmd);
}

static int attach_backing(struct peer *peer, uint32_t resource, uint32_t region, uint64_t offset,
                          uint32_t length)
{
    struct {
        struct gpup_cmd_backing_attach cmd;
        struct gpup_render_span spans[2];
    } attach = {.cmd = {.resource = resource, .n_spans = 2},
                .spans = {{region, length / 2, offset}, {region, length / 2, offset + length / 2}}};

    return CALL(peer, GPUP_CMD_BACKING_ATTACH, &attach);
}

/* Clears a resource to (0.25, 0.5, 0.75, 1) by a command stream. */
static int clear(struct peer *peer, uint32_t context, uint32_t resource)
{
    enum {
        CREATE_OBJECT = 1,
        SET_FRAMEBUFFER = 5,
        CLEAR = 7,
        CREATE_SUB = 28,
        SET_SUB = 30
    };
#define HEADER(cmd, object, length) ((uint32_t)(cmd) | (uint32_t)(object) << 8 | (length) << 16)
    const float colour[4] = {0.25f, 0.5f, 0.75f, 1.0f};
    struct {
        struct gpup_cmd_submit cmd;
        uint32_t dwords[32];
    } stream = {.cmd = {.context = context}};
    uint32_t *p = stream.dwords;
    const uint32_t head[] = {HEADER(CREATE_SUB, 0, 1u),
                             1,
                             HEADER(SET_SUB, 0, 1u),
                             1,
                             HEADER(CREATE_OBJECT, 8 /* surface */, 5u),
                             100,
                             resource,
                             1,
                             0,
                             0,
                             HEADER(SET_FRAMEBUFFER, 0, 3u),
                             1,
                             0,
                             100,
                             HEADER(CLEAR, 0, 8u),
                             4 /* colour buffer 0 */};

    memcpy(p, head, sizeof(head));
    p += G_N_ELEMENTS(head);
    memcpy(p, colour, sizeof(colour));
    p += 4 + 3; /* depth and stencil stay 0 */
    stream.cmd.n_dwords = (uint32_t)(p - stream.dwords);
    g_assert_cmpuint(offsetof(struct gpup_cmd_submit, dwords), ==,
                     (size_t)((char *)stream.dwords - (char *)&stream));
    return CALL(peer, GPUP_CMD_SUBMIT, &stream);
}

static void assert_colour(const unsigned char *bgra)
{
    const unsigned char expected[4] = {0xbf, 0x80, 0x40, 0xff};

    for (unsigned int i = 0; i < 4; i++)
        g_assert_cmpint(ABS((int)bgra[i] - (int)expected[i]), <=, 1);
}

static void draw(struct peer *peer, uint32_t context, uint32_t resource)
{
    struct gpup_cmd_context_resource attach = {.context = context, .resource = resource};
    struct gpup_cmd_fence fence = {.context = context};

    g_assert_cmpint(create_context(peer, context), ==, 0);
    g_assert_cmpint(create_resource(peer, resource), ==, 0);
    g_assert_cmpint(CALL(peer, GPUP_CMD_CONTEXT_ATTACH, &attach), ==, 0);
    g_assert_cmpint(clear(peer, context, resource), ==, 0);
    CALL(peer, GPUP_CMD_FENCE, &fence);
}

static void test_draw(struct peer *peer, gconstpointer data)
{
    struct gpup_cmd_read_pixels pixels = {
        .resource = 10, .x = 8, .y = 4, .w = 16, .h = 8, .stride = 16 * 4};
    struct gpup_cmd_transfer transfer = {
        .context = 1, .resource = 10, .stride = WIDTH * 4, .w = WIDTH, .h = HEIGHT, .d = 1};
    struct gpup_cmd_resource detach = {.resource = 10};
    struct gpup_cmd_memory_remove remove = {.region = 7};
    const unsigned char *shared_pixels = peer->shared + peer->setup.pixel_offset;

    send_setup(peer);
    receive_ready(peer);
    draw(peer, 1, 10);

    g_assert_cmpint(CALL(peer, GPUP_CMD_READ_PIXELS, &pixels), ==, 0);
    for (unsigned int i = 0; i < 16 * 8; i++)
        assert_colour(shared_pixels + i * 4);
    g_assert_cmpuint(shared_pixels[16 * 8 * 4], ==, 0);

    /* Into guest memory, in two pieces, at an offset. */
    add_memory(peer, 7);
    g_assert_cmpint(attach_backing(peer, 10, 7, 4096, WIDTH * HEIGHT * 4), ==, 0);
    g_assert_cmpint(CALL(peer, GPUP_CMD_MEMORY_REMOVE, &remove), ==, -EBUSY);
    g_assert_cmpint(CALL(peer, GPUP_CMD_TRANSFER_FROM_HOST, &transfer), ==, 0);
    for (unsigned int i = 0; i < WIDTH * HEIGHT; i++)
        assert_colour(peer->guest + 4096 + i * 4);
    g_assert_cmpuint(peer->guest[4095], ==, 0);
    g_assert_cmpuint(peer->guest[4096 + WIDTH * HEIGHT * 4], ==, 0);

    /* And back: what the guest wrote is what is shown. */
    memset(peer->guest + 4096, 0x5a, WIDTH * HEIGHT * 4);
    transfer.context = 0; /* as the guest's 2D driver does */
    g_assert_cmpint(CALL(peer, GPUP_CMD_TRANSFER_TO_HOST, &transfer), ==, 0);
    g_assert_cmpint(CALL(peer, GPUP_CMD_READ_PIXELS, &pixels), ==, 0);
    g_assert_cmpuint(shared_pixels[0], ==, 0x5a);

    g_assert_cmpint(CALL(peer, GPUP_CMD_BACKING_DETACH, &detach), ==, 0);
    g_assert_cmpint(CALL(peer, GPUP_CMD_MEMORY_REMOVE, &remove), ==, 0);
    g_assert_cmpint(CALL(peer, GPUP_CMD_MEMORY_REMOVE, &remove), ==, -ENOENT);
    shutdown(peer->sock, SHUT_RDWR);
    g_assert_cmpint(wait_exit(peer), ==, 0);
}

static void test_reset(struct peer *peer, gconstpointer data)
{
    struct gpup_record reset;

    send_setup(peer);
    receive_ready(peer);
    add_memory(peer, 1);
    for (unsigned int round = 0; round < 3; round++) {
        draw(peer, 1, 10);
        g_assert_cmpint(attach_backing(peer, 10, 1, 0, WIDTH * HEIGHT * 4), ==, 0);
        g_assert_cmpint(create_context(peer, 1), ==, -EEXIST);
        g_assert_cmpint(create_resource(peer, 10), ==, -EEXIST);
        g_assert_cmpint(CALL(peer, GPUP_CMD_RESET, &reset), ==, 0);
    }
    close(peer->sock);
    g_assert_cmpint(wait_exit(peer), ==, 0);
    peer->sock = dup(0);
}

static void test_refusals(struct peer *peer, gconstpointer data)
{
    struct gpup_cmd_read_pixels pixels = {
        .resource = 10, .w = WIDTH, .h = HEIGHT, .stride = WIDTH * 4};
    struct gpup_cmd_context_resource attach = {.context = 1, .resource = 99};
    struct gpup_cmd_resource unref = {.resource = 99};
    struct gpup_cmd_transfer transfer = {.resource = 10, .w = 1, .h = 1, .d = 1};
    struct {
        struct gpup_cmd_submit cmd;
        uint32_t dwords[2];
    } stream = {.cmd = {.context = 1, .n_dwords = 3}};

    send_setup(peer);
    receive_ready(peer);
    draw(peer, 1, 10);
    add_memory(peer, 1);
    g_assert_cmpint(attach_backing(peer, 10, 2, 0, 4096), ==, -ENOENT);
    g_assert_cmpint(attach_backing(peer, 10, 1, GUEST_MEMORY - 4094, 4096), ==, -ERANGE);
    g_assert_cmpint(attach_backing(peer, 10, 1, UINT64_MAX - 4095, 4096), ==, -ERANGE);
    g_assert_cmpint(attach_backing(peer, 10, 1, 0, 0), ==, -ERANGE);
    g_assert_cmpint(CALL(peer, GPUP_CMD_TRANSFER_TO_HOST, &transfer), ==, -EINVAL);
    g_assert_cmpint(CALL(peer, GPUP_CMD_CONTEXT_ATTACH, &attach), ==, -ENOENT);
    g_assert_cmpint(CALL(peer, GPUP_CMD_RESOURCE_UNREF, &unref), ==, -ENOENT);
    g_assert_cmpint(CALL(peer, GPUP_CMD_CONTEXT_DESTROY, &(struct gpup_cmd_context){.context = 5}),
                    ==, -ENOENT);
    g_assert_cmpint(CALL(peer, GPUP_CMD_SUBMIT, &stream), ==, -EINVAL);
    stream.cmd.n_dwords = 1;
    stream.dwords[0] = 200; /* no such opcode */
    g_assert_cmpint(CALL(peer, GPUP_CMD_SUBMIT, &stream), <, 0);
    pixels.stride = UINT32_MAX;
    g_assert_cmpint(CALL(peer, GPUP_CMD_READ_PIXELS, &pixels), ==, -EINVAL);
    pixels.stride = WIDTH * 4;
    pixels.y = HEIGHT; /* below the resource */
    g_assert_cmpint(CALL(peer, GPUP_CMD_READ_PIXELS, &pixels), <, 0);
    pixels.y = 0;
    g_assert_cmpint(CALL(peer, GPUP_CMD_READ_PIXELS, &pixels), ==, 0);
    assert_colour(peer->shared + peer->setup.pixel_offset);
    shutdown(peer->sock, SHUT_RDWR);
    g_assert_cmpint(wait_exit(peer), ==, 0);
}

/* A shader whose text is the guest's, by a command stream. */
static int create_shader(struct peer *peer, uint32_t context, uint32_t type, const char *text)
{
    const uint32_t length = (uint32_t)strlen(text) + 1, words = 6 + (length + 3) / 4;
    struct {
        struct gpup_cmd_submit cmd;
        uint32_t dwords[256];
    } stream = {.cmd = {.context = context, .n_dwords = words}};
    const uint32_t head[] = {
        HEADER(1 /* create object */, 4 /* shader */, words - 1), 200 + type, type, length, 300, 0};

    g_assert_cmpuint(words, <=, G_N_ELEMENTS(stream.dwords));
    memcpy(stream.dwords, head, sizeof(head));
    memcpy(stream.dwords + G_N_ELEMENTS(head), text, length);
    return CALL(peer, GPUP_CMD_SUBMIT, &stream);
}

static char *log_of(struct peer *peer)
{
    off_t size = lseek(peer->log_fd, 0, SEEK_END);
    char *text = g_malloc0((gsize)size + 1);

    g_assert_cmpint(pread(peer->log_fd, text, (size_t)size, 0), ==, size);
    return text;
}

/* What the guest named and wrote is not the log's: neither its words nor characters that would
 * look like another line or move a terminal's cursor. */
static void test_log(struct peer *peer, gconstpointer data)
{
    static const char *const shaders[] = {
        "FRAG\nDCL WORDOFTHEGUEST\n\033[31m", "VERT\nWORDOFTHEGUEST\033]0;x\007", "WORDOFTHEGUEST",
        ("FRAG\nDCL IN[0], GENERIC[0], PERSPECTIVE\nDCL OUT[0], COLOR\n"
         "IMM[0] FLT32 {WORDOFTHEGUEST}\n0: MOV OUT[0], IN[0]\n1: END\n")};
    struct gpup_cmd_context named = {.context = 2, .name_length = 40};
    g_autofree char *text = NULL;

    g_strlcpy(named.name, "WORDOFTHEGUEST\033[2J\r\nforged line", sizeof(named.name));
    send_setup(peer);
    receive_ready(peer);
    g_assert_cmpint(CALL(peer, GPUP_CMD_CONTEXT_CREATE, &named), ==, 0);
    g_assert_cmpint(clear(peer, 2, 99), <, 0); /* no such resource */
    for (guint i = 0; i < G_N_ELEMENTS(shaders); i++) {
        struct gpup_cmd_context context = {.context = 3 + i};

        g_assert_cmpint(CALL(peer, GPUP_CMD_CONTEXT_CREATE, &context), ==, 0);
        create_resource(peer, 10 + i);
        clear(peer, 3 + i, 10 + i); /* makes its sub-context */
        create_shader(peer, 3 + i, i == 1 ? 0 : 1, shaders[i]);
    }
    for (guint i = 0; i < 200; i++) /* no end of it: the log is not the guest's to fill */
        create_shader(peer, 3, 1, shaders[2]);
    shutdown(peer->sock, SHUT_RDWR);
    g_assert_cmpint(wait_exit(peer), ==, 0);
    text = log_of(peer);
    g_test_message("%s", text);
    g_assert_nonnull(strstr(text, "context"));
    g_assert_null(strstr(text, "WORDOFTHEGUEST"));
    g_assert_null(strstr(text, "forged"));
#if !SANDBOX_SANITIZED /* there standard error is left to the sanitizer */
    g_assert_null(strstr(text, "Unknown register"));
    g_assert_cmpuint(strlen(text), <, 64 * 220);
#endif
    for (const char *at = text; *at; at++)
        g_assert_true(*at == '\n' || g_ascii_isprint(*at));
}

/* More answers than the event ring holds: the renderer waits for us and loses none. */
static void test_many_events(struct peer *peer, gconstpointer data)
{
    const uint64_t many = 4 * EVENT_DATA / sizeof(struct gpup_event);

    send_setup(peer);
    receive_ready(peer);
    g_assert_cmpint(create_context(peer, 1), ==, 0);
    for (uint64_t i = 0; i < many; i++) {
        struct gpup_cmd_fence fence = {
            .record = {.type = GPUP_CMD_FENCE, .size = sizeof(fence), .seq = ++peer->seq}};

        g_assert_cmpint(gpup_ring_put(&peer->commands, &fence.record), ==, 0);
    }
    for (uint64_t i = peer->seq - many + 1; i <= peer->seq; i++) {
        struct gpup_event event = next_event(peer);

        g_assert_cmpuint(event.record.type, ==, GPUP_EVENT_FENCE);
        g_assert_cmpuint(event.record.seq, ==, i);
    }
    shutdown(peer->sock, SHUT_RDWR);
    g_assert_cmpint(wait_exit(peer), ==, 0);
}

static void test_end_without_setup(struct peer *peer, gconstpointer data)
{
    shutdown(peer->sock, SHUT_RDWR);
    g_assert_cmpint(wait_exit(peer), ==, 0);
}

static void test_killed(struct peer *peer, gconstpointer data)
{
    char byte;

    send_setup(peer);
    receive_ready(peer);
    draw(peer, 1, 10);
    g_assert_cmpint(syscall(SYS_pidfd_send_signal, peer->pidfd, SIGKILL, NULL, 0), ==, 0);
    g_assert_cmpint(wait_exit(peer), ==, -SIGKILL);
    g_assert_cmpint(gpup_seqpacket_receive(peer->sock, &byte, 1, NULL, 0, NULL, 0), ==, 0);
}

static void expect_failed(struct peer *peer)
{
    struct gpup_render_failed failed;

    wait_readable(peer->sock);
    g_assert_cmpint(gpup_seqpacket_receive(peer->sock, &failed, sizeof(failed), NULL, 0, NULL, 0),
                    ==, sizeof(failed));
    g_assert_cmpuint(failed.header.type, ==, GPUP_RENDER_FAILED);
    g_assert_cmpint(failed.status, ==, -EPROTO);
    g_assert_cmpuint(strnlen(failed.text, sizeof(failed.text)), <, sizeof(failed.text));
    g_assert_cmpint(wait_exit(peer), ==, 1);
}

static void test_bad_setup(struct peer *peer, gconstpointer data)
{
    switch (GPOINTER_TO_INT(data)) {
    case 0:
        peer->setup.header.version++;
        break;
    case 1:
        peer->setup.command_offset = UINT64_MAX - 63;
        break;
    case 2:
        peer->setup.event_size++;
        break;
    case 3:
        peer->setup.shared_size++;
        break;
    case 4: /* not sealed */
        close(peer->shared_fd);
        peer->shared_fd = memfd_create("shared", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        g_assert_cmpint(ftruncate(peer->shared_fd, (off_t)peer->setup.shared_size), ==, 0);
        break;
    }
    send_setup(peer);
    if (GPOINTER_TO_INT(data) == 3)
        peer->setup.shared_size--;
    expect_failed(peer);
}

static void test_garbage(struct peer *peer, gconstpointer data)
{
    struct gpup_record record = {.type = 1234, .size = sizeof(record)};

    send_setup(peer);
    receive_ready(peer);
    switch (GPOINTER_TO_INT(data)) {
    case 1:
        record.type = GPUP_CMD_SUBMIT; /* too short for one */
        break;
    case 2:
        g_assert_cmpint(gpup_seqpacket_send(peer->sock, "?", 1, NULL, 0, 0), ==, 0);
        break;
    }
    switch (GPOINTER_TO_INT(data)) {
    case 3: /* the same region twice */
        draw(peer, 1, 10);
        add_memory(peer, 5);
        add_memory(peer, 5);
        break;
    case 4: /* more than what backs it */
        g_assert_cmpint(ftruncate(peer->guest_fd, GUEST_MEMORY - 1), ==, 0);
        add_memory(peer, 5);
        break;
    }
    if (GPOINTER_TO_INT(data) < 2)
        g_assert_cmpint(gpup_ring_put(&peer->commands, &record), ==, 0);
    g_assert_cmpint(wait_exit(peer), ==, 1);
}

static void probe(const char *node, const char *expected, int status)
{
    const char *argv[] = {program, "--probe", node, NULL};
    g_autofree char *output = NULL;
    g_autofree char *errors = NULL;
    int wait_status;

    g_assert_true(g_spawn_sync(NULL, (char **)(void *)argv, NULL, G_SPAWN_DEFAULT, NULL, NULL,
                               &output, &errors, &wait_status, NULL));
    g_assert_true(WIFEXITED(wait_status));
    g_assert_cmpint(WEXITSTATUS(wait_status), ==, status);
    g_assert_nonnull(strstr(status == 0 ? output : errors, expected));
    if (status != 0)
        g_assert_cmpstr(output, ==, "");
}

static void test_probe(void)
{
    probe(NULL, "llvmpipe", 0);
    probe("--render-node=/nowhere/renderD1", "/nowhere/renderD1: No such file", 1);
    probe("--render-node=/dev/null", "/dev/null", 1);
    probe("--no-such-option", "Usage:", 2);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    program = g_getenv("GPUP_TEST_RENDER");
    g_assert_nonnull(program);
#define ADD(name, data, function)                                                                  \
    g_test_add("/render/" name, struct peer, GINT_TO_POINTER(data), setup, function, teardown)
    ADD("draw", 0, test_draw);
    ADD("reset", 0, test_reset);
    ADD("refusals", 0, test_refusals);
    ADD("log", LOGGED, test_log);
    ADD("many-events", 0, test_many_events);
    ADD("end-without-setup", 0, test_end_without_setup);
    ADD("killed", 0, test_killed);
    ADD("bad-setup/version", 0, test_bad_setup);
    ADD("bad-setup/offset", 1, test_bad_setup);
    ADD("bad-setup/ring-size", 2, test_bad_setup);
    ADD("bad-setup/too-large", 3, test_bad_setup);
    ADD("bad-setup/not-sealed", 4, test_bad_setup);
    ADD("garbage/type", 0, test_garbage);
    ADD("garbage/size", 1, test_garbage);
    ADD("garbage/message", 2, test_garbage);
    g_test_add_func("/render/probe", test_probe);
    ADD("garbage/region-twice", 3, test_garbage);
    ADD("garbage/region-too-large", 4, test_garbage);
    return g_test_run();
}
