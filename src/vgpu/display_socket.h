/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_VGPU_DISPLAY_SOCKET_H
#define GPUP_VGPU_DISPLAY_SOCKET_H

#include "vgpu/display_message.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct gpup_error;
struct vgpu_loop;

/*
 * Our end of QEMU's display socket. Never blocks: QEMU waits for answers on the vhost-user socket
 * at times when it reads nothing here. One message is under way at a time; whoever has more to say
 * is asked again when it is through.
 */
struct display_socket;

#define DISPLAY_MAX_MESSAGE ((size_t)256 << 10)

struct display_socket_events {
    /* Nothing is under way: display_socket_send() may be called. */
    void (*writable)(void *data);
    /* A well-formed reply: u64 of GET_PROTOCOL_FEATURES, the answer to GET_INFO, or the end of a
     * DMABUF_UPDATE (payload NULL). */
    void (*reply)(void *data, uint32_t request, const void *payload);
    /* QEMU closed it, or spoke nonsense. It is to be freed later, not from within this call. */
    void (*closed)(void *data);
};

/* `fd` is taken in any case. */
struct display_socket *display_socket_new(struct vgpu_loop *loop, int fd,
                                          const struct display_socket_events *events, void *data,
                                          struct gpup_error **err);
void display_socket_free(struct display_socket *socket);

bool display_socket_is_idle(const struct display_socket *socket);
/* Where the payload of the next message goes (DISPLAY_MAX_MESSAGE bytes); only while idle. */
void *display_socket_payload(struct display_socket *socket);
/* Sends that payload, with a descriptor unless it is -1 (it stays the caller's). */
void display_socket_send(struct display_socket *socket, uint32_t request, size_t size, int fd);

#endif
