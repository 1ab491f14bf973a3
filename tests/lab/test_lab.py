#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""gpup with a real libvirt, polkit and D-Bus, in a lab: what an administrator does and does wrong.
The VMs have nothing to boot: what happens in guests is tests/guest's."""
import concurrent.futures
import pathlib
import re
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tools"))
import lablib  # noqa: E402
from taplib import contains, equal, run  # noqa: E402

BUILD = pathlib.Path(sys.argv[1])
LAB = lablib.Lab(BUILD / "lab-test", BUILD, stage=BUILD / "stage-lab")

VM = """\
<domain type='qemu'>
  <name>{name}</name>{metadata}
  <memory unit='MiB'>64</memory>{backing}
  <vcpu>1</vcpu>
  <os><type arch='x86_64' machine='q35'>hvm</type></os>
  <features><acpi/></features>
  <devices><emulator>/usr/bin/qemu-system-x86_64</emulator><memballoon model='none'/>{displays}</devices>
</domain>
"""
VGA = "<video><model type='vga'/></video>"
WINDOWS = ("<metadata><libosinfo:libosinfo xmlns:libosinfo='http://libosinfo.org/xmlns/libvirt/domain/1.0'>"
           "<libosinfo:os id='http://microsoft.com/win/11'/></libosinfo:libosinfo></metadata>")


def sh(*command):
    return LAB.run(*command, check=False)


def gpup(*args):
    return sh("gpup", *args)


def define(name, displays=lablib.VNC, metadata="", backing=""):
    xml = VM.format(name=name, displays=displays, metadata=metadata, backing=backing)
    LAB.run("sh", "-c", "cat >/tmp/vm.xml <<'X'\n%sX\nvirsh -q define /tmp/vm.xml" % xml)
    return definition(name)


def definition(name):
    return LAB.run("virsh", "dumpxml", "--inactive", name).stdout


def undefine(*names):
    for name in names:
        sh("virsh", "-q", "destroy", name)
        sh("virsh", "-q", "undefine", name)


def vms(*names):
    """Defines them with an adapter each."""
    for name in names:
        define(name)
        LAB.run("gpup", "assign", name)


def partitions():
    return LAB.json("gpu", "show", "software")["gpu"]["partitions"]


def holders():
    return sorted(p["vm"] for p in partitions() if p["vm"])


def wait_for(what, condition, seconds=60):
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            raise AssertionError("never: " + what)
        time.sleep(0.05)


def fails(result, code, *texts):
    equal(result.returncode, code, result.stderr)
    for text in texts:
        contains(result.stderr, text)


# ---- tests ----

def the_main_path():
    before = define("desk1")
    line = LAB.run("gpup", "assign", "desk1", "--vram", "256M:384M:512M").stdout
    contains(line, "desk1")
    equal(gpup("vm", "list").stdout.split("\n")[1].split()[0:3], ["desk1", "shut", "off"])
    LAB.run("virsh", "start", "desk1")
    vm = LAB.json("vm", "show", "desk1")["vm"]
    equal(vm["partition"], "software/0")
    equal(vm["grant"]["vram"]["cap"], 384 << 20)
    equal(holders(), ["desk1"])
    LAB.run("virsh", "destroy", "desk1")
    equal(holders(), [])
    LAB.run("gpup", "unassign", "desk1")
    equal(definition("desk1"), before, "the definition after unassign")
    undefine("desk1")


def every_display():
    """Each starts, keeps its primary display, and gets its definition back."""
    displays = {
        "vnc": lablib.VNC,
        "spice": "<graphics type='spice' autoport='yes'/><video><model type='qxl'/></video>",
        "nographics": VGA,
        "novideo": "",
        "none": "<video><model type='none'/></video>",
        "virtio": "<graphics type='vnc'/><video><model type='virtio'/></video>",
        "bochs": "<video><model type='bochs'/></video>",
    }
    for name, display in displays.items():
        before = define(name, display)
        LAB.run("gpup", "assign", name)
        LAB.run("virsh", "start", name)
        live = LAB.run("virsh", "dumpxml", name).stdout
        videos = re.findall(r"<video>.*?</video>", live, re.S)
        equal(len(videos), 2, name)
        contains(videos[0], "primary='yes'")
        contains(videos[1], "rendernode='/run/gpup/vm/")
        equal(holders(), [name])
        LAB.run("virsh", "destroy", name)
        LAB.run("gpup", "unassign", name)
        equal(definition(name), before, name + ": the definition after unassign")
        undefine(name)


def hugepages_and_others_stay():
    before = define("big", backing="<memoryBacking><nosharepages/><access mode='private'/></memoryBacking>",
                    metadata="<metadata><x:a xmlns:x='urn:other' b='c'/></metadata>")
    LAB.run("gpup", "assign", "big")
    contains(definition("big"), "<access mode='shared'/>")
    LAB.run("gpup", "assign", "big", "--vram", "128M")  # only the values change
    equal(definition("big").count("urn:gpup:adapter:1"), 1)
    contains(definition("big"), "urn:other")
    LAB.run("gpup", "unassign", "big")
    equal(definition("big"), before)
    undefine("big")


