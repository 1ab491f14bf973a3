/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "vgpu/guest_memory.h"
#include "vgpu/virtqueue_internal.h"

#include "core/error.h"

#include <endian.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/*
 * Split virtqueue, virtio 1.2, 2.7. The rings lie in guest memory and may change at any time: each
 * value is read once, into a local, and checked there.
 */
struct virtqueue {
    const struct guest_memory *memory;
    struct virtqueue_setup setup;
    struct virtqueue_element *elements; /* popped, not pushed back */
    unsigned n_elements;
    bool running, broken;
    uint16_t next_avail, next_used;
    uint16_t signalled_used; /* where we were at the last interrupt decision */
    bool signalled_valid;
    struct vring_desc *desc;
    struct vring_avail *avail;
    struct vring_used *used;
};

static uint16_t load16(const void *p)
{
    return le16toh(__atomic_load_n((const uint16_t *)p, __ATOMIC_RELAXED));
}

static void store16(void *p, uint16_t value)
{
    __atomic_store_n((uint16_t *)p, htole16(value), __ATOMIC_RELAXED);
}

struct virtqueue *virtqueue_new(const struct guest_memory *memory)
{
    struct virtqueue *queue = calloc(1, sizeof(*queue));

    if (queue)
        queue->memory = memory;
    return queue;
}

/* From now on it can only be freed. */
static void make_stale(struct virtqueue_element *element)
{
    *element->link = element->next;
    if (element->next)
        element->next->link = element->link;
    /* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): those in the list have a queue */
    element->queue->n_elements--;
    element->queue = NULL;
}

static void make_all_stale(struct virtqueue *queue)
{
    while (queue->elements)
        make_stale(queue->elements);
}

void virtqueue_free(struct virtqueue *queue)
{
    if (!queue)
        return;
    make_all_stale(queue);
    free(queue);
}

/* Aligned by the front-end's address and by ours: a region may begin anywhere. */
static void *ring(const struct virtqueue *queue, uint64_t address, size_t length, size_t align)
{
    void *place = guest_memory_user(queue->memory, address, length);

    return address % align == 0 && (uintptr_t)place % align == 0 ? place : NULL;
}

int virtqueue_remap(struct virtqueue *queue, struct gpup_error **err)
{
    const struct virtqueue_setup *s = &queue->setup;
    size_t n = s->size;

    /* both rings end with one more 16-bit field, for the event index */
    queue->desc = ring(queue, s->desc, n * sizeof(struct vring_desc), VRING_DESC_ALIGN_SIZE);
    queue->avail =
        ring(queue, s->avail, sizeof(struct vring_avail) + (n + 1) * 2, VRING_AVAIL_ALIGN_SIZE);
    queue->used =
        ring(queue, s->used, sizeof(struct vring_used) + n * sizeof(struct vring_used_elem) + 2,
             VRING_USED_ALIGN_SIZE);
    if (queue->desc && queue->avail && queue->used)
        return 0;
    queue->running = false;
    make_all_stale(queue);
    return gpup_error_set(err, EINVAL, "virtqueue: its rings are not in the guest's memory");
}

int virtqueue_start(struct virtqueue *queue, const struct virtqueue_setup *setup,
                    struct gpup_error **err)
{
    int ret;

    if (setup->size == 0 || setup->size > VIRTQUEUE_MAX_SIZE ||
        (setup->size & (setup->size - 1)) != 0)
        return gpup_error_set(err, EINVAL, "virtqueue: %u is not a valid size", setup->size);
    queue->setup = *setup;
    make_all_stale(queue);
    ret = virtqueue_remap(queue, err);
    if (ret < 0)
        return ret;
    queue->next_avail = setup->base;
    queue->next_used = load16(&queue->used->idx);
    queue->signalled_used = queue->next_used;
    queue->signalled_valid = false;
    queue->broken = false;
    queue->running = true;
    return 0;
}

uint16_t virtqueue_stop(struct virtqueue *queue)
{
    queue->running = false;
    make_all_stale(queue);
    /* what was taken but not answered is offered again after a restart */
    return queue->next_used;
}

