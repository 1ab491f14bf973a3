/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "vm/domain.h"

#include "core/adapter.h"
#include "core/error.h"
#include "vm/adapter_xml.h"
#include "vm/domain_parts.h"
#include "vm/xml.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define PORTS_BEFORE "ports-before"

/* ---- the adapter's own element ---- */

static void set_bound(xmlNode *node, enum gpup_resource r, const char *bound, bool has,
                      uint64_t value)
{
    g_autofree char *name = g_strdup_printf("%s-%s", gpup_resource_name(r), bound);
    g_autofree char *text = g_strdup_printf("%" G_GUINT64_FORMAT, (guint64)value);

    if (has)
        gpup_xml_set(node, name, text);
    else
        xmlUnsetProp(node, (const xmlChar *)name);
}

/* Attributes that are not ours to know stay. */
static void write_values(xmlNode *node, const struct gpup_adapter *adapter)
{
    gpup_xml_set(node, "kind", gpup_kind_name(adapter->kind));
    if (adapter->gpu)
        gpup_xml_set(node, "gpu", adapter->gpu);
    else
        xmlUnsetProp(node, (const xmlChar *)"gpu");
    if (adapter->display != GPUP_DISPLAY_OFF)
        gpup_xml_set(node, "display", gpup_display_name(adapter->display));
    else
        xmlUnsetProp(node, (const xmlChar *)"display");
    for (int i = 0; i < GPUP_RESOURCES; i++) {
        enum gpup_resource r = (enum gpup_resource)i;
        const struct gpup_request *q = &adapter->request[i];

        set_bound(node, r, "min", q->has_min, q->min);
        set_bound(node, r, "optimal", q->has_optimal, q->optimal);
        set_bound(node, r, "max", q->has_max, q->max);
    }
}

static void new_element(struct gpup_edit *edit, const struct gpup_adapter *adapter)
{
    bool made;
    xmlNode *metadata = gpup_xml_child_or_new(edit->domain, "metadata", &made);
    xmlNode *node = gpup_xml_append(metadata, "adapter");
    g_autofree char *random = g_uuid_string_random();

    xmlSetNs(node, xmlNewNs(node, (const xmlChar *)GPUP_ADAPTER_NS, (const xmlChar *)"gpup"));
    gpup_xml_set(node, "id", *adapter->id ? adapter->id : random);
    edit->element = node;
    if (made)
        gpup_edit_note(edit, "added", "metadata", NULL);
}

static void describe_values(struct gpup_edit *edit, const struct gpup_adapter *adapter)
{
    g_autoptr(GString) line = g_string_new(edit->name);

    g_string_append(line, ": one partition");
    if (adapter->gpu)
        g_string_append_printf(line, " of %s", adapter->gpu);
    if (adapter->display != GPUP_DISPLAY_OFF)
        g_string_append_printf(line, ", display %s", gpup_display_name(adapter->display));
    for (int i = 0; i < GPUP_RESOURCES; i++) {
        enum gpup_resource r = (enum gpup_resource)i;
        const struct gpup_request *q = &adapter->request[i];
        char text[128];

        if (q->has_min || q->has_optimal || q->has_max)
            g_string_append_printf(line, ", %s %s", gpup_resource_name(r),
                                   gpup_request_format(r, q, text, sizeof(text)));
    }
    gpup_edit_say(edit, "%s", line->str);
}

/*
 * ---- the ports that libvirt adds ----
 * Which those are is only seen when libvirt has taken the definition, and noted in a second edit.
 * An assign that was cut off in between has left the note of the first one: the ports there were.
 */

static xmlNode *next_port(const xmlNode *domain, xmlNode *after)
{
    xmlNode *devices = gpup_xml_child(domain, "devices", NULL);
    xmlNode *c = devices ? gpup_xml_child(devices, "controller", after) : NULL;

    while (c && !gpup_xml_attribute_is(c, "type", "pci"))
        c = gpup_xml_child(devices, "controller", c);
    return c;
}

