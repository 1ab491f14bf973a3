/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "vm/xml.h"

#include "core/error.h"
#include "vm/adapter_xml.h"

#include <errno.h>
#include <libxml/parser.h>
#include <string.h>

#define MAX_XML ((size_t)1 << 20)

static void free_string(xmlChar **string)
{
    if (*string)
        xmlFree(*string);
}
#define AUTO_XML_STRING __attribute__((cleanup(free_string))) xmlChar *

void gpup_xml_free(xmlDoc **doc)
{
    if (*doc)
        xmlFreeDoc(*doc);
}

int gpup_xml_parse(const char *xml, size_t length, xmlDoc **out, struct gpup_error **err)
{
    GPUP_AUTO_XML doc = NULL;
    const xmlNode *domain;

    if (length > MAX_XML)
        return gpup_error_set(err, EINVAL, "the VM's definition is larger than 1 MiB");
    doc = xmlReadMemory(xml, (int)length, NULL, NULL,
                        XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING);
    domain = doc ? xmlDocGetRootElement(doc) : NULL;
    /* libvirt writes no document type: one would only bring entities */
    if (!domain || !gpup_xml_is(domain, "domain") || doc->intSubset)
        return gpup_error_set(err, EINVAL, "this is not a VM's definition (libvirt domain XML)");
    *out = doc;
    doc = NULL;
    return 0;
}

bool gpup_xml_is(const xmlNode *node, const char *name)
{
    return node->type == XML_ELEMENT_NODE && strcmp((const char *)node->name, name) == 0;
}

xmlNode *gpup_xml_child(const xmlNode *parent, const char *name, const xmlNode *after)
{
    for (xmlNode *n = after ? after->next : parent->children; n; n = n->next) {
        if (gpup_xml_is(n, name) && !n->ns)
            return n;
    }
    return NULL;
}

xmlNode *gpup_xml_child_or_new(xmlNode *parent, const char *name, bool *made)
{
    xmlNode *node = gpup_xml_child(parent, name, NULL);

    if (made)
        *made = !node;
    return node ? node : gpup_xml_append(parent, name);
}

xmlNode *gpup_xml_append(xmlNode *parent, const char *name)
{
    return xmlNewChild(parent, parent->ns, (const xmlChar *)name, NULL);
}

char *gpup_xml_attribute(const xmlNode *node, const char *name)
{
    AUTO_XML_STRING value = xmlGetNoNsProp((xmlNode *)node, (const xmlChar *)name);

    return value ? g_strdup((const char *)value) : NULL;
}

bool gpup_xml_attribute_is(const xmlNode *node, const char *name, const char *value)
{
    g_autofree char *text = node ? gpup_xml_attribute(node, name) : NULL;

    return g_strcmp0(text, value) == 0;
}

char *gpup_xml_child_text(const xmlNode *parent, const char *name)
{
    xmlNode *node = gpup_xml_child(parent, name, NULL);
    AUTO_XML_STRING text = node ? xmlNodeGetContent(node) : NULL;

    return text ? g_strdup((const char *)text) : NULL;
}

void gpup_xml_set(xmlNode *node, const char *name, const char *value)
{
    xmlSetProp(node, (const xmlChar *)name, (const xmlChar *)value);
}

void gpup_xml_remove(xmlNode *node)
{
    xmlUnlinkNode(node);
    xmlFreeNode(node);
}

bool gpup_xml_has_elements(const xmlNode *node)
{
    return xmlFirstElementChild((xmlNode *)node) != NULL;
}

/* <libosinfo:libosinfo xmlns:libosinfo="..."><libosinfo:os id="..."/></libosinfo:libosinfo>, which
 * virt-install and virt-manager write. */
#define LIBOSINFO_NS "http://libosinfo.org/xmlns/libvirt/domain/1.0"

char *gpup_xml_system(const xmlNode *domain)
{
    xmlNode *metadata = gpup_xml_child(domain, "metadata", NULL);

    for (xmlNode *node = metadata ? metadata->children : NULL; node; node = node->next) {
        xmlNode *os = NULL;

        if (gpup_xml_is(node, "libosinfo") && node->ns && node->ns->href &&
            strcmp((const char *)node->ns->href, LIBOSINFO_NS) == 0)
            os = xmlFirstElementChild(node);
        if (os && gpup_xml_is(os, "os"))
            return gpup_xml_attribute(os, "id");
    }
    return NULL;
}

