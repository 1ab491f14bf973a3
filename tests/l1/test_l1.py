#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""SR-IOV on a real kernel, in a machine of its own: what its PCI core answers, what gpupd makes of
it, and VMs of a libvirt in there that get a virtual function."""
import concurrent.futures
import json
import os
import pathlib
import re
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from sriov_machine import COMMAND_S, HERE, PF, SHARED_PF, SOUND, SriovMachine, lablib  # noqa: E402
from taplib import Results, contains, equal  # noqa: E402

BUILD = pathlib.Path(sys.argv[1]).resolve()
GPU, SHARED = PF[5:], SHARED_PF[5:]
DEVICE = "/sys/bus/pci/devices/"
PARAMETERS = "/sys/module/gpup_test_gpu/parameters/"
CONF = "[gpu %s]\nmemory=16G\n[gpu %s]\nmemory=8G\n" % (PF, SHARED_PF)
VM = """\
<domain type='qemu'>
  <name>{name}</name>
  <memory unit='MiB'>32</memory>
  <vcpu>1</vcpu>
  <os><type arch='x86_64' machine='q35'>hvm</type><kernel>/run/l1/guest</kernel></os>
  <features><acpi/></features>
  <devices><emulator>/usr/bin/qemu-system-x86_64</emulator>
    <serial type='file'><source path='/tmp/{name}.serial'/></serial>
    <channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>
    <memballoon model='none'/>{devices}</devices>
</domain>
"""
BY_HAND = """<hostdev mode='subsystem' type='pci' managed='yes'><source>
<address domain='0x0000' bus='0x01' slot='0x00' function='0x{function}'/></source></hostdev>"""


class Host:
    """gpup and libvirt in the machine."""

    def __init__(self, machine):
        self.machine = machine

    def start(self):
        self.machine.run("sh", "-c", "cat >/etc/gpup/gpup.conf", given=CONF)
        self.machine.sh("dbus-daemon --system --fork && virtlogd -d && libvirtd -d")
        self.start_gpupd()

    def start_gpupd(self):
        self.machine.sh("gpupd </dev/null >>/var/log/gpupd.log 2>&1 & "
                        "gdbus wait --system --timeout 600 org.gpup1")

    def kill_gpupd(self):
        self.machine.sh("pkill -9 -x gpupd; while pgrep -x gpupd; do sleep 0.1; done >/dev/null")

    def gpup(self, *args):
        return self.machine.run("gpup", *args, check=False)

    def ok(self, *args):
        return self.machine.run("gpup", *args).stdout

    def virsh(self, *args):
        return self.machine.run("virsh", "-q", *args, check=False)

    def start_vm(self, name):
        """Its QEMU, with the function; the guest itself does nothing. What is said of a failure."""
        return self.virsh("start", "--paused", name).stderr

    def define(self, name, devices=""):
        """Twice: libvirt orders controllers anew when it reads what it wrote, at any change."""
        self.machine.run("sh", "-c", "cat >/tmp/vm.xml && virsh -q define /tmp/vm.xml && "
                         "virsh -q dumpxml --inactive %s >/tmp/vm.xml && virsh -q define /tmp/vm.xml" % name,
                         given=VM.format(name=name, devices=devices))

    def gpu(self, name=GPU):
        return self.machine.json("gpu", "show", name)["gpu"]

    def holders(self, name=GPU):
        return [p["vm"] for p in self.gpu(name)["partitions"]]

    def read(self, path):
        return self.machine.sh("cat %s" % path, check=False).stdout.strip()

    def numvfs(self):
        return self.read(DEVICE + PF + "/sriov_numvfs")

    def driver(self, function):
        return self.driver_of(PF[:-1] + str(function))

    def driver_of(self, address):
        return self.machine.sh("basename $(readlink %s%s/driver || echo none)" % (DEVICE, address)).stdout.strip()

    def definition(self, vm):
        return self.machine.run("virsh", "dumpxml", "--inactive", vm).stdout

    def names(self, vm):
        """The function that a VM's definition names."""
        found = re.search(r"<source>\s*<address domain='0x0000' bus='0x(..)' slot='0x00' function='0x(.)'/>",
                          self.definition(vm))
        return "%s:00.%s" % found.groups() if found else None

    def findings(self):
        """What gpup check says, by id and GPU, and how it ends."""
        result = self.gpup("check", "--json")
        said = json.loads(result.stdout)
        equal(result.returncode, 1 if said["failures"] else 0, result.stdout)
        return {(f["id"], f["gpu"]): f for f in said["findings"]}

    def inject(self, name, value):
        self.machine.sh("echo %s >%s%s" % (value, PARAMETERS, name))