static xmlNode *port_with_index(const xmlNode *domain, const char *index)
{
    xmlNode *port = next_port(domain, NULL);

    while (port && !gpup_xml_attribute_is(port, "index", index))
        port = next_port(domain, port);
    return port;
}

/* "0 1 2": those of a definition. */
static char *list_ports(const xmlNode *domain)
{
    GString *list = g_string_new(NULL);

    for (xmlNode *port = next_port(domain, NULL); port; port = next_port(domain, port)) {
        g_autofree char *index = gpup_xml_attribute(port, "index");

        if (index)
            g_string_append_printf(list, "%s%s", list->len ? " " : "", index);
    }
    return g_string_free(list, FALSE);
}

/* Replaces the first note by those of the ports that came since. False: there was none. */
static bool note_ports(const xmlNode *domain, xmlNode *element)
{
    const struct gpup_edit edit = {.element = element};
    xmlNode *pending = gpup_edit_find_note(&edit, PORTS_BEFORE);
    g_autofree char *was = pending ? gpup_xml_attribute(pending, "was") : NULL;
    g_auto(GStrv) before = g_strsplit(was ? was : "", " ", 0);

    if (!pending)
        return false;
    gpup_xml_remove(pending);
    for (xmlNode *port = next_port(domain, NULL); port; port = next_port(domain, port)) {
        g_autofree char *index = gpup_xml_attribute(port, "index");
        xmlNode *note;

        if (!index || g_strv_contains((const char *const *)before, index))
            continue;
        note = gpup_xml_append(element, "added");
        gpup_xml_set(note, "what", "port");
        gpup_xml_set(note, "was", index);
    }
    return true;
}

/* ---- adding ---- */

static int check_guest(const struct gpup_edit *edit, struct gpup_error **err)
{
    g_autofree char *system = gpup_xml_system(edit->domain);

    if (!system || edit->flags & GPUP_DOMAIN_FORCE ||
        !g_str_has_prefix(system, "http://microsoft.com/"))
        return 0;
    return gpup_error_set(
        err, EOPNOTSUPP,
        "%s runs Windows, which has no 3D driver for a virtio partition: it would "
        "get a second, unaccelerated display. Use a GPU with SR-IOV, or --force",
        edit->name);
}

static int check_kind(const struct gpup_edit *edit, const struct gpup_adapter *adapter,
                      struct gpup_error **err)
{
    g_autofree char *kind = edit->element ? gpup_xml_attribute(edit->element, "kind") : NULL;

    if (kind && strcmp(kind, gpup_kind_name(adapter->kind)) != 0)
        return gpup_error_set(err, EINVAL,
                              "%s's adapter is of kind %s, which decides its device: to change it, "
                              "gpup unassign %s, then gpup assign %s --kind %s",
                              edit->name, kind, edit->name, edit->name,
                              gpup_kind_name(adapter->kind));
    return 0;
}

/* The id names the device: without a usable one nothing can be found again. */
static int check_element(const struct gpup_edit *edit, unsigned n, struct gpup_error **err)
{
    g_autofree char *id = edit->element ? gpup_xml_attribute(edit->element, "id") : NULL;

    if (n <= 1 && (!edit->element || (id && g_uuid_string_is_valid(id))))
        return 0;
    return gpup_error_set(err, EINVAL, "%s's adapter %s: gpup unassign %s, then assign it again",
                          edit->name, n > 1 ? "is there more than once" : "has no valid id",
                          edit->name);
}

static int check_virtio(const struct gpup_edit *edit, const struct gpup_adapter *adapter,
                        struct gpup_error **err)
{
    int ret = check_guest(edit, err);

    if (ret == 0)
        ret = gpup_check_display(edit, adapter, err);
    return ret == 0 ? gpup_check_memory(edit, err) : ret;
}

static int add_to(struct gpup_edit *edit, const struct gpup_adapter *adapter,
                  struct gpup_error **err)
{
    g_autofree char *ports = list_ports(edit->domain);
    unsigned n;
    int ret = gpup_adapter_check(adapter, err);

