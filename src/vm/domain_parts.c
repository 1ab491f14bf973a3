/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "vm/domain_parts.h"

#include "core/error.h"
#include "vm/adapter_xml.h"
#include "vm/domain.h"
#include "vm/xml.h"

#include <errno.h>
#include <string.h>

#define QEMU_NS "http://libvirt.org/schemas/domain/qemu/1.0"

/* libvirt keeps aliases that begin with ua-: they name what is ours */
#define DISPLAY_ALIAS "ua-gpup-display" /* the primary display that we added */

void gpup_edit_say(struct gpup_edit *edit, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    g_ptr_array_add(edit->lines, g_strdup_vprintf(fmt, args));
    va_end(args);
}

xmlNode *gpup_edit_find_note(const struct gpup_edit *edit, const char *what)
{
    for (xmlNode *note = xmlFirstElementChild(edit->element); note;
         note = xmlNextElementSibling(note)) {
        if (gpup_xml_attribute_is(note, "what", what))
            return note;
    }
    return NULL;
}

bool gpup_edit_noted(const struct gpup_edit *edit, const char *what)
{
    return gpup_edit_find_note(edit, what) != NULL;
}

void gpup_edit_note(struct gpup_edit *edit, const char *kind, const char *what, const char *was)
{
    xmlNode *note;

    if (gpup_edit_noted(edit, what))
        return;
    note = gpup_xml_append(edit->element, kind);
    gpup_xml_set(note, "what", what);
    if (was)
        gpup_xml_set(note, "was", was);
}

/* ---- memory ---- */

static int refuse_private(const struct gpup_edit *edit, const char *what, struct gpup_error **err)
{
    return gpup_error_set(err, EINVAL,
                          "%s has %s, but the partition's device must see all of the guest's "
                          "memory: set it to 'shared' (virsh edit %s)",
                          edit->name, what, edit->name);
}

int gpup_check_memory(const struct gpup_edit *edit, struct gpup_error **err)
{
    xmlNode *cpu = gpup_xml_child(edit->domain, "cpu", NULL);
    xmlNode *numa = cpu ? gpup_xml_child(cpu, "numa", NULL) : NULL;
    xmlNode *devices = gpup_xml_child(edit->domain, "devices", NULL);

    for (xmlNode *cell = numa ? gpup_xml_child(numa, "cell", NULL) : NULL; cell;
         cell = gpup_xml_child(numa, "cell", cell)) {
        if (gpup_xml_attribute_is(cell, "memAccess", "private"))
            return refuse_private(edit, "a NUMA cell with memAccess='private'", err);
    }
    for (xmlNode *m = devices ? gpup_xml_child(devices, "memory", NULL) : NULL; m;
         m = gpup_xml_child(devices, "memory", m)) {
        if (gpup_xml_attribute_is(m, "access", "private"))
            return refuse_private(edit, "a memory device with access='private'", err);
    }
    return 0;
}

/* Sets an attribute of a memoryBacking child and notes what was there. */
static void set_backing(struct gpup_edit *edit, xmlNode *backing, const char *child,
                        const char *attribute, const char *value)
{
    bool made;
    xmlNode *node = gpup_xml_child_or_new(backing, child, &made);
    g_autofree char *was = gpup_xml_attribute(node, attribute);
    g_autofree char *what = g_strdup_printf("memory-%s", child);

    gpup_xml_set(node, attribute, value);
    gpup_edit_note(edit, made ? "added" : "changed", what, was);
    if (was)
        gpup_edit_say(edit, "Its memory's %s, which was '%s', becomes '%s'", child, was, value);
}

/* Memory of this kind has a descriptor that another process can map. */
static bool has_descriptor(const xmlNode *backing)
{
    xmlNode *source = gpup_xml_child(backing, "source", NULL);
    xmlNode *huge = gpup_xml_child(backing, "hugepages", NULL);

    if (source)
        return gpup_xml_attribute_is(source, "type", "memfd") ||
               gpup_xml_attribute_is(source, "type", "file");
    /* pages of some nodes only leave the others with anonymous memory */
    for (xmlNode *page = huge ? gpup_xml_child(huge, "page", NULL) : NULL; page;
         page = gpup_xml_child(huge, "page", page)) {
        g_autofree char *nodes = gpup_xml_attribute(page, "nodeset");

        if (nodes)
            return false;
    }
    return huge;
}