def all_taken():
    names = ["full%d" % i for i in range(5)]
    vms(*names)
    for name in names[:4]:
        LAB.run("virsh", "start", name)
    refused = sh("virsh", "start", "full4")
    fails(refused, 1, "no partition for full4", "full0 full1 full2 full3")
    fails(gpup("vm", "start", "full4"), 3, "no partition for full4")
    fails(gpup("gpu", "partition", "software", "2"), 3, "full0")
    for _ in range(50):
        equal(sh("virsh", "-q", "start", "full4").returncode, 1)
    equal(holders(), names[:4])
    equal(len(sh("ls", "/run/gpup/vm").stdout.split()), 4)
    LAB.run("virsh", "destroy", "full2")
    LAB.run("virsh", "start", "full4")
    equal(LAB.json("vm", "show", "full4")["vm"]["partition"], "software/2")
    equal(sh("pgrep", "-c", "gpup-vhost-user").stdout.strip(), "4")
    undefine(*names)
    equal(holders(), [])


def at_the_same_moment():
    names = ["same%d" % i for i in range(4)]
    vms(*names)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        list(pool.map(lambda name: LAB.run("virsh", "start", name), names))
    equal(holders(), names)
    equal(len({LAB.json("vm", "show", n)["vm"]["partition"] for n in names}), 4)
    undefine(*names)


def bad_input():
    before = define("desk1")
    state = partitions()
    cases = [
        (2, ["gpu", "partition", "software", "33"], "1 to 32"),
        (2, ["gpu", "partition", "software", "four"], "four"),
        (1, ["gpu", "partition", "card9", "2"], "card9"),
        (1, ["assign", "nosuch"], "nosuch"),
        (1, ["assign", "desk1", "--gpu", "card9"], "card9"),
        (2, ["assign", "desk1", "--vram", "2G:1G:3G"], "vram"),
        (2, ["assign", "desk1", "--vram", "100T"], "at most 2 GiB"),
        (2, ["assign", "desk1", "--compute", "0%"], "nothing could be drawn"),
        (2, ["assign", "desk1", "--encode", "50%"], "encode: no GPU of this host has any"),
        (2, ["assign", "desk1", "--gpu", "software", "--decode", "10%::"], "that GPU has none"),
        (2, ["assign", "desk1", "--vram", "lots"], "lots"),
        (2, ["assign", "desk1", "--compute", "0.5"], "%"),
        (2, ["assign", "desk1", "--colour", "red"], "colour"),
        (1, ["unassign", "desk1"], "no adapter"),
        (1, ["assign", "desk1", "--kind", "sriov"], "virtio"),
        (2, ["explain", "desk1"], "gpup assign desk1"),
        (1, ["vm", "start", "nosuch"], "nosuch"),
        (2, ["frobnicate"], "frobnicate"),
    ]
    for code, args, text in cases:
        result = gpup(*args)
        fails(result, code, text)
        equal(result.stdout, "", " ".join(args))
    equal(definition("desk1"), before)
    equal(partitions(), state)
    undefine("desk1")


def dry_runs_change_nothing():
    before = define("desk1")
    contains(LAB.run("gpup", "assign", "desk1", "--dry-run").stdout, "desk1")
    equal(definition("desk1"), before)
    LAB.run("gpup", "gpu", "partition", "software", "8", "--dry-run")
    equal(len(partitions()), 4)
    LAB.run("gpup", "assign", "desk1")
    contains(LAB.run("gpup", "vm", "start", "desk1", "--dry-run").stdout, "software/0")
    equal(holders(), [])
    undefine("desk1")


def live_changes():
    """A running VM's share and memory; what cannot be had changes nothing."""
    vms("desk1", "desk2")
    for name in ("desk1", "desk2"):
        LAB.run("virsh", "start", name)
    said = LAB.run("gpup", "assign", "desk1", "--live", "--compute", "10%:30%:60%", "--vram", "600M").stdout
    contains(said, "desk1: has now 600 MiB, compute 30 % (at least 10 %, at most 60 %)")
    grant = LAB.json("vm", "show", "desk1")["vm"]["grant"]
    equal([grant["compute"][k] for k in ("min", "weight", "cap")], [100000, 300000, 600000])
    equal(grant["vram"]["cap"], 600 << 20)
    contains(definition("desk1"), "600000")
    before = definition("desk1")
    fails(gpup("assign", "desk1", "--live", "--vram", "900G::"), 2, "900 GiB")
    fails(gpup("assign", "desk1", "--live", "--vram", "1800M::"), 3, "nothing was changed", "left")
    equal(definition("desk1"), before)
    contains(LAB.run("gpup", "assign", "desk1", "--live", "--compute", "50%", "--dry-run").stdout, "would have")
    equal(definition("desk1"), before)
    line = LAB.run("gpup", "top", "--interval", "0.2", "--count", "1").stdout
    contains(line, "desk1 software/0 asked 30 % (10 % to 60 %), got 0.")  # its firmware's console at most
    shown = LAB.json("top", "--interval", "0.2", "--count", "1")["vms"]
    equal({vm["vm"]: vm["vram"] for vm in shown}, {"desk1": 600 << 20, "desk2": 512 << 20})
    LAB.run("virsh", "destroy", "desk1")
    contains(LAB.run("gpup", "assign", "desk1", "--live", "--compute", "20%").stdout, "next start")
    undefine("desk1", "desk2")


