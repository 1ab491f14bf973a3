/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Runs the real gpup against a stand-in for gpupd on a private bus. argv[1]: the gpup to test. */

#include "run.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

static void set_up(struct standin *s, gconstpointer data)
{
    standin_up(s);
}

static void test_top(struct standin *s, gconstpointer data)
{
    g_autoptr(JsonNode) one = NULL;
    g_autofree char *text = NULL;
    g_auto(GStrv) lines = NULL;

    s->looks = 1;
    one = json(s, "top --interval 0.1 --count 1 --json");
    text = output(s, "top --interval 0.1 --count 2");
    lines = g_strsplit(text, "\n", -1);
    assert_at(one, "$.version", "[1]");
    assert_at(one, "$.vms[*].got", "[251000]");
    assert_at(one, "$.vms[*].waiting", "[100000]");
    assert_at(one, "$.vms[*].vram_used", "[104857600]");
    g_assert_cmpuint(g_strv_length(lines), ==, 3); /* a line each time, and the end */
    g_assert_nonnull(strstr(lines[1], "got 25.1 %, waiting 10.0 %, memory 100 MiB of "));
}

static void tear_down(struct standin *s, gconstpointer data)
{
    standin_down(s);
}

static const char status_table[] = "GPU       NAME        MODE          FREE  EACH     ISOLATION\n"
                                   "03:00.0   B50         unused        -     -        hardware\n"
                                   "41:00.0   A16 1 of 4  4 partitions  1/4   4 GiB    hardware\n"
                                   "42:00.0   A16 2 of 4  unusable      -     -        hardware\n"
                                   "software  llvmpipe    4 partitions  3/4   512 MiB  process\n";

static const char gpu_notes[] = "note: 42:00.0: ordinary NVIDIA driver loaded\n"
                                "note: software: no cgroup v2: GPU time is not limited\n";

static void test_status(struct standin *s, gconstpointer data)
{
    g_autofree char *notes =
        g_strconcat(gpu_notes, "note: no polkit: only root may change anything\n", NULL);
    g_auto(cli_result) r = run(s, "");
    g_auto(cli_result) same = run(s, "status");

    g_assert_cmpstr(r.out, ==, status_table);
    g_assert_cmpstr(r.err, ==, notes);
    g_assert_cmpint(r.code, ==, 0);
    g_assert_cmpstr(same.out, ==, status_table);
}

static void test_status_json(struct standin *s, gconstpointer data)
{
    g_autoptr(JsonNode) node = json(s, "--json");

    assert_at(node, "$.version", "[1]");
    assert_at(node, "$.gpupd", "[\"9.8.7\"]");
    assert_at(node, "$.policy", "[\"spread\"]");
    assert_at(node, "$.libvirt_connected", "[true]");
    assert_at(node, "$.libvirt_error", "[null]");
    assert_at(node, "$.degraded", "[[\"no polkit: only root may change anything\"]]");
    assert_at(node, "$.gpus[*].id",
              "[\"0000:03:00.0\",\"0000:41:00.0\",\"0000:42:00.0\",\"software\"]");
    assert_at(node, "$.gpus[3].resources.vram",
              "[{\"enforcement\":\"hard\",\"total\":2147483648,\"available\":1610612736,"
              "\"each\":536870912}]");
    assert_at(node, "$.gpus[0].valid_counts", "[[2,4]]");
    assert_at(node, "$.gpus[2].reason", "[\"ordinary NVIDIA driver loaded\"]");
    assert_at(node, "$.gpus[3].free_count", "[3]");
}

static void test_no_libvirt(struct standin *s, gconstpointer data)
{
    static const char text[] =
        "note: libvirt cannot be reached, so what is shown of VMs may be old "
        "or missing: no such file\n";
    g_auto(cli_result) r = {0};

    g_object_set(s->manager, "libvirt-connected", FALSE, "libvirt-error", "no such file", NULL);
    r = run(s, "status");
    g_assert_true(g_str_has_suffix(r.err, text));
    g_assert_cmpint(r.code, ==, 0);
}

static void test_empty_host(struct standin *s, gconstpointer data)
{
    g_auto(cli_result) r = {0};

    standin_empty(s);
    r = run(s, "gpu list");
    g_assert_cmpstr(r.out, ==, "GPU  NAME  MODE  FREE  EACH  ISOLATION\n");
    g_assert_cmpstr(r.err, ==, "note: there is no GPU; after adding one: gpup rescan\n");
    assert_fails(s, "gpu show software", 1, "gpup: no GPU 'software': this host has none\n");
    assert_fails(s, "vm show desk1", 1,
                 "gpup: no VM 'desk1': gpup vm list shows the VMs there are\n");
}

