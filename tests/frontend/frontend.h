/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_TEST_FRONTEND_H
#define GPUP_TEST_FRONTEND_H

#include <linux/virtio_gpu.h>
#include <linux/virtio_ring.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/*
 * A stand-in for QEMU and the guest's driver: starts gpup-vgpu, speaks the front-end's side of
 * vhost-user and puts commands on the control queue. Anything unexpected ends the test.
 */

/* With a sanitizer: its own allocator, and all slower. */
#if defined(__SANITIZE_ADDRESS__)
#define FRONTEND_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define FRONTEND_SANITIZED 1
#endif
#endif
#ifndef FRONTEND_SANITIZED
#define FRONTEND_SANITIZED 0
#endif

#define FRONTEND_MEMORY (UINT64_C(64) << 20)
#define FRONTEND_DATA   (UINT64_C(1) << 20) /* from here on the tests' own */
#define FRONTEND_QUEUE  64u

/*
 * Whose messages the stand-in sends, in their order and with replies asked for as recorded from
 * QEMU: 7.2 asks for none to starting a queue and does not tell of a reset; 8 asks; 10 tells. As
 * none of them, every message is to be acknowledged. By the variable GPUP_TEST_QEMU.
 */
enum frontend_speaks {
    FRONTEND_EXACT,
    FRONTEND_QEMU_7,
    FRONTEND_QEMU_8,
    FRONTEND_QEMU_10,
};

struct frontend {
    pid_t pid; /* of gpup-vgpu */
    enum frontend_speaks speaks;
    uint64_t features; /* of virtio, agreed on */
    int sock, kick, call, memory_fd, log_fd;
    unsigned char *memory; /* guest physical 0 is memory[0] */
    struct vring_desc *desc;
    struct vring_avail *avail;
    struct vring_used *used;
    uint16_t seen; /* used entries taken */
    uint16_t base;
    struct {
        int kick, call;
        struct vring_desc *desc;
        struct vring_avail *avail;
        struct vring_used *used;
        uint16_t base;
    } cursor;
    uint64_t fence;
    /* set before frontend_start(): where gpup-vgpu's number is written before it runs, or NULL */
    const char *pid_file;
};

/* `options` are further arguments of gpup-vgpu, ended by NULL. */
void frontend_start(struct frontend *f, const char *const *options);
void frontend_stop(struct frontend *f);
/* Any vhost-user back-end of a GPU: --fd=N is added to `argv`. */
void frontend_start_backend(struct frontend *f, const char *const *argv);

/* What QEMU does at stop and cont, at a guest's reboot, and at the start (frontend_start did). With
 * QEMU's messages the device may still be at it when these return. */
void frontend_pause(struct frontend *f);
void frontend_resume(struct frontend *f);
void frontend_reset(struct frontend *f);
/* A guest's reboot with an older QEMU (7.2), which says nothing of it. */
void frontend_reset_silently(struct frontend *f);
/* Hands over a socket for the display; `fd` stays the caller's. */
void frontend_set_display(struct frontend *f, int fd);
/* Puts a command on the cursor queue and waits until it was taken. */
void frontend_cursor(struct frontend *f, uint32_t type, uint32_t resource, uint32_t x, uint32_t y,
                     uint32_t hot_x, uint32_t hot_y);

/* Sends a vhost-user request with at most one descriptor (-1: none): 0 when it was acknowledged. */
uint64_t frontend_request(struct frontend *f, uint32_t request, const void *payload, uint32_t size,
                          int fd);
/* Asks something that changes nothing: an answer means that the device process serves its socket,
 * and has handled what it was kicked for before. */
void frontend_ping(struct frontend *f);
/* A region of guest memory beside the first; `user` is the front-end's address of it. */
uint64_t frontend_add_memory(struct frontend *f, uint64_t guest, uint64_t size, int fd);
uint64_t frontend_remove_memory(struct frontend *f, uint64_t guest, uint64_t size);

/* Offers whatever chain begins at this descriptor. */
void frontend_offer_head(struct frontend *f, uint16_t head);
/* Offers a request that lies in the guest's memory already; its answer goes where it belongs. */
void frontend_offer_at(struct frontend *f, uint64_t request, size_t size, size_t room);
/* Offers a command (`more` follows it in the request) with room for `room` bytes of answer. */
void frontend_offer(struct frontend *f, const void *command, size_t size, const void *more,
                    size_t more_size, size_t room);
/* Waits for an answer (10 s); returns its bytes; `reply` gets at most `room`. */
size_t frontend_wait(struct frontend *f, void *reply, size_t room);
/* Both; returns the type of the answer. */
uint32_t frontend_command(struct frontend *f, const void *command, size_t size, void *reply,
                          size_t room);
uint32_t frontend_command_more(struct frontend *f, const void *command, size_t size,
                               const void *more, size_t more_size);

/* Shorthands for what every test needs; they return the type of the answer. `fenced` as the
 * kernel's driver does it. */
uint32_t frontend_context(struct frontend *f, uint32_t type, uint32_t context);
uint32_t frontend_context_resource(struct frontend *f, uint32_t type, uint32_t context,
                                   uint32_t resource);
uint32_t frontend_create_3d(struct frontend *f, uint32_t resource, uint32_t width, uint32_t height);
uint32_t frontend_create_2d(struct frontend *f, uint32_t resource, uint32_t width, uint32_t height);
uint32_t frontend_unref(struct frontend *f, uint32_t resource);
uint32_t frontend_attach(struct frontend *f, uint32_t resource, uint64_t address, uint32_t length);
uint32_t frontend_submit(struct frontend *f, uint32_t context, const uint32_t *dwords, size_t n);
uint32_t frontend_transfer(struct frontend *f, uint32_t type, uint32_t context, uint32_t resource,
                           uint32_t width, uint32_t height);
/* Clears a render target by a command stream; colours 0..1. */
uint32_t frontend_clear(struct frontend *f, uint32_t context, uint32_t resource,
                        const float colour[4]);

/* Makes a context and a render target with a backing at FRONTEND_DATA, attached to it. */
#define FRONTEND_WIDTH  64u
#define FRONTEND_HEIGHT 32u
#define FRONTEND_PIXELS (FRONTEND_WIDTH * FRONTEND_HEIGHT * 4)
void frontend_start_drawing(struct frontend *f, uint32_t context, uint32_t resource);
/* Draws into it, reads it back and compares: the whole device works. */
void frontend_assert_draws(struct frontend *f, uint32_t context, uint32_t resource);

/* The pid of the renderer that gpup-vgpu started, or -1. */
pid_t frontend_renderer(const struct frontend *f);

#endif
