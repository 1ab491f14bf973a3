/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_VGPU_VHOST_USER_MESSAGE_H
#define GPUP_VGPU_VHOST_USER_MESSAGE_H

#include <stdint.h>

/* The vhost-user messages that a GPU back-end meets (QEMU, docs/interop/vhost-user.rst). */

enum vhost_user_request {
    VHOST_USER_GET_FEATURES = 1,
    VHOST_USER_SET_FEATURES = 2,
    VHOST_USER_SET_OWNER = 3,
    VHOST_USER_SET_MEM_TABLE = 5,
    VHOST_USER_SET_VRING_NUM = 8,
    VHOST_USER_SET_VRING_ADDR = 9,
    VHOST_USER_SET_VRING_BASE = 10,
    VHOST_USER_GET_VRING_BASE = 11,
    VHOST_USER_SET_VRING_KICK = 12,
    VHOST_USER_SET_VRING_CALL = 13,
    VHOST_USER_SET_VRING_ERR = 14,
    VHOST_USER_GET_PROTOCOL_FEATURES = 15,
    VHOST_USER_SET_PROTOCOL_FEATURES = 16,
    VHOST_USER_GET_QUEUE_NUM = 17,
    VHOST_USER_SET_VRING_ENABLE = 18,
    VHOST_USER_GET_CONFIG = 24,
    VHOST_USER_SET_CONFIG = 25,
    VHOST_USER_GPU_SET_SOCKET = 33,
    VHOST_USER_RESET_DEVICE = 34,
    VHOST_USER_GET_MAX_MEM_SLOTS = 36,
    VHOST_USER_ADD_MEM_REG = 37,
    VHOST_USER_REM_MEM_REG = 38,
};

#define VHOST_USER_VERSION                        1u
#define VHOST_USER_VERSION_MASK                   3u
#define VHOST_USER_REPLY                          (1u << 2)
#define VHOST_USER_NEED_REPLY                     (1u << 3)

#define VHOST_USER_F_PROTOCOL_FEATURES            30
#define VHOST_USER_PROTOCOL_F_MQ                  0
#define VHOST_USER_PROTOCOL_F_REPLY_ACK           3
#define VHOST_USER_PROTOCOL_F_CONFIG              9
#define VHOST_USER_PROTOCOL_F_RESET_DEVICE        13
#define VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS 15

#define VHOST_USER_MAX_FDS                        8
#define VHOST_USER_MAX_CONFIG                     256

struct vhost_user_header {
    uint32_t request, flags, size;
};

struct vhost_user_region {
    uint64_t guest, size, user, offset;
};

struct vhost_user_mem_table {
    uint32_t n, pad;
    struct vhost_user_region regions[VHOST_USER_MAX_FDS];
};

struct vhost_user_mem_reg {
    uint64_t pad;
    struct vhost_user_region region;
};

struct vhost_user_vring_state {
    uint32_t index, num;
};

struct vhost_user_vring_addr {
    uint32_t index, flags;
    uint64_t desc, used, avail, log;
};

struct vhost_user_config {
    uint32_t offset, size, flags;
    uint8_t data[VHOST_USER_MAX_CONFIG];
};

#define VHOST_USER_VRING_INDEX_MASK 0xffu
#define VHOST_USER_VRING_NO_FD      (1u << 8)

/* One message as received. Descriptors that a handler does not take (set to -1) are closed. */
struct vhost_user_message {
    struct vhost_user_header header;
    union {
        uint64_t u64;
        struct vhost_user_mem_table table;
        struct vhost_user_mem_reg region;
        struct vhost_user_vring_state state;
        struct vhost_user_vring_addr addr;
        struct vhost_user_config config;
    } payload;
    int fds[VHOST_USER_MAX_FDS];
    unsigned n_fds;
};

struct gpup_error;

/* Waits at most 5 s for the rest of a message that has begun. 1, 0 at end of file, or -errno. */
int vhost_user_receive(int sock, struct vhost_user_message *message, struct gpup_error **err);
int vhost_user_send(int sock, const struct vhost_user_message *message, struct gpup_error **err);
void vhost_user_close_fds(struct vhost_user_message *message);

#endif