static void test_gpu_list(struct standin *s, gconstpointer data)
{
    g_auto(cli_result) r = run(s, "gpu list");
    g_autoptr(JsonNode) node = json(s, "gpu list --json");

    g_assert_cmpstr(r.out, ==, status_table);
    g_assert_cmpstr(r.err, ==, gpu_notes);
    assert_at(node, "$.version", "[1]");
    assert_at(node, "$.gpus[*].name", "[\"B50\",\"A16 1 of 4\",\"A16 2 of 4\",\"llvmpipe\"]");
}

/* For scripts and completion. */
static void test_names(struct standin *s, gconstpointer data)
{
    g_autofree char *gpus = output(s, "gpu list --name");
    g_autofree char *vms = output(s, "vm list --name");

    g_assert_cmpstr(gpus, ==, "03:00.0\n41:00.0\n42:00.0\nsoftware\n");
    g_assert_cmpstr(vms, ==, "broken\ndesk1\ndesk2\nplain\n");
    assert_fails(s, "vm list --name --json", 2,
                 "gpup: --name and --json do not go together\nSee gpup vm list --help\n");
}

static void test_gpu_show(struct standin *s, gconstpointer data)
{
    g_auto(cli_result) r = run(s, "gpu show LLVM");
    g_autoptr(JsonNode) node = json(s, "gpu show software --json");

    g_assert_cmpstr(r.out, ==,
                    "software  llvmpipe  4 partitions  process isolation\n"
                    "id         software\n"
                    "key        key-software\n"
                    "vendor     ACME\n"
                    "driver     acme\n"
                    "kind       virtio\n"
                    "counts     2, 4\n"
                    "health     2 renderer deaths, 1 hang, 3 refusals of memory since "
                    "2001-09-09 01:46\n"
                    "\n"
                    "RESOURCE  TOTAL  AVAILABLE  EACH     LIMIT\n"
                    "vram      2 GiB  1.5 GiB    512 MiB  hard limit\n"
                    "compute   100 %  50 %       25 %     time share\n"
                    "encode    100 %  shared     shared   shared, unlimited\n"
                    "decode    100 %  shared     shared   shared, unlimited\n"
                    "\n"
                    "PARTITION   STATE  VM     GRANTED                USED\n"
                    "software/0  free   -      -                      -\n"
                    "software/1  used   desk1  512 MiB, compute 25 %  100 MiB\n"
                    "software/2  free   -      -                      -\n"
                    "software/3  free   -      -                      -\n");
    g_assert_cmpint(r.code, ==, 0);
    assert_at(node, "$.gpu.key", "[\"key-software\"]");
    assert_at(node, "$.gpu.partitions[*].state", "[\"free\",\"used\",\"free\",\"free\"]");
    assert_at(node, "$.gpu.partitions[1].grant.compute",
              "[{\"min\":250000,\"weight\":250000,\"cap\":1000000}]");
    assert_at(node, "$.gpu.partitions[1].usage",
              "[{\"vram_used\":104857600,\"refused\":3,\"renderer_deaths\":1,"
              "\"renderer_pid\":77}]");
    assert_at(node, "$.gpu.partitions[0].usage", "[null]");
    assert_at(node, "$.gpu.health.renderer_deaths", "[2]");
    assert_at(node, "$.gpu.health.since", "[1000000000000000]");
}

static void test_gpu_words(struct standin *s, gconstpointer data)
{
    assert_fails(s, "gpu show A16", 2,
                 "gpup: 'A16' could be any of: 41:00.0 (A16 1 of 4), 42:00.0 (A16 2 of 4)\n");
    assert_fails(s, "gpu partition nope 4", 1,
                 "gpup: no GPU 'nope': there are 03:00.0 (B50), 41:00.0 (A16 1 of 4), "
                 "42:00.0 (A16 2 of 4), software (llvmpipe)\n");
    g_assert_cmpstr(s->asked->str, ==, "");
}

static void test_partition_list(struct standin *s, gconstpointer data)
{
    g_autofree char *table = output(s, "gpu partition b50 --list");
    g_autoptr(JsonNode) node = json(s, "gpu partition --json --list 03:00.0");

    g_assert_cmpstr(table, ==,
                    "COUNT  MEMORY    COMPUTE  ENCODE/DECODE\n"
                    "2      6.88 GiB  50 %     shared\n"
                    "4      3.44 GiB  25 %     shared\n");
    assert_at(node, "$.gpu", "[\"0000:03:00.0\"]");
    assert_at(node, "$.counts[*].count", "[2,4]");
    assert_at(node, "$.counts[0].vram", "[7392460800]");
}

static void test_partition(struct standin *s, gconstpointer data)
{
    g_autofree char *out = NULL;

    assert_asks(s, "gpu partition b50 4", "0000:03:00.0 SetPartitionCount(4, {})\n");
    assert_asks(s, "gpu partition software 0 --power-off-vms",
                "software SetPartitionCount(0, {'power-off-vms': <true>})\n");
    out = output(s, "gpu partition b50 2 --dry-run");
    g_assert_cmpstr(out, ==, "first line\nsecond line\nDry run: nothing was changed.\n");
    g_assert_cmpstr(s->asked->str, ==, "0000:03:00.0 SetPartitionCount(2, {'dry-run': <true>})\n");
}

