#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""kill -9 at any step of hardware (test_faults.py has the rest): making VFs and removing them, giving a
GPU whole to VMs and taking it back, readying a VF for a VM and clearing it after it. The GPUs are those of
fakesys (tests/fakesys); VMs with a VF are started by what libvirt would do, without QEMU.

  test_faults_hardware.py BUILD [TEST...]
"""
import json
import os
import subprocess
import sys
import time

from faultlib import (BUILD, CARD, GUEST, HARDWARE, LAB, LAST, LOOKER, Seen, assign_to, cases, define,
                      hit_all, inside, kill, names_in, popen, processes, run_and_end, set_up_lab, settled,
                      wait_for)
from taplib import contains, equal

WHOLE, SOUND = "0000:83:00.0", "0000:83:00.1"  # a GPU given whole to VMs, and what goes with it
FAKE = "run/fakesys"
VF = "0000:03:00.1"
UUID = "11111111-2222-4333-8444-000000000001"
STARTED = "vm1"  # named by the <hostdev> of VF
WAITS = "vm2"    # for what vm1 had

DOMAIN = """\
<domain type='kvm' id='7'><name>%s</name><uuid>%s</uuid>
<metadata><g:adapter xmlns:g='urn:gpup:adapter:1' id='%s' kind='sriov'/></metadata>
<devices><hostdev mode='subsystem' type='pci' managed='no'><source><address domain='0x0000' bus='0x03'
slot='0x00' function='0x1'/></source><alias name='ua-gpup-%s'/></hostdev></devices></domain>
""" % (STARTED, UUID, UUID, UUID)

# What libvirt does: a start that the hook refuses is followed by its release. The exit status is the start's.
# Where gpupd takes longer to come back than the hook waits, it would hear from libvirt's list of VMs.
START = """\
hook=/etc/libvirt/hooks/qemu.d/gpup
if $hook %s prepare begin - <%s; then exit 0; fi
while $hook %s release end - <%s 2>&1 | tee -a /tmp/released | grep -q 'gpupd is not running'; do sleep 0.1; done
cat /tmp/released; rm /tmp/released
exit 1
"""
PATH = "/run/vm1.xml"


def order(text):
    (inside(FAKE) / "control").write_text(text + "\n", encoding="utf-8")


def fact(address, name):
    return (inside(FAKE) / "sys/bus/pci/devices" / address / name).read_text(encoding="utf-8").strip()


def driver(address):
    try:
        return os.readlink(inside(FAKE) / "sys/bus/pci/devices" / address / "driver").rsplit("/", 1)[-1]
    except OSError:
        return ""


def shown(gpu=CARD):
    return LAB.json("gpu", "show", gpu)["gpu"]


def no_problem():
    problems = LAB.json("status")["degraded"]
    equal([p for p in problems if "something else" in p or "wanted" in p], [], "gpup status")


# ---- partitions ----

def as_stored():
    """What is shown, what there is and what a gpupd that starts finds are the same."""
    count = wait_for("a number of VFs", lambda: str(len(shown()["partitions"])))
    wait_for("as many VFs", lambda: fact(CARD, "sriov_numvfs") == str(len(shown()["partitions"])))
    count = fact(CARD, "sriov_numvfs")
    kill(processes("gpupd"))
    wait_for("gpupd is back with %s VFs" % count, lambda: str(len(shown()["partitions"])) == count)
    equal(fact(CARD, "sriov_numvfs"), count)
    no_problem()
    return int(count)


def partition():
    """The old count or the new one, never something between."""
    wanted = [4]

    def start():
        wanted[0] = 6 - len(shown()["partitions"])  # 2 and 4 in turn
        return popen("gpup", "gpu", "partition", CARD, str(wanted[0]))

    def after():
        wait_for("nothing is under way", lambda: not names_in("run/gpup/underway"))
        contains(str((2, 4)), str(as_stored()))
        LAB.run("gpup", "gpu", "partition", CARD, str(wanted[0]))
        equal(fact(CARD, "sriov_numvfs"), str(wanted[0]))

    both = ("gpupd", "gpu-helper")
    LAB.run("gpup", "gpu", "partition", CARD, "2")
    cases("gpup gpu partition", {
        "gpupd.partition.begun": ("gpupd", "client"),
        "helper.create.begun": both,
        "helper.create.removed": both + ("client",),
        "helper.sriov.made": both,
        "helper.create.done": both,
        "gpupd.partition.made": ("gpupd",),
        "gpupd.partition.stored": ("gpupd",),
    }, start, after=after)


def partition_none():
    def four():
        LAB.run("gpup", "gpu", "partition", CARD, "4")

    def after():
        wait_for("nothing is under way", lambda: not names_in("run/gpup/underway"))
        contains(str((0, 4)), str(as_stored()))
        LAB.run("gpup", "gpu", "partition", CARD, "0")
        equal(fact(CARD, "sriov_numvfs"), "0")

    cases("gpup gpu partition 0", {
        "gpupd.partition.begun": ("gpupd",),
        "helper.destroy.begun": ("gpupd", "gpu-helper"),
        "helper.destroy.done": ("gpupd", "gpu-helper", "client"),
        "gpupd.partition.made": ("gpupd",),
    }, lambda: popen("gpup", "gpu", "partition", CARD, "0"), four, after)


# ---- whole GPUs ----

def is_whole():
    """True or False, and whole or not in all its parts."""
    mode = shown(WHOLE)["mode"] == "passthrough"
    drivers = {driver(WHOLE), driver(SOUND)}
    return mode if drivers == ({"vfio-pci"} if mode else {"gpu", "sound"}) else None


def pass_through():
    def start(word):
        return lambda: popen("gpup", "gpu", "passthrough", WHOLE, word)

    def give(word):
        def now():
            LAB.run("gpup", "gpu", "passthrough", WHOLE, word)
            equal(is_whole(), word == "on")
        return now

    def after(word):
        def then():
            wait_for("nothing is under way", lambda: not names_in("run/gpup/underway"))
            wait_for("all of it or nothing", lambda: is_whole() is not None)
            whole = is_whole()
            kill(processes("gpupd"))
            wait_for("gpupd finds it so", lambda: is_whole() == whole)
            no_problem()
            give(word)()
        return then

    both = ("gpupd", "gpu-helper")
    cases("gpup gpu passthrough on", {
        "gpupd.passthrough.begun": ("gpupd", "client"),
        "helper.create.begun": both,
        "helper.bind.free": both,
        "helper.whole.first-bound": both + ("client",),
        "gpupd.passthrough.made": ("gpupd", "client"),
        "gpupd.passthrough.stored": ("gpupd", "client"),
    }, start("on"), give("off"), after("on"))
    cases("gpup gpu passthrough off", {
        "gpupd.passthrough.begun": ("gpupd",),
        "helper.destroy.begun": both,
        "helper.unbind.free": both,
        "helper.destroy.done": both,
        "gpupd.passthrough.made": ("gpupd", "client"),
        "gpupd.passthrough.stored": ("gpupd", "client"),
    }, start("off"), give("on"), after("off"))
    give("off")()


# ---- VMs ----

class Hardware:
    """What is held by the VM that would run (RUNS), and nothing by any other."""

    runs = []

    def __init__(self):
        self.gpu = shown()
        software = shown("software")["partitions"]
        self.partitions = {p["vm"]: p["index"] for p in software if p["vm"]}

    def consistent(self):
        state = {"holders": [p["vm"] for p in self.gpu["partitions"] if p["vm"]],
                 "driver": driver(VF),
                 "reservation": UUID in names_in("run/gpup/reservations"),
                 "under way": names_in("run/gpup/underway")}
        wanted = {"holders": self.runs, "driver": "vfio-pci" if self.runs else "",
                  "reservation": bool(self.runs), "under way": []}
        return True if state == wanted else "%s, not %s" % (state, wanted)


def hook(*words):
    return LAB.run("sh", "-c", "/etc/libvirt/hooks/qemu.d/gpup %s %s <%s" % (STARTED, " ".join(words), PATH),
                   check=False)


def release():
    hook("release", "end", "-")
    Hardware.runs = []
    settled("it has ended")


def prepare_again():
    """A start that the last one's clearing stands in the way of waits for it."""
    equal(hook("prepare", "begin", "-").stderr, "")
    Hardware.runs = [STARTED]
    settled("it has started")
    release()


