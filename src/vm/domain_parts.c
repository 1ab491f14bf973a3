/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "vm/domain_parts.h"

#include "core/error.h"
#include "vm/adapter_xml.h"
#include "vm/xml.h"

#include <errno.h>
#include <string.h>

#define QEMU_NS "http://libvirt.org/schemas/domain/qemu/1.0"
#define ALIAS   "ua-gpup" /* libvirt keeps aliases that begin with ua- */

void gpup_note(xmlNode *element, const char *kind, const char *what, const char *was)
{
    xmlNode *note = xmlNewChild(element, element->ns, (const xmlChar *)kind, NULL);

    gpup_xml_set(note, "what", what);
    if (was)
        gpup_xml_set(note, "was", was);
}

/* ---- memory ---- */

int gpup_check_memory(const xmlNode *domain, const char *name, struct gpup_error **err)
{
    xmlNode *cpu = gpup_xml_child(domain, "cpu", NULL);
    xmlNode *numa = cpu ? gpup_xml_child(cpu, "numa", NULL) : NULL;

    for (xmlNode *cell = numa ? gpup_xml_child(numa, "cell", NULL) : NULL; cell;
         cell = gpup_xml_child(numa, "cell", cell)) {
        if (gpup_xml_attribute_is(cell, "memAccess", "private"))
            return gpup_error_set(err, EINVAL,
                                  "%s has a NUMA cell with memAccess='private', but the device "
                                  "process must see the guest's memory: set it to 'shared' "
                                  "(virsh edit %s)",
                                  name, name);
    }
    return 0;
}

/* Sets an attribute of a memoryBacking child and notes what was there. */
static bool set_backing(xmlNode *backing, xmlNode *element, const char *child,
                        const char *attribute, const char *value, const char *what)
{
    bool made;
    xmlNode *node = gpup_xml_child_or_new(backing, child, &made);
    g_autofree char *was = gpup_xml_attribute(node, attribute);

    if (g_strcmp0(was, value) == 0)
        return false;
    gpup_xml_set(node, attribute, value);
    gpup_note(element, made ? "added" : "changed", what, was);
    return true;
}

void gpup_share_memory(xmlNode *domain, xmlNode *element, GPtrArray *lines)
{
    bool made, changed = false;
    xmlNode *backing = gpup_xml_child_or_new(domain, "memoryBacking", &made);
    xmlNode *source = gpup_xml_child(backing, "source", NULL);

    if (made)
        gpup_note(element, "added", "memory-backing", NULL);
    /* a file can be shared as well as a memfd */
    if (!source || !gpup_xml_attribute_is(source, "type", "file"))
        changed = set_backing(backing, element, "source", "type", "memfd", "memory-source");
    changed |= set_backing(backing, element, "access", "mode", "shared", "memory-access");
    if (changed)
        g_ptr_array_add(lines, g_strdup("Its memory becomes shared (memfd): the device process has "
                                        "to see it"));
}

static void undo_backing(xmlNode *domain, const char *child, const char *attribute,
                         const char *value, const char *was, GPtrArray *lines)
{
    xmlNode *backing = gpup_xml_child(domain, "memoryBacking", NULL);
    xmlNode *node = backing ? gpup_xml_child(backing, child, NULL) : NULL;

    if (!node || !gpup_xml_attribute_is(node, attribute, value)) {
        if (node)
            g_ptr_array_add(lines, g_strdup_printf("memoryBacking/%s was changed since: left as it "
                                                   "is",
                                                   child));
        return;
    }
    if (was)
        gpup_xml_set(node, attribute, was);
    else
        gpup_xml_remove(node);
}

/* ---- displays ---- */

static xmlNode *devices_of(const xmlNode *domain)
{
    return gpup_xml_child(domain, "devices", NULL);
}

static xmlNode *model_of(const xmlNode *video)
{
    return gpup_xml_child(video, "model", NULL);
}

