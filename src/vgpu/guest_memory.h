/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_VGPU_GUEST_MEMORY_H
#define GPUP_VGPU_GUEST_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct gpup_error;

/*
 * The guest's memory as the front-end shares it (vhost-user ADD_MEM_REG / SET_MEM_TABLE). Whatever
 * is read here may change at any time: copy before checking.
 */

struct guest_region {
    uint32_t id;    /* never used twice in the life of the process */
    uint64_t guest; /* guest physical address */
    uint64_t user;  /* the front-end's address, which vring addresses are given in */
    uint64_t size;
    uint64_t offset; /* of the region in fd */
    int fd;          /* owned */
    void *map;       /* where we see byte 0 of the region */
};

#define GUEST_MEMORY_MAX_REGIONS 64

struct guest_memory {
    struct guest_region regions[GUEST_MEMORY_MAX_REGIONS];
    size_t n_regions;
};

void guest_memory_init(struct guest_memory *memory);
void guest_memory_clear(struct guest_memory *memory);

/* Takes ownership of fd in any case. -EINVAL: empty, wraps, or overlaps another; -ENOSPC. The
 * file must really be that long (fstat), or a later touch would be SIGBUS. */
int guest_memory_add(struct guest_memory *memory, uint64_t guest, uint64_t user, uint64_t size,
                     uint64_t offset, int fd, uint32_t *id, struct gpup_error **err);
/* -ENOENT when no region has exactly this address and size. */
int guest_memory_remove(struct guest_memory *memory, uint64_t guest, uint64_t user, uint64_t size,
                        uint32_t *id, struct gpup_error **err);

/* A piece of guest memory within one region. */
struct guest_span {
    uint32_t region;
    uint64_t offset; /* into the region */
    uint64_t length;
    void *pointer; /* as we see it */
};

/*
 * The pieces that [guest, guest + length) consists of; a range may cross regions that touch.
 * Returns how many were written, or -EFAULT when any byte is not guest memory (or the range
 * wraps), -ENOSPC when max does not suffice. length 0 gives 0 pieces.
 */
int guest_memory_translate(const struct guest_memory *memory, uint64_t guest, uint64_t length,
                           struct guest_span *spans, size_t max);

/* The address of a vring part given in the front-end's address space, wholly within one region;
 * NULL when it is not. */
void *guest_memory_user(const struct guest_memory *memory, uint64_t user, uint64_t length);

#endif
