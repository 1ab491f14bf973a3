/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/error.h"
#include "same_xml.h"
#include "vm/adapter_xml.h"
#include "vm/domain.h"

#include <errno.h>
#include <glib.h>
#include <string.h>

/* What gpup adds to a definition and takes out of it again. libvirt is not here: that it accepts
 * the result is for the lab to show. */

#define ID       "11111111-2222-4333-8444-555555555555"
#define QEMU     "xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'"
#define VNC      "    <graphics type='vnc' port='-1'/>\n"
#define SPICE    "    <graphics type='spice' autoport='yes'/>\n"
#define VIDEO(m) "    <video>\n      <model type='" m "' heads='1' primary='yes'/>\n    </video>\n"
#define OTHERS   "  <metadata>\n    <o:x xmlns:o='urn:other' a='1'>text</o:x>\n  </metadata>\n"
#define WINDOWS                                                                                    \
    "  <metadata><l:libosinfo xmlns:l='http://libosinfo.org/xmlns/libvirt/domain/1.0'>"            \
    "<l:os id='http://microsoft.com/win/11'/></l:libosinfo></metadata>\n"

struct vm {
    const char *root;    /* attributes of <domain> */
    const char *parts;   /* children of <domain> */
    const char *devices; /* children of <devices> */
    const char *tail;    /* after <devices> */
};

static char *text_of(const struct vm *vm)
{
    return g_strdup_printf("<domain type='kvm' %s>\n  <name>desk1</name>\n  <uuid>" ID "</uuid>\n"
                           "%s  <os>\n    <type arch='x86_64' machine='q35'>hvm</type>\n  </os>\n"
                           "  <devices>\n"
                           "    <disk type='file'><source file='/a&amp;b'/></disk>\n%s"
                           "    <memballoon model='virtio'/>\n  </devices>\n%s</domain>",
                           vm->root ? vm->root : "", vm->parts ? vm->parts : "",
                           vm->devices ? vm->devices : "", vm->tail ? vm->tail : "");
}

static struct gpup_adapter asks(void)
{
    struct gpup_adapter adapter = {.kind = GPUP_KIND_VIRTIO};

    adapter.request[GPUP_VRAM] = (struct gpup_request){.has_optimal = true, .optimal = 512 << 20};
    adapter.request[GPUP_COMPUTE] = (struct gpup_request){.has_max = true, .max = 250000};
    return adapter;
}

static char *add(const char *xml, unsigned flags, char **said)
{
    struct gpup_adapter adapter = asks();
    GPUP_AUTO_ERROR err = NULL;
    g_auto(GStrv) lines = NULL;
    char *out = NULL;
    int ret = gpup_domain_add_adapter(xml, &adapter, NULL, flags, &out, &lines, &err);

    g_assert_cmpstr(err ? err->message : NULL, ==, NULL);
    g_assert_cmpint(ret, ==, 0);
    if (said)
        *said = g_strjoinv("\n", lines);
    return out;
}