def wait_for(what, condition, seconds=COMMAND_S):
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            raise AssertionError("never: " + what)
        time.sleep(0.2)


def fails(result, code, *texts):
    equal(result.returncode, code, result.stdout + result.stderr)
    for text in texts:
        contains(result.stderr, text)


def levels(found, level, *which):
    for one in which:
        equal(found[one]["level"], level, str(found[one]))


class Tests:
    """A machine and what is done in it, one after the other."""

    def __init__(self, name, iommu=True):
        self.machine = SriovMachine(BUILD, name, iommu)
        self.host = Host(self.machine)

    def run(self, results, wanted):
        tests = [t for t in self.all() if not wanted or t.__name__ in wanted]
        try:
            if tests:
                self.machine.start()
            for test in tests:
                results.one(test.__name__.replace("_", " "), test)
        except lablib.Failed as error:
            results.add("the machine %s" % self.machine.name, str(error))
        finally:
            self.machine.stop()

    def kernel_says(self, shared, name):
        """The answers that fakesys imitates."""
        got = self.machine.run("python3", "/run/l1/kernel_cases.py", "/sys", PF, shared).stdout
        wanted = (HERE / name).read_text(encoding="utf-8")
        for line, expected in zip(got.splitlines(), wanted.splitlines()):
            equal(line, expected)
        equal(got, wanted)


