/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/error.h"
#include "same_xml.h"
#include "vm/adapter_xml.h"
#include "vm/domain.h"
#include "vm/xml.h"

#include <errno.h>
#include <glib.h>
#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>
#include <libxml/parser.h>
#include <string.h>

/* Adapters of kind sriov: the <hostdev> in a VM's definition, and the window for large memory. */

#define ID   "11111111-2222-4333-8444-555555555555"
#define GIB  (UINT64_C(1) << 30)
#define HOLE "<pcihole64 unit='KiB'>"

static const struct gpup_device vf = {.form = GPUP_FORM_VFIO, .address = "0000:41:00.4"};

static char *vm(const char *os, const char *devices, const char *tail)
{
    return g_strdup_printf("<domain type='kvm'><name>win11</name><uuid>" ID "</uuid>%s<devices>"
                           "<controller type='pci' index='0' model='pcie-root'>%s</controller>"
                           "<memballoon model='virtio'/></devices>%s</domain>",
                           os, devices, tail);
}

static void assert_has(const char *text, const char *part)
{
    if (!strstr(text, part))
        g_error("'%s' is not in:\n%s", part, text);
}

static void assert_lacks(const char *text, const char *part)
{
    if (strstr(text, part))
        g_error("'%s' is in:\n%s", part, text);
}

