# SPDX-License-Identifier: LGPL-2.1-or-later
"""A machine for tests of SR-IOV: its root is this host's (read only, below gpup as built), with emulated
devices that gpup_test_gpu dresses as GPUs."""
import importlib.machinery
import importlib.util
import pathlib
import shutil
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "machine"))
from machine import COMMAND_S, FILES, TOP, Machine, lablib  # noqa: E402

# One GPU by itself, and one without ACS before it, so that all its functions share one IOMMU group;
# that has a sound function as well.
PF, SHARED_PF = "0000:01:00.0", "0000:02:00.0"
SOUND = "0000:02:00.7" # behind those of the VFs
VFS = 4

LIBVIRTD_CONF = """\
unix_sock_group = "root"
auth_unix_rw = "none"
log_outputs = "2:file:/var/log/libvirtd.log"
"""
QEMU_CONF = """\
user = "root"
group = "root"
security_driver = "none"
cgroup_controllers = []
namespaces = []
remember_owner = 0
seccomp_sandbox = 0
"""


def load_tool(name):
    loader = importlib.machinery.SourceFileLoader(name, str(TOP / "tools" / name))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(name, loader))
    loader.exec_module(module)
    return module


def gpu(name, port, more="", sound=False):
    """An nvme controller with VFs behind a port of its own."""
    return ["-device", "pcie-root-port,id=port%d,bus=pcie.0,chassis=%d,slot=%d%s" % (port, port, port, more),
            "-device", "nvme-subsys,id=sub%d" % port,
            "-device", "nvme,bus=port%d,serial=%s,subsys=sub%d,sriov_max_vfs=%d,sriov_vq_flexible=%d,"
            "sriov_vi_flexible=%d,max_ioqpairs=%d,msix_qsize=%d%s" % (
                port, name, port, VFS, 2 * VFS, VFS, 2 * VFS + 2, VFS + 1,
                ",multifunction=on" if sound else ""),
            *(["-device", "ich9-intel-hda,bus=port%d,addr=%s" % (port, SOUND[-3:])] if sound else [])]


class SriovMachine(Machine):
    """GPUs at PF and SHARED_PF."""

    def __init__(self, build, name, iommu=True):
        super().__init__(build, "l1-" + name)
        self.iommu = iommu

    def arguments(self):
        self.write_config()
        # emulated processors are quickest alone, with few features; machines run side by side instead
        words = ["-accel", "tcg", "-smp", "1", "-m", "1536", "-no-reboot", "-initrd", self.build / "l1/initrd",
                 "-append", "console=ttyS0 quiet panic=-1 mitigations=off "
                 # the kernel tries its timer by how long that takes: too long on a busy machine
                 # with ARI (nvme has it) the sound function would not be looked for
                 "no_timer_check pci=noari " +
                 ("intel_iommu=on" if self.iommu else "intel_iommu=off")]
        if self.iommu:
            words += ["-device", "intel-iommu,intremap=on,caching-mode=on"]
        words += gpu("one", 1) + gpu("two", 2, ",disable-acs=on", sound=True)
        for tag, path in (("host", "/"), ("layer", self.layer), ("stage", self.build / "stage-l1"),
                          ("config", self.dir / "config")):
            words += ["-fsdev", "local,id=%s,path=%s,security_model=none,readonly=on,multidevs=remap" % (tag, path),
                      "-device", "virtio-9p-pci,fsdev=%s,mount_tag=%s" % (tag, tag)]
        return words

    def write_config(self):
        config = self.dir / "config"
        etc = config / "etc"
        for folder in ("libvirt", "gpup"):
            (etc / folder).mkdir(parents=True)
        load_tool("lab").write_users(etc)
        (etc / "libvirt/libvirtd.conf").write_text(LIBVIRTD_CONF, encoding="utf-8")
        (etc / "libvirt/qemu.conf").write_text(QEMU_CONF, encoding="utf-8")
        for path in (HERE / "start", FILES / "agent.py", HERE / "kernel_cases.py", self.build / "l1/guest",
                     self.build / "tests/daemon/test-cgroup"):
            shutil.copy(path, config / path.name)

    def keep_logs(self):
        """Those of its programs, beside its own."""
        if self.ended or not self.booted.is_set():
            return
        try:
            said = self.sh("tail -n +1 /var/log/gpupd.log /var/log/libvirtd.log; dmesg", check=False)
            self.log.with_suffix(".programs.log").write_text(said.stdout, encoding="utf-8")
        except (lablib.Failed, OSError) as error:
            print("# no logs: %s" % error)

    def stop(self):
        self.keep_logs()
        super().stop()