class Libvirt:
    """Its part of a start; what came of it is known when it has ended."""

    def __init__(self):
        self.process = popen("sh", "-c", START % (STARTED, PATH, STARTED, PATH))
        self.pid = self.process.pid

    def communicate(self, timeout=None):
        said = self.process.communicate(timeout=timeout)
        Hardware.runs = [STARTED] if self.process.returncode == 0 else []
        return said


def without_libvirt(function):
    """libvirtd is away meanwhile: it would say that the VM does not run."""
    inside("run/libvirtd.away").touch()
    kill(processes("libvirtd"))
    LOOKER[0] = Hardware
    try:
        settled("without libvirtd")
        function()
    finally:
        LOOKER[0] = Seen
        inside("run/libvirtd.away").unlink()
        wait_for("libvirtd is back", lambda: LAB.json("vm", "list")["libvirt_connected"])
        settled("with libvirtd")


def start_and_end():
    LAB.run("gpup", "gpu", "partition", CARD, "4")
    inside(PATH[1:]).write_text(DOMAIN, encoding="utf-8")
    without_libvirt(starts)
    without_libvirt(ends)
    LAB.run("gpup", "gpu", "partition", CARD, "0")


def starts():
    def after():
        if Hardware.runs:
            release()
        prepare_again()

    three = ("gpupd", "gpup-hook", "gpu-helper")
    two = ("gpupd", "gpup-hook")
    cases("a VM with a VF starts", {
        "gpupd.prepare.taken": two,
        "gpupd.claim.written": two,
        "gpupd.ready.begun": two,
        "helper.prepare.begun": three,
        "helper.bind.free": three,
        "helper.prepare.done": three,
        "gpupd.ready.done": two,
        "gpupd.prepare.saved": two,
        "hook.answered": two,
    }, Libvirt, after=after)