    edit->element = gpup_xml_adapter(edit->domain, &n);
    if (ret == 0)
        ret = check_element(edit, n, err);
    if (ret == 0)
        ret = check_kind(edit, adapter, err);
    if (ret == 0)
        ret = adapter->kind == GPUP_KIND_VIRTIO ? check_virtio(edit, adapter, err)
                                                : gpup_check_hostdev(edit, err);
    if (ret < 0)
        return ret;
    describe_values(edit, adapter);
    if (!edit->element) {
        new_element(edit, adapter);
        gpup_edit_note(edit, "added", PORTS_BEFORE, ports);
    }
    write_values(edit->element, adapter);
    if (adapter->kind == GPUP_KIND_VIRTIO) {
        gpup_share_memory(edit);
        gpup_add_primary(edit);
        gpup_add_video(edit);
    } else if (gpup_add_hostdev(edit)) {
        gpup_edit_note(edit, "added", PORTS_BEFORE, ports);
    }
    return 0;
}

static char *dump(xmlDoc *doc)
{
    xmlChar *text = NULL;
    char *copy;
    int size;

    xmlDocDumpMemory(doc, &text, &size);
    copy = g_strndup((const char *)text, (gsize)size);
    xmlFree(text);
    return copy;
}

static char *name_of(const xmlNode *domain)
{
    char *name = gpup_xml_child_text(domain, "name");

    return name ? name : g_strdup("the VM");
}

static GStrv to_lines(GPtrArray *lines)
{
    g_ptr_array_add(lines, NULL);
    return (GStrv)g_ptr_array_free(lines, FALSE);
}

int gpup_domain_add_adapter(const char *xml, const struct gpup_adapter *adapter,
                            const struct gpup_device *device, unsigned flags, char **out,
                            GStrv *lines, struct gpup_error **err)
{
    GPUP_AUTO_XML doc = NULL;
    g_autofree char *name = NULL;
    g_autoptr(GPtrArray) done = g_ptr_array_new_with_free_func(g_free);
    struct gpup_edit edit = {.flags = flags, .device = device, .lines = done};
    int ret = gpup_xml_parse(xml, strlen(xml), &doc, err);

    if (ret < 0)
        return ret;
    edit.domain = xmlDocGetRootElement(doc);
    name = name_of(edit.domain);
    edit.name = name;
    ret = add_to(&edit, adapter, err);
    if (ret < 0)
        return ret;
    *out = dump(doc);
    *lines = to_lines(g_steal_pointer(&done));
    return 0;
}

int gpup_domain_set_device(const char *xml, const struct gpup_device *device, char **out,
                           struct gpup_error **err)
{
    GPUP_AUTO_XML doc = NULL;
    xmlNode *hostdev;
    g_autofree char *id = NULL, *ports = NULL;
    g_autoptr(GPtrArray) lines = g_ptr_array_new_with_free_func(g_free);
    struct gpup_edit edit = {.device = device, .lines = lines};
    bool changed, added;
    int ret = gpup_xml_parse(xml, strlen(xml), &doc, err);

    *out = NULL;
    if (ret < 0)
        return ret;
    edit.domain = xmlDocGetRootElement(doc);
    edit.element = gpup_xml_adapter(edit.domain, NULL);
    id = edit.element ? gpup_xml_attribute(edit.element, "id") : NULL;
    hostdev = id ? gpup_xml_hostdev_of(edit.domain, id) : NULL;
    if (!hostdev)
        return gpup_error_set(err, ENOENT,
                              "the adapter's <hostdev> is not in the definition any more: gpup "
                              "unassign, then gpup assign the VM");
    ports = list_ports(edit.domain);
    changed = gpup_set_hostdev(hostdev, device, id);
    changed |= gpup_set_companions(&edit, &added);
    if (added) /* libvirt may give them ports */
        gpup_edit_note(&edit, "added", PORTS_BEFORE, ports);
    if (changed)
        *out = dump(doc);
    return 0;
}

