/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/error.h"
#include "core/units.h"
#include "vm/domain.h"
#include "vm/domain_parts.h"
#include "vm/xml.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* What an adapter of kind sriov or passthrough needs in a domain: the host's device, and room for
 * its memory. */

/* What QEMU's q35 and OVMF have for 64-bit BARs where nobody asks for more. */
#define DEFAULT_WINDOW (UINT64_C(32) << 30)
#define MOST_WINDOW    (UINT64_C(1) << 44) /* the most that OVMF takes */
#define COMPANIONS     "companions"
#define FW_CFG         "name=opt/ovmf/X-PciMmio64Mb,string="

static xmlNode *devices_of(const xmlNode *domain)
{
    return gpup_xml_child(domain, "devices", NULL);
}

static xmlNode *our_hostdev(const struct gpup_edit *edit)
{
    g_autofree char *id = edit->element ? gpup_xml_attribute(edit->element, "id") : NULL;

    return id ? gpup_xml_hostdev_of(edit->domain, id) : NULL;
}

static bool names(const xmlNode *hostdev, const char *address)
{
    char named[GPUP_ADDRESS_SIZE];

    return gpup_xml_hostdev_address(hostdev, named) && strcmp(named, address) == 0;
}

/* By its user. */
static bool is_given(const struct gpup_edit *edit, const char *address)
{
    xmlNode *devices = devices_of(edit->domain);

    for (xmlNode *h = gpup_xml_child(devices, "hostdev", NULL); h;
         h = gpup_xml_child(devices, "hostdev", h)) {
        if (names(h, address))
            return true;
    }
    return false;
}

int gpup_check_hostdev(const struct gpup_edit *edit, struct gpup_error **err)
{
    xmlNode *ours = our_hostdev(edit);

    if (!devices_of(edit->domain))
        return gpup_error_set(err, EINVAL, "%s's definition has no <devices>: virsh edit %s",
                              edit->name, edit->name);
    if (ours)
        return 0;
    if (!edit->device && !edit->element)
        return gpup_error_set(err, EINVAL, "%s: no device of this host was chosen", edit->name);
    if (!edit->device)
        return gpup_error_set(err, EINVAL,
                              "%s's device is not in its definition any more: gpup unassign %s, "
                              "then gpup assign %s",
                              edit->name, edit->name, edit->name);
    if (is_given(edit, edit->device->address))
        return gpup_error_set(err, EEXIST,
                              "%s has a <hostdev> of %s that gpup did not put there: take it out "
                              "first (virsh edit %s)",
                              edit->name, edit->device->address, edit->name);
    return 0;
}

/* ---- the device ---- */

/* False: it was so. value NULL: without it. */
static bool set(xmlNode *node, const char *name, const char *value)
{
    g_autofree char *was = gpup_xml_attribute(node, name);

    if (g_strcmp0(was, value) == 0)
        return false;
    if (value)
        gpup_xml_set(node, name, value);
    else
        xmlUnsetProp(node, (const xmlChar *)name);
    return true;
}

static bool set_part(xmlNode *address, const char *name, int digits, unsigned value)
{
    char text[16];

    snprintf(text, sizeof(text), "0x%0*x", digits, value);
    return set(address, name, text);
}

static bool set_pci_address(xmlNode *address, const char *text)
{
    unsigned domain, bus, slot, function;
    bool changed;

    /* NOLINTNEXTLINE(cert-err34-c): gpupd wrote it */
    if (sscanf(text, "%x:%x:%x.%x", &domain, &bus, &slot, &function) != 4)
        return false;
    changed = set(address, "uuid", NULL);
    changed |= set_part(address, "domain", 4, domain);
    changed |= set_part(address, "bus", 2, bus);
    changed |= set_part(address, "slot", 2, slot);
    changed |= set_part(address, "function", 1, function);
    return changed;
}

static bool set_mdev_address(xmlNode *address, const char *uuid)
{
    static const char *const parts[] = {"domain", "bus", "slot", "function"};
    bool changed = set(address, "uuid", uuid);

    for (size_t i = 0; i < G_N_ELEMENTS(parts); i++)
        changed |= set(address, parts[i], NULL);
    return changed;
}

