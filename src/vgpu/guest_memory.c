/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "vgpu/guest_memory.h"

#include "core/error.h"
#include "core/file.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

void guest_memory_init(struct guest_memory *memory)
{
    memory->n_regions = 0;
}

static void unmap(struct guest_region *region)
{
    munmap(region->map, region->size);
    close(region->fd);
}

void guest_memory_clear(struct guest_memory *memory)
{
    for (size_t i = 0; i < memory->n_regions; i++)
        unmap(&memory->regions[i]);
    memory->n_regions = 0;
}

static bool overlap(uint64_t a, uint64_t a_size, uint64_t b, uint64_t b_size)
{
    return a < b + b_size && b < a + a_size;
}

static int check_range(const struct guest_memory *memory, uint64_t guest, uint64_t user,
                       uint64_t size, uint64_t offset, struct gpup_error **err)
{
    uint64_t end;

    if (size == 0 || size > SIZE_MAX || __builtin_add_overflow(guest, size, &end) ||
        __builtin_add_overflow(user, size, &end) || __builtin_add_overflow(offset, size, &end) ||
        end > INT64_MAX)
        return gpup_error_set(err, EINVAL,
                              "memory region at 0x%" PRIx64 " of 0x%" PRIx64 " bytes is empty or "
                              "wraps",
                              guest, size);
    for (size_t i = 0; i < memory->n_regions; i++) {
        const struct guest_region *r = &memory->regions[i];

        if (overlap(guest, size, r->guest, r->size) || overlap(user, size, r->user, r->size))
            return gpup_error_set(err, EINVAL,
                                  "memory region at 0x%" PRIx64 " overlaps the one at 0x%" PRIx64,
                                  guest, r->guest);
    }
    return 0;
}

/* Numbers regions for the whole process, so that a number never means two regions. */
static uint32_t next_id(void)
{
    static uint32_t last;

    return ++last;
}

/* A file may be shorter than it is said to be; touching what is missing would be SIGBUS. The
 * front-end could still truncate it later: it is trusted that far, the guest has no say in it. */
static int check_length(int fd, uint64_t end, struct gpup_error **err)
{
    struct stat st;

    if (fstat(fd, &st) < 0)
        return gpup_error_set(err, errno, "memory region: %s", strerror(errno));
    if (!S_ISREG(st.st_mode) || st.st_size < 0 || (uint64_t)st.st_size < end)
        return gpup_error_set(
            err, EINVAL, "memory region ends at 0x%" PRIx64 " of a file of 0x%" PRIx64 " bytes",
            end, (uint64_t)st.st_size);
    return 0;
}

int guest_memory_add(struct guest_memory *memory, uint64_t guest, uint64_t user, uint64_t size,
                     uint64_t offset, int fd, uint32_t *id, struct gpup_error **err)
{
    GPUP_AUTO_FD owned = fd;
    struct guest_region *region;
    void *map;
    int ret;

    if (memory->n_regions == GUEST_MEMORY_MAX_REGIONS)
        return gpup_error_set(err, ENOSPC, "more than %d memory regions", GUEST_MEMORY_MAX_REGIONS);
    ret = check_range(memory, guest, user, size, offset, err);
    if (ret == 0)
        ret = check_length(owned, offset + size, err);
    if (ret < 0)
        return ret;
    map =
        mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, owned, (off_t)offset);
    if (map == MAP_FAILED)
        return gpup_error_set(err, errno, "mapping a memory region of 0x%" PRIx64 " bytes: %s",
                              size, strerror(errno));
    region = &memory->regions[memory->n_regions++];
    *region = (struct guest_region){.id = next_id(),
                                    .guest = guest,
                                    .user = user,
                                    .size = size,
                                    .offset = offset,
                                    .fd = owned,
                                    .map = map};
    owned = -1; /* NOLINT(clang-analyzer-deadcode.DeadStores): gpup_fd_close reads it */
    *id = region->id;
    return 0;
}

int guest_memory_remove(struct guest_memory *memory, uint64_t guest, uint64_t user, uint64_t size,
                        uint32_t *id, struct gpup_error **err)
{
    for (size_t i = 0; i < memory->n_regions; i++) {
        struct guest_region *r = &memory->regions[i];

        if (r->guest != guest || r->user != user || r->size != size)
            continue;
        *id = r->id;
        unmap(r);
        *r = memory->regions[--memory->n_regions];
        return 0;
    }
    return gpup_error_set(err, ENOENT, "no memory region at 0x%" PRIx64 " of 0x%" PRIx64 " bytes",
                          guest, size);
}

static const struct guest_region *find(const struct guest_memory *memory, uint64_t guest)
{
    for (size_t i = 0; i < memory->n_regions; i++) {
        const struct guest_region *r = &memory->regions[i];

        if (guest >= r->guest && guest - r->guest < r->size)
            return r;
    }
    return NULL;
}

int guest_memory_translate(const struct guest_memory *memory, uint64_t guest, uint64_t length,
                           struct guest_span *spans, size_t max)
{
    size_t n = 0;
    uint64_t end;

    if (__builtin_add_overflow(guest, length, &end))
        return -EFAULT;
    while (length > 0) {
        const struct guest_region *r = find(memory, guest);
        uint64_t offset, part;

        if (!r)
            return -EFAULT;
        if (n == max)
            return -ENOSPC;
        offset = guest - r->guest;
        part = r->size - offset < length ? r->size - offset : length;
        spans[n++] = (struct guest_span){r->id, offset, part, (char *)r->map + offset};
        guest += part;
        length -= part;
    }
    return (int)n;
}

void *guest_memory_user(const struct guest_memory *memory, uint64_t user, uint64_t length)
{
    for (size_t i = 0; i < memory->n_regions; i++) {
        const struct guest_region *r = &memory->regions[i];

        if (user >= r->user && user - r->user < r->size && length <= r->size - (user - r->user))
            return (char *)r->map + (user - r->user);
    }
    return NULL;
}