class Gpus(Tests):
    """What gpupd makes of GPUs."""

    def the_kernel(self):
        self.kernel_says(SHARED_PF, "kernel_cases.expected")

    def partitions(self):
        h = self.host
        h.start()
        fails(h.gpup("gpu", "partition", GPU, "5"), 2, "1 to 4")
        contains(h.ok("gpu", "partition", GPU, "4"), "4 partitions of 4 GiB")
        equal(h.numvfs(), "4")
        equal(h.driver(1), "none")
        h.ok("gpu", "partition", GPU, "2")
        equal((h.numvfs(), h.gpu()["partition_count"]), ("2", 2))
        h.ok("gpu", "partition", GPU, "0")
        equal((h.numvfs(), h.gpu()["mode"]), ("0", "unused"))

    def gpup_check(self):
        """One GPU can be shared; the other's VFs would be in the group of the port before it."""
        found = self.host.findings()
        levels(found, "ok", ("iommu", None), ("vfio", None), ("libvirt-hook", None), ("gpupd", None),
               ("sriov", PF), ("sriov", SHARED_PF), ("driver", PF), ("acs", PF))
        levels(found, "failure", ("acs", SHARED_PF))
        contains(found["acs", SHARED_PF]["text"], "(it has no ACS)")
        contains(found["acs", SHARED_PF]["fix"], "root port")

    def a_driver_loaded_anew(self):
        """gpupd hears of it, and makes again what it lost."""
        h = self.host
        driver = h.driver(0)
        h.ok("gpu", "partition", GPU, "2")
        self.machine.sh("cd /sys/bus/pci/drivers/%s; echo %s >unbind" % (driver, PF))
        equal(h.numvfs(), "0")
        self.machine.sh("cd /sys/bus/pci/drivers/%s; echo %s >bind" % (driver, PF))
        wait_for("its VFs are there again", lambda: h.numvfs() == "2")
        wait_for("and shown", lambda: (h.gpu()["mode"], h.gpu()["partition_count"]) == ("partitioned", 2))
        h.ok("gpu", "partition", GPU, "0")

    def a_driver_that_fails(self):
        h = self.host
        h.inject("fail_errno", 12)
        fails(h.gpup("gpu", "partition", GPU, "2"), 1, "Above 4G Decoding")
        h.inject("fail_errno", 0)
        h.inject("short_by", 1)
        fails(h.gpup("gpu", "partition", GPU, "4"), 1, "made only 3 of 4 VFs")
        h.inject("short_by", 0)
        equal((h.numvfs(), h.gpu()["mode"]), ("0", "unused"))
        h.ok("gpu", "partition", GPU, "2")

    def one_or_the_other(self):
        h = self.host
        h.ok("gpu", "partition", GPU, "1")
        fails(h.gpup("gpu", "passthrough", GPU, "on"), 3, "partition")
        h.ok("gpu", "partition", GPU, "0")

    def a_driver_that_hangs(self):
        """It goes on hanging while a VM starts on the other GPU. (Since Linux 6.18, and in its stable
        series, nobody can change a number of VFs meanwhile.)"""
        h = self.host
        h.ok("gpu", "partition", GPU, "2")
        h.inject("hang", "1,0")
        self.machine.sh("gpup gpu partition %s 0 >/tmp/hung 2>&1 &" % GPU)

    def a_held_function(self):
        """Something else has a VF open: it is named, and nothing hangs."""
        h = self.host
        function = PF[:-1] + "1"
        group = self.machine.sh("basename $(readlink %s%s/iommu_group)" % (DEVICE, function)).stdout.strip()
        self.machine.sh("echo vfio-pci >{0}/driver_override; echo {1} >/sys/bus/pci/drivers_probe; "
                        "(sleep 3600 | python3 /run/l1/kernel_cases.py hold {2} {1}) >/tmp/held 2>&1 &"
                        .format(DEVICE + function, function, group))
        wait_for("it is open", lambda: "open" in h.read("/tmp/held"))
        fails(h.gpup("gpu", "partition", GPU, "0"), 3, "is open in python3")
        self.machine.sh("pkill -x sleep; while pgrep -f 'kernel_cases.py [h]old' >/dev/null; do sleep 0.1; done")
        h.ok("gpu", "partition", GPU, "0")

    def a_whole_gpu(self):
        """With its sound, which is in its group, and never together with partitions."""
        h = self.host
        h.ok("gpu", "passthrough", SHARED, "on")
        equal((h.gpu(SHARED)["mode"], h.driver_of(SHARED_PF)), ("passthrough", "vfio-pci"))
        equal(h.driver_of(SOUND), "vfio-pci")
        fails(h.gpup("gpu", "partition", SHARED, "2"), 2, "whole")
        before = {}
        for name in ("vm1", "vm2"):
            h.define(name)
            before[name] = h.definition(name)
            contains(h.ok("assign", name, "--kind", "passthrough"), SOUND)
        equal(h.virsh("start", "vm1").stderr, "")
        equal(h.holders(SHARED), ["vm1"])
        fails(h.gpup("vm", "start", "vm2"), 3, "given whole to vm1")
        fails(h.gpup("gpu", "passthrough", SHARED, "off"), 3, "vm1")
        wait_for("the guest lists its devices", lambda: "guest: end" in h.read("/tmp/vm1.serial"))
        # the configuration space is the emulated device's own: only of VFs does VFIO show what sysfs says
        contains(h.read("/tmp/vm1.serial"), "1b36:0010 register 0x")
        contains(h.read("/tmp/vm1.serial"), "8086:293e")
        h.virsh("destroy", "vm1")
        wait_for("it is free", lambda: h.holders(SHARED) == [None])
        for name in ("vm1", "vm2"):
            h.ok("unassign", name)
            equal(h.definition(name), before[name])
        h.ok("gpu", "passthrough", SHARED, "off")
        equal((h.gpu(SHARED)["mode"], h.driver_of(SHARED_PF)), ("unused", "gpup_test_gpu"))
        equal(h.driver_of(SOUND), "none")

    def a_driver_that_hung(self):
        """The GPU is shown as wedged; once the driver answers, it is as it was set up."""
        h = self.host
        wait_for("it is given up", lambda: h.gpu()["mode"] == "wedged")
        wait_for("it is said", lambda: GPU in h.read("/tmp/hung"))
        fails(h.gpup("gpu", "partition", GPU, "1"), 2, "cannot be partitioned")
        h.inject("hang", "0,0")
        wait_for("it answers again", lambda: h.gpu()["mode"] == "partitioned")
        equal(h.gpu()["partition_count"], 2)

    def a_shared_group(self):
        """No ACS before the GPU: its functions go to a VM together or not at all."""
        h = self.host
        h.ok("gpu", "partition", SHARED, "2")
        h.define("vm4")
        h.ok("assign", "vm4", "--gpu", SHARED)
        contains(h.start_vm("vm4"), "IOMMU group")
        wait_for("it is free again", lambda: h.holders(SHARED) == [None, None])
        h.ok("gpu", "partition", SHARED, "0")

    def all(self):
        return [self.the_kernel, self.partitions, self.gpup_check, self.a_driver_loaded_anew,
                self.a_driver_that_fails,
                self.a_held_function, self.one_or_the_other, self.a_driver_that_hangs,
                self.a_whole_gpu, self.a_driver_that_hung, self.a_shared_group]