void gpup_share_memory(struct gpup_edit *edit)
{
    bool made, source, access;
    xmlNode *backing = gpup_xml_child_or_new(edit->domain, "memoryBacking", &made);
    xmlNode *mode = gpup_xml_child(backing, "access", NULL);

    source = !has_descriptor(backing);
    access = !mode || !gpup_xml_attribute_is(mode, "mode", "shared");
    if (made)
        gpup_edit_note(edit, "added", "memory-backing", NULL);
    if (source)
        set_backing(edit, backing, "source", "type", "memfd");
    if (access)
        set_backing(edit, backing, "access", "mode", "shared");
    if (source || access)
        gpup_edit_say(edit, "Its memory becomes shared%s: the partition's device has to see it",
                      source ? " (memfd)" : "");
}

static void undo_backing(struct gpup_edit *edit, const char *child, const char *attribute,
                         const char *value, const char *was)
{
    xmlNode *backing = gpup_xml_child(edit->domain, "memoryBacking", NULL);
    xmlNode *node = backing ? gpup_xml_child(backing, child, NULL) : NULL;

    if (!node)
        return;
    if (!gpup_xml_attribute_is(node, attribute, value))
        gpup_edit_say(edit, "memoryBacking/%s was changed since: left as it is", child);
    else if (was)
        gpup_xml_set(node, attribute, was);
    else
        gpup_xml_remove(node);
}

static void undo_memory(struct gpup_edit *edit)
{
    xmlNode *backing = gpup_xml_child(edit->domain, "memoryBacking", NULL);

    if (backing && !gpup_xml_has_elements(backing))
        gpup_xml_remove(backing);
}

/* ---- displays ---- */

static xmlNode *devices_of(const xmlNode *domain)
{
    return gpup_xml_child(domain, "devices", NULL);
}

static bool model_is(const xmlNode *video, const char *type)
{
    return gpup_xml_attribute_is(gpup_xml_child(video, "model", NULL), "type", type);
}

static xmlNode *our_video(const struct gpup_edit *edit)
{
    g_autofree char *id = gpup_xml_attribute(edit->element, "id");

    return id ? gpup_xml_video_of(edit->domain, id, NULL) : NULL;
}

/* The video device that is the primary one to libvirt: the one marked so, else the first. */
static xmlNode *primary_video(const xmlNode *domain, const xmlNode *ours)
{
    xmlNode *devices = devices_of(domain);
    xmlNode *first = NULL;

    for (xmlNode *v = gpup_xml_child(devices, "video", NULL); v;
         v = gpup_xml_child(devices, "video", v)) {
        if (v == ours)
            continue;
        if (gpup_xml_attribute_is(gpup_xml_child(v, "model", NULL), "primary", "yes"))
            return v;
        first = first ? first : v;
    }
    return first;
}

/* QEMU needs a GL context for our console: VNC makes do without showing it, but these want to show
 * every console they find. */
static const char *display_without_gl(const xmlNode *domain)
{
    static const char *const types[] = {"spice", "dbus", "sdl"};
    xmlNode *devices = devices_of(domain);
    const char *without_gl = NULL;

    for (xmlNode *g = gpup_xml_child(devices, "graphics", NULL); g;
         g = gpup_xml_child(devices, "graphics", g)) {
        xmlNode *gl = gpup_xml_child(g, "gl", NULL);

        if (gpup_xml_attribute_is(g, "type", "egl-headless"))
            return NULL;
        if (gpup_xml_attribute_is(gl, "enable", "yes"))
            continue;
        for (size_t i = 0; i < G_N_ELEMENTS(types); i++) {
            if (gpup_xml_attribute_is(g, "type", types[i]))
                without_gl = types[i];
        }
    }
    return without_gl;
}

int gpup_check_display(const struct gpup_edit *edit, const struct gpup_adapter *adapter,
                       struct gpup_error **err)
{
    xmlNode *primary;
    const char *display;

    if (!devices_of(edit->domain))
        return gpup_error_set(err, EINVAL, "%s's definition has no <devices>: virsh edit %s",
                              edit->name, edit->name);
    primary = primary_video(edit->domain, NULL);
    display = display_without_gl(edit->domain);
    if (primary && model_is(primary, "cirrus"))
        return gpup_error_set(err, EINVAL,
                              "%s has a cirrus display, beside which no second one can be: change "
                              "its model to vga first (virsh edit %s)",
                              edit->name, edit->name);
    if (display && adapter->display != GPUP_DISPLAY_OFF)
        return gpup_error_set(err, EINVAL,
                              "%s has a %s display without OpenGL, beside which a partition has no "
                              "head to connect: use VNC, add <graphics type='egl-headless'/>, or "
                              "assign it with --display off",
                              edit->name, display);
    if (display && edit->flags & GPUP_DOMAIN_NO_OVERRIDE)
        return gpup_error_set(err, EOPNOTSUPP,
                              "%s has a %s display, beside which a partition needs libvirt 8.2 or "
                              "later: use VNC instead (virsh edit %s: <graphics type='vnc'/>)",
                              edit->name, display, edit->name);
    return 0;
}