def shares_that_nothing_holds():
    """A minimum beyond an equal part is refused at the start, one within it is taken with a warning.
    Where cgroup v2 holds CPU shares, both are promises."""
    held = LAB.json("gpu", "show", "software")["gpu"]["resources"]["compute"]["enforcement"] != "none"
    define("desk1")
    said = LAB.run("gpup", "assign", "desk1", "--compute", "10%:20%:").stdout
    equal("not guaranteed" in said, not held, said)
    LAB.run("virsh", "start", "desk1")
    LAB.run("virsh", "destroy", "desk1")
    LAB.run("gpup", "assign", "desk1", "--compute", "90%")
    equal(sh("virsh", "start", "desk1").returncode, 0 if held else 1)
    undefine("desk1")


def windows_guests():
    define("win", metadata=WINDOWS)
    fails(gpup("assign", "win"), 1, "Windows", "--force")
    LAB.run("gpup", "assign", "win", "--force")
    undefine("win")


def a_copied_definition():
    vms("desk1")
    LAB.run("sh", "-c", "virsh dumpxml --inactive desk1 | sed -e '/<uuid>/d' -e s/desk1/desk2/ >/tmp/c.xml;"
            "virsh -q define /tmp/c.xml")
    LAB.run("virsh", "start", "desk1")
    fails(sh("virsh", "start", "desk2"), 1, "copied", "gpup unassign desk2")
    equal(holders(), ["desk1"])
    undefine("desk1", "desk2")
    equal(holders(), [])


def others_are_left_alone():
    define("plain")
    vms("desk1")
    LAB.run("pkill", "-x", "gpupd")
    wait_for("gpupd ends", lambda: sh("pgrep", "-x", "gpupd").returncode == 1)
    try:
        LAB.run("virsh", "start", "plain")
        fails(sh("virsh", "start", "desk1"), 1, "gpupd is not running", "systemctl start gpupd")
        fails(gpup("vm", "list"), 1, "gpupd is not running")
    finally:
        start_gpupd()
    LAB.run("virsh", "start", "desk1")
    undefine("plain", "desk1")


def start_gpupd(*by):
    LAB.run("sh", "-c", '"$@" </dev/null >>/tmp/gpupd.log 2>&1 &', "sh", *by, "gpupd-service")
    LAB.run("gdbus", "wait", "--system", "--timeout", "60", "org.gpup1")
    wait_for("libvirt is connected", lambda: LAB.json("vm", "list")["libvirt_connected"])


# Starts a program that may not do what is named: unshare (no namespaces in its user namespace),
# pivot_root (no other root), seccomp (no filters).
WITHOUT = r'''
import ctypes, os, struct, sys
CALLS = {"seccomp": 317, "pivot_root": 155}
libc = ctypes.CDLL(None, use_errno=True)

def forbid(numbers):
    code = struct.pack("HBBI", 0x20, 0, 0, 0) # the call's number
    for number in numbers:
        code += struct.pack("HBBI", 0x15, 0, 1, number) + struct.pack("HBBI", 0x06, 0, 0, 0x50000 | 38)
    code += struct.pack("HBBI", 0x06, 0, 0, 0x7fff0000)
    room = ctypes.create_string_buffer(code)
    program = struct.pack("HxxxxxxP", len(code) // 8, ctypes.addressof(room))
    if libc.prctl(22, 2, program, 0, 0): # PR_SET_SECCOMP, SECCOMP_MODE_FILTER
        sys.exit("prctl: %s" % os.strerror(ctypes.get_errno()))

def leave_namespaces():
    ours, theirs = os.pipe(), os.pipe()
    if os.fork() == 0: # outside of the new one: may map all users
        os.read(ours[0], 1)
        for name in ("uid_map", "gid_map"):
            with open("/proc/%d/%s" % (os.getppid(), name), "w") as file:
                file.write("0 0 4294967295")
        os.write(theirs[1], b".")
        os._exit(0)
    if libc.unshare(0x10000000): # CLONE_NEWUSER
        sys.exit("unshare: %s" % os.strerror(ctypes.get_errno()))
    os.write(ours[1], b".")
    os.read(theirs[0], 1)
    os.wait()
    with open("/proc/sys/user/max_net_namespaces", "w") as file: # of this user namespace only
        file.write("0")

what = sys.argv[1].split(",")
if "unshare" in what:
    leave_namespaces()
numbers = [CALLS[name] for name in what if name in CALLS]
if numbers:
    forbid(numbers)
os.execvp(sys.argv[2], sys.argv[2:])
'''
HOST_ROOT = "it sees the host's file system as far as its user may"
WALLS = {
    "unshare,seccomp": [
        "it shares the host's namespaces (network, processes, IPC), because the kernel refused new ones",
        HOST_ROOT, "it may make any system call, because the kernel has no seccomp filters"],
    "pivot_root": [HOST_ROOT],
}


