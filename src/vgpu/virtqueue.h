/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_VGPU_VIRTQUEUE_H
#define GPUP_VGPU_VIRTQUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct guest_memory;
struct gpup_error;
struct virtqueue;

/*
 * A split virtqueue (virtio 1.2, 2.7) seen from the device: indirect descriptors, event index.
 * Owned by vhost_user.c; the device pops and pushes. Everything in it is hostile.
 */

#define VIRTQUEUE_MAX_SIZE  1024u
#define VIRTQUEUE_MAX_CHAIN 1024u /* descriptors of one chain, indirect ones included */
#define VIRTQUEUE_FEW       4u    /* a power of two */

/* One request of the driver. Kept by the device until it is pushed back, in any order. The guest's
 * buffers are only borrowed: once the memory under one was removed or the queue was stopped the
 * element is stale: nothing can be read or written through it, pushing it only frees it. */
struct virtqueue_element {
    struct virtqueue *queue;                /* NULL: stale */
    struct virtqueue_element *next, **link; /* the queue's own list */
    uint16_t head;
    size_t n_out, n_in;
    struct iovec *out;        /* the driver's data, readable */
    struct iovec *in;         /* for the device's answer, writable */
    size_t out_size, in_size; /* bytes in all */
    /* where out and in begin: most requests need no more */
    struct iovec few_out[VIRTQUEUE_FEW], few_in[VIRTQUEUE_FEW];
};

/*
 * The next request: 1 and *element (owned by the caller until pushed or freed), 0 when there is
 * none, -EINVAL when the driver broke the rules (a loop, an address outside its memory, a chain
 * too long): a chain that is merely malformed is answered with length 0 and skipped, so that the
 * queue goes on; one where the ring itself is broken stops the queue until it is set up again.
 */
int virtqueue_pop(struct virtqueue *queue, struct virtqueue_element **element,
                  struct gpup_error **err);

/* Copies from the driver's data; returns the bytes copied (fewer where it ends). */
size_t virtqueue_read(const struct virtqueue_element *element, size_t offset, void *data,
                      size_t length);
/* Copies into the answer; returns the bytes copied. */
size_t virtqueue_write(struct virtqueue_element *element, size_t offset, const void *data,
                       size_t length);

/* Hands the element back with `written` bytes of answer and frees it. A stale one is only freed.
 * The driver is notified by the next virtqueue_notify(). */
void virtqueue_push(struct virtqueue_element *element, size_t written);
void virtqueue_element_free(struct virtqueue_element *element);
bool virtqueue_element_is_stale(const struct virtqueue_element *element);
/* Whether any of its buffers begins in [base, base + size) of our address space: that is, lies in
 * a region of guest memory mapped there. */
bool virtqueue_element_touches(const struct virtqueue_element *element, const void *base,
                               uint64_t size);

/* Interrupts the driver if it wants to be. Once per batch. */
void virtqueue_notify(struct virtqueue *queue);

#endif