/* What any firmware shows itself on. */
static const char *primary_model(const xmlNode *domain)
{
    xmlNode *os = gpup_xml_child(domain, "os", NULL);
    xmlNode *type = os ? gpup_xml_child(os, "type", NULL) : NULL;
    g_autofree char *arch = type ? gpup_xml_attribute(type, "arch") : NULL;

    return !arch || strcmp(arch, "x86_64") == 0 || strcmp(arch, "i686") == 0 ? "vga" : "virtio";
}

static void set_alias(xmlNode *device, const char *name)
{
    gpup_xml_set(gpup_xml_child_or_new(device, "alias", NULL), "name", name);
}

/* Before ours, if that is there: the primary display stands first. */
static xmlNode *new_video(struct gpup_edit *edit)
{
    xmlNode *ours = our_video(edit);
    xmlNode *video = gpup_xml_append(devices_of(edit->domain), "video");

    if (ours)
        xmlAddPrevSibling(ours, video);
    return video;
}

void gpup_add_primary(struct gpup_edit *edit)
{
    xmlNode *video = primary_video(edit->domain, our_video(edit));
    const char *model = primary_model(edit->domain);

    if (video && model_is(video, "virtio"))
        gpup_edit_say(edit, "Its own display is virtio, so the guest sees two GPUs and the "
                            "partition is the second: with vga it would be the only one");
    if (video && !model_is(video, "none"))
        return;
    gpup_edit_note(edit, video ? "changed" : "added", "display", video ? "none" : NULL);
    if (!video)
        video = new_video(edit);
    gpup_xml_set(gpup_xml_child_or_new(video, "model", NULL), "type", model);
    set_alias(video, DISPLAY_ALIAS);
    gpup_edit_say(edit, "A %s display is added: the partition's own must not be the only one",
                  model);
}

static xmlNode *video_with_alias(const xmlNode *domain, const char *name)
{
    xmlNode *devices = devices_of(domain);

    for (xmlNode *v = gpup_xml_child(devices, "video", NULL); v;
         v = gpup_xml_child(devices, "video", v)) {
        if (gpup_xml_attribute_is(gpup_xml_child(v, "alias", NULL), "name", name))
            return v;
    }
    return NULL;
}

/* A model 'none' as it was: without what libvirt wrote there for the display. */
static void make_none(xmlNode *video)
{
    static const char *const children[] = {"alias", "address", "driver"};
    xmlNode *model = gpup_xml_child(video, "model", NULL);

    for (size_t i = 0; i < G_N_ELEMENTS(children); i++) {
        xmlNode *child = gpup_xml_child(video, children[i], NULL);

        if (child)
            gpup_xml_remove(child);
    }
    while (model->properties)
        xmlRemoveProp(model->properties);
    gpup_xml_set(model, "type", "none");
}

static void undo_primary(struct gpup_edit *edit, const char *was)
{
    xmlNode *video = video_with_alias(edit->domain, DISPLAY_ALIAS);

    if (!video || !model_is(video, primary_model(edit->domain)))
        gpup_edit_say(edit, "The display that was added was changed since: left as it is");
    else if (was)
        make_none(video);
    else
        gpup_xml_remove(video);
}

/* ---- our device ---- */

static xmlNode *new_device(struct gpup_edit *edit)
{
    g_autofree char *id = gpup_xml_attribute(edit->element, "id");
    g_autofree char *path = g_build_filename(GPUP_VM_DIR, id, NULL);
    g_autofree char *alias = g_strconcat(GPUP_DEVICE_ALIAS, id, NULL);
    xmlNode *video = gpup_xml_append(devices_of(edit->domain), "video");
    xmlNode *model, *acceleration;

    gpup_xml_set(gpup_xml_append(video, "driver"), "name", "vhostuser");
    model = gpup_xml_append(video, "model");
    gpup_xml_set(model, "type", "virtio");
    gpup_xml_set(model, "heads", "1");
    acceleration = gpup_xml_append(model, "acceleration");
    gpup_xml_set(acceleration, "accel3d", "yes");
    gpup_xml_set(acceleration, "rendernode", path);
    set_alias(video, alias);
    return video;
}

xmlNode *gpup_qemu_child(const xmlNode *parent, const char *name, const char *attribute,
                         const char *value)
{
    for (xmlNode *n = parent ? parent->children : NULL; n; n = n->next) {
        if (gpup_xml_is(n, name) && n->ns && strcmp((const char *)n->ns->href, QEMU_NS) == 0 &&
            (!attribute || gpup_xml_attribute_is(n, attribute, value)))
            return n;
    }
    return NULL;
}