def stop_gpupd():
    LAB.run("pkill", "-x", "gpupd")
    wait_for("gpupd ends", lambda: sh("pgrep", "-x", "gpupd").returncode == 1)


def await_renderer():
    """gpupd writes down which it has started."""
    wait_for("a renderer is started", lambda: sh("sh", "-c", "grep -q '^renderer=[1-9]' "
                                                 "/run/gpup/reservations/*").returncode == 0, 60)


def walls_of_renderers():
    """What `gpup gpu show` says that they lack."""
    shown = gpup("gpu", "show", "software")
    told = LAB.json("gpu", "show", "software")["gpu"]["degraded"]
    for line in told:
        contains(shown.stdout + shown.stderr, line)
    bus = LAB.run("gdbus", "introspect", "--system", "--dest", "org.gpup1", "--object-path",
                  "/org/gpup1/gpu/software", "--only-properties").stdout
    for line in told:
        contains(bus.replace('"', "'"), line.replace("'", "\\'") if line not in bus else line)
    return sorted(line.split(": ", 1)[1] for line in told if line.startswith("renderers: "))


def start_jailed():
    LAB.run("virsh", "start", "jailed")
    await_renderer()


def walls_that_are_missing():
    """Each wall of the jail that the system does not give is named: in `gpup gpu show`, on D-Bus, and
    once in the log, however many renderers lack it. On a system that gives all none is."""
    vms("jailed")
    LAB.run("touch", "/tmp/gpupd.log")
    try:
        start_jailed()
        equal(walls_of_renderers(), [])
        for what, lines in WALLS.items():
            LAB.run("virsh", "destroy", "jailed")
            stop_gpupd()
            mark = len(LAB.run("cat", "/tmp/gpupd.log").stdout)
            start_gpupd("python3", "-c", WITHOUT, what)
            start_jailed()
            wait_for("what lacks without %s is told" % what,
                     lambda: walls_of_renderers() == sorted(lines))
            if len(lines) > 1:
                LAB.run("virsh", "destroy", "jailed")
                start_jailed()
            log = LAB.run("cat", "/tmp/gpupd.log").stdout[mark:]
            for line in lines:
                equal(log.count(line), 1, log)
    finally:
        stop_gpupd()
        start_gpupd()
        undefine("jailed")


def killed_gpupd():
    """A VM keeps its partition over a kill -9 of gpupd, whatever happens meanwhile."""
    vms("desk1", "desk2", "desk3")
    LAB.run("virsh", "start", "desk1")
    LAB.run("virsh", "start", "desk2")
    LAB.run("pkill", "-9", "-x", "gpupd")
    wait_for("gpupd ends", lambda: sh("pgrep", "-x", "gpupd").returncode == 1)
    LAB.run("virsh", "destroy", "desk2")  # its release goes unheard
    start_gpupd()
    wait_for("what nobody holds any more is free", lambda: holders() == ["desk1"], 60)
    wait_for("the device process is back", lambda: any(
        p["vm"] == "desk1" and p["state"] == "used" and p["usage"] for p in partitions()))
    equal(len(partitions()), 4)
    LAB.run("virsh", "start", "desk3")
    equal(LAB.json("vm", "show", "desk1")["vm"]["partition"], "software/0")
    LAB.run("virsh", "start", "desk2")
    equal(holders(), ["desk1", "desk2", "desk3"])
    undefine("desk1", "desk2", "desk3")
    equal(holders(), [])


def killed_libvirtd():
    vms("desk1")
    LAB.run("virsh", "start", "desk1")
    LAB.run("pkill", "-9", "-x", "libvirtd")
    wait_for("it is noticed", lambda: not LAB.json("vm", "list")["libvirt_connected"])
    LAB.run("libvirtd", "-d")
    wait_for("libvirt is back", lambda: LAB.json("vm", "list")["libvirt_connected"])
    wait_for("the VM is listed", lambda: any(
        v["name"] == "desk1" and v["state"] == "running" for v in LAB.json("vm", "list")["vms"]))
    equal(holders(), ["desk1"])
    LAB.run("virsh", "destroy", "desk1")
    equal(holders(), [])
    undefine("desk1")


def begin(*args):
    """gpup in the background, once gpupd's worker waits for the guest, which never shuts down."""
    process = subprocess.Popen(LAB.command("gpup", *args), text=True, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE)
    pid = gpupd_pid()
    wait_for("gpupd is at it", lambda: "worker" in sh(
        "sh", "-c", "cat /proc/%s/task/*/comm" % pid).stdout.split())
    return process


def ended(process, code, *texts):
    out, err = process.communicate(timeout=120)
    equal(process.returncode, code, out + err)
    for text in texts:
        contains(err, text)


def gpupd_pid():
    return LAB.run("pgrep", "-x", "gpupd").stdout.strip()