def ends():
    def before():
        if not Hardware.runs:
            equal(hook("prepare", "begin", "-").stderr, "")
            Hardware.runs = [STARTED]
            settled("it runs")

    def start():
        Hardware.runs = []
        return popen("sh", "-c", "/etc/libvirt/hooks/qemu.d/gpup %s release end - <%s" % (STARTED, PATH))

    def start_and_libvirt_comes_back():
        inside("run/libvirtd.away").unlink()
        return start()

    def after_and_libvirt_goes():
        inside("run/libvirtd.away").touch()
        kill(processes("libvirtd"))
        prepare_again()

    # libvirt does not say it again: that it does not run is seen when it is asked
    cases("a VM with a VF ends", {
        "gpupd.release.asked": ("gpupd",),
        "gpupd.release.given-back": ("gpupd",),
        "gpupd.release.half": ("gpupd",),
    }, start_and_libvirt_comes_back, before, after_and_libvirt_goes)
    both = ("gpupd", "gpu-helper")
    cases("a VM with a VF ends", {
        "gpupd.release.freed": ("gpupd",),
        "helper.release.begun": both,
        "helper.sriov.reset": both,
        "helper.unbind.free": both,
        "helper.release.done": both,
        "gpupd.release.cleared": ("gpupd",),
    }, start, before, prepare_again)


def start_waits():
    """gpup vm start while the only function is being cleared after another VM: it waits, and gets it. (There
    the start ends: libvirt has no such device.)"""
    LAB.run("gpup", "gpu", "partition", CARD, "1")
    define(WAITS)
    LAB.run("gpup", "assign", WAITS, "--gpu", CARD)
    inside(PATH[1:]).write_text(DOMAIN, encoding="utf-8")
    order("hang %s on" % CARD)  # a reset takes its time
    equal(hook("prepare", "begin", "-").stderr, "")
    hook("release", "end", "-")
    wait_for("it is being cleared", lambda: "being cleared" in str(shown()["partitions"]))
    starting = popen("gpup", "vm", "start", WAITS)
    time.sleep(1)
    equal(starting.poll(), None, "it has not waited")
    order("hang %s off" % CARD)
    said = starting.communicate(timeout=60)[0]
    equal([text for text in ("no partition", "being cleared", "used by") if text in said], [], said)
    contains(said, WAITS)
    wait_for("nothing is held", lambda: not [p for p in shown()["partitions"] if p["vm"]])
    LAB.run("virsh", "undefine", WAITS)
    LAB.run("gpup", "gpu", "partition", CARD, "0")


def every_point_was_hit():
    hit_all(HARDWARE.match)


# ---- the whole ----

def fakesys():
    """The machine, mounted in the lab; gpupd takes it for /sys from its next start on."""
    program = inside("run/fakesys-program")
    program.write_bytes((BUILD / "tests/fakesys/fakesys").read_bytes())
    program.chmod(0o755)
    (inside(FAKE)).mkdir()
    LAB.run("sh", "-ec", "[ -e /dev/fuse ] || mknod /dev/fuse c 10 229")
    LAB.run("sh", "-c", "setsid sh -c '/run/fakesys-program /%s; exit' >/var/log/fakesys.log 2>&1 &" % FAKE)
    wait_for("fakesys is there", (inside(FAKE) / "control").exists)
    order("add %s vendor=0x1234 device=0x0b50 class=0x038000 totalvfs=7 driver=gpu" % CARD)
    order("add %s vendor=0x8086 device=0x56c0 class=0x038000 driver=gpu totalvfs=4" % WHOLE)
    order("add %s vendor=0x8086 device=0x56c1 class=0x040300 driver=sound with=%s" % (SOUND, WHOLE))
    inside("run/gpupd.options").write_text("--sysfs=/%s/sys\n" % FAKE, encoding="utf-8")


def set_up():
    set_up_lab(fakesys)
    define(GUEST)
    assign_to(GUEST, "software")
    LAB.run("virsh", "start", GUEST)
    settled("at the beginning")


run_and_end(set_up, (partition, partition_none, pass_through, start_and_end, start_waits,
                      every_point_was_hit))
