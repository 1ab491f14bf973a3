/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "vgpu/guest_memory.h"
#include "vgpu/virtqueue_internal.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/*
 * The rings and chains of a queue: the input is the guest's memory, rings and all, after a byte of
 * features; what is left then changes it, as the driver does while the device works. Requests are
 * kept and answered in any order, and memory goes while some are out.
 */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MEMORY 4096u
#define USER   UINT64_C(0x100000)
#define SIZE   8u
#define AVAIL  128u
#define USED   160u
#define START  1024u          /* bytes of the input that lie in memory from the start */
#define SECOND UINT64_C(4096) /* a region that touches the first */

struct fuzz {
    struct guest_memory memory;
    struct virtqueue *queue;
    struct virtqueue_element *out[SIZE];
    unsigned n_out;
};

static void add(struct fuzz *f, uint64_t guest, int fd)
{
    uint32_t id;

    if (guest_memory_add(&f->memory, guest, USER + guest, MEMORY, 0, fd, &id, NULL) < 0)
        abort();
}

static void pop(struct fuzz *f)
{
    char buffer[96];

    if (f->n_out == SIZE || virtqueue_pop(f->queue, &f->out[f->n_out], NULL) != 1)
        return;
    virtqueue_read(f->out[f->n_out], 1, buffer, sizeof(buffer));
    f->n_out++;
}

static void push(struct fuzz *f, unsigned i)
{
    char buffer[96] = "";

    if (f->n_out == 0)
        return;
    i %= f->n_out;
    virtqueue_push(f->out[i], virtqueue_write(f->out[i], i, buffer, sizeof(buffer)));
    f->out[i] = f->out[--f->n_out];
    virtqueue_notify(f->queue);
}

static void take_memory(struct fuzz *f, uint64_t guest)
{
    uint32_t id;

    for (size_t i = 0; i < f->memory.n_regions; i++) {
        const struct guest_region r = f->memory.regions[i];

        if (r.guest != guest)
            continue;
        virtqueue_forget_memory(f->queue, r.map, r.size);
        guest_memory_remove(&f->memory, r.guest, r.user, r.size, &id, NULL);
        return;
    }
}

static void operate(struct fuzz *f, uint8_t what, uint8_t value, int fd)
{
    switch (what & 7) {
    case 0:
    case 1:
        pop(f);
        break;
    case 2:
    case 3:
        push(f, value);
        break;
    case 4: /* the driver offers one more */
    case 5:
        if (f->memory.n_regions > 0 && f->memory.regions[0].guest == 0)
            ((uint16_t *)f->memory.regions[0].map)[AVAIL / 2 + 1] += value & 3u;
        break;
    case 6: /* or changes something */
        if (pwrite(fd, &value, 1, what * 2) < 0)
            abort();
        break;
    default:
        if (value == 0) {
            take_memory(f, 0);
            if (virtqueue_remap(f->queue, NULL) == 0)
                abort();
        } else if (value == 1) {
            take_memory(f, SECOND);
        }
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz f = {.queue = NULL};
    struct virtqueue_setup setup = {
        .desc = USER, .avail = USER + AVAIL, .used = USER + USED, .size = SIZE, .call = -1};
    int fd = memfd_create("guest", MFD_CLOEXEC), second;
    size_t start = size > 1 ? size - 1 : 0;

    if (start > START)
        start = START;
    if (fd < 0 || ftruncate(fd, MEMORY) < 0 || (start > 0 && pwrite(fd, data + 1, start, 0) < 0))
        abort();
    second = dup(fd);
    setup.event_idx = size > 0 && data[0] & 1;
    setup.indirect = size > 0 && data[0] & 2;
    guest_memory_init(&f.memory);
    add(&f, 0, dup(fd));
    add(&f, SECOND, second);
    f.queue = virtqueue_new(&f.memory);
    if (!f.queue || virtqueue_start(f.queue, &setup, NULL) < 0)
        abort();
    for (unsigned i = 0; i < SIZE; i++)
        pop(&f);
    for (size_t i = 1 + start; i + 1 < size; i += 2)
        operate(&f, data[i], data[i + 1], fd);
    virtqueue_stop(f.queue);
    while (f.n_out > 0)
        push(&f, 0);
    virtqueue_free(f.queue);
    guest_memory_clear(&f.memory);
    close(fd);
    return 0;
}