static bool lies_in(const void *pointer, const void *base, uint64_t size)
{
    return (uintptr_t)pointer >= (uintptr_t)base && (uintptr_t)pointer - (uintptr_t)base < size;
}

static bool any_inside(const struct iovec *iov, size_t n, const void *base, uint64_t size)
{
    for (size_t i = 0; i < n; i++) {
        if (lies_in(iov[i].iov_base, base, size))
            return true;
    }
    return false;
}

bool virtqueue_element_touches(const struct virtqueue_element *element, const void *base,
                               uint64_t size)
{
    return any_inside(element->out, element->n_out, base, size) ||
           any_inside(element->in, element->n_in, base, size);
}

void virtqueue_forget_memory(struct virtqueue *queue, const void *base, uint64_t size)
{
    struct virtqueue_element *next;

    for (struct virtqueue_element *e = queue->elements; e; e = next) {
        next = e->next;
        if (virtqueue_element_touches(e, base, size))
            make_stale(e);
    }
    if (!lies_in(queue->desc, base, size) && !lies_in(queue->avail, base, size) &&
        !lies_in(queue->used, base, size))
        return;
    queue->desc = NULL;
    queue->avail = NULL;
    queue->used = NULL;
}

void virtqueue_set_call(struct virtqueue *queue, int call)
{
    queue->setup.call = call;
}

bool virtqueue_is_started(const struct virtqueue *queue)
{
    return queue->running;
}

bool virtqueue_is_running(const struct virtqueue *queue)
{
    return queue->running && !queue->broken && queue->used;
}

bool virtqueue_has_work(const struct virtqueue *queue)
{
    return virtqueue_is_running(queue) && load16(&queue->avail->idx) != queue->next_avail;
}

static void free_lists(struct virtqueue_element *element)
{
    if (element->out != element->few_out)
        free(element->out);
    if (element->in != element->few_in)
        free(element->in);
}

static int append(struct iovec **list, struct iovec *few, size_t *n, void *base, size_t length)
{
    if (*n >= VIRTQUEUE_FEW && (*n & (*n - 1)) == 0) { /* full at powers of two */
        struct iovec *old = *list == few ? NULL : *list;
        struct iovec *grown = reallocarray(old, *n * 2, sizeof(**list));

        if (!grown)
            return -ENOMEM;
        if (!old)
            memcpy(grown, few, *n * sizeof(*few));
        *list = grown;
    }
    (*list)[(*n)++] = (struct iovec){base, length};
    return 0;
}

/* A chain being read into an element. The descriptors are copied one by one. */
struct chain {
    struct virtqueue_element *element;
    size_t descriptors;
};

#define MAX_SPANS 8

static int add_buffer(const struct virtqueue *queue, struct virtqueue_element *e,
                      const struct vring_desc *d)
{
    bool writable = d->flags & VRING_DESC_F_WRITE;
    size_t *size = writable ? &e->in_size : &e->out_size;
    struct guest_span spans[MAX_SPANS];
    int n;

    /* 2.7.4.2: what the device writes comes after what it reads */
    if (!writable && e->n_in > 0)
        return -EINVAL;
    n = guest_memory_translate(queue->memory, d->addr, d->len, spans, MAX_SPANS);
    if (n < 0)
        return n;
    for (int i = 0; i < n; i++) {
        void *base = spans[i].pointer;
        int ret = writable ? append(&e->in, e->few_in, &e->n_in, base, spans[i].length)
                           : append(&e->out, e->few_out, &e->n_out, base, spans[i].length);

        if (ret < 0)
            return ret;
    }
    if (__builtin_add_overflow(*size, (size_t)d->len, size) || *size > UINT32_MAX)
        return -EINVAL;
    return 0;
}

/* An indirect table may begin at any address. */
static struct vring_desc copy_descriptor(const void *table, uint16_t index)
{
    struct vring_desc d;

