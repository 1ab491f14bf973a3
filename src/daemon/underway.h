/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_DAEMON_UNDERWAY_H
#define GPUP_DAEMON_UNDERWAY_H

/*
 * What gpupd is doing to a GPU or to one of its functions, for the gpupd that comes after one that
 * was killed meanwhile: what it finds half done is its own then, not somebody else's. A file for
 * each PCI address, under RUN/underway: of this boot only.
 */

/* text: whom it is done for; of a GPU itself "". Others than PCI addresses are nobody's business:
 * nothing is done. What cannot be written is logged. */
void gpup_underway_begin(const char *run_dir, const char *address, const char *text);
void gpup_underway_end(const char *run_dir, const char *address);
/* The text, the caller's; NULL: nothing was under way there. */
char *gpup_underway_peek(const char *run_dir, const char *address);

#endif