def end_gpupd():
    """It is not to wait until systemd loses its patience."""
    began = time.monotonic()
    LAB.run("pkill", "-TERM", "-x", "gpupd")
    wait_for("gpupd ends", lambda: sh("pgrep", "-x", "gpupd").returncode == 1, 40)
    return time.monotonic() - began


def gpupd_ends_meanwhile():
    """Whoever waits is told, the VM is not touched, and a restart is gone through with by the next
    gpupd."""
    vms("desk1")
    LAB.run("virsh", "start", "desk1")
    stop = begin("vm", "stop", "desk1", "--timeout", "600")
    end_gpupd()
    ended(stop, 3, "gpupd is ending and waits no longer for desk1")
    start_gpupd()
    equal(holders(), ["desk1"])
    restart = begin("assign", "desk1", "--vram", "600M", "--restart", "--timeout", "7200")
    wait_for("it is written down", lambda: LAB.run("ls", "/run/gpup/restarts").stdout)
    end_gpupd()
    ended(restart, 3, "gpupd ended while desk1 was being restarted: it is gone on with")
    equal(sh("virsh", "domstate", "desk1").stdout.strip(), "running")
    start_gpupd()
    LAB.run("virsh", "destroy", "desk1")  # the guest's part: it ends
    wait_for("it is started again", lambda: any(
        "started again" in e["text"] for e in events("--vm", "desk1")))
    equal(LAB.json("vm", "show", "desk1")["vm"]["grant"]["vram"]["cap"], 600 << 20)
    undefine("desk1")


def answers_in_a_second(*args):
    """One of several tries: the machine may be busy."""
    took = []
    for _ in range(20):
        began = time.monotonic()
        LAB.run("gpup", *args)
        took.append(time.monotonic() - began)
        if took[-1] < 1:
            return
    raise AssertionError("gpup %s took %s s" % (" ".join(args), took))


def libvirtd_goes_or_hangs_meanwhile():
    """Whoever waits for a guest is told that libvirtd went away. One that hangs holds up neither what
    gpupd answers nor gpupd's own end."""
    vms("desk1")
    LAB.run("virsh", "start", "desk1")
    pid = gpupd_pid()
    stop = begin("vm", "stop", "desk1", "--timeout", "600")
    LAB.run("pkill", "-9", "-x", "libvirtd")
    ended(stop, 1, "desk1")
    LAB.run("libvirtd", "-d")
    wait_for("libvirt is back", lambda: LAB.json("vm", "list")["libvirt_connected"])
    equal(gpupd_pid(), pid)
    LAB.run("pkill", "-STOP", "-x", "libvirtd")
    try:
        process = subprocess.Popen(LAB.command("gpup", "vm", "stop", "desk1"), stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL)
        for args in (("gpu", "list"), ("vm", "list"), ("explain", "desk1"), ("events",), ("status",)):
            answers_in_a_second(*args)
        took = end_gpupd()
        process.wait(120)
    finally:
        LAB.run("pkill", "-CONT", "-x", "libvirtd")
    start_gpupd()
    equal(holders(), ["desk1"])
    undefine("desk1")
    if took > 30:
        raise AssertionError("gpupd took %.0f s to end" % took)


def power_off_vms():
    vms("desk1", "desk2")
    LAB.run("virsh", "start", "desk1")
    LAB.run("virsh", "start", "desk2")
    fails(gpup("gpu", "partition", "software", "2"), 3, "desk1 desk2",
          "gpup gpu partition software 2 --power-off-vms   (powers off desk1 desk2)")
    fails(gpup("gpu", "partition", "software", "33", "--power-off-vms"), 2, "1 to 32")
    out = LAB.run("gpup", "gpu", "partition", "software", "2", "--power-off-vms", "--dry-run").stdout
    for text in ("desk1: would be powered off", "desk2: would be powered off", "2 partitions of 1 GiB"):
        contains(out, text)
    equal(holders(), ["desk1", "desk2"])
    out = LAB.run("gpup", "gpu", "partition", "software", "2", "--power-off-vms").stdout
    contains(out, "desk1: powered off; it is not started again by itself")
    equal(len(partitions()), 2)
    equal(holders(), [])
    equal(sh("virsh", "list", "--name").stdout.strip(), "")
    LAB.run("gpup", "gpu", "partition", "software", "4")
    undefine("desk1", "desk2")


def events(*args):
    return LAB.json("events", *args)["events"]


