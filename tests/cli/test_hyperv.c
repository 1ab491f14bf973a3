/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Hyper-V's cmdlets, as its users type them and as web pages print them. argv[1]: the gpup to test.
 */

#include "run.h"

#include <string.h>

static void set_up(struct standin *s, gconstpointer data)
{
    standin_up(s);
}

static void tear_down(struct standin *s, gconstpointer data)
{
    standin_down(s);
}

static void assert_prints(struct standin *s, const char *arguments, const char *text)
{
    g_autofree char *out = output(s, arguments);

    g_assert_cmpstr(out, ==, text);
}

static void test_get_gpus(struct standin *s, gconstpointer data)
{
    static const char one[] = "Name                          : 0000:41:00.0\n"
                              "ValidPartitionCounts          : {4, 2}\n"
                              "PartitionCount                : 4\n"
                              "TotalVRAM                     : 17179869184 (16 GiB)\n"
                              "AvailableVRAM                 : 4294967296 (4 GiB)\n"
                              "MinPartitionVRAM              : 4294967296 (4 GiB)\n"
                              "MaxPartitionVRAM              : 4294967296 (4 GiB)\n"
                              "OptimalPartitionVRAM          : 4294967296 (4 GiB)\n"
                              "TotalEncode                   : 100 %\n"
                              "AvailableEncode               : 100 %\n"
                              "MinPartitionEncode            : 25 %\n"
                              "MaxPartitionEncode            : 25 %\n"
                              "OptimalPartitionEncode        : 25 %\n"
                              "TotalDecode                   : 100 %\n"
                              "AvailableDecode               : 100 %\n"
                              "MinPartitionDecode            : 25 %\n"
                              "MaxPartitionDecode            : 25 %\n"
                              "OptimalPartitionDecode        : 25 %\n"
                              "TotalCompute                  : 100 %\n"
                              "AvailableCompute              : 50 %\n"
                              "MinPartitionCompute           : 25 %\n"
                              "MaxPartitionCompute           : 25 %\n"
                              "OptimalPartitionCompute       : 25 %\n"
                              "SupportsIncomingLiveMigration : False\n"
                              "\n";
    g_autofree char *all = output(s, "Get-VMHostPartitionableGpu");
    g_autofree char *some = output(s, "get-vmhostpartitionablegpu -name a16*");
    const char *p = all;

    assert_prints(s, "Get-VMHostPartitionableGpu -Name 41:00.0", one);
    assert_prints(s, "get-vmhostpartitionablegpu -na:41:00.0", one);
    assert_prints(s, "Get–VMHostPartitionableGpu –Name “41:00.0”", one);
    for (int i = 0; i < 4; i++)
        g_assert_nonnull(p = strstr(p + 1, "SupportsIncomingLiveMigration"));
    g_assert_true(g_str_has_prefix(some, one));
    g_assert_nonnull(strstr(some, "0000:42:00.0"));
    g_assert_null(strstr(some, "software"));
    assert_fails(s, "Get-VMHostPartitionableGpu -Name nope*", 1,
                 "gpup: no GPU is called like 'nope*': gpup gpu list shows the GPUs there are\n");
    assert_fails(s, "Get-VMHostPartitionableGpu -Name '\\\\?\\PCI#VEN_10DE&DEV_25B6'", 1,
                 "gpup: -Name: \\\\?\\PCI#VEN_10DE&DEV_25B6 is a path of Windows: gpup gpu list "
                 "shows this host's GPUs\n");
}

static void test_set_gpu(struct standin *s, gconstpointer data)
{
    g_autofree char *out = NULL;

    assert_asks(s, "Set-VMHostPartitionableGpu -Name b50 -PartitionCount 4",
                "0000:03:00.0 SetPartitionCount(4, {})\n");
    out = output(s, "set-vmhostpartitionablegpu -name software -partitioncount 2 -whatif");
    g_assert_cmpstr(out, ==, "What if: first line\nWhat if: second line\n");
    g_assert_cmpstr(s->asked->str, ==, "software SetPartitionCount(2, {'dry-run': <true>})\n");
    g_free(g_steal_pointer(&out));
    out = output(s, "Set-VMHostPartitionableGpu -Name b50 -PartitionCount 4 -Passthru");
    g_assert_true(g_str_has_prefix(out, "first line\nsecond line\nName                          : "
                                        "0000:03:00.0\n"));
    /* a silent no-op there */
    assert_fails(s, "Set-VMHostPartitionableGpu -Name nope -PartitionCount 4", 1,
                 "gpup: no GPU 'nope': there are 03:00.0 (B50), 41:00.0 (A16 1 of 4), "
                 "42:00.0 (A16 2 of 4), software (llvmpipe)\n");
    g_assert_cmpstr(s->asked->str, ==, "");
}

