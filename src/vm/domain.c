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
    for (int i = 0; i < GPUP_RESOURCES; i++) {
        enum gpup_resource r = (enum gpup_resource)i;
        const struct gpup_request *q = &adapter->request[i];

        set_bound(node, r, "min", q->has_min, q->min);
        set_bound(node, r, "optimal", q->has_optimal, q->optimal);
        set_bound(node, r, "max", q->has_max, q->max);
    }
}

static xmlNode *new_element(xmlNode *domain, const struct gpup_adapter *adapter)
{
    bool made;
    xmlNode *metadata = gpup_xml_child_or_new(domain, "metadata", &made);
    xmlNode *node = xmlNewChild(metadata, NULL, (const xmlChar *)"adapter", NULL);
    xmlNs *ns = xmlNewNs(node, (const xmlChar *)GPUP_ADAPTER_NS, (const xmlChar *)"gpup");
    g_autofree char *random = g_uuid_string_random();

    xmlSetNs(node, ns);
    gpup_xml_set(node, "id", *adapter->id ? adapter->id : random);
    write_values(node, adapter);
    if (made)
        gpup_note(node, "added", "metadata", NULL);
    return node;
}

static void describe_values(const struct gpup_adapter *adapter, const char *name, GPtrArray *lines)
{
    GString *line = g_string_new(name);

    g_string_append(line, ": one partition");
    if (adapter->gpu)
        g_string_append_printf(line, " of %s", adapter->gpu);
    for (int r = 0; r < GPUP_RESOURCES; r++) {
        const struct gpup_request *q = &adapter->request[r];
        char text[128];

        if (q->has_min || q->has_optimal || q->has_max)
            g_string_append_printf(
                line, ", %s %s", gpup_resource_name((enum gpup_resource)r),
                gpup_request_format((enum gpup_resource)r, q, text, sizeof(text)));
    }
    g_ptr_array_add(lines, g_string_free(line, FALSE));
}

/* ---- adding ---- */

static bool is_windows(const xmlNode *node)
{
    for (const xmlNode *n = node->children; n; n = n->next) {
        g_autofree char *id = n->type == XML_ELEMENT_NODE ? gpup_xml_attribute(n, "id") : NULL;

        if (id && gpup_xml_is(n, "os") && g_str_has_prefix(id, "http://microsoft.com/"))
            return true;
        if (n->type == XML_ELEMENT_NODE && is_windows(n))
            return true;
    }
    return false;
}

static int check_guest(const xmlNode *domain, const char *name, unsigned flags,
                       struct gpup_error **err)
{
    xmlNode *metadata = gpup_xml_child(domain, "metadata", NULL);

    if (!metadata || flags & GPUP_DOMAIN_FORCE || !is_windows(metadata))
        return 0;
    return gpup_error_set(
        err, EOPNOTSUPP,
        "%s runs Windows, which has no 3D driver for a virtio partition: it would "
        "get a second, unaccelerated display. Use a GPU with SR-IOV, or --force",
        name);
}

static int change_values(xmlNode *element, const struct gpup_adapter *adapter, const char *name,
                         struct gpup_error **err)
{
    if (!gpup_xml_attribute_is(element, "kind", gpup_kind_name(adapter->kind))) {
        g_autofree char *kind = gpup_xml_attribute(element, "kind");

        return gpup_error_set(err, EINVAL,
                              "%s's adapter is of kind %s, which decides its device: to change it, "
                              "gpup unassign %s, then gpup assign %s --kind %s",
                              name, kind ? kind : "?", name, name, gpup_kind_name(adapter->kind));
    }
    write_values(element, adapter);
    return 0;
}