def who_did_what():
    """A refusal reads the same in virsh, gpup and gpupd's log; what was done is known afterwards, also
    after gpupd was killed."""
    define("desk1")
    LAB.run("gpup", "assign", "desk1", "--vram", "1900M")
    vms("desk2")
    LAB.run("virsh", "start", "desk1")
    reason = ["no partition for desk2", "  software llvmpipe: 148 MiB left, desk2 needs 512 MiB"]
    for result in (sh("virsh", "start", "desk2"), gpup("vm", "start", "desk2")):
        contains(result.stderr, "\n".join(reason))
    contains(LAB.log(), "\n".join(reason))
    explained = gpup("explain", "desk2").stdout.splitlines()
    equal(explained[:2], reason)
    LAB.run("virsh", "destroy", "desk1")
    LAB.run("pkill", "-9", "-x", "gpupd")
    wait_for("gpupd ends", lambda: sh("pgrep", "-x", "gpupd").returncode == 1)
    start_gpupd()
    seen = [(e["kind"], e["user"], e["count"]) for e in events("--vm", "desk1")[-3:] + events("--vm", "desk2")[-2:]]
    equal(seen, [("adapter", "root", 1), ("start", "libvirt", 1), ("stop", "libvirt", 1),
                 ("adapter", "root", 1), ("refused", "libvirt", 2)])
    equal(events("-n", "1")[0]["kind"], "gpupd")
    equal(LAB.json("gpu", "show", "software")["gpu"]["health"]["refused_starts"] >= 2, True)
    contains(LAB.run("gpup", "events", "--gpu", "llvmpipe").stdout, "4 partitions")
    wrong = sh("gdbus", "call", "--system", "-d", "org.gpup1", "-o", "/org/gpup1", "-m",
               "org.gpup1.Manager.GetEvents", "{'limits': <uint32 1>}")
    fails(wrong, 1, "there is no option 'limits' of type u")
    undefine("desk1", "desk2")


def said_by_virsh(result):
    """The hook's words, out of what libvirt puts around them."""
    text = result.stderr
    contains(text, ": gpup: ")
    return text[text.index(": gpup: ") + len(": gpup: "):].strip()


def log_since(mark):
    return LAB.log()[mark:]


def one_refusal(name, *texts):
    """The whole of it is the same wherever it is read."""
    mark = len(LAB.log())
    by_virsh = said_by_virsh(sh("virsh", "start", name))
    event = events("--vm", name)[-1]
    by_gpup = gpup("vm", "start", name).stderr.strip().removeprefix("gpup: ")
    equal(by_gpup, by_virsh, "gpup and virsh, of %s" % name)
    equal((event["kind"], event["text"]), ("refused", by_virsh))
    contains(log_since(mark), by_virsh)
    for text in texts:
        contains(by_virsh, text)


def refusals_read_the_same():
    """In virsh, in gpup, among the events and in gpupd's log: word by word, with the way out."""
    vms("desk1", "desk2", "desk3")
    LAB.run("gpup", "assign", "desk3", "--vram", "1900M")
    LAB.run("virsh", "start", "desk1")
    one_refusal("desk3", "1.5 GiB left, desk3 needs", "Stop one of desk1")
    LAB.run("virsh", "destroy", "desk1")
    LAB.run("gpup", "gpu", "partition", "software", "1")
    LAB.run("virsh", "start", "desk1")
    one_refusal("desk2", "its one partition is used by desk1", "Stop one of desk1")
    LAB.run("virsh", "destroy", "desk1")
    LAB.run("gpup", "gpu", "partition", "software", "0")
    one_refusal("desk2", "not partitioned", "gpup gpu partition software N")
    LAB.run("gpup", "gpu", "partition", "software", "4")
    LAB.run("sh", "-c", "virsh dumpxml --inactive desk2 | sed -e '/<video>/,/<.video>/d' >/tmp/c.xml;"
            "virsh -q define /tmp/c.xml")
    one_refusal("desk2", "not in the definition any more", "gpup unassign desk2, then gpup assign desk2")
    undefine("desk1", "desk2", "desk3")


# What Prometheus' own reader of OpenMetrics makes of it: "NAME VM VALUE" of each sample of a VM.
PARSE = """
import sys
from prometheus_client.openmetrics.parser import text_string_to_metric_families as families
for family in families(sys.stdin.read()):
    for s in family.samples:
        print(s.name, s.labels.get("vm", "-"), s.value)
"""


def metrics():
    """They are OpenMetrics, whatever a VM is called."""
    name = 'a "b" näme'
    vms(name)
    LAB.run("virsh", "start", name)
    LAB.run("gpup", "metrics", "--output", "/tmp/gpup.prom")
    text = (LAB.root() / "tmp/gpup.prom").read_text(encoding="utf-8")
    result = subprocess.run(["/usr/bin/python3", "-c", PARSE], input=text, text=True, check=True,
                            stdout=subprocess.PIPE)
    contains(result.stdout, "gpup_vm_memory_limit_bytes %s %d\n" % (name, 512 << 20))
    contains(result.stdout, "gpup_gpu_partitions_free - 3\n")
    undefine(name)