static char *edited(const char *text, const char *from, const char *to)
{
    const char *at = strstr(text, from);

    if (!at)
        g_error("'%s' is not in:\n%s", from, text);
    return g_strdup_printf("%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
}

static char *add(const char *xml, const struct gpup_device *device, char **said)
{
    struct gpup_adapter adapter = {.kind = GPUP_KIND_SRIOV};
    GPUP_AUTO_ERROR err = NULL;
    g_auto(GStrv) lines = NULL;
    char *out = NULL;

    gpup_domain_add_adapter(xml, &adapter, device, 0, &out, &lines, &err);
    g_assert_cmpstr(err ? err->message : NULL, ==, NULL);
    if (said)
        *said = g_strjoinv("\n", lines);
    return out;
}

static char *take_out(const char *xml, char **said)
{
    GPUP_AUTO_ERROR err = NULL;
    g_auto(GStrv) lines = NULL;
    char *out = NULL;

    gpup_domain_remove_adapter(xml, &out, &lines, &err);
    g_assert_cmpstr(err ? err->message : NULL, ==, NULL);
    if (said)
        *said = g_strjoinv("\n", lines);
    return out;
}

static char *move(const char *xml, const struct gpup_device *device)
{
    char *out = NULL;

    g_assert_cmpint(gpup_domain_set_device(xml, device, &out, NULL), ==, 0);
    return out;
}

static void read_info(const char *xml, struct gpup_domain_info *info)
{
    GPUP_AUTO_ERROR err = NULL;

    gpup_domain_info_read(xml, strlen(xml), info, &err);
    g_assert_cmpstr(err ? err->message : NULL, ==, NULL);
}

static void a_function(void)
{
    g_autofree char *xml = vm("", "", "");
    g_autofree char *said = NULL;
    g_autofree char *with = add(xml, &vf, &said);
    g_autofree char *without = take_out(with, NULL);
    struct gpup_domain_info info;

    read_info(with, &info);
    g_assert_true(info.hostdev);
    g_assert_cmpstr(info.address, ==, "0000:41:00.4");
    g_assert_null(info.others[0]);
    assert_has(with, "type=\"pci\" managed=\"yes\"");
    assert_has(said, "0000:41:00.4");
    assert_lacks(with, "memoryBacking");
    assert_lacks(with, "vhostuser");
    assert_lacks(with, "pcihole64");
    gpup_domain_info_clear(&info);
    assert_same(xml, without);
}

static void forms(void)
{
    const struct gpup_device vendor = {.form = GPUP_FORM_VENDOR, .address = "0001:41:1f.7"};
    const struct gpup_device mdev = {.form = GPUP_FORM_MDEV};
    g_autofree char *xml = vm("", "", "");
    g_autofree char *with_vendor = add(xml, &vendor, NULL);
    g_autofree char *with_mdev = add(xml, &mdev, NULL);
    g_autofree char *again = move(with_mdev, &mdev);
    g_autofree char *moved = move(with_mdev, &vendor);
    g_autofree char *without = take_out(moved, NULL);
    struct gpup_domain_info info;

    assert_has(with_vendor, "managed=\"no\"");
    assert_has(with_vendor, "domain=\"0x0001\" bus=\"0x41\" slot=\"0x1f\" function=\"0x7\"");
    read_info(with_mdev, &info);
    g_assert_true(info.hostdev);
    g_assert_cmpstr(info.address, ==, "");
    assert_has(with_mdev, "type=\"mdev\"");
    assert_has(with_mdev, "model=\"vfio-pci\"");
    /* the device is the adapter's own: its id */
    {
        g_autofree char *uuid = g_strdup_printf("<address uuid=\"%s\"/>", info.adapter->id);

        assert_has(with_mdev, uuid);
    }
    gpup_domain_info_clear(&info);
    g_assert_null(again);
    assert_lacks(moved, "mdev");
    assert_lacks(moved, "model=\"vfio-pci\"");
    assert_same(xml, without);
}

/* ---- a whole GPU with its sound ---- */

static const struct gpup_device card = {.form = GPUP_FORM_VFIO,
                                        .address = "0000:03:00.0",
                                        .companions = {"0000:03:00.1", "0000:03:00.2"},
                                        .n_companions = 2};

/* How many <hostdev>s give away one of these: "0000:03:00.1 0000:03:00.2", in the order they are
 * in. */
static char *given(const char *xml)
{
    xmlDoc *doc = xmlReadMemory(xml, (int)strlen(xml), NULL, NULL, 0);
    xmlNode *devices = gpup_xml_child(xmlDocGetRootElement(doc), "devices", NULL);
    g_autoptr(GString) all = g_string_new(NULL);

    for (xmlNode *h = gpup_xml_child(devices, "hostdev", NULL); h;
         h = gpup_xml_child(devices, "hostdev", h)) {
        char address[GPUP_ADDRESS_SIZE];

        g_assert_true(gpup_xml_hostdev_address(h, address));
        g_assert_true(gpup_xml_attribute_is(h, "managed", "yes"));
        g_string_append_printf(all, "%s%s", all->len ? " " : "", address);
    }
    xmlFreeDoc(doc);
    return g_strdup(all->str);
}

static void assert_given(const char *xml, const char *wanted)
{
    g_autofree char *addresses = given(xml);

    g_assert_cmpstr(addresses, ==, wanted);
}

static void with_its_sound(void)
{
    static const struct gpup_device other = {.form = GPUP_FORM_VFIO,
                                             .address = "0000:04:00.0",
                                             .companions = {"0000:04:00.1"},
                                             .n_companions = 1};
    g_autofree char *xml = vm("", "", "");
    g_autofree char *said = NULL;
    g_autofree char *with = add(xml, &card, &said);
    g_autofree char *again = add(with, &card, NULL);
    g_autofree char *moved = move(with, &other);
    g_autofree char *back = move(moved, &card);
    g_autofree char *without = take_out(with, NULL);
    g_autofree char *without_moved = take_out(moved, NULL);
    g_autofree char *without_back = take_out(back, NULL);
    struct gpup_domain_info info;

    assert_given(with, "0000:03:00.0 0000:03:00.1 0000:03:00.2");
    assert_has(said, "0000:03:00.2");
    read_info(with, &info);
    g_assert_cmpstr(info.address, ==, "0000:03:00.0");
    g_assert_null(info.others[0]); /* they are not by hand */
    gpup_domain_info_clear(&info);
    assert_same(with, again);
    assert_given(moved, "0000:04:00.0 0000:04:00.1");
    assert_given(back, "0000:03:00.0 0000:03:00.1 0000:03:00.2");
    assert_same(xml, without);
    assert_same(xml, without_moved);
    assert_same(xml, without_back);
}

/* What a user takes out stays out, and what is there by hand is not given twice. */
static void sound_of_the_user(void)
{
    g_autofree char *xml = vm("", "", "");
    g_autofree char *with = add(xml, &card, NULL);
    const char *end = strstr(strstr(with, "-1\"/>"), "</hostdev>") + strlen("</hostdev>");
    const char *begin = g_strrstr_len(with, end - with, "<hostdev");
    g_autofree char *taken = g_strdup_printf("%.*s%s", (int)(begin - with), with, end);
    g_autofree char *again = add(taken, &card, NULL);
    g_autofree char *same = move(taken, &card);
    g_autofree char *without = take_out(taken, NULL);
    g_autofree char *by_hand = edited(
        xml, "<memballoon",
        "<hostdev mode='subsystem' type='pci' managed='yes'><source><address bus='3' slot='0' "
        "function='1'/></source></hostdev><memballoon");
    g_autofree char *both = add(by_hand, &card, NULL);
    g_autofree char *without_ours = take_out(both, NULL);

    assert_given(taken, "0000:03:00.0 0000:03:00.2");
    assert_same(taken, again);
    g_assert_null(same);
    assert_same(xml, without);
    assert_given(both, "0000:03:00.1 0000:03:00.0 0000:03:00.2");
    assert_same(by_hand, without_ours);
}

/* One that was assigned before it went along gets it when it is assigned again. */
static void sound_later(void)
{
    struct gpup_device alone = card;
    g_autofree char *xml = vm("", "", "");
    g_autofree char *before = NULL, *after = NULL, *without = NULL;

    alone.n_companions = 0;
    before = add(xml, &alone, NULL);
    assert_given(before, "0000:03:00.0");
    after = add(before, &card, NULL);
    assert_given(after, "0000:03:00.0 0000:03:00.1 0000:03:00.2");
    without = take_out(after, NULL);
    assert_same(xml, without);
}

/* By libvirt's own schema and parser. */
static void libvirt_takes_it(void)
{
    static const enum gpup_form forms_of[] = {GPUP_FORM_VFIO, GPUP_FORM_VENDOR, GPUP_FORM_MDEV};
    const char *xml = "<domain type='test'><name>win11</name><uuid>" ID "</uuid>"
                      "<memory unit='MiB'>64</memory>"
                      "<os firmware='efi'><type arch='x86_64' machine='q35'>hvm</type></os>"
                      "<devices><controller type='pci' index='0' model='pcie-root'/></devices>"
                      "</domain>";
    virConnect *connection = virConnectOpen("test:///default");

    g_assert_nonnull(connection);
    for (size_t i = 0; i < G_N_ELEMENTS(forms_of); i++) {
        const struct gpup_device device = {
            .form = forms_of[i],
            .address = "0000:41:00.4",
            .memory = 64 * GIB,
            .companions = {"0000:41:00.5"},
            .n_companions = forms_of[i] == GPUP_FORM_VFIO ? 1 : 0,
        };
        g_autofree char *with = add(xml, &device, NULL);
        virDomain *domain = virDomainDefineXMLFlags(connection, with, VIR_DOMAIN_DEFINE_VALIDATE);
        char *stored = domain ? virDomainGetXMLDesc(domain, VIR_DOMAIN_XML_INACTIVE) : NULL;
        struct gpup_domain_info info;

        if (!stored)
            g_error("form %zu: %s\n%s", i, virGetLastErrorMessage(), with);
        assert_has(stored, device.form == GPUP_FORM_MDEV ? "type='mdev'" : "type='pci'");
        assert_has(stored, "<pcihole64 unit='KiB'>134217728</pcihole64>");
        g_assert_cmpint(gpup_domain_info_read(stored, strlen(stored), &info, NULL), ==, 0);
        g_assert_true(info.hostdev); /* it is still known as the adapter's */
        gpup_domain_info_clear(&info);
        free(stored);
        virDomainUndefine(domain);
        virDomainFree(domain);
    }
    virConnectClose(connection);
}

/* libvirt adds a guest address; users add a boot order, a ROM, a driver. All of it stays. */
static void moving_keeps_the_rest(void)
{
    const struct gpup_device other = {.form = GPUP_FORM_VFIO, .address = "0000:41:00.5"};
    g_autofree char *xml = vm("", "", "");
    g_autofree char *with = add(xml, &vf, NULL);
    g_autofree char *mine = edited(with, "<alias",
                                   "<rom bar='off'/><driver name='vfio'/>"
                                   "<address type='pci' domain='0x0000' bus='0x05' slot='0x00' "
                                   "function='0x0'/><alias");
    g_autofree char *more = edited(mine, "<source>", "<source writeFiltering='no'>");
    g_autofree char *moved = move(more, &other);
    g_autofree char *same = move(moved, &other);
    g_autofree char *wanted = edited(more, "function=\"0x4\"", "function=\"0x5\"");
    GPUP_AUTO_ERROR err = NULL;
    char *out = NULL;

    assert_same(moved, wanted);
    g_assert_null(same);
    g_assert_cmpint(gpup_domain_set_device(xml, &other, &out, &err), ==, -ENOENT);
    g_assert_null(out);
}

static void assigning_again(void)
{
    const struct gpup_device other = {.form = GPUP_FORM_VFIO, .address = "0000:41:00.5"};
    g_autofree char *xml = vm("", "", "");
    g_autofree char *with = add(xml, &vf, NULL);
    g_autofree char *again = add(with, &other, NULL);
    g_autofree char *gone = edited(with, "ua-gpup-", "ua-");
    struct gpup_adapter adapter = {.kind = GPUP_KIND_SRIOV};
    struct gpup_domain_info info;
    GPUP_AUTO_ERROR err = NULL;
    g_autofree char *out = NULL;
    g_auto(GStrv) lines = NULL;

    assert_same(with, again); /* its device stays: it may run with it */
    read_info(gone, &info);
    g_assert_false(info.hostdev);
    g_assert_cmpstr(info.others[0], ==, "0000:41:00.4");
    gpup_domain_info_clear(&info);
    g_assert_cmpint(gpup_domain_add_adapter(gone, &adapter, NULL, 0, &out, &lines, &err), ==,
                    -EINVAL);
    assert_has(err->message, "gpup unassign win11");
}

/* What the user gave the VM by hand is seen, in any notation, and not given twice. */
static void hostdevs_of_others(void)
{
    g_autofree char *xml = vm("", "", "");
    g_autofree char *by_hand = edited(
        xml, "<memballoon",
        "<hostdev mode='subsystem' type='pci'><source><address bus='65' slot='0' function='4'/>"
        "</source></hostdev>"
        "<hostdev mode='subsystem' type='usb'><source><address bus='1' device='2'/></source>"
        "</hostdev>"
        "<hostdev mode='subsystem' type='pci'><source><address bus='0x100' slot='0' "
        "function='0'/></source></hostdev><memballoon");
    struct gpup_adapter adapter = {.kind = GPUP_KIND_SRIOV};
    struct gpup_domain_info info;
    GPUP_AUTO_ERROR err = NULL;
    g_autofree char *out = NULL;
    g_auto(GStrv) lines = NULL;

    read_info(by_hand, &info);
    g_assert_null(info.adapter);
    g_assert_cmpuint(g_strv_length(info.others), ==, 1);
    g_assert_cmpstr(info.others[0], ==, "0000:41:00.4");
    gpup_domain_info_clear(&info);
    g_assert_cmpint(gpup_domain_add_adapter(by_hand, &adapter, &vf, 0, &out, &lines, &err), ==,
                    -EEXIST);
    assert_has(err->message, "0000:41:00.4");
    assert_has(err->message, "virsh edit win11");
}

/* ---- room for large memory ---- */

static void windows(void)
{
    static const struct {
        uint64_t memory;
        const char *os, *hole;
        const char *has, *lacks;
    } cases[] = {
        {2 * GIB, "<os firmware='efi'/>", "", "hostdev", "pcihole64"},
        {16 * GIB, "<os firmware='efi'/>", "", "hostdev", "pcihole64"},
        {17 * GIB, "", "", ">67108864</pcihole64>", "qemu:"},
        {64 * GIB, "<os firmware='efi'/>", "", "X-PciMmio64Mb,string=131072", NULL},
        {64 * GIB, "<os><loader type='pflash'>/x</loader></os>", HOLE "1048576</pcihole64>",
         ">134217728</pcihole64>", ">1048576<"},
        {64 * GIB, "", HOLE "536870912</pcihole64>", HOLE "536870912</pcihole64>", "134217728"},
        {64 * GIB, "", "<pcihole64 unit='GiB'>512</pcihole64>", "512</pcihole64>", "134217728"},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        struct gpup_device device = vf;
        g_autofree char *xml = vm(cases[i].os, cases[i].hole, "");
        g_autofree char *with = NULL, *again = NULL, *without = NULL, *plain = NULL;
        char **quoted;

        device.memory = cases[i].memory;
        with = add(xml, &device, NULL);
        again = add(with, &device, NULL);
        without = take_out(with, NULL);
        quoted = g_strsplit(with, "\"", -1);
        plain = g_strjoinv("'", quoted);
        g_strfreev(quoted);
        g_test_message("case %zu", i);
        assert_has(plain, cases[i].has);
        if (cases[i].lacks)
            assert_lacks(plain, cases[i].lacks);
        assert_same(with, again);
        assert_same(xml, without);
    }
}

static void windows_of_the_user(void)
{
    struct gpup_device device = {
        .form = GPUP_FORM_VFIO, .address = "0000:41:00.4", .memory = 64 * GIB};
    g_autofree char *own = vm("<os firmware='efi'/>", "",
                              "<q:commandline xmlns:q='http://libvirt.org/schemas/domain/qemu/1.0'>"
                              "<q:arg value='-fw_cfg'/>"
                              "<q:arg value='name=opt/ovmf/X-PciMmio64Mb,string=1048576'/>"
                              "</q:commandline>");
    g_autofree char *xml = vm("<os firmware='efi'/>", "", "");
    g_autofree char *with_own = add(own, &device, NULL);
    g_autofree char *without_own = take_out(with_own, NULL);
    g_autofree char *with = add(xml, &device, NULL);
    g_autofree char *larger = edited(with, "value=\"name=opt/ovmf/X-PciMmio64Mb,string=131072",
                                     "value=\"name=opt/ovmf/X-PciMmio64Mb,string=262144");
    g_autofree char *widened = edited(larger, ">134217728<", ">268435456<");
    g_autofree char *said = NULL;
    g_autofree char *without = take_out(widened, &said);

    assert_lacks(with_own, "string=131072");
    assert_same(own, without_own);
    assert_has(without, "string=262144");
    assert_has(without, ">268435456<");
    assert_has(said, "firmware was changed");
    assert_has(said, "PCI memory was changed");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/hostdev/function", a_function);
    g_test_add_func("/hostdev/forms", forms);
    g_test_add_func("/hostdev/sound", with_its_sound);
    g_test_add_func("/hostdev/sound/user", sound_of_the_user);
    g_test_add_func("/hostdev/sound/later", sound_later);
    g_test_add_func("/hostdev/libvirt", libvirt_takes_it);
    g_test_add_func("/hostdev/move", moving_keeps_the_rest);
    g_test_add_func("/hostdev/again", assigning_again);
    g_test_add_func("/hostdev/others", hostdevs_of_others);
    g_test_add_func("/hostdev/window", windows);
    g_test_add_func("/hostdev/window/user", windows_of_the_user);
    return g_test_run();
}
