/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_VM_DOMAIN_PARTS_H
#define GPUP_VM_DOMAIN_PARTS_H

#include <glib.h>
#include <libxml/tree.h>

struct gpup_error;

/* The single changes that a virtio adapter needs in a domain, each with its check, its note and its
 * undoing. `element` is the adapter's, which keeps the notes. */

/* <gpup:KIND what='WHAT' was='WAS'/> below the element; was may be NULL. */
void gpup_note(xmlNode *element, const char *kind, const char *what, const char *was);

/* The VM's display and ours can stand beside each other. */
int gpup_check_display(const xmlNode *domain, const char *name, struct gpup_error **err);
int gpup_check_memory(const xmlNode *domain, const char *name, struct gpup_error **err);

/* The guest's memory in a form that other processes can map. */
void gpup_share_memory(xmlNode *domain, xmlNode *element, GPtrArray *lines);
/* A primary display where there is none. */
void gpup_add_primary(xmlNode *domain, xmlNode *element, GPtrArray *lines);
/* Our device, and for SPICE what keeps QEMU from giving it a console. */
void gpup_add_video(xmlNode *domain, xmlNode *element, GPtrArray *lines);

/* Undoes what a note says; what the user has changed since stays, and `lines` say so. */
void gpup_undo_part(xmlNode *domain, const char *what, const char *was, GPtrArray *lines);

#endif