static int add_all(xmlNode *domain, const struct gpup_adapter *adapter, const char *name,
                   unsigned flags, GPtrArray *lines, struct gpup_error **err)
{
    xmlNode *element;
    int ret;

    if (adapter->kind != GPUP_KIND_VIRTIO)
        return gpup_error_set(err, EOPNOTSUPP,
                              "this version gives VMs virtio partitions only: leave --kind out");
    ret = check_guest(domain, name, flags, err);
    if (ret == 0)
        ret = gpup_check_display(domain, name, err);
    if (ret == 0)
        ret = gpup_check_memory(domain, name, err);
    if (ret < 0)
        return ret;
    element = new_element(domain, adapter);
    describe_values(adapter, name, lines);
    gpup_share_memory(domain, element, lines);
    gpup_add_primary(domain, element, lines);
    gpup_add_video(domain, element, lines);
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

static GStrv to_lines(GPtrArray *lines)
{
    g_ptr_array_add(lines, NULL);
    return (GStrv)g_ptr_array_free(lines, FALSE);
}

int gpup_domain_add_adapter(const char *xml, const struct gpup_adapter *adapter, unsigned flags,
                            char **out, GStrv *lines, struct gpup_error **err)
{
    GPUP_AUTO_XML doc = NULL;
    g_autofree char *name = NULL;
    g_autoptr(GPtrArray) done = g_ptr_array_new_with_free_func(g_free);
    xmlNode *domain, *element;
    int ret = gpup_xml_parse(xml, strlen(xml), &doc, err);

    if (ret < 0)
        return ret;
    domain = xmlDocGetRootElement(doc);
    name = gpup_xml_child_text(domain, "name");
    element = gpup_xml_adapter(domain, NULL);
    if (element) {
        ret = change_values(element, adapter, name, err);
        describe_values(adapter, name, done);
    } else {
        ret = add_all(domain, adapter, name, flags, done, err);
    }
    if (ret < 0)
        return ret;
    *out = dump(doc);
    *lines = to_lines(g_steal_pointer(&done));
    return 0;
}

/* ---- the ports that libvirt adds ---- */

static xmlNode *port_with_index(const xmlNode *domain, const char *index)
{
    xmlNode *devices = gpup_xml_child(domain, "devices", NULL);

    for (xmlNode *c = devices ? gpup_xml_child(devices, "controller", NULL) : NULL; c;
         c = gpup_xml_child(devices, "controller", c)) {
        if (gpup_xml_attribute_is(c, "type", "pci") && gpup_xml_attribute_is(c, "index", index))
            return c;
    }
    return NULL;
}

int gpup_domain_note_ports(const char *before, const char *after, char **out,
                           struct gpup_error **err)
{
    GPUP_AUTO_XML old = NULL;
    GPUP_AUTO_XML new = NULL;
    xmlNode *devices, *element;
    bool noted = false;
    int ret = gpup_xml_parse(before, strlen(before), &old, err);

    *out = NULL;
    if (ret == 0)
        ret = gpup_xml_parse(after, strlen(after), &new, err);
    if (ret < 0)
        return ret;
    element = gpup_xml_adapter(xmlDocGetRootElement(new), NULL);
    devices = gpup_xml_child(xmlDocGetRootElement(new), "devices", NULL);
    for (xmlNode *c = devices ? gpup_xml_child(devices, "controller", NULL) : NULL; element && c;
         c = gpup_xml_child(devices, "controller", c)) {
        g_autofree char *index = gpup_xml_attribute(c, "index");

        if (!index || !gpup_xml_attribute_is(c, "type", "pci") ||
            port_with_index(xmlDocGetRootElement(old), index))
            continue;
        gpup_note(element, "added", "port", index);
        noted = true;
    }
    if (noted)
        *out = dump(new);
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

static void remove_port(xmlNode *domain, const char *index)
{
    xmlNode *port = port_with_index(domain, index);

    /* the user may have put something else behind it meanwhile */
    if (port && !port_is_used(gpup_xml_child(domain, "devices", NULL),
                              (unsigned)g_ascii_strtoull(index, NULL, 10)))
        gpup_xml_remove(port);
}

static void undo(xmlNode *domain, const xmlNode *note, GPtrArray *lines)
{
    g_autofree char *what = gpup_xml_attribute(note, "what");
    g_autofree char *was = gpup_xml_attribute(note, "was");

    if (g_strcmp0(what, "port") == 0 && was)
        remove_port(domain, was);
    else if (what)
        gpup_undo_part(domain, what, was, lines);
}

int gpup_domain_remove_adapter(const char *xml, char **out, GStrv *lines, struct gpup_error **err)
{
    GPUP_AUTO_XML doc = NULL;
    g_autofree char *name = NULL, *id = NULL;
    g_autoptr(GPtrArray) done = g_ptr_array_new_with_free_func(g_free);
    xmlNode *domain, *element, *video, *metadata;
    bool drop_metadata = false;
    int ret = gpup_xml_parse(xml, strlen(xml), &doc, err);

    if (ret < 0)
        return ret;
    domain = xmlDocGetRootElement(doc);
    name = gpup_xml_child_text(domain, "name");
    element = gpup_xml_adapter(domain, NULL);
    if (!element)
        return gpup_error_set(err, ENOENT, "%s has no adapter", name);
    id = gpup_xml_attribute(element, "id");
    video = id ? gpup_xml_video_of(domain, id, NULL) : NULL;
    if (video)
        gpup_xml_remove(video);
    /* ports after the device that sat behind them; in reverse, so that what came last goes first */
    for (xmlNode *note = xmlLastElementChild(element); note;
         note = xmlPreviousElementSibling(note)) {
        drop_metadata |= gpup_xml_attribute_is(note, "what", "metadata");
        undo(domain, note, done);
    }
    metadata = element->parent;
    gpup_xml_remove(element);
    if (drop_metadata && !gpup_xml_has_elements(metadata))
        gpup_xml_remove(metadata);
    g_ptr_array_insert(done, 0, g_strdup_printf("%s: no partition any more", name));
    *out = dump(doc);
    *lines = to_lines(g_steal_pointer(&done));
    return 0;
}