static void test_assign(struct standin *s, gconstpointer data)
{
    assert_asks(s, "assign desk1", "Assign('desk1', {}, {})\n");
    assert_asks(s, "assign desk1 --vram 256M:512M:1G --compute 25% --encode ::50% --decode 5%",
                "Assign('desk1', {'vram': <'256M:512M:1G'>, 'compute': <'25%'>,"
                " 'encode': <'::50%'>, 'decode': <'5%'>}, {})\n");
    assert_asks(s, "assign --gpu b50 --kind sriov --force --dry-run 'my vm'",
                "Assign('my vm', {'kind': <'sriov'>, 'gpu': <'0000:03:00.0'>},"
                " {'dry-run': <true>, 'force': <true>})\n");
    assert_asks(s, "assign desk1 --gpu ''", "Assign('desk1', {'gpu': <''>}, {})\n");
    assert_asks(s, "unassign desk1", "Unassign('desk1', {})\n");
    assert_asks(s, "assign desk1 --live --compute 30%",
                "Assign('desk1', {'compute': <'30%'>}, {'live': <true>})\n");
    assert_asks(s, "unassign desk1 --restart", "Unassign('desk1', {'restart': <true>})\n");
    assert_asks(s, "assign desk1 --restart --timeout 5",
                "Assign('desk1', {}, {'restart': <true>, 'timeout': <uint32 5>})\n");
    assert_asks(s, "unassign --dry-run -- -odd", "Unassign('-odd', {'dry-run': <true>})\n");
}

static void test_vm_power(struct standin *s, gconstpointer data)
{
    assert_asks(s, "vm start desk2", "StartVM('desk2', {})\n");
    assert_asks(s, "vm start -- desk2", "StartVM('desk2', {})\n");
    assert_asks(s, "vm start desk2 --dry-run", "StartVM('desk2', {'dry-run': <true>})\n");
    assert_asks(s, "vm stop desk1", "StopVM('desk1', {})\n");
    assert_asks(s, "vm stop desk1 --timeout 5", "StopVM('desk1', {'timeout': <uint32 5>})\n");
    assert_asks(s, "vm stop desk1 --power-off --dry-run",
                "StopVM('desk1', {'dry-run': <true>, 'power-off': <true>})\n");
}

static void test_vm_list(struct standin *s, gconstpointer data)
{
    g_auto(cli_result) r = run(s, "vm list");
    g_autoptr(JsonNode) node = json(s, "vm list --json");

    g_assert_cmpstr(
        r.out, ==,
        "VM      STATE     ASKED                                  GRANTED                PARTITION\n"
        "broken  shut off  -                                      -                      -\n"
        "desk1   running   256 MiB:512 MiB:1 GiB, compute 25 %::  512 MiB, compute 25 %  software/1\n"
        "desk2   shut off  default                                -                      -\n"
        "plain   running   -                                      -                      -\n");
    g_assert_cmpstr(r.err, ==,
                    "note: broken: its adapter cannot be read\n"
                    "note: no polkit: only root may change anything\n");
    assert_at(node, "$.vms[*].name", "[\"broken\",\"desk1\",\"desk2\",\"plain\"]");
    assert_at(node, "$.vms[1].adapter.vram",
              "[{\"min\":268435456,\"optimal\":536870912,\"max\":1073741824}]");
    assert_at(node, "$.vms[1].adapter.compute", "[{\"min\":250000,\"optimal\":null,\"max\":null}]");
    assert_at(node, "$.vms[2].adapter.vram", "[{\"min\":null,\"optimal\":null,\"max\":null}]");
    assert_at(node, "$.vms[2].adapter.gpu", "[\"key-41:00.0\"]");
    assert_at(node, "$.vms[3].adapter", "[null]");
    assert_at(node, "$.vms[1].partition", "[\"software/1\"]");
    assert_at(node, "$.vms[2].partition", "[null]");
    assert_at(node, "$.vms[0].problem", "[\"its adapter cannot be read\"]");
}

