/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "vm/adapter_xml.h"

#include "core/adapter.h"
#include "core/error.h"

#include <errno.h>
#include <glib.h>
#include <libxml/parser.h>
#include <libxml/tree.h>
#include <string.h>

#define MAX_XML ((size_t)1 << 20)

static void free_doc(xmlDoc **doc)
{
    if (*doc)
        xmlFreeDoc(*doc);
}
#define AUTO_DOC __attribute__((cleanup(free_doc))) xmlDoc *

static void free_string(xmlChar **string)
{
    if (*string)
        xmlFree(*string);
}
#define AUTO_XML_STRING __attribute__((cleanup(free_string))) xmlChar *

void gpup_domain_info_clear(struct gpup_domain_info *info)
{
    g_free(info->name);
    g_free(info->uuid);
    gpup_adapter_free(info->adapter);
    *info = (struct gpup_domain_info){.id = -1, .video = -1};
}

static bool is_element(const xmlNode *node, const char *name)
{
    return node->type == XML_ELEMENT_NODE && strcmp((const char *)node->name, name) == 0;
}

/* The first (or next, after `after`) child element of this name in no namespace. */
static xmlNode *child(const xmlNode *parent, const char *name, const xmlNode *after)
{
    for (xmlNode *n = after ? after->next : parent->children; n; n = n->next) {
        if (is_element(n, name) && !n->ns)
            return n;
    }
    return NULL;
}

/* An attribute, in the caller's memory, or NULL. */
static char *attribute(const xmlNode *node, const char *name)
{
    AUTO_XML_STRING value = xmlGetNoNsProp((xmlNode *)node, (const xmlChar *)name);

    return value ? g_strdup((const char *)value) : NULL;
}

static char *child_text(const xmlNode *parent, const char *name)
{
    xmlNode *node = child(parent, name, NULL);
    AUTO_XML_STRING text = node ? xmlNodeGetContent(node) : NULL;

    return text ? g_strdup((const char *)text) : NULL;
}

static int read_bound(const xmlNode *node, enum gpup_resource r, const char *bound, bool *has,
                      uint64_t *value, struct gpup_error **err)
{
    g_autofree char *name = g_strdup_printf("%s-%s", gpup_resource_name(r), bound);
    g_autofree char *text = attribute(node, name);
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
    g_autofree char *id = attribute(node, "id");
    g_autofree char *kind = attribute(node, "kind");
    g_autofree char *gpu = attribute(node, "gpu");
    struct gpup_adapter *adapter;
    int ret = 0;

    /* the id becomes a file's name: only a UUID in its usual form is one */
    if (!id || !g_uuid_string_is_valid(id))
        return gpup_error_set(err, EINVAL, "the adapter's id '%s' is not a UUID", id ? id : "");
    adapter = calloc(1, sizeof(*adapter));
    if (!adapter)
        return gpup_error_set(err, ENOMEM, "out of memory");
    g_strlcpy(adapter->id, id, sizeof(adapter->id));
    if (ret == 0 && gpup_kind_from_name(kind, &adapter->kind) < 0)
        ret = gpup_error_set(err, EINVAL,
                             "the adapter's kind '%s' is not known: it is virtio or "
                             "sriov",
                             kind ? kind : "");
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

/* The adapter's element; *n is how many there are. */
static xmlNode *find_adapter(const xmlNode *domain, unsigned *n)
{
    xmlNode *metadata = child(domain, "metadata", NULL);
    xmlNode *found = NULL;

    *n = 0;
    for (xmlNode *node = metadata ? metadata->children : NULL; node; node = node->next) {
        if (!is_element(node, "adapter") || !node->ns || !node->ns->href ||
            strcmp((const char *)node->ns->href, GPUP_ADAPTER_NS) != 0)
            continue;
        if (++*n == 1)
            found = node;
    }
    return found;
}

/* Which of the VM's video devices is the adapter's: libvirt counts them in this order. */
static int find_video(const xmlNode *domain, const char *adapter_id)
{
    g_autofree char *want = g_build_filename(GPUP_VM_DIR, adapter_id, NULL);
    xmlNode *devices = child(domain, "devices", NULL);
    int index = 0;

    for (xmlNode *video = devices ? child(devices, "video", NULL) : NULL; video;
         video = child(devices, "video", video), index++) {
        xmlNode *model = child(video, "model", NULL);
        xmlNode *acceleration = model ? child(model, "acceleration", NULL) : NULL;
        g_autofree char *node = acceleration ? attribute(acceleration, "rendernode") : NULL;

        if (g_strcmp0(node, want) == 0)
            return index;
    }
    return -1;
}

static int read_domain(const xmlNode *domain, struct gpup_domain_info *info,
                       struct gpup_error **err)
{
    g_autofree char *id = attribute(domain, "id");
    unsigned n_adapters;
    xmlNode *adapter = find_adapter(domain, &n_adapters);
    guint64 number;

    info->name = child_text(domain, "name");
    info->uuid = child_text(domain, "uuid");
    if (!info->name || !*info->name)
        return gpup_error_set(err, EINVAL, "the VM's definition has no name");
    if (id && g_ascii_string_to_unsigned(id, 10, 0, G_MAXINT32, &number, NULL))
        info->id = (int)number;
    if (!adapter)
        return 0;
    if (n_adapters > 1)
        return gpup_error_set(err, EINVAL, "%s has %u adapters: one is the most", info->name,
                              n_adapters);
    if (read_adapter(adapter, &info->adapter, err) < 0)
        return gpup_error_wrap(err, "%s", info->name);
    info->video = find_video(domain, info->adapter->id);
    return 0;
}

int gpup_domain_info_read(const char *xml, size_t length, struct gpup_domain_info *info,
                          struct gpup_error **err)
{
    AUTO_DOC doc = NULL;
    const xmlNode *domain;
    int ret;

    *info = (struct gpup_domain_info){.id = -1, .video = -1};
    if (length > MAX_XML)
        return gpup_error_set(err, EINVAL, "the VM's definition is larger than 1 MiB");
    doc = xmlReadMemory(xml, (int)length, NULL, NULL,
                        XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING);
    domain = doc ? xmlDocGetRootElement(doc) : NULL;
    /* libvirt writes no document type: one would only bring entities */
    if (!domain || !is_element(domain, "domain") || doc->intSubset)
        return gpup_error_set(err, EINVAL, "this is not a VM's definition (libvirt domain XML)");
    ret = read_domain(domain, info, err);
    if (ret < 0)
        gpup_domain_info_clear(info);
    return ret;
}
