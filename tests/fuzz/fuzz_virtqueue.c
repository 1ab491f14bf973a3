/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "vgpu/guest_memory.h"
#include "vgpu/virtqueue_internal.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* The input is the guest's memory, rings and all. */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MEMORY 16384u
#define USER   UINT64_C(0x100000)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct virtqueue_setup setup = {.desc = USER,
                                    .avail = USER + 4096,
                                    .used = USER + 8192,
                                    .size = 16,
                                    .indirect = true,
                                    .call = -1};
    int fd = memfd_create("guest", MFD_CLOEXEC);
    struct virtqueue_element *element;
    struct guest_memory memory;
    struct virtqueue *queue;
    char buffer[64];
    uint32_t id;
    int ret;

    if (fd < 0 || ftruncate(fd, MEMORY) < 0)
        abort();
    if (size > 0)
        setup.event_idx = data[0] & 1;
    if (size > 1 && pwrite(fd, data + 1, size - 1 < MEMORY ? size - 1 : MEMORY, 0) < 0)
        abort();
    guest_memory_init(&memory);
    if (guest_memory_add(&memory, 0, USER, MEMORY, 0, fd, &id, NULL) < 0)
        abort();
    queue = virtqueue_new(&memory);
    if (queue && virtqueue_start(queue, &setup, NULL) == 0) {
        for (int i = 0; i < 64 && (ret = virtqueue_pop(queue, &element, NULL)) != 0; i++) {
            if (ret != 1)
                continue;
            virtqueue_read(element, 0, buffer, sizeof(buffer));
            virtqueue_write(element, 3, buffer, sizeof(buffer));
            virtqueue_push(element, sizeof(buffer));
        }
        virtqueue_notify(queue);
    }
    virtqueue_free(queue);
    guest_memory_clear(&memory);
    return 0;
}