static void test_vm_show(struct standin *s, gconstpointer data)
{
    g_autofree char *desk1 = output(s, "vm show desk1");
    g_autofree char *by_uuid = output(s, "vm show 00000000-0000-4000-8000-000000000001");
    g_autofree char *desk2 = output(s, "vm show desk2");
    g_autofree char *plain = output(s, "vm show plain");
    g_autoptr(JsonNode) node = json(s, "vm show desk1 --json");

    g_assert_cmpstr(desk1, ==,
                    "desk1  running  software/1\n"
                    "uuid       00000000-0000-4000-8000-000000000001\n"
                    "adapter    11111111-0000-4000-8000-000000000001\n"
                    "kind       virtio\n"
                    "\n"
                    "RESOURCE  ASKED                  AT LEAST  WEIGHT  AT MOST  IN USE\n"
                    "vram      256 MiB:512 MiB:1 GiB  512 MiB   -       512 MiB  100 MiB\n"
                    "compute   25 %::                 25 %      25 %    100 %    -\n"
                    "encode    default                -         -       -        -\n"
                    "decode    default                -         -       -        -\n"
                    "3 requests beyond its memory were refused\n"
                    "1 time its renderer ended and was started again\n");
    g_assert_cmpstr(by_uuid, ==, desk1);
    g_assert_nonnull(strstr(desk2, "desk2  shut off  no partition now\n"));
    g_assert_nonnull(strstr(desk2, "only on    41:00.0 A16 1 of 4\n"));
    g_assert_nonnull(strstr(plain, "plain  running  no adapter\n"));
    assert_at(node, "$.vm.name", "[\"desk1\"]");
    assert_at(node, "$.vm.usage.vram_used", "[104857600]");
    assert_fails(s, "vm show dsk1", 1, "gpup: no VM 'dsk1': did you mean 'desk1'?\n");
}

static void test_explain(struct standin *s, gconstpointer data)
{
    g_autofree char *out = output(s, "explain desk2");
    g_autoptr(JsonNode) node = json(s, "explain --json desk2");

    g_assert_cmpstr(out, ==,
                    "desk2 would get a partition of llvmpipe\n"
                    "  03:00.0 B50: not partitioned\n"
                    "    way out: gpup gpu partition 03:00.0 N\n"
                    "  software llvmpipe: 2 of 4 free, 512 MiB for desk2 (chosen)\n");
    assert_at(node, "$.vm", "[\"desk2\"]");
    assert_at(node, "$.verdicts[*].chosen", "[false,true]");
    assert_at(node, "$.verdicts[*].way_out", "[\"gpup gpu partition 03:00.0 N\",null]");
}

static void test_events(struct standin *s, gconstpointer data)
{
    g_autofree char *out = output(s, "events");
    g_autoptr(JsonNode) node = json(s, "events --json");

    g_assert_cmpstr(
        out, ==,
        "TIME                 WHO           EVENT      WHAT\n"
        "2001-09-09 01:46:40  root (alice)  partition  03:00.0: 4 partitions\n"
        "2001-09-09 01:47:40  libvirt       refused    no partition for desk2; software: full (3 "
        "times, last at 01:48:40)\n");
    g_assert_cmpstr(s->asked->str, ==, "GetEvents({'limit': <uint32 20>},)\n");
    assert_at(node, "$.events[*].id", "[7,8]");
    assert_at(node, "$.events[1].count", "[3]");
    assert_at(node, "$.events[1].last_us", "[1000000120000000]");
    assert_at(node, "$.events[0].vm", "[null]");
    g_free(output(s, "events --vm desk2 --gpu B50 -n 3"));
    g_assert_cmpstr(s->asked->str, ==,
                    "GetEvents({'limit': <uint32 3>, 'vm': <'desk2'>, 'gpu': <'B50'>},)\n");
}

static void test_metrics(struct standin *s, gconstpointer data)
{
    static const char *const lines[] = {
        "gpup_up 1",
        "# TYPE gpup_build_info gauge", /* node_exporter refuses a file with the type info */
        "gpup_build_info{version=\"9.8.7\"} 1",
        "# TYPE gpup_gpu_memory_bytes gauge",
        "# UNIT gpup_gpu_memory_bytes bytes",
        "gpup_gpu_memory_bytes{gpu=\"software\"} 2147483648",
        "gpup_gpu_memory_available_bytes{gpu=\"software\"} 1610612736",
        ("gpup_gpu_info{gpu=\"41:00.0\",name=\"A16 1 of 4\",driver=\"acme\",kind=\"sriov\","
         "mode=\"partitioned\"} 1"),
        "gpup_gpu_partitions_free{gpu=\"41:00.0\"} 1",
        "# TYPE gpup_gpu_renderer_deaths counter",
        "gpup_gpu_renderer_deaths_total{gpu=\"03:00.0\"} 2",
        "gpup_gpu_memory_refusals_total{gpu=\"software\"} 3",
        "gpup_vm_memory_limit_bytes{vm=\"desk1\",gpu=\"software\",partition=\"1\"} 536870912",
        "gpup_vm_memory_used_bytes{vm=\"desk1\",gpu=\"software\",partition=\"1\"} 104857600",
        "gpup_vm_compute_min_ratio{vm=\"desk1\",gpu=\"software\",partition=\"1\"} 0.250000",
        "gpup_vm_memory_refusals_total{vm=\"desk1\",gpu=\"software\",partition=\"1\"} 3",
    };
    g_autofree char *out = output(s, "metrics");

    for (gsize i = 0; i < G_N_ELEMENTS(lines); i++) {
        g_autofree char *line = g_strdup_printf("%s\n", lines[i]);

        if (!strstr(out, line))
            g_error("no line '%s' in:\n%s", lines[i], out);
    }
    g_assert_true(g_str_has_suffix(out, "\n# EOF\n"));
    for (const char *type = out; (type = strstr(type, "# TYPE ")); type++) {
        g_auto(GStrv) words = g_strsplit_set(type, " \n", 5);

        g_assert_true(g_str_equal(words[3], "gauge") || g_str_equal(words[3], "counter"));
    }
    g_assert_null(strstr(out, "plain")); /* it has no partition */
}