def restart_for_it():
    """assign --restart shuts the guest down, or says that it does not; nothing is shut down for what
    would not start again."""
    vms("desk1")
    LAB.run("virsh", "start", "desk1")
    contains(LAB.run("gpup", "assign", "desk1", "--vram", "256M").stdout, "It is running")
    grant = LAB.json("vm", "show", "desk1")["vm"]["grant"]["vram"]["cap"]
    equal(grant, 512 << 20)
    out = LAB.run("gpup", "assign", "desk1", "--vram", "320M", "--restart", "--dry-run").stdout
    contains(out, "desk1: would be shut down and started again")
    # nothing listens in this VM
    fails(gpup("assign", "desk1", "--vram", "320M", "--restart", "--timeout", "1"), 1,
          "takes effect at the next start of desk1, but it was not restarted", "after 1 s")
    contains(definition("desk1"), str(320 << 20))
    LAB.run("gpup", "gpu", "partition", "software", "4")
    define("desk2")
    LAB.run("gpup", "assign", "desk2", "--vram", "1G")
    LAB.run("virsh", "start", "desk2")
    fails(gpup("assign", "desk1", "--vram", "1100M", "--restart"), 3, "nothing was changed",
          "1 GiB left, desk1 needs 1.07 GiB")
    contains(definition("desk1"), str(320 << 20))
    with concurrent.futures.ThreadPoolExecutor() as pool:
        done = pool.submit(gpup, "assign", "desk1", "--vram", "1G", "--restart")
        # the guest's part: it ends
        wait_for("it is changed", lambda: str(1 << 30) in definition("desk1"))
        LAB.run("virsh", "destroy", "desk1")
        equal(done.result().returncode, 0, done.result().stderr)
    contains(done.result().stdout, "desk1: shut down and started again")
    equal(LAB.json("vm", "show", "desk1")["vm"]["grant"]["vram"]["cap"], 1 << 30)
    contains(gpup("unassign", "desk2", "--restart", "--dry-run").stdout, "would be shut down")
    LAB.run("virsh", "destroy", "desk2")
    contains(gpup("unassign", "desk2", "--restart").stdout, "desk2: is not running, so it is not restarted")
    undefine("desk1", "desk2")


def who_may():
    """Everybody reads; what changes something is polkit's to allow."""
    define("desk1")
    as_nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    contains(LAB.run(*as_nobody, "gpup").stdout, "software")
    for args in (["assign", "desk1"], ["gpu", "partition", "software", "2"], ["vm", "start", "desk1"],
                 ["rescan"], ["assign", "desk1", "--restart"],
                 ["gpu", "partition", "software", "2", "--power-off-vms"]):
        fails(sh(*as_nobody, "gpup", *args), 1, "org.gpup1.")
    equal(len(partitions()), 4)
    refused = sh(*as_nobody, "python3", "-c",
                 "import socket; s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET);"
                 "s.connect('/run/gpup/gpupd.sock')")
    contains(refused.stderr, "Permission")
    undefine("desk1")


def strangers_get_no_partition():
    """Whoever is not the process that libvirt started gets no lease, root included."""
    vms("desk1")
    LAB.run("virsh", "start", "desk1")
    adapter = LAB.json("vm", "show", "desk1")["vm"]["adapter"]["id"]
    stranger = sh("gpup-vgpu", "--socket-path=/tmp/s.sock", "--render-node=/run/gpup/vm/" + adapter)
    fails(stranger, 1, "not the device process")
    unknown = sh("gpup-vgpu", "--socket-path=/tmp/s.sock",
                 "--render-node=/run/gpup/vm/00000000-0000-4000-8000-000000000000")
    fails(unknown, 1, "no VM with this adapter")
    undefine("desk1")


def saving_is_refused():
    vms("desk1")
    LAB.run("virsh", "start", "desk1")
    result = sh("virsh", "managedsave", "desk1")
    equal(result.returncode, 1, result.stdout)
    equal(LAB.json("vm", "show", "desk1")["vm"]["state"], "running")
    undefine("desk1")


def after_a_reboot():
    """/run is empty, the number of partitions is still there."""
    LAB.run("pkill", "-x", "gpupd")
    wait_for("gpupd ends", lambda: sh("pgrep", "-x", "gpupd").returncode == 1)
    LAB.run("rm", "-rf", "/run/gpup")
    start_gpupd()
    equal(len(partitions()), 4)


def other_back_ends():
    """A vhost-user video device that is not ours gets QEMU's own back-end, or says what is missing."""
    result = sh("sh", "-c", "exec gpup-vhost-user-gpu --socket-path=/tmp/x --render-node=/dev/dri/x")
    fails(result, 1, "not one of gpup's", "/usr/lib/qemu/vhost-user-gpu")