class Vms(Tests):
    """Which VM gets what."""

    def a_vm_with_a_partition(self):
        h = self.host
        h.start()
        h.ok("gpu", "partition", GPU, "2")
        for name in ("vm1", "vm2", "vm3"):
            h.define(name)
            h.ok("assign", name, "--gpu", GPU)
        # one each while there are enough
        equal((h.names("vm1"), h.names("vm2")), ("01:00.1", "01:00.2"))
        equal(h.names("vm3"), "01:00.1")
        equal(h.virsh("start", "vm1").stderr, "")
        equal(h.holders(), ["vm1", None])
        wait_for("the guest lists its devices", lambda: "guest: end" in h.read("/tmp/vm1.serial"))
        contains(h.read("/tmp/vm1.serial"), "1234:0b51 register 0x")
        equal(h.driver(1), "vfio-pci")
        levels(h.findings(), "warning", ("room", None))
        # nobody tells what it uses: it is there, and no figure is made up
        contains(h.ok("top", "--interval", "0.2", "--count", "1"), "vm1 %s/0 asked" % GPU)
        shown = self.machine.json("top", "--interval", "0.2", "--count", "1")["vms"]
        equal([(vm["vm"], vm["got"], vm["vram_used"], vm["vram"]) for vm in shown], [("vm1", None, None, 8 << 30)])
        # its definition has a guest agent, and nothing in it answers
        asked = self.machine.run("gdbus", "call", "--system", "-d", "org.gpup1", "-o", "/org/gpup1", "-m",
                                 "org.gpup1.Manager.GetGuest", "vm1", "4660", check=False)
        contains(asked.stderr, "its guest agent does not answer")

    def a_shared_function(self):
        """vm3 named what vm1 took: it is moved on, and both run."""
        h = self.host
        wait_for("vm3 is moved on", lambda: h.names("vm3") == "01:00.2")
        equal(h.start_vm("vm3"), "")
        equal(h.holders(), ["vm1", "vm3"])

    def a_vm_that_has_to_wait(self):
        h = self.host
        contains(h.start_vm("vm2"), "all 2 used by vm1 vm3")
        fails(h.gpup("vm", "start", "vm2"), 3, "all 2 used by vm1 vm3")
        fails(h.gpup("gpu", "partition", GPU, "4"), 3, "vm1 vm3")
        equal(h.numvfs(), "2")
        h.virsh("destroy", "vm1")
        # while its function is cleared
        contains(h.ok("vm", "start", "vm2"), "vm2: partition %s/0" % GPU)
        equal(h.holders(), ["vm2", "vm3"])

    def killed_gpupd(self):
        """The VMs keep their partitions; one that ends meanwhile is noticed, and its VF cleared."""
        h = self.host
        h.kill_gpupd()
        h.virsh("destroy", "vm3")
        h.start_gpupd()
        wait_for("vm3's is free", lambda: h.holders() == ["vm2", None])
        equal(h.driver(2), "none")
        equal(h.driver(1), "vfio-pci")
        # stopped and started again at once: the start waits until it is cleared; and libvirt leaves
        # it to gpup to bind the function where the definition says so
        h.virsh("destroy", "vm2")
        self.machine.sh("virsh dumpxml --inactive vm2 | sed s/managed=.yes./managed=\\'no\\'/ >/tmp/vm2.xml;"
                        "virsh -q define /tmp/vm2.xml")
        contains(h.definition("vm2"), "managed='no'")
        equal(h.start_vm("vm2"), "")

    def by_hand(self):
        """A function that a user gave a VM without gpup counts, and does not go to two."""
        h = self.host
        taken = h.names("vm2")[-1]
        free = "1" if taken == "2" else "2"
        h.define("hand", BY_HAND.format(function=taken))
        contains(h.start_vm("hand"), "used by vm2")
        h.define("whole", BY_HAND.format(function="0"))
        contains(h.start_vm("whole"), "gpup gpu partition %s 0 first" % GPU)
        h.virsh("undefine", "hand")
        h.define("hand", BY_HAND.format(function=free))
        equal(h.start_vm("hand"), "")
        equal(sorted(h.holders()), ["hand", "vm2"])
        fails(h.gpup("vm", "start", "vm1"), 3, "hand")
        for name in ("hand", "vm2"):
            h.virsh("destroy", name)
        wait_for("all are free", lambda: h.holders() == [None, None])
        for name in ("hand", "whole"):
            h.virsh("undefine", name)

    def all(self):
        return [self.a_vm_with_a_partition, self.a_shared_function, self.a_vm_that_has_to_wait,
                self.killed_gpupd, self.by_hand]


