/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <malloc.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/*
 * Whatever is allocated in this process is zero. virglrenderer and drivers copy from buffers that
 * they have not filled wholly into the guest's memory (compressed and stencil formats read back,
 * for example): what an earlier use left there, addresses among it, is nothing for a guest.
 *
 * glibc lets a program define these functions for itself and for all its libraries ("Replacing
 * malloc"); its own are reached by these names. With a sanitizer the sanitizer's are used.
 */

void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *old, size_t size);
void *__libc_memalign(size_t alignment, size_t size);

void *malloc(size_t size)
{
    return __libc_calloc(1, size);
}

void *realloc(void *old, size_t size)
{
    size_t had = old ? malloc_usable_size(old) : 0, has;
    void *grown = __libc_realloc(old, size);

    if (!grown)
        return NULL;
    has = malloc_usable_size(grown);
    if (has > had)
        memset((char *)grown + had, 0, has - had);
    return grown;
}

void *memalign(size_t alignment, size_t size)
{
    void *memory = __libc_memalign(alignment, size);

    if (memory)
        memset(memory, 0, malloc_usable_size(memory));
    return memory;
}

void *aligned_alloc(size_t alignment, size_t size)
{
    return memalign(alignment, size);
}

int posix_memalign(void **memory, size_t alignment, size_t size)
{
    void *got;

    if (alignment % sizeof(void *) != 0 || alignment == 0 || (alignment & (alignment - 1)) != 0)
        return EINVAL;
    got = memalign(alignment, size);
    if (!got)
        return ENOMEM;
    *memory = got;
    return 0;
}

void *valloc(size_t size)
{
    return memalign((size_t)sysconf(_SC_PAGESIZE), size);
}