NVIDIA = """\
set -e
cd /run
rm -rf sysfs usr
mkdir -p sysfs/bus/pci/drivers/nvidia sysfs/module/nvidia_vgpu_vfio sysfs/kernel usr/lib/nvidia %(more)s
pf=0000:41:00.0
device() {
    d=sysfs/bus/pci/devices/$1
    mkdir -p $d sysfs/kernel/iommu_groups/$2/devices
    echo 0x10de >$d/vendor; echo 0x25b6 >$d/device; echo 0x030200 >$d/class
    ln -s ../../drivers/nvidia $d/driver
    ln -s ../../../../kernel/iommu_groups/$2 $d/iommu_group
    ln -s ../../../../bus/pci/devices/$1 sysfs/kernel/iommu_groups/$2/devices/$1
}
device $pf 1
echo 4 >$d/sriov_totalvfs; echo 0 >$d/sriov_numvfs
for i in 4 5 6 7; do
    device 0000:41:00.$i $i
    ln -s ../$pf $d/physfn
    %(vf)s
done
{ echo '#!/bin/sh'; cat; } >usr/lib/nvidia/sriov-manage <<'X'
cd /run/sysfs/bus/pci/devices/$2
rm -f virtfn*
if [ $1 = -d ]; then echo 0 >sriov_numvfs; exit; fi
for i in 0 1 2 3; do ln -s ../0000:41:00.$((i + 4)) virtfn$i; done
echo 4 >sriov_numvfs
X
chmod +x usr/lib/nvidia/sriov-manage
echo --sysfs=/run/sysfs >/run/gpupd.options
"""
NVIDIA_FORMS = {
    "vendor": ("", "mkdir $d/nvidia; echo 0 >$d/nvidia/current_vgpu_type;"
               " printf 'ID : vGPU Name\\n7 : NVIDIA A2-4Q\\n' >$d/nvidia/creatable_vgpu_types"),
    "mdev": ("sysfs/class/mdev_bus", "t=$d/mdev_supported_types/nvidia-7; mkdir -p $t; echo NVIDIA A2-4Q >$t/name;"
             " echo 1 >$t/available_instances; : >$t/create"),
}


def restart_gpupd():
    stop_gpupd()
    start_gpupd()


def is_ours(hostdev, form, adapter):
    contains(hostdev, "<alias name='ua-gpup-%s'/>" % adapter)
    if form == "mdev":
        contains(hostdev, "type='mdev' managed='no' model='vfio-pci'")
        contains(hostdev, "<address uuid='%s'/>" % adapter)
    else:
        contains(hostdev, "type='pci' managed='no'")
        contains(hostdev, "<address domain='0x0000' bus='0x41' slot='0x00' function='0x4'/>")


def with_a_vgpu(form):
    LAB.run("gpup", "gpu", "partition", "41:00.0", "4")
    before = define("win")
    LAB.run("gpup", "assign", "win", "--kind", "sriov")
    element = re.search(r"<[^<]*urn:gpup:adapter:1[^>]*>", definition("win")).group(0)
    adapter = re.search(r""" id=["']([0-9a-f-]{36})""", element).group(1)
    LAB.run("sh", "-c", "virsh dumpxml --inactive win >/tmp/w.xml; virsh -q define --validate /tmp/w.xml")
    is_ours(re.search(r"<hostdev.*?</hostdev>", definition("win"), re.S).group(0), form, adapter)
    refused = sh("virsh", "start", "win")
    contains(refused.stderr, "Failed to start domain")
    if "gpup" in refused.stderr:
        raise AssertionError("it is not libvirt that refuses: " + refused.stderr)
    contains(str([e["kind"] for e in LAB.json("events", "--vm", "win")["events"]]), "start")
    if form == "mdev":
        equal(LAB.run("cat", "/run/sysfs/bus/pci/devices/0000:41:00.4/mdev_supported_types/nvidia-7/create")
              .stdout, adapter)
    wait_for("it is free again", lambda: {
        p["state"] for p in LAB.json("gpu", "show", "41:00.0")["gpu"]["partitions"]} == {"free"})
    LAB.run("gpup", "unassign", "win")
    equal(definition("win"), before)
    undefine("win")
    LAB.run("gpup", "gpu", "partition", "41:00.0", "0")


def what_libvirt_takes():
    """VMs with a vGPU in both of its forms: the GPU is made up, so that libvirt's QEMU driver takes the
    definition, has gpup ready the vGPU, and then finds no such device."""
    try:
        for form, (more, vf) in NVIDIA_FORMS.items():
            LAB.run("sh", "-c", NVIDIA % {"more": more, "vf": vf})
            restart_gpupd()
            with_a_vgpu(form)
    finally:
        LAB.run("rm", "-rf", "/run/gpupd.options", "/run/sysfs", "/run/usr")
        restart_gpupd()


def main():
    lablib.stage(BUILD, LAB.installed)
    LAB.start("[software]\nmemory=2G\n")
    tests = (the_main_path, every_display, hugepages_and_others_stay, all_taken, at_the_same_moment,
             bad_input, dry_runs_change_nothing, live_changes, shares_that_nothing_holds, windows_guests,
             a_copied_definition, others_are_left_alone, walls_that_are_missing, killed_gpupd,
             killed_libvirtd, gpupd_ends_meanwhile, libvirtd_goes_or_hangs_meanwhile, power_off_vms,
             who_did_what, refusals_read_the_same, restart_for_it, metrics, who_may,
             strangers_get_no_partition, saving_is_refused, after_a_reboot, other_back_ends,
             what_libvirt_takes)
    wanted = sys.argv[2:]
    try:
        LAB.run("gpup", "gpu", "partition", "software", "4")
        run([(f.__name__.replace("_", " "), f) for f in tests if not wanted or f.__name__ in wanted])
    finally:
        (BUILD / "lab-test.log").write_text(LAB.log(), encoding="utf-8")
        LAB.stop()


main()