static void test_add(struct standin *s, gconstpointer data)
{
    g_autofree char *out = NULL;

    assert_asks(s, "Add-VMGpuPartitionAdapter -VMName plain", "Assign('plain', {}, {})\n");
    assert_asks(s, "Add-VMGpuPartitionAdapter plain -InstancePath b50",
                "Assign('plain', {'gpu': <'0000:03:00.0'>}, {})\n");
    out = output(s, "Add-VMGpuPartitionAdapter -VM PLAIN -MinPartitionVRAM 500000000 "
                    "-OptimalPartitionVRAM 1GB -MaxPartitionVRAM 0x80000000 "
                    "-MinPartitionCompute 12.5%");
    g_assert_cmpstr(out, ==,
                    "MinPartitionVRAM: read as bytes = 476.83 MiB\n"
                    "MaxPartitionVRAM: read as bytes = 2 GiB\n"
                    "OptimalPartitionVRAM: 1GB = 1 GiB, 1073741824 bytes\n"
                    "MinPartitionCompute: 12.5 % of the GPU\n"
                    "first line\nsecond line\n");
    g_assert_cmpstr(s->asked->str, ==,
                    "Assign('plain', {'vram': <'500000000:1073741824:2147483648'>,"
                    " 'compute': <'12.5000%::'>}, {})\n");
    assert_fails(s, "Add-VMGpuPartitionAdapter -VMName desk1", 1,
                 "gpup: desk1 has an adapter already: Set-VMGpuPartitionAdapter changes it\n");
}

/* What is not given stays. */
static void test_set(struct standin *s, gconstpointer data)
{
    g_autofree char *out =
        output(s, "Set-VMGpuPartitionAdapter -VMName desk1 -MaxPartitionVRAM 2GB "
                  "-AdapterId 11111111-0000-4000-8000-000000000001");

    g_assert_cmpstr(s->asked->str, ==,
                    "Assign('desk1', {'vram': <'268435456:536870912:2147483648'>}, {})\n");
    g_free(g_steal_pointer(&out));
    out = output(s, "Set-VMGpuPartitionAdapter -VMName desk1,desk2 -OptimalPartitionCompute 50%");
    g_assert_cmpstr(s->asked->str, ==,
                    "Assign('desk1', {'compute': <'25.0000%:50.0000%:'>}, {})\n"
                    "Assign('desk2', {'compute': <':50.0000%:'>}, {})\n");
    assert_fails(s, "Get-VMGpuPartitionAdapter -VMName desk1 -AdapterId 5", 1,
                 "gpup: none of these VMs has an adapter with the id 5\n");
    assert_fails(s, "Set-VMGpuPartitionAdapter -VMName desk1 -AdapterId 5", 1,
                 "gpup: desk1 has no adapter with the id 5\n");
    assert_fails(s, "Set-VMGpuPartitionAdapter -VMName *", 1,
                 "gpup: broken has no adapter: Add-VMGpuPartitionAdapter gives it one\n");
    g_assert_cmpstr(s->asked->str, ==, "");
}

static void test_get_and_remove(struct standin *s, gconstpointer data)
{
    g_autofree char *out = output(s, "Get-VMGpuPartitionAdapter -VMName *");
    g_autofree char *none = output(s, "Get-VMGpuPartitionAdapter plain");
    g_autofree char *removed = NULL;

    g_assert_true(g_str_has_prefix(out, "InstancePath                  : software\n"
                                        "PartitionId                   : 1\n"
                                        "CurrentPartitionVRAM          : 536870912 (512 MiB)\n"
                                        "MinPartitionVRAM              : 268435456 (256 MiB)\n"
                                        "MaxPartitionVRAM              : 1073741824 (1 GiB)\n"
                                        "OptimalPartitionVRAM          : 536870912 (512 MiB)\n"
                                        "CurrentPartitionEncode        :\n"));
    g_assert_nonnull(strstr(out, "\nVMName                        : desk1\n\nInstancePath"));
    g_assert_nonnull(strstr(out, "\nVMName                        : desk2\n"));
    g_assert_cmpstr(none, ==, "");
    assert_asks(s, "Remove-VMGpuPartitionAdapter -VMName desk1", "Unassign('desk1', {})\n");
    removed = output(s, "Remove-VMGpuPartitionAdapter desk1 -Passthru");
    g_assert_true(g_str_has_prefix(removed, "first line\nsecond line\nInstancePath "));
    g_assert_nonnull(strstr(removed, "\nVMName                        : desk1\n"));
    assert_fails(s, "Remove-VMGpuPartitionAdapter -VMName plain", 1,
                 "gpup: plain has no adapter: Add-VMGpuPartitionAdapter gives it one\n");
}