    memcpy(&d, (const char *)table + index * sizeof(d), sizeof(d));
    /* nothing is read again from the guest after this */
    atomic_signal_fence(memory_order_seq_cst);
    d.addr = le64toh(d.addr);
    d.len = le32toh(d.len);
    d.flags = le16toh(d.flags);
    d.next = le16toh(d.next);
    return d;
}

static int walk(const struct virtqueue *queue, struct chain *chain, const void *table,
                uint32_t size, uint16_t index, bool inside);

static int walk_indirect(const struct virtqueue *queue, struct chain *chain,
                         const struct vring_desc *d)
{
    struct guest_span span;

    /* 2.7.5.3.1: not chained, not nested; the table lies in one piece */
    if (!queue->setup.indirect || d->flags & VRING_DESC_F_NEXT || d->len == 0 ||
        d->len % sizeof(struct vring_desc) != 0 ||
        d->len / sizeof(struct vring_desc) > VIRTQUEUE_MAX_CHAIN)
        return -EINVAL;
    if (guest_memory_translate(queue->memory, d->addr, d->len, &span, 1) != 1)
        return -EFAULT;
    return walk(queue, chain, span.pointer, d->len / sizeof(struct vring_desc), 0, true);
}

static int walk(const struct virtqueue *queue, struct chain *chain, const void *table,
                uint32_t size, uint16_t index, bool inside)
{
    for (uint32_t seen = 0;; seen++) {
        struct vring_desc d;
        int ret;

        /* more steps than descriptors: a loop */
        if (index >= size || seen >= size || ++chain->descriptors > VIRTQUEUE_MAX_CHAIN)
            return -EINVAL;
        d = copy_descriptor(table, index);
        if (d.flags & VRING_DESC_F_INDIRECT)
            return inside ? -EINVAL : walk_indirect(queue, chain, &d);
        ret = add_buffer(queue, chain->element, &d);
        if (ret < 0)
            return ret;
        if (!(d.flags & VRING_DESC_F_NEXT))
            return 0;
        index = d.next;
    }
}

static void put_used(struct virtqueue *queue, uint16_t head, uint32_t written)
{
    struct vring_used_elem elem = {.id = htole32(head), .len = htole32(written)};

    if (!queue->used) /* its memory was taken away */
        return;
    memcpy(&queue->used->ring[queue->next_used % queue->setup.size], &elem, sizeof(elem));
    atomic_thread_fence(memory_order_release);
    queue->next_used++;
    store16(&queue->used->idx, queue->next_used);
}

/* Takes the next head off the available ring: 1, 0 when there is none, -EINVAL when the ring
 * itself is broken. */
static int next_head(struct virtqueue *queue, uint16_t *head, struct gpup_error **err)
{
    uint16_t size = queue->setup.size;
    uint16_t pending = (uint16_t)(load16(&queue->avail->idx) - queue->next_avail);

    if (pending == 0 && queue->setup.event_idx) {
        /* ask for a kick at the next entry, then look once more (2.7.7.2) */
        store16(&queue->used->ring[size], queue->next_avail);
        atomic_thread_fence(memory_order_seq_cst);
        pending = (uint16_t)(load16(&queue->avail->idx) - queue->next_avail);
    }
    if (pending == 0)
        return 0;
    atomic_thread_fence(memory_order_acquire);
    *head = load16(&queue->avail->ring[queue->next_avail % size]);
    /* each request has a descriptor at least: more of them than descriptors cannot be */
    if (pending > size || *head >= size || queue->n_elements >= size) {
        queue->broken = true;
        return gpup_error_set(err, EINVAL,
                              "virtqueue: the driver's ring is broken (%u entries offered, head "
                              "%u, %u unanswered, size %u)",
                              pending, *head, queue->n_elements, size);
    }
    queue->next_avail++;
    return 1;
}

static struct virtqueue_element *new_element(void)
{
    struct virtqueue_element *e = malloc(sizeof(*e));

    if (!e)
        return NULL;
    memset(e, 0, offsetof(struct virtqueue_element, few_out));
    e->out = e->few_out;
    e->in = e->few_in;
    return e;
}

