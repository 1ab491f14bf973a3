/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gpu/models.h"

#include "gpu/vgpu_type.h"

#include <string.h>

/*
 * Device ids that can have VFs, with the driver that makes them, and the guests that their makers
 * list: families of systems, of which makers list some releases and change them with each of
 * theirs. Where to look: NVIDIA, Virtual GPU Software for Linux with KVM, Release Notes, "Guest OS
 * Support"; Intel, Data Center GPU Flex Series and Arc Pro B-Series, release notes; AMD, Instinct
 * and Radeon Pro V710, virtualization guides. Not compared release by release: a warning follows,
 * never a refusal.
 */

#define WIN  "http://microsoft.com/win/"
#define RHEL "http://redhat.com/rhel/"
#define SLE  "http://suse.com/sle/"
#define UBU  "http://ubuntu.com/ubuntu/"

static const char *const nvidia_guests[] = {WIN "10",
                                            WIN "11",
                                            WIN "2k19",
                                            WIN "2k22",
                                            WIN "2k25",
                                            RHEL "8",
                                            RHEL "9",
                                            RHEL "10",
                                            SLE "15",
                                            "http://rockylinux.org/rocky/",
                                            UBU "20.04",
                                            UBU "22.04",
                                            UBU "24.04",
                                            "http://almalinux.org/almalinux/",
                                            "http://debian.org/debian/12",
                                            "http://debian.org/debian/13",
                                            NULL};
static const char *const flex_guests[] = {WIN "10", WIN "11", WIN "2k19",  WIN "2k22",  RHEL "8",
                                          RHEL "9", SLE "15", UBU "22.04", UBU "24.04", NULL};
static const char *const arc_guests[] = {WIN "10",    WIN "11", WIN "2k22", WIN "2k25",
                                         UBU "24.04", UBU "25", NULL};
static const char *const compute_guests[] = {RHEL "8",    RHEL "9",    SLE "15",
                                             UBU "22.04", UBU "24.04", NULL};
static const char *const v710_guests[] = {WIN "10", WIN "11",    WIN "2k22",  WIN "2k25",
                                          RHEL "9", UBU "22.04", UBU "24.04", NULL};

static const struct gpup_model vgpu = {
    "nvidia (the vGPU host driver)", "NVIDIA's vGPU guest driver, and a licence",
    "Windows 10, 11, Server 2019 to 2025; RHEL, Rocky, Alma 8 to 10; Ubuntu 20.04 to 24.04; "
    "SLES 15; Debian 12, 13",
    nvidia_guests};

static const struct {
    uint16_t vendor, first, last;
    struct gpup_model model;
} known[] = {
    {0x8086,
     0x56c0,
     0x56c2,
     {"xe or i915 (Intel's own)", "Intel's Flex series driver",
      "Windows 10, 11, Server 2019, 2022; Ubuntu 22.04, 24.04; RHEL 8, 9; SLES 15", flex_guests}},
    {0x8086,
     0xe211,
     0xe212,
     {"xe", "Intel's Arc Pro driver", "Windows 10, 11, Server 2022, 2025; Ubuntu 24.04 and later",
      arc_guests}},
    {0x8086,
     0xe222,
     0xe223,
     {"xe", "Intel's Arc Pro driver", "Windows 10, 11, Server 2022, 2025; Ubuntu 24.04 and later",
      arc_guests}},
    {0x8086,
     0x0bd4,
     0x0bd6,
     {"xe", "Intel's data center GPU driver", "RHEL 8, 9; SLES 15; Ubuntu 22.04, 24.04",
      compute_guests}},
    {0x1002,
     0x74a1,
     0x74a1,
     {"gim", "amdgpu (Linux)", "RHEL 8, 9; SLES 15; Ubuntu 22.04, 24.04", compute_guests}},
    {0x1002,
     0x7461,
     0x7461,
     {"gim", "AMD's cloud driver", "Windows 10, 11, Server 2022, 2025; RHEL 9; Ubuntu 22.04, 24.04",
      v710_guests}},
};

const struct gpup_model *gpup_model_of(const struct gpup_pci *pci)
{
    if (gpup_vgpu_model(pci))
        return &vgpu;
    for (gsize i = 0; i < G_N_ELEMENTS(known); i++) {
        if (known[i].vendor == pci->vendor && pci->device >= known[i].first &&
            pci->device <= known[i].last)
            return &known[i].model;
    }
    return NULL;
}

bool gpup_model_lists(const struct gpup_model *model, const char *system)
{
    for (const char *const *id = model->ids; *id; id++) {
        size_t n = strlen(*id);

        /* "rhel/8" is not "rhel/80", and "win/10" not "win/10x" */
        if (strncmp(system, *id, n) == 0 && (!g_ascii_isalnum(system[n]) || (*id)[n - 1] == '/'))
            return true;
    }
    return false;
}