class WithoutIommu(Tests):
    def the_kernel(self):
        self.kernel_says("no-iommu", "kernel_cases.no-iommu.expected")

    def without_an_iommu(self):
        h = self.host
        h.start()
        found = h.findings()
        levels(found, "failure", ("iommu", None))
        contains(found["iommu", None]["fix"], "take intel_iommu=off out of the kernel command line")
        levels(found, "ok", ("sriov", PF), ("acs", PF))
        levels(found, "warning", ("acs", SHARED_PF))  # by the port's own word: there are no groups
        h.ok("gpu", "partition", GPU, "2")
        h.define("vm1")
        h.ok("assign", "vm1", "--gpu", GPU)
        contains(h.start_vm("vm1"), "behind no IOMMU")
        wait_for("it is free again", lambda: h.holders() == [None, None])

    def a_renderers_memory(self):
        """The kernel has cgroup v2 with all: what a renderer uses is held to the partition's limit."""
        said = self.machine.run("/run/l1/test-cgroup").stdout
        contains(said, "ok 1 /cgroup/memory")
        equal("not limited" in said, False)

    def all(self):
        return [self.the_kernel, self.a_renderers_memory, self.without_an_iommu]


def main():
    lablib.stage(BUILD, BUILD / "stage-l1")
    wanted = sys.argv[2:]  # by name, for trying
    results = Results()
    machines = [Vms("vms"), Gpus("gpus"), WithoutIommu("no-iommu", iommu=False)]
    # each takes a processor
    workers = min(len(machines), max(2, len(os.sched_getaffinity(0))))
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        for done in [pool.submit(m.run, results, wanted) for m in machines]:
            done.result()
    results.exit()


main()