/* The video device that stands first, which libvirt makes the primary one. */
static xmlNode *first_video(const xmlNode *domain)
{
    xmlNode *devices = devices_of(domain);

    return devices ? gpup_xml_child(devices, "video", NULL) : NULL;
}

static bool is_none(const xmlNode *video)
{
    return gpup_xml_attribute_is(model_of(video), "type", "none");
}

/* QEMU needs a GL context for a vhost-user console; these displays would give it one without. */
static bool needs_no_console(const xmlNode *domain)
{
    xmlNode *devices = devices_of(domain);
    bool without_gl = false;

    for (xmlNode *g = devices ? gpup_xml_child(devices, "graphics", NULL) : NULL; g;
         g = gpup_xml_child(devices, "graphics", g)) {
        xmlNode *gl = gpup_xml_child(g, "gl", NULL);

        if (gpup_xml_attribute_is(g, "type", "egl-headless"))
            return false;
        if ((gpup_xml_attribute_is(g, "type", "spice") ||
             gpup_xml_attribute_is(g, "type", "dbus")) &&
            !(gl && gpup_xml_attribute_is(gl, "enable", "yes")))
            without_gl = true;
    }
    return without_gl;
}

static xmlNode *qemu_child(const xmlNode *parent, const char *name)
{
    for (xmlNode *n = parent->children; n; n = n->next) {
        if (gpup_xml_is(n, name) && n->ns && strcmp((const char *)n->ns->href, QEMU_NS) == 0)
            return n;
    }
    return NULL;
}

int gpup_check_display(const xmlNode *domain, const char *name, struct gpup_error **err)
{
    xmlNode *devices = devices_of(domain);
    xmlNode *first = first_video(domain);

    if (!devices)
        return gpup_error_set(err, EINVAL, "%s has no devices", name);
    if (first && gpup_xml_attribute_is(model_of(first), "type", "cirrus"))
        return gpup_error_set(err, EINVAL,
                              "%s has a cirrus display, beside which no second one can be: change "
                              "its model to vga or virtio first (virsh edit %s)",
                              name, name);
    return 0;
}

static const char *primary_model(const xmlNode *domain)
{
    xmlNode *os = gpup_xml_child(domain, "os", NULL);
    xmlNode *type = os ? gpup_xml_child(os, "type", NULL) : NULL;

    return type && (gpup_xml_attribute_is(type, "arch", "x86_64") ||
                    gpup_xml_attribute_is(type, "arch", "i686"))
               ? "vga"
               : "virtio";
}

void gpup_add_primary(xmlNode *domain, xmlNode *element, GPtrArray *lines)
{
    xmlNode *video = first_video(domain);
    const char *model = primary_model(domain);

    if (video && !is_none(video))
        return;
    if (video) {
        gpup_xml_remove(video);
        gpup_note(element, "changed", "primary-video", "none");
    } else {
        gpup_note(element, "added", "primary-video", NULL);
    }
    video = xmlNewChild(devices_of(domain), NULL, (const xmlChar *)"video", NULL);
    gpup_xml_set(xmlNewChild(video, NULL, (const xmlChar *)"model", NULL), "type", model);
    g_ptr_array_add(lines, g_strdup_printf("A %s display is added: the partition's own must not be "
                                           "the only one",
                                           model));
}

/* The model libvirt shows for what gpup_add_primary() added. */
static void undo_primary(xmlNode *domain, const char *was, GPtrArray *lines)
{
    xmlNode *video = first_video(domain);
    const char *model = primary_model(domain);

    if (!video || !gpup_xml_attribute_is(model_of(video), "type", model)) {
        g_ptr_array_add(lines, g_strdup("the display that was added was changed since: left as it "
                                        "is"));
        return;
    }
    gpup_xml_remove(video);
    if (!was)
        return;
    video = xmlNewChild(devices_of(domain), NULL, (const xmlChar *)"video", NULL);
    gpup_xml_set(xmlNewChild(video, NULL, (const xmlChar *)"model", NULL), "type", was);
}

