/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/error.h"
#include "vm/adapter_xml.h"

#include <errno.h>
#include <glib.h>
#include <string.h>

#define ID                  "11111111-2222-4333-8444-555555555555"
#define ADAPTER(attributes) "<g:adapter xmlns:g='urn:gpup:adapter:1' " attributes "/>"
#define VIDEO(path)                                                                                \
    "<video><model type='virtio'><acceleration rendernode='" path "'/></model></video>"

static int read_xml(const char *head, const char *metadata, const char *devices,
                    struct gpup_domain_info *info, struct gpup_error **err)
{
    g_autofree char *xml = g_strdup_printf("%s<name>desk1</name><uuid>" ID
                                           "</uuid><metadata>%s</metadata><devices>%s</devices>"
                                           "</domain>",
                                           head, metadata, devices);

    return gpup_domain_info_read(xml, strlen(xml), info, err);
}

static void a_vm_without_one(void)
{
    struct gpup_domain_info info;

    g_assert_cmpint(read_xml("<domain>", "<o:x xmlns:o='urn:other'/><adapter/>", "", &info, NULL),
                    ==, 0);
    g_assert_cmpstr(info.name, ==, "desk1");
    g_assert_cmpstr(info.uuid, ==, ID);
    g_assert_cmpint(info.id, ==, -1);
    g_assert_null(info.adapter);
    gpup_domain_info_clear(&info);
}

static void the_system(void)
{
    struct gpup_domain_info info;

    g_assert_cmpint(read_xml("<domain>",
                             "<l:libosinfo "
                             "xmlns:l='http://libosinfo.org/xmlns/libvirt/domain/1.0'>"
                             "<l:os id='http://microsoft.com/win/11'/></l:libosinfo>",
                             "", &info, NULL),
                    ==, 0);
    g_assert_cmpstr(info.system, ==, "http://microsoft.com/win/11");
    gpup_domain_info_clear(&info);
    /* somebody else's element of that name */
    g_assert_cmpint(read_xml("<domain>",
                             "<l:libosinfo xmlns:l='urn:other'><l:os id='x'/></l:libosinfo>", "",
                             &info, NULL),
                    ==, 0);
    g_assert_null(info.system);
    gpup_domain_info_clear(&info);
}

static void all_of_it(void)
{
    struct gpup_domain_info info;

    g_assert_cmpint(
        read_xml("<domain type='kvm' id='7'>",
                 ADAPTER("id='" ID "' kind='virtio' gpu='software' later='1' display='pixels' "
                         "vram-min='1048576' vram-optimal='2097152' compute-max='500000'"),
                 VIDEO("/dev/dri/renderD128") VIDEO("/run/gpup/vm/" ID), &info, NULL),
        ==, 0);
    g_assert_cmpint(info.id, ==, 7);
    g_assert_cmpint(info.video, ==, 1);
    g_assert_cmpstr(info.adapter->id, ==, ID);
    g_assert_cmpint(info.adapter->kind, ==, GPUP_KIND_VIRTIO);
    g_assert_cmpstr(info.adapter->gpu, ==, "software");
    g_assert_cmpint(info.adapter->display, ==, GPUP_DISPLAY_PIXELS);
    g_assert_cmpuint(info.adapter->request[GPUP_VRAM].min, ==, 1048576);
    g_assert_cmpuint(info.adapter->request[GPUP_VRAM].optimal, ==, 2097152);
    g_assert_false(info.adapter->request[GPUP_VRAM].has_max);
    g_assert_cmpuint(info.adapter->request[GPUP_COMPUTE].max, ==, 500000);
    gpup_domain_info_clear(&info);
}

static void bad_adapters(void)
{
    static const struct {
        const char *metadata;
        const char *part; /* of the message */
    } cases[] = {
        {ADAPTER("kind='virtio'"), "not a UUID"},
        {ADAPTER("id='../../../etc/passwd' kind='virtio'"), "not a UUID"},
        {ADAPTER("id='" ID "'"), "virtio, sriov or passthrough"},
        {ADAPTER("id='" ID "' kind='cuda'"), "virtio, sriov or passthrough"},
        {ADAPTER("id='" ID "' kind='virtio' vram-min='lots'"), "vram-min='lots'"},
        {ADAPTER("id='" ID "' kind='virtio' vram-min='-1'"), "not a number"},
        {ADAPTER("id='" ID "' kind='virtio' vram-min='99999999999999999999'"), "not a number"},
        {ADAPTER("id='" ID "' kind='virtio' vram-min='3000000' vram-max='2000000'"), "maximum"},
        {ADAPTER("id='" ID "' kind='virtio' compute-max='1000001'"), "100 %"},
        {ADAPTER("id='" ID "' kind='virtio' display='vga'"), "off, pixels or dmabuf"},
        {ADAPTER("id='" ID "' kind='sriov' display='pixels'"), "only a virtio partition"},
        {ADAPTER("id='" ID "' kind='virtio'") ADAPTER("id='" ID "' kind='virtio'"), "2 adapters"},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        GPUP_AUTO_ERROR err = NULL;
        struct gpup_domain_info info;

        g_assert_cmpint(read_xml("<domain>", cases[i].metadata, "", &info, &err), ==, -EINVAL);
        g_assert_nonnull(strstr(gpup_error_message(err), cases[i].part));
        g_assert_nonnull(strstr(gpup_error_message(err), "desk1"));
        g_assert_null(info.adapter);
    }
}

static void what_is_no_definition(void)
{
    static const char *const texts[] = {
        "",
        "<domain>",
        "<network><name>x</name></network>",
        "<domain><uuid>x</uuid></domain>",
        "<!DOCTYPE domain [<!ENTITY a 'b'>]><domain><name>&a;</name></domain>",
    };
    g_autofree char *large = g_strnfill((1 << 20) + 1, ' ');
    struct gpup_domain_info info;

    for (size_t i = 0; i < G_N_ELEMENTS(texts); i++)
        g_assert_cmpint(gpup_domain_info_read(texts[i], strlen(texts[i]), &info, NULL), ==,
                        -EINVAL);
    g_assert_cmpint(gpup_domain_info_read(large, strlen(large), &info, NULL), ==, -EINVAL);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/adapter-xml/none", a_vm_without_one);
    g_test_add_func("/adapter-xml/system", the_system);
    g_test_add_func("/adapter-xml/all", all_of_it);
    g_test_add_func("/adapter-xml/bad", bad_adapters);
    g_test_add_func("/adapter-xml/no-definition", what_is_no_definition);
    return g_test_run();
}