/* A file is there whole or not at all, and says when gpupd is gone. */
static void test_metrics_file(struct standin *s, gconstpointer data)
{
    g_autofree char *dir = g_dir_make_tmp("gpup-metrics-XXXXXX", NULL);
    g_autofree char *path = g_build_filename(dir, "gpup.prom", NULL);
    g_autofree char *arguments = g_strdup_printf("metrics --output %s", path);
    g_autofree char *nowhere = g_strdup_printf("metrics -o %s/no/gpup.prom", dir);
    g_autofree char *a_folder = g_strdup_printf("metrics -o %s", dir);
    g_autofree char *refused =
        g_strdup_printf("gpup: %s is not written: it is no plain file. Name another, or leave "
                        "--output out to print\n",
                        dir);
    g_autofree char *printed = output(s, "metrics");
    g_autofree char *nothing = output(s, arguments);
    g_autofree char *text = NULL;
    g_auto(cli_result) failed = run(s, nowhere);
    g_auto(cli_result) gone = {0};
    struct stat st;

    g_assert_cmpstr(nothing, ==, "");
    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    g_assert_cmpstr(text, ==, printed);
    g_assert_cmpint(stat(path, &st), ==, 0);
    g_assert_cmpint(st.st_mode & 0777, ==, 0644);
    g_assert_cmpint(failed.code, ==, 1);
    assert_fails(s, a_folder, 1, refused);
    assert_fails(s, "metrics -o ''", 2,
                 "gpup: an empty argument names nothing\nSee gpup metrics --help\n");
    gone = run_on("unix:path=/nonexistent/bus", arguments, -1);
    g_assert_cmpint(gone.code, ==, 1);
    g_clear_pointer(&text, g_free);
    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    g_assert_nonnull(strstr(text, "gpup_up 0\n# EOF\n"));
    g_assert_cmpint(unlink(path), ==, 0);
    g_assert_cmpint(rmdir(dir), ==, 0); /* nothing else was left */
}

static void test_rescan(struct standin *s, gconstpointer data)
{
    g_auto(cli_result) r = run(s, "rescan");

    g_auto(cli_result) dry = {0};

    g_assert_cmpstr(s->asked->str, ==, "Rescan({},)\n");
    g_assert_cmpstr(r.out, ==, status_table);
    g_assert_cmpint(r.code, ==, 0);
    g_string_truncate(s->asked, 0);
    dry = run(s, "rescan --dry-run");
    g_assert_cmpstr(s->asked->str, ==, "Rescan({'dry-run': <true>},)\n");
    g_assert_cmpstr(dry.out, ==, "03:00.0 x: would be found\nDry run: nothing was changed.\n");
}

/* What gpupd refuses, by the name of its error. */
/* A property of one of the stand-in's objects. */
static void set_text(struct standin *s, const char *path, const char *interface, const char *name,
                     const char *value)
{
    g_autoptr(GDBusInterface) of =
        g_dbus_object_manager_get_interface(G_DBUS_OBJECT_MANAGER(s->objects), path, interface);

    g_assert_nonnull(of);
    g_object_set(of, name, value, NULL);
}

/* gpup check says this of one finding of these; what it says of the host itself is its own. */
static void checks(struct standin *s, const char *id, const char *level, const char *part)
{
    g_auto(cli_result) r = run(s, "check --json");
    g_autoptr(JsonNode) node = json_from_string(r.out, NULL);
    JsonArray *all = json_object_get_array_member(json_node_get_object(node), "findings");

    for (guint i = 0; i < json_array_get_length(all); i++) {
        JsonObject *f = json_array_get_object_element(all, i);

        if (strcmp(json_object_get_string_member(f, "id"), id) == 0 &&
            strcmp(json_object_get_string_member(f, "level"), level) == 0 &&
            strstr(json_object_get_string_member(f, "text"), part))
            return;
    }
    g_error("no %s of level %s with '%s' in %s", id, level, part, r.out);
}

#define GPU_41 "/org/gpup1/gpu/_30000_3a41_3a00_2e0"
#define DESK2  "/org/gpup1/vm/00000000_0000_4000_8000_000000000002"