static void test_confirm(struct standin *s, gconstpointer data)
{
    g_auto(cli_result) r = run(s, "Remove-VMGpuPartitionAdapter desk1 -Confirm");

    g_assert_cmpint(r.code, ==, 1); /* the standard input of this is empty */
    g_assert_cmpstr(r.err, ==,
                    "Remove-VMGpuPartitionAdapter on desk1? [Y/n] gpup: nobody confirmed it: "
                    "nothing was changed\n");
    g_assert_cmpstr(s->asked->str, ==, "");
    assert_asks(s, "Remove-VMGpuPartitionAdapter desk1 -Confirm:$false", "Unassign('desk1', {})\n");
    assert_asks(s, "Remove-VMGpuPartitionAdapter desk1 -Confirm:False", "Unassign('desk1', {})\n");
}

/* None of this reaches gpupd. */
static void test_refused(struct standin *s, gconstpointer data)
{
    static const struct {
        const char *arguments, *err;
    } cases[] = {
        {"Add-VMGpuPartitionAdapter plain -MinPartitionVRAM 1000000000",
         "gpup: MinPartitionVRAM: 1000000000 is a placeholder of paravirtual GPUs; write a size "
         "such as 512MB or 2GB. Nothing changed\n"},
        {"Add-VMGpuPartitionAdapter plain -MaxPartitionEncode 18446744073709551615",
         "gpup: MaxPartitionEncode: 18446744073709551615 is a placeholder of paravirtual GPUs; "
         "write a share such as 50%. Nothing changed\n"},
        {"Add-VMGpuPartitionAdapter plain -MinPartitionDecode 0xFFFFFFFFFFFFFFFF",
         "gpup: MinPartitionDecode: 0xFFFFFFFFFFFFFFFF is a placeholder of paravirtual GPUs; "
         "write a share such as 50%. Nothing changed\n"},
        {"Add-VMGpuPartitionAdapter plain -MinPartitionCompute 1000",
         "gpup: MinPartitionCompute: 1000 is no share: Hyper-V counts gigaflops here; write a "
         "share such as 50%. Nothing changed\n"},
        {"Add-VMGpuPartitionAdapter plain -OptimalPartitionDecode 16",
         "gpup: OptimalPartitionDecode: 16 is no share: Hyper-V counts streams of 540p60 here; "
         "write a share such as 50%. Nothing changed\n"},
        {"Add-VMGpuPartitionAdapter plain -MinPartitionVRAM lots",
         "gpup: MinPartitionVRAM: 'lots' is not a size: write a number and a unit, such as 512M, "
         "2GiB or 1.5G\n"},
        {"Add-VMGpuPartitionAdapter",
         "gpup: which VM? -VMName NAME\nSee gpup Add-VMGpuPartitionAdapter --help\n"},
        {"Add-VMGpuPartitionAdapter -VMName",
         "gpup: -VMName needs a value\nSee gpup Add-VMGpuPartitionAdapter --help\n"},
        {"Add-VMGpuPartitionAdapter -VMName desk1 -MinPartitionVRAM –MaxPartitionVRAM 3GB",
         "gpup: -MinPartitionVRAM needs a value\nSee gpup Add-VMGpuPartitionAdapter --help\n"},
        {"Add-VMGpuPartitionAdapter a b",
         "gpup: unexpected argument 'b'\nSee gpup Add-VMGpuPartitionAdapter --help\n"},
        {"Add-VMGpuPartitionAdapter a -VMName b",
         "gpup: -VMName was given twice\nSee gpup Add-VMGpuPartitionAdapter --help\n"},
        {"Add-VMGpuPartitionAdapter a -MinPartition 5",
         "gpup: -MinPartition could be several parameters: write more of it\n"
         "See gpup Add-VMGpuPartitionAdapter --help\n"},
        {"Add-VMGpuPartitionAdapter a -MinPartitonVRAM 5",
         "gpup: there is no parameter -MinPartitonVRAM: did you mean -MinPartitionVRAM?\n"
         "See gpup Add-VMGpuPartitionAdapter --help\n"},
        {"Add-VMGpuPartitionAdapter a -ComputerName hv2",
         "gpup: -ComputerName: gpup works on its own host: run it there\n"
         "See gpup Add-VMGpuPartitionAdapter --help\n"},
        {"Add-VMGpuPartitionAdapter a -WhatIf:",
         "gpup: -WhatIf: write -WhatIf:true or -WhatIf:false, without the $\n"
         "See gpup Add-VMGpuPartitionAdapter --help\n"},
        {"Remove-VMGpuPartitionAdapter desk1 -MinPartitionVRAM 5",
         "gpup: -MinPartitionVRAM: this cmdlet has no such parameter\n"
         "See gpup Remove-VMGpuPartitionAdapter --help\n"},
        {"Set-VMHostPartitionableGpu -Name b50",
         "gpup: -Name and -PartitionCount are needed\nSee gpup Set-VMHostPartitionableGpu --help\n"},
        {"Set-VMHostPartitionableGpu -Name b50 -PartitionCount 65536",
         "gpup: -PartitionCount: '65536' is not a number of partitions\n"
         "See gpup Set-VMHostPartitionableGpu --help\n"},
        {"Get-VMHostPartitionableGPUs",
         "gpup: unknown command 'Get-VMHostPartitionableGPUs': did you mean 'gpup "
         "Get-VMHostPartitionableGpu'?\n"},
    };

    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_auto(cli_result) r = run(s, cases[i].arguments);

        g_assert_cmpstr(r.err, ==, cases[i].err);
        g_assert_cmpint(r.code, ==, 2);
        g_assert_cmpstr(s->asked->str, ==, "");
    }
}