bool gpup_set_hostdev(xmlNode *hostdev, const struct gpup_device *device, const char *adapter_id)
{
    bool mdev = device->form == GPUP_FORM_MDEV;
    xmlNode *source = gpup_xml_child_or_new(hostdev, "source", NULL);
    xmlNode *address = gpup_xml_child_or_new(source, "address", NULL);
    bool changed = set(hostdev, "type", mdev ? "mdev" : "pci");

    /* a function that stays with its vendor's driver must not be bound to another one */
    changed |= set(hostdev, "managed", device->form == GPUP_FORM_VFIO ? "yes" : "no");
    changed |= set(hostdev, "model", mdev ? "vfio-pci" : NULL);
    return (mdev ? set_mdev_address(address, adapter_id)
                 : set_pci_address(address, device->address)) ||
           changed;
}

static xmlNode *append_hostdev(struct gpup_edit *edit, const char *alias)
{
    xmlNode *hostdev = gpup_xml_append(devices_of(edit->domain), "hostdev");

    gpup_xml_set(hostdev, "mode", "subsystem");
    gpup_xml_append(hostdev, "source");
    gpup_xml_set(gpup_xml_append(hostdev, "alias"), "name", alias);
    return hostdev;
}

static void new_hostdev(struct gpup_edit *edit)
{
    g_autofree char *id = gpup_xml_attribute(edit->element, "id");
    g_autofree char *alias = g_strconcat(GPUP_DEVICE_ALIAS, id, NULL);

    gpup_set_hostdev(append_hostdev(edit, alias), edit->device, id);
    gpup_edit_note(edit, "added", "hostdev", NULL);
    if (edit->device->form == GPUP_FORM_MDEV)
        gpup_edit_say(edit, "The partition's device is added (<hostdev>, mediated device %s)", id);
    else
        gpup_edit_say(edit,
                      "The partition's device is added (<hostdev>, %s for now: gpup moves it to "
                      "another that is free)",
                      edit->device->address);
}

/* ---- the card's other functions ---- */

/*
 * Which of them were added is noted by their numbers ("1 2"), so that one that its user has taken
 * out since does not come back.
 */
static char *listed(const struct gpup_edit *edit)
{
    xmlNode *note = gpup_edit_find_note(edit, COMPANIONS);

    return note ? gpup_xml_attribute(note, "was") : NULL;
}

static void list(struct gpup_edit *edit, char function, bool on)
{
    xmlNode *note = gpup_edit_find_note(edit, COMPANIONS);
    g_autofree char *was = listed(edit);
    g_autoptr(GString) numbers = g_string_new(NULL);

    for (const char *f = "01234567"; *f; f++) {
        if (*f == function ? on : was && strchr(was, *f))
            g_string_append_printf(numbers, "%s%c", numbers->len ? " " : "", *f);
    }
    if (!note)
        gpup_edit_note(edit, "added", COMPANIONS, numbers->str);
    else if (numbers->len)
        gpup_xml_set(note, "was", numbers->str);
    else
        gpup_xml_remove(note);
}

static char function_of(const char *address)
{
    if (!*address)
        return '\0';
    return address[strlen(address) - 1];
}

static xmlNode *find_companion(const struct gpup_edit *edit, const char *id, char function)
{
    xmlNode *h = gpup_xml_companion(edit->domain, id, NULL);

    while (h && gpup_xml_companion_number(h, id) != function)
        h = gpup_xml_companion(edit->domain, id, h);
    return h;
}

/* False: it was so. */
static bool set_companion(struct gpup_edit *edit, const char *id, const char *address, bool *added)
{
    const char function = function_of(address);
    xmlNode *hostdev = find_companion(edit, id, function);
    g_autofree char *alias = g_strdup_printf(GPUP_DEVICE_ALIAS "%s-%c", id, function);
    g_autofree char *were = listed(edit);
    struct gpup_device device = {.form = edit->device->form};

    g_strlcpy(device.address, address, sizeof(device.address));
    if (hostdev)
        return gpup_set_hostdev(hostdev, &device, id);
    if ((were && strchr(were, function)) || is_given(edit, address))
        return false;
    gpup_set_hostdev(append_hostdev(edit, alias), &device, id);
    list(edit, function, true);
    gpup_edit_say(edit, "With it goes the other function of its card, %s (<hostdev>)", address);
    *added = true;
    return true;
}

