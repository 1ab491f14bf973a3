/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_TEST_WORK_H
#define GPUP_TEST_WORK_H

#include "frontend.h"

/* What a guest's OpenGL driver sends: passes of a shader over a picture, of a settable cost. */

#define WORK_CONTEXT 1u

struct work {
    unsigned size;  /* the picture's width and height */
    unsigned loops; /* of the shader, for each pixel */
    unsigned draws; /* passes in one command stream */
};

/* Makes the picture, the first WORK_CONTEXT and its shaders. */
void work_prepare(struct frontend *f, const struct work *work);
/* Another context with shaders of its own, for the same picture. */
void work_prepare_context(struct frontend *f, const struct work *work, uint32_t context);
/* Offers one command stream; `fenced`: its answer comes when it is done, else at once. */
void work_offer(struct frontend *f, const struct work *work, uint32_t context, bool fenced);

#endif