static void test_check_vms(struct standin *s, gconstpointer data)
{
    checks(s, "room", "ok", "room for all VMs of kind virtio (1 of 4)");
    checks(s, "room", "ok", "room for all VMs of kind sriov (1 of 4)");
    set_text(s, GPU_41, "org.gpup1.GPU", "mode", "unused");
    checks(s, "room", "warning", "1 VM with an adapter of kind sriov, 0 partitions");
    set_text(s, GPU_41, "org.gpup1.GPU", "mode", "partitioned");
    set_text(s, GPU_41, "org.gpup1.GPU", "pci-id", "10de:25b6 10de:14a9");
    set_text(s, DESK2, "org.gpup1.VM", "system", "http://microsoft.com/win/7");
    checks(s, "guest", "warning", "desk2 runs http://microsoft.com/win/7, which");
    set_text(s, DESK2, "org.gpup1.VM", "system", "http://microsoft.com/win/11");
    g_assert_null(strstr(s->asked->str, "GetGuest"));
    set_text(s, DESK2, "org.gpup1.VM", "state", "running");
    set_text(s, DESK2, "org.gpup1.VM", "partition", "0000:41:00.0/0");
    s->guest = "{'system': <'Windows 11'>, 'kernel': <'26100'>, 'driver': <'NVIDIA A16-4Q'>,"
               " 'driver-version': <'32.0.15.7270'>}";
    checks(s, "guest", "ok", "desk2: Windows 11 with NVIDIA A16-4Q 32.0.15.7270");
    g_assert_nonnull(strstr(s->asked->str, "GetGuest('desk2', 4318)"));
    s->guest = "{'system': <'Windows 11'>, 'kernel': <'26100'>, 'driver': <''>,"
               " 'driver-version': <''>}";
    checks(s, "guest", "warning", "desk2: Windows 11 has no driver for its GPU");
    s->guest = "{'system': <'Debian GNU/Linux 12'>, 'kernel': <'6.1.0-40-amd64'>}";
    checks(s, "guest", "ok", "desk2: Debian GNU/Linux 12, kernel 6.1.0-40-amd64");
}

static void test_refusals(struct standin *s, gconstpointer data)
{
    static const struct {
        const char *error;
        int code;
    } cases[] = {
        {"org.gpup1.Error.Invalid", 2},  {"org.gpup1.Error.Busy", 3},
        {"org.gpup1.Error.NotFound", 1}, {"org.gpup1.Error.NotSupported", 1},
        {"org.gpup1.Error.Failed", 1},   {"org.freedesktop.DBus.Error.Failed", 1},
    };
    static const char *const commands[] = {
        "assign desk1",  "unassign desk1", "vm start desk1",           "vm stop desk1",
        "explain desk1", "rescan",         "gpu partition software 4",
    };

    s->message = "no partition for desk1\n  software llvmpipe: all 4 used";
    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        s->error = cases[i].error;
        for (gsize c = 0; c < G_N_ELEMENTS(commands); c++)
            assert_fails(s, commands[c], cases[i].code,
                         "gpup: no partition for desk1\n  software llvmpipe: all 4 used\n");
    }
}

/* A name moves no terminal's cursor and makes no line of its own. */
static void test_control_characters(struct standin *s, gconstpointer data)
{
    s->error = "org.gpup1.Error.Failed";
    s->message = "no partition for a\r\033[2J\302\233b\342\200\256\n  all used";
    assert_fails(s, "vm start desk1", 1, "gpup: no partition for a??[2J?b?\n  all used\n");
}

static void test_denied(struct standin *s, gconstpointer data)
{
    s->error = "org.freedesktop.DBus.Error.AccessDenied";
    s->message = "you may not do this";
    assert_fails(s, "vm start desk1", 1,
                 "gpup: you may not do this\n"
                 "Run it as root, or have the polkit action org.gpup1.start allowed\n");
    s->message = "polkit does not allow org.gpup1.adapter: run the command as root";
    assert_fails(s, "unassign desk1", 1,
                 "gpup: polkit does not allow org.gpup1.adapter: run the command as root\n");
    s->message = "Rejected send message, 2 matched rules; type=\"method_call\"";
    assert_fails(s, "explain desk1", 1, "gpup: not allowed\nRun it as root\n");
}

static void test_other_version(struct standin *s, gconstpointer data)
{
    s->error = "org.freedesktop.DBus.Error.UnknownMethod";
    s->message = "No such method";
    assert_fails(s, "vm start desk1", 1,
                 "gpup: gpupd does not know this: it is of another version than this gpup "
                 "(" GPUP_VERSION ")\n");
}

static void test_hang_up(struct standin *s, gconstpointer data)
{
    s->hang_up = TRUE;
    assert_fails(s, "vm start desk1", 1,
                 "gpup: gpupd ended before it answered, so this may be half done: "
                 "journalctl -u gpupd says why\n");
}