static bool goes_along(const struct gpup_device *device, char function)
{
    for (unsigned i = 0; i < device->n_companions; i++) {
        if (function_of(device->companions[i]) == function)
            return true;
    }
    return false;
}

bool gpup_set_companions(struct gpup_edit *edit, bool *added)
{
    g_autofree char *id = gpup_xml_attribute(edit->element, "id");
    bool changed = false;
    xmlNode *next;

    *added = false;
    for (xmlNode *h = gpup_xml_companion(edit->domain, id, NULL); h; h = next) {
        char function = gpup_xml_companion_number(h, id);

        next = gpup_xml_companion(edit->domain, id, h);
        if (goes_along(edit->device, function))
            continue;
        gpup_xml_remove(h);
        list(edit, function, false);
        changed = true;
    }
    for (unsigned i = 0; i < edit->device->n_companions; i++)
        changed |= set_companion(edit, id, edit->device->companions[i], added);
    return changed;
}

static void undo_companions(struct gpup_edit *edit)
{
    g_autofree char *id = gpup_xml_attribute(edit->element, "id");
    xmlNode *hostdev;

    while (id && (hostdev = gpup_xml_companion(edit->domain, id, NULL)))
        gpup_xml_remove(hostdev);
}

static void undo_device(struct gpup_edit *edit)
{
    xmlNode *hostdev = our_hostdev(edit);

    if (hostdev)
        gpup_xml_remove(hostdev);
    else
        gpup_edit_say(edit, "The partition's device was taken out already");
}

/* ---- the window for its memory ---- */

/* BARs are aligned to their size: twice the sum always has room for them. */
static uint64_t window_for(uint64_t memory)
{
    uint64_t window = DEFAULT_WINDOW;

    while (window < MOST_WINDOW && window / 2 < memory)
        window *= 2;
    return window;
}

static xmlNode *pci_root(const xmlNode *domain)
{
    xmlNode *devices = devices_of(domain);

    for (xmlNode *c = gpup_xml_child(devices, "controller", NULL); c;
         c = gpup_xml_child(devices, "controller", c)) {
        if (gpup_xml_attribute_is(c, "model", "pcie-root") ||
            gpup_xml_attribute_is(c, "model", "pci-root"))
            return c;
    }
    return NULL;
}

/* Of a <pcihole64>, bytes; the unit is KiB where none is given. */
static uint64_t hole_size(const xmlNode *root)
{
    static const struct {
        const char *unit;
        unsigned shift;
    } units[] = {{"KiB", 10}, {"MiB", 20}, {"GiB", 30}, {"TiB", 40}};
    xmlNode *hole = gpup_xml_child(root, "pcihole64", NULL);
    g_autofree char *unit = hole ? gpup_xml_attribute(hole, "unit") : NULL;
    g_autofree char *text = hole ? gpup_xml_child_text(root, "pcihole64") : NULL;
    guint64 value = text ? g_ascii_strtoull(g_strstrip(text), NULL, 10) : 0;

    for (size_t i = 0; i < G_N_ELEMENTS(units); i++) {
        if (g_ascii_strcasecmp(unit ? unit : "KiB", units[i].unit) == 0)
            return value > UINT64_MAX >> units[i].shift ? UINT64_MAX : value << units[i].shift;
    }
    return 0;
}

static void set_hole(xmlNode *root, uint64_t bytes)
{
    xmlNode *hole = gpup_xml_child_or_new(root, "pcihole64", NULL);
    g_autofree char *text = g_strdup_printf("%" G_GUINT64_FORMAT, (guint64)(bytes >> 10));

    gpup_xml_set(hole, "unit", "KiB");
    xmlNodeSetContent(hole, (const xmlChar *)text);
}

static bool has_uefi(const xmlNode *domain)
{
    xmlNode *os = gpup_xml_child(domain, "os", NULL);
    xmlNode *loader = os ? gpup_xml_child(os, "loader", NULL) : NULL;

    return os && (gpup_xml_attribute_is(os, "firmware", "efi") ||
                  gpup_xml_attribute_is(loader, "type", "pflash"));
}

/* The argument that tells OVMF the size of its window, ours or the user's. */
static xmlNode *firmware_argument(const xmlNode *domain)
{
    xmlNode *list = gpup_qemu_child(domain, "commandline", NULL, NULL);

    for (xmlNode *n = list ? list->children : NULL; n; n = n->next) {
        g_autofree char *value = gpup_xml_is(n, "arg") ? gpup_xml_attribute(n, "value") : NULL;

        if (value && strstr(value, "opt/ovmf/X-PciMmio64Mb"))
            return n;
    }
    return NULL;
}