static void add_override(xmlNode *domain, xmlNode *element, GPtrArray *lines)
{
    xmlNs *ns = xmlSearchNsByHref(domain->doc, domain, (const xmlChar *)QEMU_NS);
    xmlNode *override, *device, *frontend, *property;

    if (!ns)
        ns = xmlNewNs(domain, (const xmlChar *)QEMU_NS, (const xmlChar *)"qemu");
    override = qemu_child(domain, "override");
    if (!override)
        override = xmlNewChild(domain, ns, (const xmlChar *)"override", NULL);
    device = xmlNewChild(override, ns, (const xmlChar *)"device", NULL);
    gpup_xml_set(device, "alias", ALIAS);
    frontend = xmlNewChild(device, ns, (const xmlChar *)"frontend", NULL);
    property = xmlNewChild(frontend, ns, (const xmlChar *)"property", NULL);
    gpup_xml_set(property, "name", "max_outputs");
    gpup_xml_set(property, "type", "unsigned");
    gpup_xml_set(property, "value", "0");
    gpup_note(element, "added", "override", NULL);
    g_ptr_array_add(lines, g_strdup("With SPICE the partition has no display output (an override "
                                    "sets max_outputs=0): a guest with kernel 6.1 refuses such a "
                                    "device, 6.12 takes it. For older guests use VNC"));
}

static void undo_override(xmlNode *domain)
{
    xmlNode *override = qemu_child(domain, "override");

    for (xmlNode *n = override ? xmlFirstElementChild(override) : NULL; n;
         n = xmlNextElementSibling(n)) {
        if (!gpup_xml_attribute_is(n, "alias", ALIAS))
            continue;
        gpup_xml_remove(n);
        break;
    }
    if (override && !gpup_xml_has_elements(override))
        gpup_xml_remove(override);
}

void gpup_add_video(xmlNode *domain, xmlNode *element, GPtrArray *lines)
{
    g_autofree char *id = gpup_xml_attribute(element, "id");
    g_autofree char *path = g_build_filename(GPUP_VM_DIR, id, NULL);
    xmlNode *video, *model, *acceleration;

    video = xmlNewChild(devices_of(domain), NULL, (const xmlChar *)"video", NULL);
    gpup_xml_set(xmlNewChild(video, NULL, (const xmlChar *)"driver", NULL), "name", "vhostuser");
    model = xmlNewChild(video, NULL, (const xmlChar *)"model", NULL);
    gpup_xml_set(model, "type", "virtio");
    gpup_xml_set(model, "heads", "1");
    acceleration = xmlNewChild(model, NULL, (const xmlChar *)"acceleration", NULL);
    gpup_xml_set(acceleration, "accel3d", "yes");
    gpup_xml_set(acceleration, "rendernode", path);
    gpup_xml_set(xmlNewChild(video, NULL, (const xmlChar *)"alias", NULL), "name", ALIAS);
    if (needs_no_console(domain))
        add_override(domain, element, lines);
}

/* ---- undoing ---- */

void gpup_undo_part(xmlNode *domain, const char *what, const char *was, GPtrArray *lines)
{
    if (strcmp(what, "memory-source") == 0) {
        undo_backing(domain, "source", "type", "memfd", was, lines);
    } else if (strcmp(what, "memory-access") == 0) {
        undo_backing(domain, "access", "mode", "shared", was, lines);
    } else if (strcmp(what, "memory-backing") == 0) {
        xmlNode *backing = gpup_xml_child(domain, "memoryBacking", NULL);

        if (backing && !gpup_xml_has_elements(backing))
            gpup_xml_remove(backing);
    } else if (strcmp(what, "primary-video") == 0) {
        undo_primary(domain, was, lines);
    } else if (strcmp(what, "override") == 0) {
        undo_override(domain);
    }
}