int gpup_domain_note_ports(const char *xml, char **out, struct gpup_error **err)
{
    GPUP_AUTO_XML doc = NULL;
    xmlNode *element;
    int ret = gpup_xml_parse(xml, strlen(xml), &doc, err);

    *out = NULL;
    if (ret < 0)
        return ret;
    element = gpup_xml_adapter(xmlDocGetRootElement(doc), NULL);
    if (element && note_ports(xmlDocGetRootElement(doc), element))
        *out = dump(doc);
    return 0;
}

/* ---- removing ---- */

static bool port_is_used(const xmlNode *node, unsigned bus)
{
    for (const xmlNode *n = node->children; n; n = n->next) {
        g_autofree char *text = NULL;

        if (n->type != XML_ELEMENT_NODE)
            continue;
        text = gpup_xml_is(n, "address") && gpup_xml_attribute_is(n, "type", "pci")
                   ? gpup_xml_attribute(n, "bus")
                   : NULL;
        if ((text && g_ascii_strtoull(text, NULL, 0) == bus) || port_is_used(n, bus))
            return true;
    }
    return false;
}

/* False: there is none, or it is needed: the user may have put something else behind it. */
static bool remove_port(xmlNode *domain, const char *index)
{
    xmlNode *port = port_with_index(domain, index);

    if (!port || port_is_used(gpup_xml_child(domain, "devices", NULL),
                              (unsigned)g_ascii_strtoull(index, NULL, 10)))
        return false;
    gpup_xml_remove(port);
    return true;
}

static bool is_port(const xmlNode *note)
{
    return gpup_xml_attribute_is(note, "what", "port");
}

/* A bridge stands behind a port: what is free only after another has gone goes in the next round.
 */
static void remove_ports(struct gpup_edit *edit)
{
    bool removed = true;

    while (removed) {
        removed = false;
        for (xmlNode *note = xmlFirstElementChild(edit->element); note;
             note = xmlNextElementSibling(note)) {
            g_autofree char *index = is_port(note) ? gpup_xml_attribute(note, "was") : NULL;

            removed |= index && remove_port(edit->domain, index);
        }
    }
}

/* In reverse; but ports after the device that sat behind them. */
static void undo_all(struct gpup_edit *edit)
{
    xmlNode *metadata = edit->element->parent;
    bool drop_metadata = gpup_edit_noted(edit, "metadata");

    note_ports(edit->domain, edit->element);
    for (xmlNode *note = xmlLastElementChild(edit->element); note;
         note = xmlPreviousElementSibling(note)) {
        g_autofree char *what = gpup_xml_attribute(note, "what");
        g_autofree char *was = gpup_xml_attribute(note, "was");

        if (what && !is_port(note))
            gpup_undo_part(edit, what, was);
    }
    remove_ports(edit);
    gpup_xml_remove(edit->element);
    if (drop_metadata && !gpup_xml_has_elements(metadata))
        gpup_xml_remove(metadata);
}

int gpup_domain_remove_adapter(const char *xml, char **out, GStrv *lines, struct gpup_error **err)
{
    GPUP_AUTO_XML doc = NULL;
    g_autofree char *name = NULL;
    g_autoptr(GPtrArray) done = g_ptr_array_new_with_free_func(g_free);
    struct gpup_edit edit = {.lines = done};
    int ret = gpup_xml_parse(xml, strlen(xml), &doc, err);

    if (ret < 0)
        return ret;
    edit.domain = xmlDocGetRootElement(doc);
    edit.name = name = name_of(edit.domain);
    if (!gpup_xml_adapter(edit.domain, NULL))
        return gpup_error_set(
            err, ENOENT,
            "%s has no adapter, so there is nothing to take from it: gpup vm list shows who has",
            name);
    gpup_edit_say(&edit, "%s: no partition any more", name);
    while ((edit.element = gpup_xml_adapter(edit.domain, NULL)))
        undo_all(&edit);
    *out = dump(doc);
    *lines = to_lines(g_steal_pointer(&done));
    return 0;
}
