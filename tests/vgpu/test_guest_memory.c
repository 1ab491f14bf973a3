/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/error.h"
#include "vgpu/guest_memory.h"

#include <errno.h>
#include <glib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE UINT64_C(4096)

static int memfd(uint64_t size)
{
    int fd = memfd_create("guest", MFD_CLOEXEC);

    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(ftruncate(fd, (off_t)size), ==, 0);
    return fd;
}

static int add(struct guest_memory *m, uint64_t guest, uint64_t user, uint64_t size)
{
    uint32_t id;

    return guest_memory_add(m, guest, user, size, 0, memfd(4 * PAGE), &id, NULL);
}

static void refuses_bad_regions(void)
{
    struct guest_memory m;
    uint32_t id;

    guest_memory_init(&m);
    g_assert_cmpint(add(&m, 0, 0, 0), ==, -EINVAL);
    g_assert_cmpint(add(&m, UINT64_MAX - PAGE + 1, 0, 2 * PAGE), ==, -EINVAL);
    g_assert_cmpint(add(&m, 0, UINT64_MAX - PAGE + 1, 2 * PAGE), ==, -EINVAL);
    g_assert_cmpint(add(&m, 0, 0, 5 * PAGE), ==, -EINVAL); /* the file is shorter */
    g_assert_cmpint(guest_memory_add(&m, 0, 0, PAGE, 4 * PAGE, memfd(4 * PAGE), &id, NULL), ==,
                    -EINVAL);
    g_assert_cmpint(add(&m, 0, 0x10000, 4 * PAGE), ==, 0);
    g_assert_cmpint(add(&m, 2 * PAGE, 0x90000, 4 * PAGE), ==, -EINVAL);
    g_assert_cmpint(add(&m, 0x90000, 0x10000 + PAGE, 4 * PAGE), ==, -EINVAL);
    g_assert_cmpuint(m.n_regions, ==, 1);
    guest_memory_clear(&m);
}

static void refuses_one_too_many(void)
{
    struct guest_memory m;

    guest_memory_init(&m);
    for (uint64_t i = 0; i < GUEST_MEMORY_MAX_REGIONS; i++)
        g_assert_cmpint(add(&m, i * PAGE, i * PAGE, PAGE), ==, 0);
    g_assert_cmpint(add(&m, PAGE << 20, PAGE << 20, PAGE), ==, -ENOSPC);
    guest_memory_clear(&m);
}

static void translates(void)
{
    struct guest_memory m;
    struct guest_span spans[2];

    guest_memory_init(&m);
    g_assert_cmpint(add(&m, 0, 0x100000, 2 * PAGE), ==, 0);
    g_assert_cmpint(add(&m, 2 * PAGE, 0x200000, 2 * PAGE), ==, 0);
    g_assert_cmpint(guest_memory_translate(&m, PAGE, 0, spans, 2), ==, 0);
    g_assert_cmpint(guest_memory_translate(&m, PAGE, 2 * PAGE, spans, 2), ==, 2);
    g_assert_cmpuint(spans[0].offset, ==, PAGE);
    g_assert_cmpuint(spans[0].length, ==, PAGE);
    g_assert_cmpuint(spans[1].offset, ==, 0);
    g_assert_true(spans[1].pointer == m.regions[1].map);
    g_assert_cmpint(guest_memory_translate(&m, PAGE, 2 * PAGE, spans, 1), ==, -ENOSPC);
    g_assert_cmpint(guest_memory_translate(&m, 3 * PAGE, PAGE + 1, spans, 2), ==, -EFAULT);
    g_assert_cmpint(guest_memory_translate(&m, UINT64_MAX, 2, spans, 2), ==, -EFAULT);
    guest_memory_clear(&m);
}

static void finds_front_end_addresses(void)
{
    struct guest_memory m;

    guest_memory_init(&m);
    g_assert_cmpint(add(&m, 0, 0x100000, 2 * PAGE), ==, 0);
    g_assert_nonnull(guest_memory_user(&m, 0x100000, 2 * PAGE));
    g_assert_null(guest_memory_user(&m, 0x100000, 2 * PAGE + 1));
    g_assert_null(guest_memory_user(&m, 0x100001, UINT64_MAX));
    g_assert_null(guest_memory_user(&m, 0xfffff, 1));
    guest_memory_clear(&m);
}

static void removes_exactly_what_was_added(void)
{
    struct guest_memory m;
    uint32_t id = 0, first;

    guest_memory_init(&m);
    g_assert_cmpint(guest_memory_add(&m, 0, 0, PAGE, 0, memfd(PAGE), &first, NULL), ==, 0);
    g_assert_cmpint(guest_memory_remove(&m, 0, 0, 2 * PAGE, &id, NULL), ==, -ENOENT);
    g_assert_cmpint(guest_memory_remove(&m, 0, 0, PAGE, &id, NULL), ==, 0);
    g_assert_cmpuint(id, ==, first);
    g_assert_cmpint(guest_memory_add(&m, 0, 0, PAGE, 0, memfd(PAGE), &id, NULL), ==, 0);
    g_assert_cmpuint(id, !=, first);
    guest_memory_clear(&m);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/guest-memory/bad-regions", refuses_bad_regions);
    g_test_add_func("/guest-memory/too-many", refuses_one_too_many);
    g_test_add_func("/guest-memory/translate", translates);
    g_test_add_func("/guest-memory/user", finds_front_end_addresses);
    g_test_add_func("/guest-memory/remove", removes_exactly_what_was_added);
    return g_test_run();
}