static char *take_out(const char *xml, char **said)
{
    GPUP_AUTO_ERROR err = NULL;
    g_auto(GStrv) lines = NULL;
    char *out = NULL;
    int ret = gpup_domain_remove_adapter(xml, &out, &lines, &err);

    g_assert_cmpstr(err ? err->message : NULL, ==, NULL);
    g_assert_cmpint(ret, ==, 0);
    if (said)
        *said = g_strjoinv("\n", lines);
    return out;
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

/* text with the first `from` made `to`: what a user does with virsh edit */
static char *edited(const char *text, const char *from, const char *to)
{
    const char *at = strstr(text, from);

    if (!at)
        g_error("'%s' is not in:\n%s", from, text);
    return g_strdup_printf("%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
}

#define MEMFD                                                                                      \
    "  <memoryBacking>\n    <source type='memfd'/>\n    <access mode='shared'/>\n"                 \
    "  </memoryBacking>\n"

static const struct vm round_trips[] = {
    {.devices = VNC VIDEO("vga")},
    {.devices = SPICE VIDEO("qxl")},
    {.devices = VNC},
    {.devices = VNC "    <video>\n      <model type='none'/>\n    </video>\n"},
    {.devices = VIDEO("virtio")},
    {.devices = VNC VIDEO("bochs"), .parts = MEMFD},
    {.devices = VNC VIDEO("vga"),
     .parts = "  <memoryBacking>\n    <hugepages/>\n    <nosharepages/>\n  </memoryBacking>\n"},
    {.devices = VNC VIDEO("vga"),
     .parts = "  <memoryBacking><source type='file'/><access mode='private'/></memoryBacking>\n"},
    {.devices = VNC VIDEO("vga"),
     .parts = "  <memoryBacking>\n    <source type='anonymous'/>\n  </memoryBacking>\n"},
    {.devices = VNC VIDEO("vga"), .parts = OTHERS},
    {.devices = VNC VIDEO("vga"), .parts = "  <metadata/>\n  <memoryBacking/>\n"},
    {.devices = SPICE VIDEO("vga"),
     .root = QEMU,
     .tail = "  <qemu:commandline>\n    <qemu:arg value='-s'/>\n  </qemu:commandline>\n"},
    {.devices = SPICE VIDEO("vga"),
     .root = QEMU,
     .tail = "  <qemu:override>\n    <qemu:device alias='ua-x'/>\n  </qemu:override>\n"},
    {.devices = SPICE "    <graphics type='egl-headless'/>\n" VIDEO("vga") VIDEO("virtio")},
    {.devices = "    <video><model type='none'/></video><!-- a comment -->\n"},
};

static void removing_is_the_reverse(void)
{
    for (size_t i = 0; i < G_N_ELEMENTS(round_trips); i++) {
        g_autofree char *xml = text_of(&round_trips[i]);
        g_autofree char *with = add(xml, 0, NULL);
        g_autofree char *without = take_out(with, NULL);
        struct gpup_domain_info info;

        g_test_message("definition %zu", i);
        g_assert_cmpint(gpup_domain_info_read(with, strlen(with), &info, NULL), ==, 0);
        g_assert_nonnull(info.adapter);
        g_assert_cmpint(info.video, >=, 1); /* never the first, which is the primary */
        gpup_domain_info_clear(&info);
        assert_same(xml, without);
    }
}

static void what_is_added(void)
{
    g_autofree char *xml = text_of(&round_trips[0]);
    g_autofree char *said = NULL;
    g_autofree char *with = add(xml, 0, &said);
    struct gpup_domain_info info;

    g_assert_cmpint(gpup_domain_info_read(with, strlen(with), &info, NULL), ==, 0);
    g_assert_true(g_uuid_string_is_valid(info.adapter->id));
    g_assert_cmpuint(info.adapter->request[GPUP_VRAM].optimal, ==, 512 << 20);
    g_assert_false(info.adapter->request[GPUP_VRAM].has_min);
    g_assert_cmpuint(info.adapter->request[GPUP_COMPUTE].max, ==, 250000);
    g_assert_cmpint(info.video, ==, 1);
    gpup_domain_info_clear(&info);
    assert_has(with, "<driver name=\"vhostuser\"/>");
    assert_has(with, "<source type=\"memfd\"/>");
    assert_has(with, "<access mode=\"shared\"/>");
    assert_lacks(with, "max_outputs");
    assert_has(said, "vram");
    assert_has(said, "512 MiB");
    assert_has(said, "memfd");
}

/* ---- changing an adapter ---- */

static void changing_values(void)
{
    g_autofree char *xml = text_of(&round_trips[0]);
    g_autofree char *first = add(xml, 0, NULL);
    g_autofree char *later = edited(first, "kind=\"virtio\"", "kind=\"virtio\" later=\"1\"");
    struct gpup_adapter other = {.kind = GPUP_KIND_VIRTIO, .gpu = (char *)"a<b&c"};
    g_autofree char *second = NULL, *without = NULL;
    g_auto(GStrv) lines = NULL;
    struct gpup_domain_info before, after;

    other.request[GPUP_VRAM] = (struct gpup_request){.has_min = true, .min = 1 << 30};
    g_strlcpy(other.id, "99999999-2222-4333-8444-555555555555", sizeof(other.id));
    g_assert_cmpint(gpup_domain_add_adapter(later, &other, NULL, 0, &second, &lines, NULL), ==, 0);
    g_assert_cmpint(gpup_domain_info_read(first, strlen(first), &before, NULL), ==, 0);
    g_assert_cmpint(gpup_domain_info_read(second, strlen(second), &after, NULL), ==, 0);
    g_assert_cmpstr(before.adapter->id, ==, after.adapter->id);
    g_assert_cmpstr(after.adapter->gpu, ==, "a<b&c");
    g_assert_cmpuint(after.adapter->request[GPUP_VRAM].min, ==, 1 << 30);
    g_assert_false(after.adapter->request[GPUP_VRAM].has_optimal);
    g_assert_false(after.adapter->request[GPUP_COMPUTE].has_max);
    g_assert_cmpint(after.video, ==, before.video);
    assert_has(second, "later=\"1\"");
    gpup_domain_info_clear(&before);
    gpup_domain_info_clear(&after);
    without = take_out(second, NULL);
    assert_same(xml, without);
}

static void adding_twice_is_adding_once(void)
{
    for (size_t i = 0; i < G_N_ELEMENTS(round_trips); i++) {
        g_autofree char *xml = text_of(&round_trips[i]);
        g_autofree char *once = add(xml, 0, NULL);
        g_autofree char *twice = add(once, 0, NULL);

        assert_same(once, twice);
    }
}

/* What the user took away comes back with the next assign, and goes with unassign. */
static void adding_again_mends(void)
{
    const struct vm vnc = {.devices = VNC VIDEO("vga")};
    g_autofree char *xml = text_of(&vnc);
    g_autofree char *with = add(xml, 0, NULL);
    g_autofree char *private = edited(with, "mode=\"shared\"", "mode=\"private\"");
    g_autofree char *spice = edited(private, "\"vnc\"", "\"spice\"");
    g_autofree char *mended = add(spice, 0, NULL);
    g_autofree char *without = take_out(mended, NULL);
    g_autofree char *wanted = edited(xml, "'vnc'", "'spice'");

    assert_has(mended, "mode=\"shared\"");
    assert_has(mended, "max_outputs");
    assert_same(wanted, without);
}

/* ---- refusals ---- */

static void assert_refused(const char *xml, const struct gpup_adapter *adapter, unsigned flags,
                           int code, const char *part)
{
    GPUP_AUTO_ERROR err = NULL;
    g_auto(GStrv) lines = NULL;
    g_autofree char *out = NULL;

    g_assert_cmpint(gpup_domain_add_adapter(xml, adapter, NULL, flags, &out, &lines, &err), ==,
                    -code);
    g_assert_null(out);
    g_assert_null(lines);
    assert_has(gpup_error_message(err), part);
}

static void vms_that_cannot(void)
{
    static const struct {
        struct vm vm;
        unsigned flags;
        int code;
        const char *part;
    } cases[] = {
        {{.devices = VNC VIDEO("cirrus")}, 0, EINVAL, "virsh edit desk1"},
        {{.devices = SPICE VIDEO("qxl")}, GPUP_DOMAIN_NO_OVERRIDE, EOPNOTSUPP, "use VNC"},
        {{.parts = WINDOWS}, 0, EOPNOTSUPP, "--force"},
        {{.parts = "<cpu><numa><cell id='0'/><cell id='1' memAccess='private'/></numa></cpu>"},
         0,
         EINVAL,
         "memAccess='private'"},
        {{.devices = "<memory model='dimm' access='private'/>"}, 0, EINVAL, "access='private'"},
    };
    const struct gpup_adapter adapter = asks();

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *xml = text_of(&cases[i].vm);

        assert_refused(xml, &adapter, cases[i].flags, cases[i].code, cases[i].part);
    }
    assert_refused("<domain><name>x</name></domain>", &adapter, 0, EINVAL, "no <devices>");
    assert_refused("<network/>", &adapter, 0, EINVAL, "not a VM's definition");
}

static void what_goes_by_force(void)
{
    const struct vm windows = {.parts = WINDOWS};
    const struct vm vnc = {.devices = VNC};
    g_autofree char *xml = text_of(&windows);
    g_autofree char *plain = text_of(&vnc);

    g_free(add(xml, GPUP_DOMAIN_FORCE, NULL));
    g_free(add(plain, GPUP_DOMAIN_NO_OVERRIDE, NULL)); /* which VNC does not need */
}

static void adapters_that_cannot(void)
{
    g_autofree char *xml = text_of(&round_trips[0]);
    g_autofree char *with = add(xml, 0, NULL);
    g_autofree char *without_id = edited(with, " id=\"", " no=\"");
    g_autofree char *sriov = edited(with, "kind=\"virtio\"", "kind=\"sriov\"");
    g_autofree char *two =
        edited(with, "<gpup:adapter", "<a:adapter xmlns:a='urn:gpup:adapter:1'/><gpup:adapter");
    struct gpup_adapter adapter = asks();

    assert_refused(without_id, &adapter, 0, EINVAL, "gpup unassign desk1");
    assert_refused(two, &adapter, 0, EINVAL, "more than once");
    assert_refused(sriov, &adapter, 0, EINVAL, "is of kind sriov");
    adapter.request[GPUP_VRAM].min = 1 << 30;
    adapter.request[GPUP_VRAM].has_min = true;
    assert_refused(xml, &adapter, 0, EINVAL, "minimum");
    adapter = (struct gpup_adapter){.kind = GPUP_KIND_SRIOV};
    assert_refused(xml, &adapter, 0, EINVAL, "no device of this host");
    assert_refused(with, &adapter, 0, EINVAL, "gpup unassign desk1");
}

/* ---- the parts ---- */

static void beside_spice(void)
{
    const struct vm spice = {.devices = SPICE VIDEO("qxl")};
    const struct vm with_gl = {
        .devices = "<graphics type='spice'><gl enable='yes'/></graphics>" VIDEO("virtio")};
    g_autofree char *xml = text_of(&spice);
    g_autofree char *gl = text_of(&with_gl);
    g_autofree char *said = NULL, *said_gl = NULL;
    g_autofree char *with = add(xml, 0, &said);
    g_autofree char *with_context = add(gl, 0, &said_gl);

    assert_has(with, "<qemu:property name=\"max_outputs\" type=\"unsigned\" value=\"0\"/>");
    assert_has(with, "<qemu:device alias=\"ua-gpup-");
    assert_has(with, "<alias name=\"ua-gpup-");
    assert_has(said, "6.1 ");
    assert_has(said, "6.12");
    assert_lacks(with_context, "max_outputs");
    assert_has(said_gl, "Its own display is virtio");
}

/* A connected head is written down; where there cannot be one, that is said. */
static void a_display(void)
{
    const struct vm spice = {.devices = SPICE VIDEO("qxl")};
    const struct vm vnc = {.devices = "<graphics type='vnc'/>" VIDEO("vga")};
    struct gpup_adapter adapter = asks();
    g_autofree char *with_spice = text_of(&spice), *with_vnc = text_of(&vnc), *out = NULL;
    g_auto(GStrv) lines = NULL;
    GPUP_AUTO_ERROR err = NULL;

    adapter.display = GPUP_DISPLAY_PIXELS;
    g_assert_cmpint(gpup_domain_add_adapter(with_vnc, &adapter, NULL, 0, &out, &lines, &err), ==,
                    0);
    assert_has(out, "display=\"pixels\"");
    assert_has(lines[0], "display pixels");
    assert_refused(with_spice, &adapter, 0, EINVAL, "--display off");
}

static void hugepages_stay(void)
{
    const struct vm all = {.parts = "<memoryBacking><hugepages/></memoryBacking>"};
    const struct vm some = {.parts = "<memoryBacking><hugepages><page size='2048' nodeset='0'/>"
                                     "</hugepages></memoryBacking>"};
    g_autofree char *xml_all = text_of(&all), *xml_some = text_of(&some);
    g_autofree char *with_all = add(xml_all, 0, NULL);
    g_autofree char *with_some = add(xml_some, 0, NULL);

    assert_has(with_all, "<hugepages/><access mode=\"shared\"/></memoryBacking>");
    assert_has(with_some, "</hugepages><source type=\"memfd\"/><access mode=\"shared\"/>");
}

/* As libvirt writes it back: with addresses, defaults and ports. */
static void libvirt_fills_in(void)
{
    const struct vm none = {.devices = VNC "<video><model type='none'/></video>"};
    g_autofree char *xml = text_of(&none);
    g_autofree char *with = add(xml, 0, NULL);
    g_autofree char *display =
        edited(with, "<model type=\"vga\"/>",
               "<model type=\"vga\" vram=\"16384\" primary=\"yes\"/><address type=\"pci\"/>");
    g_autofree char *filled = edited(display, "<memballoon",
                                     "<controller type='pci' index='4' model='pcie-root-port'/>"
                                     "<memballoon");
    g_autofree char *noted = NULL, *again = NULL, *without = NULL;

    g_assert_cmpint(gpup_domain_note_ports(filled, &noted, NULL), ==, 0);
    g_assert_nonnull(noted);
    without = take_out(noted, NULL);
    assert_same(xml, without);
    g_assert_cmpint(gpup_domain_note_ports(noted, &again, NULL), ==, 0);
    g_assert_null(again);
}

/* gpupd was killed before it could note them. */
static void unnoted_ports(void)
{
    const struct vm vnc = {.devices = VNC VIDEO("vga") "<controller type='pci' index='0' "
                                                       "model='pcie-root'/>"};
    g_autofree char *xml = text_of(&vnc);
    g_autofree char *with = add(xml, 0, NULL);
    g_autofree char *filled = edited(with, "<memballoon",
                                     "<controller type='pci' index='4' model='pcie-root-port'/>"
                                     "<memballoon");
    g_autofree char *changed = add(filled, 0, NULL);
    g_autofree char *without = take_out(filled, NULL);
    g_autofree char *noted = NULL;

    assert_same(xml, without);
    /* assigned again: what was cut off is done */
    g_assert_cmpint(gpup_domain_note_ports(changed, &noted, NULL), ==, 0);
    assert_has(noted, "what=\"port\" was=\"4\"");
    g_assert_null(strstr(noted, "ports-before"));
}

static void a_port_in_use_stays(void)
{
    const struct vm vnc = {.devices = VNC VIDEO("vga")};
    g_autofree char *xml = text_of(&vnc);
    g_autofree char *with = add(xml, 0, NULL);
    g_autofree char *filled = edited(with, "<memballoon",
                                     "<controller type='pci' index='4' model='pcie-root-port'/>"
                                     "<hostdev><address type='pci' bus='0x04'/></hostdev>"
                                     "<memballoon");
    g_autofree char *noted = NULL, *without = NULL;

    g_assert_cmpint(gpup_domain_note_ports(filled, &noted, NULL), ==, 0);
    without = take_out(noted, NULL);
    assert_has(without, "pcie-root-port");
}

/* ---- removing after edits ---- */

static void the_user_edits_meanwhile(void)
{
    g_autofree char *xml = text_of(&round_trips[0]);
    g_autofree char *with = add(xml, 0, NULL);
    g_autofree char *mine =
        edited(with, "<memballoon model=\"virtio\"/>", "<memballoon model=\"none\"/>");
    g_autofree char *wanted =
        edited(xml, "<memballoon model='virtio'/>", "<memballoon model='none'/>");
    g_autofree char *without = take_out(mine, NULL);

    assert_same(wanted, without);
}

static void what_the_user_changed_stays(void)
{
    static const struct {
        const char *from, *to;
        const char *kept; /* in the definition */
        const char *said;
    } cases[] = {
        {"<source type=\"memfd\"/>", "<source type=\"file\"/>", "<source type=\"file\"/>",
         "memoryBacking/source"},
        {"<memoryBacking>", "<memoryBacking><locked/>", "<memoryBacking><locked/></memoryBacking>",
         NULL},
        {"<driver name=\"vhostuser\"/>", "<driver name=\"qemu\"/>", "<driver name=\"qemu\"/>",
         "device was changed"},
        {"<model type=\"vga\"/>", "<model type=\"qxl\"/>", "<model type=\"qxl\"/>",
         "display that was added was changed"},
        {"<qemu:frontend>", "<qemu:frontend><qemu:property name='x'/>", "<qemu:property name=\"x\"",
         "settings of others"},
        {"<metadata>", "<metadata><o:y xmlns:o='urn:y'/>", "<o:y xmlns:o=\"urn:y\"/></metadata>",
         NULL},
    };
    const struct vm bare = {.devices = SPICE};
    g_autofree char *xml = text_of(&bare);

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *with = add(xml, 0, NULL);
        g_autofree char *mine = edited(with, cases[i].from, cases[i].to);
        g_autofree char *said = NULL;
        g_autofree char *without = take_out(mine, &said);

        assert_has(without, cases[i].kept);
        assert_lacks(without, GPUP_ADAPTER_NS);
        assert_lacks(without, "max_outputs");
        if (cases[i].said)
            assert_has(said, cases[i].said);
    }
}