static void add_argument(xmlNode *list, const char *value)
{
    gpup_xml_set(gpup_xml_append(list, "arg"), "value", value);
}

static void tell_firmware(struct gpup_edit *edit, uint64_t window)
{
    g_autofree char *value = g_strdup_printf(FW_CFG "%" G_GUINT64_FORMAT, (guint64)(window >> 20));
    xmlNode *list;

    if (firmware_argument(edit->domain)) {
        gpup_edit_say(edit, "The window of its UEFI firmware for large BARs is set already: it "
                            "stays as it is");
        return;
    }
    list = gpup_qemu_list(edit, "commandline", "arguments");
    add_argument(list, "-fw_cfg");
    add_argument(list, value);
    gpup_edit_note(edit, "added", "firmware-window", value);
}

static void add_window(struct gpup_edit *edit)
{
    uint64_t window = window_for(edit->device->memory);
    xmlNode *root = pci_root(edit->domain);
    uint64_t was = root ? hole_size(root) : 0;
    char size[GPUP_UNIT_BUF];

    if (window <= DEFAULT_WINDOW || !root)
        return;
    if (was < window) {
        g_autofree char *sizes = g_strdup_printf("%" G_GUINT64_FORMAT " %" G_GUINT64_FORMAT,
                                                 (guint64)was, (guint64)window);

        set_hole(root, window);
        gpup_edit_note(edit, was ? "changed" : "added", "window", sizes);
        gpup_edit_say(edit, "Its window for 64-bit PCI memory becomes %s: the GPU's is large",
                      gpup_format_size(window, size, sizeof(size)));
    }
    if (has_uefi(edit->domain))
        tell_firmware(edit, window);
}

/* sizes: before, and as it was made */
static void undo_window(struct gpup_edit *edit, const char *sizes)
{
    xmlNode *root = pci_root(edit->domain);
    char *end = NULL;
    guint64 before = g_ascii_strtoull(sizes ? sizes : "", &end, 10);
    guint64 made = g_ascii_strtoull(end ? end : "", NULL, 10);

    if (!root || hole_size(root) != made)
        gpup_edit_say(edit, "Its window for 64-bit PCI memory was changed since: left as it is");
    else if (before)
        set_hole(root, before);
    else
        gpup_xml_remove(gpup_xml_child(root, "pcihole64", NULL));
}

static void undo_firmware_window(struct gpup_edit *edit, const char *was)
{
    xmlNode *argument = firmware_argument(edit->domain);
    xmlNode *option = argument ? xmlPreviousElementSibling(argument) : NULL;

    if (!argument || !option || !gpup_xml_attribute_is(argument, "value", was) ||
        !gpup_xml_attribute_is(option, "value", "-fw_cfg")) {
        gpup_edit_say(edit, "The window of its firmware was changed since: left as it is");
        return;
    }
    gpup_xml_remove(option);
    gpup_xml_remove(argument);
}

static void undo_arguments(struct gpup_edit *edit)
{
    xmlNode *list = gpup_qemu_child(edit->domain, "commandline", NULL, NULL);

    if (list && !gpup_xml_has_elements(list))
        gpup_xml_remove(list);
}

/* ---- */

bool gpup_add_hostdev(struct gpup_edit *edit)
{
    bool made = !our_hostdev(edit), added = false;

    if (made)
        new_hostdev(edit);
    if (edit->device && names(our_hostdev(edit), edit->device->address))
        gpup_set_companions(edit, &added);
    if (edit->device)
        add_window(edit);
    return made || added;
}

void gpup_undo_hostdev(struct gpup_edit *edit, const char *what, const char *was)
{
    if (strcmp(what, "hostdev") == 0)
        undo_device(edit);
    else if (strcmp(what, COMPANIONS) == 0)
        undo_companions(edit);
    else if (strcmp(what, "window") == 0)
        undo_window(edit, was);
    else if (strcmp(what, "firmware-window") == 0)
        undo_firmware_window(edit, was);
    else if (strcmp(what, "arguments") == 0)
        undo_arguments(edit);
}