/* Nothing of this reaches gpupd. */
static void test_usage(struct standin *s, gconstpointer data)
{
    static const struct {
        const char *arguments, *err;
    } cases[] = {
        {"asign desk1", "gpup: unknown command 'asign': did you mean 'gpup assign'?\n"},
        {"vm lst", "gpup: unknown command 'lst': did you mean 'gpup vm list'?\n"},
        {"zzzzz", "gpup: unknown command 'zzzzz'; see gpup --help\n"},
        {"vm", "gpup: after 'gpup vm' comes one of: list, show, start, stop\nSee gpup vm --help\n"},
        {"--jsn", "gpup: unknown option --jsn: did you mean --json?\nSee gpup --help\n"},
        {"assign", "gpup: which? Expected: gpup assign VM\nSee gpup assign --help\n"},
        {"assign ''", "gpup: an empty argument names nothing\nSee gpup assign --help\n"},
        {"assign a b", "gpup: unexpected argument 'b'\nSee gpup assign --help\n"},
        {"assign a --vram 1G:512M:2G",
         "gpup: vram: the minimum (1 GiB) is more than the optimal (512 MiB)\n"},
        {"assign a --compute 25", "gpup: compute: '25' is not a share: write 25%\n"},
        {"assign a --display vga", "gpup: 'vga' is not a display: off, pixels or dmabuf\n"
                                   "See gpup assign --help\n"},
        {"assign a --kind sr-iov",
         "gpup: 'sr-iov' is not a kind of partition: virtio, sriov or passthrough\n"
         "See gpup assign --help\n"},
        {"gpu partition software",
         "gpup: into how many? gpup gpu partition software --list shows what each count gives\n"
         "See gpup gpu partition --help\n"},
        {"gpu partition software x",
         "gpup: 'x' is not a number of partitions\nSee gpup gpu partition --help\n"},
        {"gpu partition software 4294967296",
         "gpup: '4294967296' is not a number of partitions\nSee gpup gpu partition --help\n"},
        {"gpu partition software 4 --json",
         "gpup: --json goes with --list\nSee gpup gpu partition --help\n"},
        {"gpu partition software 4 --list",
         "gpup: --list changes nothing: it goes with a GPU and --json only\n"
         "See gpup gpu partition --help\n"},
        {"assign a --live --restart",
         "gpup: --live changes it while it runs: without --restart\nSee gpup assign --help\n"},
        {"top --interval soon",
         "gpup: 'soon' is not a number of seconds from 0.1 to 3600\nSee gpup top --help\n"},
        {"top --count 0", "gpup: '0' is not a number of times\nSee gpup top --help\n"},
        {"assign a --timeout 5", "gpup: --timeout goes with --restart\nSee gpup assign --help\n"},
        {"unassign a --restart --timeout x",
         "gpup: 'x' is not a number of seconds\nSee gpup unassign --help\n"},
        {"events -n 0", "gpup: '0' is not a number of lines\nSee gpup events --help\n"},
        {"vm stop desk1 --timeout 0",
         "gpup: '0' is not a number of seconds\nSee gpup vm stop --help\n"},
        {"vm stop desk1 --timeout 5 --power-off",
         "gpup: --power-off does not wait: it does not go with --timeout\n"
         "See gpup vm stop --help\n"},
        {"vm start desk1 --json", "gpup: unknown option --json\nSee gpup vm start --help\n"},
    };

    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        assert_fails(s, cases[i].arguments, 2, cases[i].err);
        g_assert_cmpstr(s->asked->str, ==, "");
    }
    assert_fails(s, "assign '\xff'", 2, "gpup: argument 2 is not UTF-8 text\n");
}

/* On a terminal of 24 lines of 80 columns, with the prompt below it. */
static void assert_fits(const char *text)
{
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);

    g_assert_cmpuint(g_strv_length(lines), <=, 24);
    for (char **line = lines; *line; line++) {
        if (g_utf8_strlen(*line, -1) > 80)
            g_error("too wide: %s", *line);
    }
}

static void test_help(struct standin *s, gconstpointer data)
{
    static const char *const commands[] = {
        "",        "status",   "gpu",    "gpu list", "gpu show", "gpu partition",
        "assign",  "unassign", "vm",     "vm list",  "vm show",  "vm start",
        "vm stop", "explain",  "rescan", "events",   "metrics",
    };
    g_autofree char *version = output(s, "--version");

    g_assert_cmpstr(version, ==, "gpup " GPUP_VERSION "\n");
    for (gsize i = 0; i < G_N_ELEMENTS(commands); i++) {
        g_autofree char *arguments = g_strdup_printf("%s --help", commands[i]);
        g_autofree char *start = g_strdup_printf("Usage:\n  gpup %s", commands[i]);
        g_autofree char *out = output(s, arguments);

        g_assert_true(g_str_has_prefix(out, start));
        assert_fits(out);
        g_assert_cmpstr(s->asked->str, ==, "");
    }
}