static void removing_what_is_not_there(void)
{
    g_autofree char *xml = text_of(&round_trips[0]);
    g_autofree char *out = NULL;
    g_auto(GStrv) lines = NULL;
    GPUP_AUTO_ERROR err = NULL;

    g_assert_cmpint(gpup_domain_remove_adapter(xml, &out, &lines, &err), ==, -ENOENT);
    assert_has(gpup_error_message(err), "desk1");
    g_assert_null(out);
}

/* An adapter that cannot be read can still be removed, and so can two. */
static void removing_what_is_broken(void)
{
    g_autofree char *xml = text_of(&round_trips[9]);
    g_autofree char *with = add(xml, 0, NULL);
    g_autofree char *values = edited(with, "vram-optimal=\"", "vram-optimal=\"x");
    g_autofree char *two =
        edited(values, "<gpup:adapter", "<a:adapter xmlns:a='urn:gpup:adapter:1'/><gpup:adapter");
    g_autofree char *without = take_out(two, NULL);

    assert_same(xml, without);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/domain/round-trip", removing_is_the_reverse);
    g_test_add_func("/domain/added", what_is_added);
    g_test_add_func("/domain/change", changing_values);
    g_test_add_func("/domain/twice", adding_twice_is_adding_once);
    g_test_add_func("/domain/mend", adding_again_mends);
    g_test_add_func("/domain/refused/vm", vms_that_cannot);
    g_test_add_func("/domain/refused/adapter", adapters_that_cannot);
    g_test_add_func("/domain/force", what_goes_by_force);
    g_test_add_func("/domain/spice", beside_spice);
    g_test_add_func("/domain/display", a_display);
    g_test_add_func("/domain/hugepages", hugepages_stay);
    g_test_add_func("/domain/filled-in", libvirt_fills_in);
    g_test_add_func("/domain/port-in-use", a_port_in_use_stays);
    g_test_add_func("/domain/unnoted-ports", unnoted_ports);
    g_test_add_func("/domain/edited/elsewhere", the_user_edits_meanwhile);
    g_test_add_func("/domain/edited/ours", what_the_user_changed_stays);
    g_test_add_func("/domain/remove/none", removing_what_is_not_there);
    g_test_add_func("/domain/remove/broken", removing_what_is_broken);
    return g_test_run();
}
