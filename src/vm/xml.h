/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_VM_XML_H
#define GPUP_VM_XML_H

#include "core/model.h"

#include <glib.h>
#include <libxml/tree.h>
#include <stdbool.h>
#include <stddef.h>

struct gpup_error;

/* Small helpers around libxml2, shared by what reads and what edits domain XML. */

/* A domain XML of 1 MiB at most, without entities; -EINVAL says what it is not. */
int gpup_xml_parse(const char *xml, size_t length, xmlDoc **doc, struct gpup_error **err);
void gpup_xml_free(xmlDoc **doc);
#define GPUP_AUTO_XML __attribute__((cleanup(gpup_xml_free))) xmlDoc *

bool gpup_xml_is(const xmlNode *node, const char *name);
/* The first (or next, after `after`) child element of this name in no namespace. */
xmlNode *gpup_xml_child(const xmlNode *parent, const char *name, const xmlNode *after);
/* The same, made at the parent's end where there is none; *made (may be NULL) tells. */
xmlNode *gpup_xml_child_or_new(xmlNode *parent, const char *name, bool *made);
/* An attribute or a child's text, in the caller's memory, or NULL. */
char *gpup_xml_attribute(const xmlNode *node, const char *name);
char *gpup_xml_child_text(const xmlNode *parent, const char *name);
/* false for a node that is NULL */
bool gpup_xml_attribute_is(const xmlNode *node, const char *name, const char *value);
void gpup_xml_set(xmlNode *node, const char *name, const char *value);
/* A new last child in the parent's namespace, if it has one. */
xmlNode *gpup_xml_append(xmlNode *parent, const char *name);
void gpup_xml_remove(xmlNode *node);
bool gpup_xml_has_elements(const xmlNode *node);

/* The system in the VM by its metadata, as libosinfo names it; the caller's, or NULL. */
char *gpup_xml_system(const xmlNode *domain);

/* The adapter's element below <metadata>; *n (may be NULL) tells how many there are. */
xmlNode *gpup_xml_adapter(const xmlNode *domain, unsigned *n);
/* Our video device among the domain's, by the path it was given; *index (may be NULL) counts. */
xmlNode *gpup_xml_video_of(const xmlNode *domain, const char *adapter_id, int *index);

/* libvirt keeps aliases that begin with ua-: they name what is ours. */
#define GPUP_DEVICE_ALIAS "ua-gpup-" /* and the adapter's id */

/* Our <hostdev> among the domain's, by its alias, or NULL. */
xmlNode *gpup_xml_hostdev_of(const xmlNode *domain, const char *adapter_id);
/* The adapter's next <hostdev> of another function of the same card, whose alias ends in that
 * function's number; the first where after is NULL. */
xmlNode *gpup_xml_companion(const xmlNode *domain, const char *adapter_id, xmlNode *after);
/* That number, a digit; '\0': it is no such <hostdev>. */
char gpup_xml_companion_number(const xmlNode *hostdev, const char *adapter_id);
/* "0000:03:00.1": the PCI function that a <hostdev> gives away. False for anything else. */
bool gpup_xml_hostdev_address(const xmlNode *hostdev, char address[GPUP_ADDRESS_SIZE]);

#endif