static void test_order(struct standin *s, gconstpointer data)
{
    /* the optimal that it has is 512 MiB */
    g_auto(cli_result) r = run(s, "Set-VMGpuPartitionAdapter desk1 -MinPartitionVRAM 2GB");

    g_assert_cmpint(r.code, ==, 2);
    g_assert_cmpstr(r.err, ==,
                    "gpup: vram: the minimum (2 GiB) is more than the optimal (512 MiB)\n");
    g_assert_cmpstr(s->asked->str, ==, "");
}

static void test_help(struct standin *s, gconstpointer data)
{
    static const char *const names[] = {
        "Get-VMHostPartitionableGpu", "Set-VMHostPartitionableGpu", "Add-VMGpuPartitionAdapter",
        "Set-VMGpuPartitionAdapter",  "Get-VMGpuPartitionAdapter",  "Remove-VMGpuPartitionAdapter",
    };

    for (gsize i = 0; i < G_N_ELEMENTS(names); i++) {
        g_autofree char *arguments = g_strdup_printf("%s -?", names[i]);
        g_autofree char *start = g_strdup_printf("Usage:\n  gpup %s", names[i]);
        g_autofree char *out = output(s, arguments);

        g_assert_true(g_str_has_prefix(out, start));
    }
}

int main(int argc, char **argv)
{
    static const struct {
        const char *path;
        void (*func)(struct standin *, gconstpointer);
    } tests[] = {
        {"/hyperv/get-gpus", test_get_gpus},
        {"/hyperv/set-gpu", test_set_gpu},
        {"/hyperv/add", test_add},
        {"/hyperv/set", test_set},
        {"/hyperv/get-and-remove", test_get_and_remove},
        {"/hyperv/confirm", test_confirm},
        {"/hyperv/refused", test_refused},
        {"/hyperv/order", test_order},
        {"/hyperv/help", test_help},
    };

    g_test_init(&argc, &argv, NULL);
    g_assert_cmpint(argc, ==, 2);
    run_gpup = argv[1];
    for (gsize i = 0; i < G_N_ELEMENTS(tests); i++)
        g_test_add(tests[i].path, struct standin, NULL, set_up, tests[i].func, tear_down);
    return g_test_run();
}