xmlNode *gpup_xml_adapter(const xmlNode *domain, unsigned *n)
{
    xmlNode *metadata = gpup_xml_child(domain, "metadata", NULL);
    xmlNode *found = NULL;
    unsigned count = 0;

    for (xmlNode *node = metadata ? metadata->children : NULL; node; node = node->next) {
        if (!gpup_xml_is(node, "adapter") || !node->ns || !node->ns->href ||
            strcmp((const char *)node->ns->href, GPUP_ADAPTER_NS) != 0)
            continue;
        if (++count == 1)
            found = node;
    }
    if (n)
        *n = count;
    return found;
}

xmlNode *gpup_xml_video_of(const xmlNode *domain, const char *adapter_id, int *index)
{
    g_autofree char *want = g_build_filename(GPUP_VM_DIR, adapter_id, NULL);
    xmlNode *devices = gpup_xml_child(domain, "devices", NULL);
    int i = 0;

    for (xmlNode *video = devices ? gpup_xml_child(devices, "video", NULL) : NULL; video;
         video = gpup_xml_child(devices, "video", video), i++) {
        xmlNode *model = gpup_xml_child(video, "model", NULL);
        xmlNode *acceleration = model ? gpup_xml_child(model, "acceleration", NULL) : NULL;

        if (acceleration && gpup_xml_attribute_is(acceleration, "rendernode", want)) {
            if (index)
                *index = i;
            return video;
        }
    }
    return NULL;
}

xmlNode *gpup_xml_hostdev_of(const xmlNode *domain, const char *adapter_id)
{
    g_autofree char *alias = g_strconcat(GPUP_DEVICE_ALIAS, adapter_id, NULL);
    xmlNode *devices = gpup_xml_child(domain, "devices", NULL);

    for (xmlNode *h = devices ? gpup_xml_child(devices, "hostdev", NULL) : NULL; h;
         h = gpup_xml_child(devices, "hostdev", h)) {
        xmlNode *name = gpup_xml_child(h, "alias", NULL);

        if (name && gpup_xml_attribute_is(name, "name", alias))
            return h;
    }
    return NULL;
}

char gpup_xml_companion_number(const xmlNode *hostdev, const char *adapter_id)
{
    g_autofree char *prefix = g_strconcat(GPUP_DEVICE_ALIAS, adapter_id, "-", NULL);
    xmlNode *alias = gpup_xml_child(hostdev, "alias", NULL);
    g_autofree char *name = alias ? gpup_xml_attribute(alias, "name") : NULL;

    if (!name || !g_str_has_prefix(name, prefix))
        return '\0';
    return name[strlen(prefix)];
}

xmlNode *gpup_xml_companion(const xmlNode *domain, const char *adapter_id, xmlNode *after)
{
    xmlNode *devices = gpup_xml_child(domain, "devices", NULL);
    xmlNode *h = devices ? gpup_xml_child(devices, "hostdev", after) : NULL;

    while (h && gpup_xml_companion_number(h, adapter_id) == '\0')
        h = gpup_xml_child(devices, "hostdev", h);
    return h;
}

/* Any base, as libvirt reads it; libvirt itself writes 0x.. */
static bool read_part(const xmlNode *address, const char *name, guint64 most, guint64 *value)
{
    g_autofree char *text = gpup_xml_attribute(address, name);
    char *end = NULL;

    if (!text)
        return strcmp(name, "domain") == 0; /* 0 where it is left out */
    if (!g_ascii_isdigit(*text))
        return false;
    *value = g_ascii_strtoull(text, &end, 0);
    return end && *end == '\0' && *value <= most;
}

bool gpup_xml_hostdev_address(const xmlNode *hostdev, char out[GPUP_ADDRESS_SIZE])
{
    xmlNode *source = gpup_xml_child(hostdev, "source", NULL);
    xmlNode *address = source ? gpup_xml_child(source, "address", NULL) : NULL;
    guint64 domain = 0, bus, slot, function;

    if (!address || !gpup_xml_attribute_is(hostdev, "type", "pci") ||
        !read_part(address, "domain", 0xffffffff, &domain) ||
        !read_part(address, "bus", 0xff, &bus) || !read_part(address, "slot", 0x1f, &slot) ||
        !read_part(address, "function", 7, &function))
        return false;
    g_snprintf(out, GPUP_ADDRESS_SIZE, "%04x:%02x:%02x.%x", (unsigned)domain, (unsigned)bus,
               (unsigned)slot, (unsigned)function);
    return true;
}