static void test_not_running(void)
{
    static const char text[] = "gpup: gpupd is not running: systemctl start gpupd\n";
    static const char *const commands[] = {
        "",          "--json",       "gpu list",   "gpu partition b50 --list",
        "vm list",   "assign desk1", "unassign x", "vm start desk1",
        "vm stop x", "explain x",    "rescan",     "events",
        "metrics",
    };
    struct standin s;

    standin_bus_up(&s);
    for (gsize i = 0; i < G_N_ELEMENTS(commands); i++)
        assert_fails(&s, commands[i], 1, text);
    standin_down(&s);
    for (gsize i = 0; i < G_N_ELEMENTS(commands); i++) {
        g_auto(cli_result) r = run_on("unix:path=/nonexistent/bus", commands[i], -1);

        g_assert_cmpstr(r.err, ==, text);
        g_assert_cmpint(r.code, ==, 1);
    }
}

static char *read_all(int fd)
{
    GString *text = g_string_new(NULL);
    char buf[4096];
    ssize_t n;

    while ((n = read(fd, buf, sizeof(buf))) > 0) /* EIO once the other side is closed */
        g_string_append_len(text, buf, n);
    return g_string_free(text, FALSE);
}

/* What a terminal so many columns wide is sent. */
static char *on_terminal(struct standin *s, const char *arguments, unsigned short columns)
{
    const struct winsize size = {.ws_row = 25, .ws_col = columns};
    int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    int slave;
    g_auto(cli_result) r = {0};
    char *out;

    g_assert_cmpint(master, >=, 0);
    g_assert_cmpint(grantpt(master), ==, 0);
    g_assert_cmpint(unlockpt(master), ==, 0);
    slave = open(ptsname(master), O_RDWR | O_NOCTTY | O_CLOEXEC);
    g_assert_cmpint(ioctl(slave, TIOCSWINSZ, &size), ==, 0);
    r = run_on(s->address, arguments, slave);
    out = read_all(master);
    close(master);
    g_assert_cmpint(r.code, ==, 0);
    return out;
}

static void test_terminal(struct standin *s, gconstpointer data)
{
    g_autofree char *wide = on_terminal(s, "gpu list", 100);
    g_autofree char *narrow = on_terminal(s, "vm list", 70);

    g_assert_true(g_str_has_prefix(wide, "\033[1mGPU"));
    g_assert_nonnull(strstr(wide, "\n41:00.0   A16 1 of 4  4 partitions  1/4   4 GiB    hardware"));
    g_assert_nonnull(strstr(narrow, "\ndesk1   running   256 MiB"));
    g_assert_nonnull(strstr(narrow, "  software/1\r\n "));
}

static void test_full_disk(struct standin *s, gconstpointer data)
{
    int full = open("/dev/full", O_WRONLY | O_CLOEXEC);
    g_auto(cli_result) r = {0};

    g_assert_cmpint(full, >=, 0);
    r = run_on(s->address, "gpu list --json", full);
    g_assert_cmpint(r.code, ==, 1);
    g_assert_cmpstr(r.err, ==, "gpup: the output could not be written whole\n");
}

static void add(const char *name, void (*test)(struct standin *, gconstpointer))
{
    g_test_add(name, struct standin, NULL, set_up, test, tear_down);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_assert_cmpint(argc, ==, 2);
    run_gpup = argv[1];
    add("/cli/status", test_status);
    add("/cli/status-json", test_status_json);
    add("/cli/no-libvirt", test_no_libvirt);
    add("/cli/empty-host", test_empty_host);
    add("/cli/gpu-list", test_gpu_list);
    add("/cli/names", test_names);
    add("/cli/gpu-show", test_gpu_show);
    add("/cli/gpu-words", test_gpu_words);
    add("/cli/partition-list", test_partition_list);
    add("/cli/partition", test_partition);
    add("/cli/assign", test_assign);
    add("/cli/vm-power", test_vm_power);
    add("/cli/vm-list", test_vm_list);
    add("/cli/vm-show", test_vm_show);
    add("/cli/explain", test_explain);
    add("/cli/top", test_top);
    add("/cli/events", test_events);
    add("/cli/metrics", test_metrics);
    add("/cli/metrics-file", test_metrics_file);
    add("/cli/rescan", test_rescan);
    add("/cli/control-characters", test_control_characters);
    add("/cli/check-vms", test_check_vms);
    add("/cli/refusals", test_refusals);
    add("/cli/denied", test_denied);
    add("/cli/other-version", test_other_version);
    add("/cli/hang-up", test_hang_up);
    add("/cli/usage", test_usage);
    add("/cli/help", test_help);
    add("/cli/terminal", test_terminal);
    add("/cli/full-disk", test_full_disk);
    g_test_add_func("/cli/not-running", test_not_running);
    return g_test_run();
}
