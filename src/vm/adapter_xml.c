/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "vm/adapter_xml.h"

#include "core/adapter.h"
#include "core/error.h"
#include "core/text.h"
#include "vm/xml.h"

#include <errno.h>
#include <glib.h>
#include <string.h>

bool gpup_domain_has_device(const struct gpup_domain_info *info, const struct gpup_adapter *adapter)
{
    return adapter->kind == GPUP_KIND_VIRTIO ? info->video >= 0 : info->hostdev;
}

void gpup_domain_info_clear(struct gpup_domain_info *info)
{
    g_free(info->name);
    g_free(info->uuid);
    gpup_adapter_free(info->adapter);
    g_free(info->system);
    g_strfreev(info->others);
    *info = (struct gpup_domain_info){.id = -1, .video = -1};
}

static int read_bound(const xmlNode *node, enum gpup_resource r, const char *bound, bool *has,
                      uint64_t *value, struct gpup_error **err)
{
    g_autofree char *name = g_strdup_printf("%s-%s", gpup_resource_name(r), bound);
    g_autofree char *text = gpup_xml_attribute(node, name);
    guint64 number;

    *has = false;
    if (!text)
        return 0;
    if (!g_ascii_string_to_unsigned(text, 10, 0, G_MAXUINT64, &number, NULL))
        return gpup_error_set(err, EINVAL, "%s='%s' is not a number", name, text);
    *has = true;
    *value = number;
    return 0;
}

static int read_request(const xmlNode *node, enum gpup_resource r, struct gpup_request *q,
                        struct gpup_error **err)
{
    int ret = read_bound(node, r, "min", &q->has_min, &q->min, err);

    if (ret == 0)
        ret = read_bound(node, r, "optimal", &q->has_optimal, &q->optimal, err);
    if (ret == 0)
        ret = read_bound(node, r, "max", &q->has_max, &q->max, err);
    return ret;
}

static int read_adapter(const xmlNode *node, struct gpup_adapter **out, struct gpup_error **err)
{
    g_autofree char *id = gpup_xml_attribute(node, "id");
    g_autofree char *kind = gpup_xml_attribute(node, "kind");
    g_autofree char *gpu = gpup_xml_attribute(node, "gpu");
    g_autofree char *display = gpup_xml_attribute(node, "display");
    struct gpup_adapter *adapter;
    int ret = 0;

    /* the id becomes a file's name: only a UUID in its usual form is one */
    if (!id || !g_uuid_string_is_valid(id))
        return gpup_error_set(err, EINVAL, "the adapter's id '%s' is not a UUID", id ? id : "");
    adapter = calloc(1, sizeof(*adapter));
    if (!adapter)
        return gpup_error_set(err, ENOMEM, "out of memory");
    g_strlcpy(adapter->id, id, sizeof(adapter->id));
    if (gpup_kind_from_name(kind, &adapter->kind) < 0)
        ret = gpup_error_set(err, EINVAL,
                             "the adapter's kind '%s' is not known: it is virtio, sriov "
                             "or passthrough",
                             kind ? kind : "");
    if (ret == 0 && display && gpup_display_from_name(display, &adapter->display) < 0)
        ret = gpup_error_set(err, EINVAL,
                             "the adapter's display '%s' is not known: it is off, pixels or dmabuf",
                             display);
    if (gpu && *gpu) {
        adapter->gpu = strdup(gpu);
        if (!adapter->gpu)
            ret = gpup_error_set(err, ENOMEM, "out of memory");
    }
    for (int r = 0; ret == 0 && r < GPUP_RESOURCES; r++)
        ret = read_request(node, (enum gpup_resource)r, &adapter->request[r], err);
    if (ret == 0)
        ret = gpup_adapter_check(adapter, err);
    if (ret < 0) {
        gpup_adapter_free(adapter);
        return ret;
    }
    *out = adapter;
    return 0;
}

/* What the VM is given by <hostdev>: the adapter's own, with what goes with it, and what its user
 * put there. */
static void read_hostdevs(const xmlNode *domain, struct gpup_domain_info *info)
{
    xmlNode *devices = gpup_xml_child(domain, "devices", NULL);
    xmlNode *ours = info->adapter ? gpup_xml_hostdev_of(domain, info->adapter->id) : NULL;
    g_autoptr(GStrvBuilder) others = g_strv_builder_new();

    info->hostdev = ours;
    for (xmlNode *h = devices ? gpup_xml_child(devices, "hostdev", NULL) : NULL; h;
         h = gpup_xml_child(devices, "hostdev", h)) {
        char address[GPUP_ADDRESS_SIZE];

        if (!gpup_xml_hostdev_address(h, address))
            continue;
        if (h == ours)
            g_strlcpy(info->address, address, sizeof(info->address));
        else if (!info->adapter || !gpup_xml_companion_number(h, info->adapter->id))
            g_strv_builder_add(others, address);
    }
    info->others = g_strv_builder_end(others);
}

static int read_domain(const xmlNode *domain, struct gpup_domain_info *info,
                       struct gpup_error **err)
{
    g_autofree char *id = gpup_xml_attribute(domain, "id");
    unsigned n_adapters;
    xmlNode *adapter = gpup_xml_adapter(domain, &n_adapters);
    guint64 number;

    info->name = gpup_xml_child_text(domain, "name");
    if (info->name)
        gpup_text_clean(info->name, false); /* it is only for people */
    info->uuid = gpup_xml_child_text(domain, "uuid");
    if (!info->name || !*info->name)
        return gpup_error_set(err, EINVAL, "the VM's definition has no name");
    if (id && g_ascii_string_to_unsigned(id, 10, 0, G_MAXINT32, &number, NULL))
        info->id = (int)number;
    info->system = gpup_xml_system(domain);
    if (info->system)
        gpup_text_clean(info->system, false);
    if (!adapter) {
        read_hostdevs(domain, info);
        return 0;
    }
    if (n_adapters > 1)
        return gpup_error_set(err, EINVAL, "%s has %u adapters: one is the most", info->name,
                              n_adapters);
    if (read_adapter(adapter, &info->adapter, err) < 0)
        return gpup_error_wrap(err, "%s", info->name);
    if (!gpup_xml_video_of(domain, info->adapter->id, &info->video))
        info->video = -1;
    read_hostdevs(domain, info);
    return 0;
}

int gpup_domain_info_read(const char *xml, size_t length, struct gpup_domain_info *info,
                          struct gpup_error **err)
{
    GPUP_AUTO_XML doc = NULL;
    int ret;

    *info = (struct gpup_domain_info){.id = -1, .video = -1};
    ret = gpup_xml_parse(xml, length, &doc, err);
    if (ret < 0)
        return ret;
    ret = read_domain(xmlDocGetRootElement(doc), info, err);
    if (ret < 0)
        gpup_domain_info_clear(info);
    return ret;
}
