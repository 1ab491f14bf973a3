/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_VM_DOMAIN_PARTS_H
#define GPUP_VM_DOMAIN_PARTS_H

#include <glib.h>
#include <libxml/tree.h>
#include <stdbool.h>

struct gpup_adapter;
struct gpup_error;
struct gpup_device;

/* The single changes that a virtio adapter or a hostdev adapter needs in a domain, each with its
 * check, its note and its undoing. Each adds only what is missing, so that adding twice is adding
 * once. */
struct gpup_edit {
    xmlNode *domain;
    xmlNode *element;                 /* the adapter's, which keeps the notes */
    const char *name;                 /* of the VM */
    unsigned flags;                   /* GPUP_DOMAIN_... */
    const struct gpup_device *device; /* what is given by <hostdev>, or NULL */
    GPtrArray *lines;                 /* what was done, for people */
};

void gpup_edit_say(struct gpup_edit *edit, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* <gpup:KIND what='WHAT' was='WAS'/> below the element; was may be NULL. A second note of the same
 * is dropped: the first one knows how it was before us. */
void gpup_edit_note(struct gpup_edit *edit, const char *kind, const char *what, const char *was);
xmlNode *gpup_edit_find_note(const struct gpup_edit *edit, const char *what);
bool gpup_edit_noted(const struct gpup_edit *edit, const char *what);

/* The VM's displays and memory can stand beside our device. */
int gpup_check_display(const struct gpup_edit *edit, const struct gpup_adapter *adapter,
                       struct gpup_error **err);
int gpup_check_memory(const struct gpup_edit *edit, struct gpup_error **err);

/* The guest's memory in a form that other processes can map. */
void gpup_share_memory(struct gpup_edit *edit);
/* A primary display where there is none. */
void gpup_add_primary(struct gpup_edit *edit);
/* Our device, and for SPICE what keeps QEMU from giving it a console. */
void gpup_add_video(struct gpup_edit *edit);

/* The VM can have a device of the host. */
int gpup_check_hostdev(const struct gpup_edit *edit, struct gpup_error **err);
/* Our <hostdev>, and where its memory is large, a window for it. False: there is no new device. */
bool gpup_add_hostdev(struct gpup_edit *edit);
/* Makes our <hostdev> name another function; what its user added to it stays. False: it does so
 * already. */
bool gpup_set_hostdev(xmlNode *hostdev, const struct gpup_device *device, const char *adapter_id);
/* Makes the <hostdev>s of the card's other functions those of edit->device. False: they are so
 * already. *added: there are new ones. */
bool gpup_set_companions(struct gpup_edit *edit, bool *added);
/* gpup_undo_part() of what gpup_add_hostdev() noted. */
void gpup_undo_hostdev(struct gpup_edit *edit, const char *what, const char *was);

/* The list of QEMU arguments or overrides (namespace qemu) of a domain, or NULL. */
xmlNode *gpup_qemu_child(const xmlNode *parent, const char *name, const char *attribute,
                         const char *value);
/* The same, made where there is none; noted as `note`. */
xmlNode *gpup_qemu_list(struct gpup_edit *edit, const char *name, const char *note);

/* Undoes what a note says; what the user has changed since stays, and `lines` say so. */
void gpup_undo_part(struct gpup_edit *edit, const char *what, const char *was);

#endif
