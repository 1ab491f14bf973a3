/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "vm/guest.h"

#include "core/error.h"
#include "core/text.h"
#include "vm/libvirt_connection.h"

#include <errno.h>
#include <json-glib/json-glib.h>
#include <libvirt/libvirt-qemu.h>
#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>
#include <string.h>

/*
 * What a guest's agent tells, by the commands that only look: guest-get-osinfo, and
 * guest-get-devices, which only the agent for Windows has (QEMU Guest Agent Protocol Reference).
 * What comes back is the guest's word: bounded, without control characters, believed for nothing
 * but what is shown.
 */

#define AGENT_S   3 /* of each question */
#define MOST_TEXT 80

void gpup_guest_clear(struct gpup_guest *guest)
{
    g_free(guest->system);
    g_free(guest->kernel);
    g_free(guest->driver);
    g_free(guest->driver_version);
    *guest = (struct gpup_guest){0};
}

static char *clean(const char *text)
{
    char *copy = text && *text ? g_utf8_make_valid(text, (gssize)strnlen(text, MOST_TEXT)) : NULL;

    if (copy)
        gpup_text_clean(copy, false);
    return copy;
}

/* ---- drivers ---- */

static bool is_of(JsonObject *device, unsigned vendor)
{
    JsonObject *id = json_object_has_member(device, "id") &&
                             JSON_NODE_HOLDS_OBJECT(json_object_get_member(device, "id"))
                         ? json_object_get_object_member(device, "id")
                         : NULL;

    return id && json_object_get_int_member_with_default(id, "vendor-id", 0) == (gint64)vendor;
}

static const char *string_of(JsonObject *object, const char *name)
{
    JsonNode *node = json_object_get_member(object, name);

    return node && JSON_NODE_HOLDS_VALUE(node) && json_node_get_value_type(node) == G_TYPE_STRING
               ? json_node_get_string(node)
               : NULL;
}

/* Of a GPU's maker there are sound and bus drivers too. What Windows itself brings shows a picture
 * and no more. */
static bool is_of_graphics(const char *name)
{
    static const char *const others[] = {"Audio", "USB", "UCM", "Bus", "Microsoft"};

    for (size_t i = 0; i < G_N_ELEMENTS(others); i++) {
        if (strstr(name, others[i]))
            return false;
    }
    return true;
}

bool gpup_guest_read_devices(const char *answer, unsigned vendor, struct gpup_guest *guest)
{
    g_autoptr(JsonParser) parser = json_parser_new();
    JsonNode *root, *devices;
    JsonArray *list;

    if (!json_parser_load_from_data(parser, answer, -1, NULL))
        return false;
    root = json_parser_get_root(parser);
    devices = root && JSON_NODE_HOLDS_OBJECT(root)
                  ? json_object_get_member(json_node_get_object(root), "return")
                  : NULL;
    if (!devices || !JSON_NODE_HOLDS_ARRAY(devices))
        return false;
    guest->tells_drivers = true;
    list = json_node_get_array(devices);
    for (guint i = 0; i < json_array_get_length(list); i++) {
        JsonNode *node = json_array_get_element(list, i);
        JsonObject *device = JSON_NODE_HOLDS_OBJECT(node) ? json_node_get_object(node) : NULL;
        const char *name = device ? string_of(device, "driver-name") : NULL;

        if (!name || !is_of(device, vendor) || !is_of_graphics(name))
            continue;
        guest->driver = clean(name);
        guest->driver_version = clean(string_of(device, "driver-version"));
        break;
    }
    return true;
}

/* ---- the agent ---- */

static const char *parameter(virTypedParameter *params, int n, const char *name)
{
    const char *text = NULL;

    return virTypedParamsGetString(params, n, name, &text) == 1 ? text : NULL;
}

/* libvirt's, which may quote what the guest has sent: one line of it. */
static char *reason(void)
{
    const char *message = virGetLastErrorMessage();
    char *line = g_utf8_make_valid(message, (gssize)strcspn(message, "\n"));

    gpup_text_clean(line, false);
    return line;
}

static int ask_system(virDomain *domain, const char *vm, struct gpup_guest *guest,
                      struct gpup_error **err)
{
    virTypedParameter *params = NULL;
    int n = 0;

    if (virDomainGetGuestInfo(domain, VIR_DOMAIN_GUEST_INFO_OS, &params, &n, 0) < 0) {
        g_autofree char *why = reason();

        return gpup_error_set(err, EOPNOTSUPP, "%s: its guest agent does not answer (%s)", vm, why);
    }
    /* libvirt 9 takes an agent that greets and then falls silent for one without this command */
    if (n == 0) {
        virTypedParamsFree(params, n);
        return gpup_error_set(err, EOPNOTSUPP,
                              "%s: its guest agent does not answer (it says nothing of its system)",
                              vm);
    }
    guest->system = clean(parameter(params, n, "os.pretty-name"));
    if (!guest->system)
        guest->system = clean(parameter(params, n, "os.name"));
    guest->kernel = clean(parameter(params, n, "os.kernel-release"));
    virTypedParamsFree(params, n);
    return 0;
}

int gpup_manager_guest(struct gpup_manager *manager, const char *vm, unsigned vendor,
                       struct gpup_guest *guest, struct gpup_error **err)
{
    g_autoptr(connect_t) connection = NULL;
    g_autoptr(domain_t) domain = NULL;
    char *devices;
    int ret = gpup_connection_open_domain(manager, vm, &connection, &domain, err);

    *guest = (struct gpup_guest){0};
    if (ret < 0)
        return ret;
    /* libvirt would wait for 5 s, and for ever where a guest's agent never ends its answer */
    virDomainAgentSetResponseTimeout(domain, AGENT_S, 0);
    if (ask_system(domain, vm, guest, err) < 0)
        return -EOPNOTSUPP;
    devices = virDomainQemuAgentCommand(domain, "{\"execute\":\"guest-get-devices\"}", AGENT_S, 0);
    if (devices)
        gpup_guest_read_devices(devices, vendor, guest);
    free(devices);
    return 0;
}