static void keep(struct virtqueue *queue, struct virtqueue_element *e)
{
    e->queue = queue;
    e->next = queue->elements;
    e->link = &queue->elements;
    if (e->next)
        e->next->link = &e->next;
    queue->elements = e;
    queue->n_elements++;
}

int virtqueue_pop(struct virtqueue *queue, struct virtqueue_element **element,
                  struct gpup_error **err)
{
    struct chain chain = {0};
    uint16_t head;
    int ret;

    if (!virtqueue_is_running(queue))
        return 0;
    ret = next_head(queue, &head, err);
    if (ret <= 0)
        return ret;
    chain.element = new_element();
    ret =
        chain.element ? walk(queue, &chain, queue->desc, queue->setup.size, head, false) : -ENOMEM;
    if (ret < 0) {
        virtqueue_element_free(chain.element);
        put_used(queue, head, 0);
        return gpup_error_set(err, EINVAL, "virtqueue: the driver's request %u is malformed", head);
    }
    chain.element->head = head;
    keep(queue, chain.element);
    *element = chain.element;
    return 1;
}

/* Copies between a list of pieces, from offset on, and a buffer. */
static size_t copy(const struct iovec *iov, size_t n, size_t offset, void *data, size_t length,
                   bool to_guest)
{
    size_t done = 0;

    for (size_t i = 0; i < n && done < length; i++) {
        size_t part;
        char *piece;

        if (offset >= iov[i].iov_len) {
            offset -= iov[i].iov_len;
            continue;
        }
        piece = (char *)iov[i].iov_base + offset;
        part = iov[i].iov_len - offset;
        if (part > length - done)
            part = length - done;
        if (to_guest)
            memcpy(piece, (char *)data + done, part);
        else
            memcpy((char *)data + done, piece, part);
        done += part;
        offset = 0;
    }
    return done;
}

size_t virtqueue_read(const struct virtqueue_element *element, size_t offset, void *data,
                      size_t length)
{
    if (virtqueue_element_is_stale(element))
        return 0;
    return copy(element->out, element->n_out, offset, data, length, false);
}

size_t virtqueue_write(struct virtqueue_element *element, size_t offset, const void *data,
                       size_t length)
{
    if (virtqueue_element_is_stale(element))
        return 0;
    return copy(element->in, element->n_in, offset, (void *)data, length, true);
}

bool virtqueue_element_is_stale(const struct virtqueue_element *element)
{
    return !element->queue;
}

void virtqueue_element_free(struct virtqueue_element *element)
{
    if (!element)
        return;
    if (element->queue)
        make_stale(element);
    free_lists(element);
    free(element);
}

void virtqueue_push(struct virtqueue_element *element, size_t written)
{
    if (!virtqueue_element_is_stale(element))
        put_used(element->queue, element->head,
                 (uint32_t)(written > element->in_size ? element->in_size : written));
    virtqueue_element_free(element);
}

/* 2.7.7 and 2.7.8: whether the driver wants an interrupt for what was used since the last time. */
static bool wants_interrupt(struct virtqueue *queue)
{
    uint16_t old = queue->signalled_used, now = queue->next_used;
    bool valid = queue->signalled_valid;
    uint16_t event;

    if (old == now)
        return false; /* nothing was used */
    atomic_thread_fence(memory_order_seq_cst);
    queue->signalled_used = now;
    queue->signalled_valid = true;
    if (!queue->setup.event_idx)
        return !(load16(&queue->avail->flags) & VRING_AVAIL_F_NO_INTERRUPT);
    event = load16(&queue->avail->ring[queue->setup.size]);
    return !valid || vring_need_event(event, now, old);
}

void virtqueue_notify(struct virtqueue *queue)
{
    const uint64_t one = 1;

    if (!virtqueue_is_running(queue) || queue->setup.call < 0 || !wants_interrupt(queue))
        return;
    /* a full counter means that an interrupt is pending already */
    if (write(queue->setup.call, &one, sizeof(one)) < 0)
        return;
}