xmlNode *gpup_qemu_list(struct gpup_edit *edit, const char *name, const char *note)
{
    xmlNode *list = gpup_qemu_child(edit->domain, name, NULL, NULL);
    xmlNs *ns = xmlSearchNsByHref(edit->domain->doc, edit->domain, (const xmlChar *)QEMU_NS);

    if (list)
        return list;
    list = gpup_xml_append(edit->domain, name);
    xmlSetNs(list, ns ? ns : xmlNewNs(list, (const xmlChar *)QEMU_NS, (const xmlChar *)"qemu"));
    gpup_edit_note(edit, "added", note, NULL);
    return list;
}

static xmlNode *our_override(const xmlNode *list, const xmlNode *element)
{
    g_autofree char *id = gpup_xml_attribute(element, "id");
    g_autofree char *alias = g_strconcat(GPUP_DEVICE_ALIAS, id, NULL);

    return gpup_qemu_child(list, "device", "alias", alias);
}

/* A device without outputs has no console that a display could refuse. */
static void add_override(struct gpup_edit *edit, const char *display)
{
    g_autofree char *id = gpup_xml_attribute(edit->element, "id");
    g_autofree char *alias = g_strconcat(GPUP_DEVICE_ALIAS, id, NULL);
    xmlNode *device, *property, *list = gpup_qemu_list(edit, "override", "override-list");

    if (our_override(list, edit->element))
        return;
    set_alias(our_video(edit), alias);
    device = gpup_xml_append(list, "device");
    gpup_xml_set(device, "alias", alias);
    property = gpup_xml_append(gpup_xml_append(device, "frontend"), "property");
    gpup_xml_set(property, "name", "max_outputs");
    gpup_xml_set(property, "type", "unsigned");
    gpup_xml_set(property, "value", "0");
    gpup_edit_note(edit, "added", "override", NULL);
    gpup_edit_say(edit,
                  "Beside a %s display the partition has no output of its own (a qemu:override "
                  "sets max_outputs=0): a guest with Linux 6.1 refuses such a device, one with "
                  "6.12 renders on it. For an older guest use VNC",
                  display);
}

void gpup_add_video(struct gpup_edit *edit)
{
    const char *display = display_without_gl(edit->domain);

    if (!our_video(edit)) {
        new_device(edit);
        gpup_edit_note(edit, "added", "video", NULL);
        gpup_edit_say(edit, "The partition's device is added as a second display, beside its own");
    }
    if (display)
        add_override(edit, display);
}

static void undo_video(struct gpup_edit *edit)
{
    xmlNode *video = our_video(edit);

    if (video && model_is(video, "virtio") &&
        gpup_xml_attribute_is(gpup_xml_child(video, "driver", NULL), "name", "vhostuser"))
        gpup_xml_remove(video);
    else
        gpup_edit_say(edit, video ? "The partition's device was changed since: left as it is"
                                  : "The partition's device was taken out already");
}

/* Takes an element out unless somebody has put something else into it. */
static xmlNode *remove_if_empty(xmlNode *node)
{
    xmlNode *parent = node->parent;

    if (gpup_xml_has_elements(node))
        return NULL;
    gpup_xml_remove(node);
    return parent;
}

static void undo_override(struct gpup_edit *edit)
{
    xmlNode *list = gpup_qemu_child(edit->domain, "override", NULL, NULL);
    xmlNode *device = our_override(list, edit->element);
    xmlNode *frontend = gpup_qemu_child(device, "frontend", NULL, NULL);
    xmlNode *property = gpup_qemu_child(frontend, "property", "name", "max_outputs");

    if (!property)
        return;
    gpup_xml_remove(property);
    frontend = remove_if_empty(frontend);
    if (!frontend || !remove_if_empty(frontend))
        gpup_edit_say(edit, "Its qemu:override has settings of others for the partition's device: "
                            "they are left");
}

static void undo_override_list(struct gpup_edit *edit)
{
    xmlNode *list = gpup_qemu_child(edit->domain, "override", NULL, NULL);

    if (list)
        remove_if_empty(list);
}

/* ---- undoing ---- */

void gpup_undo_part(struct gpup_edit *edit, const char *what, const char *was)
{
    if (strcmp(what, "memory-source") == 0)
        undo_backing(edit, "source", "type", "memfd", was);
    else if (strcmp(what, "memory-access") == 0)
        undo_backing(edit, "access", "mode", "shared", was);
    else if (strcmp(what, "memory-backing") == 0)
        undo_memory(edit);
    else if (strcmp(what, "display") == 0)
        undo_primary(edit, was);
    else if (strcmp(what, "video") == 0)
        undo_video(edit);
    else if (strcmp(what, "override") == 0)
        undo_override(edit);
    else if (strcmp(what, "override-list") == 0)
        undo_override_list(edit);
    else
        gpup_undo_hostdev(edit, what, was);
}
