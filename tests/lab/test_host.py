#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What an administrator expects of a host: state that outlives a reboot and a damaged file, many VMs
at once, no leaks after a thousand starts, and rights."""
import json
import os
import pathlib
import subprocess
import sys
import time
import xml.etree.ElementTree as ET

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tools"))
import lablib  # noqa: E402
from taplib import contains, equal, run  # noqa: E402

BUILD = pathlib.Path(sys.argv[1]).resolve()
LAB = lablib.Lab(BUILD / "lab-host", BUILD, stage=BUILD / "stage-host")
CARDS = ("0000:03:00.0", "0000:41:00.0")
CYCLES = 1000
SLOTS, VMS = 64, 100

VM = """\
<domain type='qemu'><name>{name}</name><memory unit='MiB'>16</memory><vcpu>1</vcpu>
  <os><type arch='x86_64' machine='q35'>hvm</type></os><features><acpi/></features>
  <devices><emulator>/usr/bin/qemu-system-x86_64</emulator><memballoon model='none'/>
  <controller type='usb' model='none'/><video><model type='vga' vram='1024'/></video></devices></domain>
"""


def inside(path):
    return LAB.root() / path


def gpup(*args):
    return LAB.run("gpup", *args, check=False)


def wait_for(what, condition, seconds=60):
    until = time.monotonic() + seconds
    seen = None
    while True:
        try:
            seen = condition()
            if seen:
                return seen
        except (lablib.Failed, OSError) as error:
            seen = error
        if time.monotonic() > until:
            raise AssertionError("never: %s (%s)" % (what, seen))
        time.sleep(0.05)


def fails(result, code, *texts):
    equal(result.returncode, code, result.stderr)
    for text in texts:
        contains(result.stderr, text)


def define(*names):
    for name in names:
        LAB.run("sh", "-c", "cat >/tmp/vm.xml <<'X'\n%sX\nvirsh -q define /tmp/vm.xml" % VM.format(name=name))


def shown(gpu):
    return LAB.json("gpu", "show", gpu)["gpu"]


def count(gpu):
    return len(shown(gpu)["partitions"])


def holders():
    return sorted(p["vm"] for gpu in LAB.json("gpu", "list")["gpus"]
                  for p in shown(gpu["id"])["partitions"] if p["vm"])


def stop_gpupd(signal="-TERM"):
    LAB.run("pkill", signal, "-x", "gpupd")
    wait_for("gpupd ends", lambda: LAB.run("pgrep", "-x", "gpupd", check=False).returncode == 1)


def start_gpupd():
    LAB.run("sh", "-c", "gpupd-service </dev/null >>/var/log/gpupd.log 2>&1 &")
    LAB.run("gdbus", "wait", "--system", "--timeout", "60", "org.gpup1")
    wait_for("libvirt is connected", lambda: LAB.json("vm", "list")["libvirt_connected"])


def problems():
    return "\n".join(LAB.json("status")["degraded"])


# ---- state ----

def a_gpu_is_known_by_its_key():
    """Its serial number, not where it sits: moved, it keeps what was set; another one in its place
    is told of and left alone."""
    first, second = (inside("run/sysfs/bus/pci/devices/%s/unique_id" % c) for c in CARDS)
    LAB.run("gpup", "gpu", "partition", CARDS[0], "2")
    LAB.run("gpup", "gpu", "partition", CARDS[1], "4")
    define("pinned")  # its definition has the key; people read the address
    contains(LAB.run("gpup", "assign", "pinned", "--gpu", CARDS[0]).stdout, "one partition of 03:00.0\n")
    contains(LAB.run("virsh", "dumpxml", "--inactive", "pinned").stdout, "5eed0000")
    LAB.run("virsh", "undefine", "pinned")
    stop_gpupd()
    serial = first.read_text(encoding="utf-8")
    first.write_text("00000000deadbeef\n", encoding="utf-8")
    start_gpupd()
    equal((count(CARDS[0]), count(CARDS[1])), (0, 4))
    if not pathlib.Path("/sys/fs/cgroup/dmem.capacity").exists():
        contains(gpup("gpu", "show", CARDS[0]).stderr, "(dmem: Linux 6.14, and a driver that takes part)")
    contains(problems(), "there is another GPU")
    stop_gpupd()
    # the two change places
    first.write_text(second.read_text(encoding="utf-8"), encoding="utf-8")
    second.write_text(serial, encoding="utf-8")
    start_gpupd()
    equal((count(CARDS[0]), count(CARDS[1])), (4, 2))
    equal(problems(), "")
    stop_gpupd()
    first.write_text("00000000deadbeef\n", encoding="utf-8")
    start_gpupd()
    words = problems().split()
    key = words[words.index("--forget") + 1]
    fails(gpup("rescan", "--forget", "nothing"), 1, "gpup status")
    contains(LAB.run("gpup", "rescan", "--forget", key, "--dry-run").stdout, "would be forgotten")
    contains(problems(), key)
    contains(LAB.run("gpup", "rescan", "--forget", key).stdout, "forgotten")
    equal(problems(), "")
    equal(count(CARDS[1]), 2)


def a_gpu_goes():
    """And comes back: it is shown while a VM holds a partition of it, then it is gone, and whoever is
    to be on it is told so; what was set for it is kept."""
    cards, drm = "/run/sysfs/bus/pci/devices/", "/run/sysfs/class/drm/"

    def listed():
        return CARDS[0] in [gpu["id"] for gpu in LAB.json("gpu", "list")["gpus"]]

    LAB.run("gpup", "gpu", "partition", CARDS[0], "2")
    define("desk1")
    LAB.run("gpup", "assign", "desk1", "--gpu", CARDS[0])
    LAB.run("virsh", "start", "desk1", "--paused")
    LAB.run("sh", "-ec", "mv %s%s /run/card; mv %srenderD128 /run/node" % (cards, CARDS[0], drm))
    LAB.run("gpup", "rescan")
    contains(shown(CARDS[0])["reason"], "no longer in this host")
    equal(holders(), ["desk1"])
    LAB.run("virsh", "destroy", "desk1")
    wait_for("it is gone", lambda: not listed())
    contains(problems(), "not here any more")
    fails(LAB.run("virsh", "start", "desk1", "--paused", check=False), 1, "is not in this host",
          "gpup assign desk1 --gpu GPU chooses another")
    LAB.run("sh", "-ec", "mv /run/card %s%s; mv /run/node %srenderD128" % (cards, CARDS[0], drm))
    LAB.run("gpup", "rescan")
    equal(count(CARDS[0]), 2)
    LAB.run("virsh", "start", "desk1", "--paused")
    equal(holders(), ["desk1"])
    LAB.run("sh", "-c", "virsh -q destroy desk1; virsh -q undefine desk1")


def a_damaged_reservation():
    """Of a VM that runs: it is found again, and its partition is nobody else's meanwhile."""
    LAB.run("gpup", "gpu", "partition", "software", "1")
    define("desk1", "desk2")
    for name in ("desk1", "desk2"):
        LAB.run("gpup", "assign", name, "--gpu", "software")
    LAB.run("virsh", "start", "desk1", "--paused")
    stop_gpupd("-KILL")
    path = next(inside("run/gpup/reservations").iterdir())
    path.write_text(path.read_text(encoding="utf-8")[:60], encoding="utf-8")
    LAB.run("sh", "-c", "gpupd-service </dev/null >>/var/log/gpupd.log 2>&1 &")
    LAB.run("gdbus", "wait", "--system", "--timeout", "60", "org.gpup1")
    fails(LAB.run("virsh", "start", "desk2", "--paused", check=False), 1, "desk2")
    wait_for("desk1 holds it again", lambda: holders() == ["desk1"])
    contains(problems(), "set aside")
    wait_for("its device process is back", lambda: any(
        p["usage"] for p in shown("software")["partitions"]))
    fails(LAB.run("virsh", "start", "desk2", "--paused", check=False), 1, "desk1")
    LAB.run("virsh", "destroy", "desk1")
    equal(holders(), [])
    LAB.run("virsh", "start", "desk2", "--paused")
    LAB.run("virsh", "destroy", "desk2")
    LAB.run("rm", str(pathlib.Path("/run/gpup/reservations") / (path.name + ".damaged")))


def a_damaged_store():
    """Of a GPU whose partitions are in use: they stay, and so does the number."""
    LAB.run("gpup", "gpu", "partition", "software", "3")
    LAB.run("virsh", "start", "desk1", "--paused")
    stop_gpupd("-KILL")
    inside("var/lib/gpup/gpus/software.conf").write_bytes(b"\0" * 100)
    start_gpupd()
    equal((count("software"), holders()), (3, ["desk1"]))
    contains(problems(), "set aside")
    LAB.run("virsh", "destroy", "desk1")
    stop_gpupd()
    start_gpupd()
    equal(count("software"), 3)
    LAB.run("sh", "-c", "virsh -q undefine desk1; virsh -q undefine desk2")


# ---- many ----

# What libvirt does at a VM's start and end, with the real hook and device process, but without QEMU:
# fast enough for a hundred VMs at once and for a thousand in a row.
STARTS = r'''
import concurrent.futures, json, os, pathlib, socket, subprocess, sys, time
pids = pathlib.Path("/run/libvirt/qemu")
pids.mkdir(parents=True, exist_ok=True)

class VM:
    def __init__(self, number, xml):
        self.number, self.xml = number, xml
        self.name = "vm%d" % number
        self.adapter = xml.split("/run/gpup/vm/")[1][:36]

    def hook(self, *words):
        done = subprocess.run(["/etc/libvirt/hooks/qemu.d/gpup", self.name, *words], input=self.xml,
                              text=True, stderr=subprocess.PIPE)
        return done.stderr.strip() if done.returncode else None

    def start(self):
        # None, or why not
        refused = self.hook("prepare", "begin", "-")
        if refused:
            self.hook("release", "end", "-")
            return refused
        self.socket, theirs = socket.socketpair()
        program = ("import os, sys; open(sys.argv[1], 'w').write(str(os.getpid())); "
                   "os.execv('/usr/bin/gpup-vhost-user-gpu', sys.argv[2:])")
        self.process = subprocess.Popen(
            [sys.executable, "-SEc", program, str(pids / ("%d-%s-video1-vhost-user-gpu.pid" %
             (self.number, self.name))), "gpup-vhost-user-gpu", "--fd=%d" % theirs.fileno(), "--virgl",
             "--render-node=/run/gpup/vm/" + self.adapter], pass_fds=[theirs.fileno()])
        theirs.close()
        # a front end asks for the features; the answer means that the partition was granted
        self.socket.sendall(b"".join(n.to_bytes(4, "little") for n in (1, 1, 0)))
        try:
            answer = self.socket.recv(20)
        except ConnectionError:
            answer = b""
        if len(answer) != 20:
            return "its device process ended with status %s" % self.process.wait()
        self.hook("started", "begin", "-")
        return None

    def stop(self):
        self.socket.close()
        self.process.wait()
        self.hook("stopped", "end", "-")
        self.hook("release", "end", "-")

def vm(number):
    xml = sys.stdin_text.replace("<domain type='qemu'", "<domain type='qemu' id='%d'" % number, 1)
    for old in sys.ids:
        xml = xml.replace(old, old[:-4] + "%04d" % number)
    return VM(number, xml.replace("<name>cycle</name>", "<name>vm%d</name>" % number))

sys.stdin_text = open("/run/cycle.xml").read()
sys.ids = sys.argv[3:]
n = int(sys.argv[2])
if sys.argv[1] == "one-by-one":
    for i in range(n):
        one = vm(9999)
        why = one.start()
        if why:
            sys.exit("start %d: %s" % (i, why))
        one.stop()
else:
    vms = [vm(5000 + i) for i in range(n)]
    with concurrent.futures.ThreadPoolExecutor(n) as pool:
        answers = dict(zip([v.name for v in vms], pool.map(VM.start, vms)))
    print(json.dumps(answers), flush=True)
    sys.stdin.readline()
    for v in vms:
        if answers[v.name] is None:
            v.stop()
'''


def without_libvirt(function):
    """Calls it with the command that starts VMs as STARTS does. libvirtd is away meanwhile: it would say
    that none of them runs."""
    define("cycle")
    LAB.run("gpup", "assign", "cycle", "--gpu", "")
    shown_vm = LAB.json("vm", "show", "cycle")["vm"]
    ids = (shown_vm["adapter"]["id"], shown_vm["uuid"])
    inside("run/cycle.xml").write_text(LAB.run("virsh", "dumpxml", "--inactive", "cycle").stdout,
                                       encoding="utf-8")
    inside("run/starts.py").write_text(STARTS, encoding="utf-8")
    LAB.run("pkill", "-x", "libvirtd")
    wait_for("it is noticed", lambda: not LAB.json("vm", "list")["libvirt_connected"])
    try:
        function(lambda how, n: ("python3", "/run/starts.py", how, str(n), *ids))
    finally:
        LAB.run("libvirtd", "-d")
        wait_for("libvirt is back", lambda: LAB.json("vm", "list")["libvirt_connected"])
        LAB.run("virsh", "undefine", "cycle")


def many_at_once():
    """More VMs than partitions start at the same moment: the partitions are taken, each by one VM,
    and the others are told why not."""
    LAB.run("gpup", "gpu", "partition", "software", "32")
    LAB.run("gpup", "gpu", "partition", CARDS[0], "32")
    LAB.run("gpup", "gpu", "partition", CARDS[1], "0")
    without_libvirt(start_many)


def start_many(command):
    process = subprocess.Popen(LAB.command(*command("at-once", VMS)), text=True, stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    line = process.stdout.readline()
    if not line:
        raise AssertionError("nothing was started: " + process.communicate(timeout=120)[1][-2000:])
    answers = json.loads(line)
    up = sorted(name for name, why in answers.items() if why is None)
    refused = [why for why in answers.values() if why]
    held = [(gpu["id"], p["index"], p["vm"]) for gpu in LAB.json("gpu", "list")["gpus"]
            for p in shown(gpu["id"])["partitions"] if p["vm"]]
    process.communicate("\n", timeout=120)
    equal((len(up), len(refused)), (SLOTS, VMS - SLOTS), "\n".join(sorted(set(refused)))[:2000])
    equal(sorted(vm for _, _, vm in held), up, "who holds")
    equal(len({place[:2] for place in held}), SLOTS, "partitions")
    for text in refused:
        contains(text, "no partition for vm")
        contains(text, "all 32 used by vm")
    equal(holders(), [])
    print("# %d VMs at once: %d run, each on its own partition; %d refused: %s" %
          (VMS, len(up), len(refused), refused[0].splitlines()[1].strip()[:60]))


def footprint():
    pid = LAB.run("pgrep", "-x", "gpupd").stdout.strip()
    status = LAB.run("cat", "/proc/%s/status" % pid).stdout
    rss = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
    groups = LAB.run("sh", "-c", "find /sys/fs/cgroup -type d | sort").stdout
    files = LAB.run("sh", "-c", "find /run/gpup /var/lib/gpup /tmp | sort").stdout
    # what a worker or a call under way has open comes and goes
    fds = LAB.run("sh", "-c", "ls /proc/%s/fd | wc -l" % pid).stdout
    others = LAB.run("sh", "-c", "pgrep -c 'gpup-(render|vhost)'", check=False).stdout
    return rss, {"cgroups": groups, "files": files, "descriptors": int(fds), "processes": others}


def a_thousand_starts():
    """Afterwards gpupd has no more memory, descriptors, cgroups, files or processes than before."""
    LAB.run("gpup", "gpu", "partition", "software", "4")
    LAB.run("gpup", "gpu", "partition", CARDS[0], "0")
    LAB.run("gpup", "gpu", "partition", CARDS[1], "0")
    without_libvirt(start_one_by_one)


def start_one_by_one(command):
    def swept():
        seen = footprint()[1]
        return seen["processes"].strip() == "0" and "partition-" not in seen["cgroups"]

    LAB.run(*command("one-by-one", 100), timeout=600)
    wait_for("their renderers are gone", swept)
    rss, before = footprint()
    began = time.monotonic()
    LAB.run(*command("one-by-one", CYCLES), timeout=600)
    took = time.monotonic() - began
    equal(holders(), [])
    try:
        wait_for("everything is as before", lambda: footprint()[1] == before)
    except AssertionError as error:
        now = footprint()[1]
        raise AssertionError("; ".join("%s: %s, before: %s" % (k, now[k], before[k])
                                       for k in now if now[k] != before[k])) from error
    grown = footprint()[0] - rss
    print("# %d starts and stops in %.0f s: gpupd has %+d KiB" % (CYCLES, took, grown))
    if grown > 2048:
        raise AssertionError("gpupd has grown by %d KiB" % grown)


# ---- rights ----

# Every method that D-Bus shows, and what it takes: a polkit action, or None for reading. A method
# that is not here fails the test: whoever adds one decides who may.
CALLS = {
    "org.gpup1.Manager.Assign": ("adapter", "s:nosuch", "a{sv}:{}", "a{sv}:{}"),
    "org.gpup1.Manager.Unassign": ("adapter", "s:nosuch", "a{sv}:{}"),
    "org.gpup1.Manager.StartVM": ("start", "s:nosuch", "a{sv}:{}"),
    "org.gpup1.Manager.StopVM": ("start", "s:nosuch", "a{sv}:{}"),
    "org.gpup1.Manager.Explain": (None, "s:nosuch"),
    "org.gpup1.Manager.GetEvents": (None, "a{sv}:{}"),
    "org.gpup1.Manager.GetGuest": ("start", "s:nosuch", "u:4318"),
    "org.gpup1.Manager.Rescan": ("partition", "a{sv}:{}"),
    "org.gpup1.Manager.Forget": ("partition", "s:nosuch", "a{sv}:{}"),
    "org.gpup1.GPU.DescribeCounts": (None,),
    "org.gpup1.GPU.GetHealth": (None,),
    "org.gpup1.GPU.SetPartitionCount": ("partition", "u:77777", "a{sv}:{}"),
    "org.gpup1.GPU.SetPassthrough": ("partition", "b:true", "a{sv}:{}"),
    "org.gpup1.Partition.GetUsage": (None,),
}
OTHERS = ("org.freedesktop.DBus.Properties", "org.freedesktop.DBus.Introspectable",
          "org.freedesktop.DBus.Peer", "org.freedesktop.DBus.ObjectManager")
ALLOWED, DENIED = "4001", "4002"  # users; the first may partition only, by a rule
RULE = """\
polkit.addRule(function (action, subject) {
    if (action.id == "org.gpup1.partition" && subject.user == "partitioner")
        return polkit.Result.YES;
});
"""


def interfaces():
    """(object, interface, methods, properties) of one object of each kind."""
    seen = {}
    LAB.run("gpup", "gpu", "partition", "software", "2")
    define("someone")
    wait_for("it is listed", lambda: LAB.json("vm", "list")["vms"])
    listing = LAB.run("gdbus", "call", "--system", "-d", "org.gpup1", "-o", "/org/gpup1", "-m",
                      "org.freedesktop.DBus.ObjectManager.GetManagedObjects").stdout
    for path in ["/org/gpup1"] + [w.strip("'\":,{}()") for w in listing.split() if "/org/gpup1/" in w]:
        text = LAB.run("gdbus", "introspect", "--system", "-d", "org.gpup1", "-o", path, "--xml").stdout
        for interface in ET.fromstring(text).findall("interface"):
            if interface.get("name") not in OTHERS:
                seen.setdefault(interface.get("name"), (path, interface))
    return seen


def call_as(user, path, method, arguments=()):
    words = [a.split(":", 1)[1] for a in arguments]
    return LAB.run("setpriv", "--reuid=" + user, "--regid=65534", "--clear-groups", "gdbus", "call",
                   "--system", "-d", "org.gpup1", "-o", path, "-m", method, *words, check=False)


def everybody_by_method():
    """Root and who is allowed get an answer of gpupd's own; who is not is refused before that."""
    checked = 0
    found = interfaces()
    equal(sorted(found), ["org.gpup1." + n for n in ("GPU", "Manager", "Partition", "VM")])
    for name, (path, interface) in found.items():
        for method in interface.findall("method"):
            full = "%s.%s" % (name, method.get("name"))
            if full not in CALLS:
                raise AssertionError("%s is new: who may call it?" % full)
            action, *arguments = CALLS[full]
            for user in ("0", ALLOWED, DENIED):
                said = call_as(user, path, full, arguments)
                may = user == "0" or action is None or (user == ALLOWED and action == "partition")
                equal("AccessDenied" in said.stderr, not may, "%s as %s: %s" % (full, user, said.stderr))
                checked += 1
        for prop in interface.findall("property"):
            equal(prop.get("access"), "read", "%s.%s" % (name, prop.get("name")))
            put = call_as("0", path, "org.freedesktop.DBus.Properties.Set",
                          ("s:" + name, "s:" + prop.get("name"), "v:<'x'>"))
            equal(put.returncode, 1, "%s.%s can be set" % (name, prop.get("name")))
            checked += 1
        for user in ("0", ALLOWED, DENIED):
            get = call_as(user, path, "org.freedesktop.DBus.Properties.GetAll", ("s:" + name,))
            for prop in interface.findall("property"):
                contains(get.stdout, "'%s'" % prop.get("name"))
            checked += 1
    print("# %d calls by 3 users" % checked)
    LAB.run("virsh", "undefine", "someone")
    equal(count("software"), 2)


def the_command_says_what_is_missing():
    as_denied = ["setpriv", "--reuid=" + DENIED, "--regid=65534", "--clear-groups", "gpup"]
    fails(LAB.run(*as_denied, "gpu", "partition", "software", "4", check=False), 1, "org.gpup1.partition")
    as_allowed = ["setpriv", "--reuid=" + ALLOWED, "--regid=65534", "--clear-groups", "gpup"]
    LAB.run(*as_allowed, "gpu", "partition", "software", "4")
    fails(LAB.run(*as_allowed, "gpu", "partition", "software", "2", "--power-off-vms", check=False), 0)
    equal(count("software"), 2)


def the_socket_is_for_libvirt():
    code = ("import socket; s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET); "
            "s.connect('/run/gpup/gpupd.sock'); s.sendall(b'x' * %d); print(s.recv(9000))")
    for user, group in ((DENIED, "65534"), (ALLOWED, "65534")):
        said = LAB.run("setpriv", "--reuid=" + user, "--regid=" + group, "--clear-groups", "python3", "-c",
                       code % 8, check=False)
        contains(said.stderr, "Permission denied")
    # libvirt's group may connect; what is not understood ends the connection, and gpupd runs on
    gid = LAB.run("getent", "group", "libvirt-qemu").stdout.split(":")[2]
    for size in (1, 8, 100, 8000):
        said = LAB.run("setpriv", "--reuid=" + DENIED, "--regid=" + gid, "--clear-groups", "python3", "-c",
                       code % size, check=False)
        equal(said.returncode == 0 and said.stdout.strip() != "b''", False, said.stdout)
    # a hook's question from one who is not root: that a VM starts is root's to say
    hook = ("import socket, struct, os; s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET); "
            "s.connect('/run/gpup/gpupd.sock'); fd = os.memfd_create('x'); os.write(fd, b'<domain/>'); "
            "socket.send_fds(s, [struct.pack('<IIII256s', 1, 1, 1, 0, b'desk1')], [fd]); "
            "print(s.recv(9000)[12:].rstrip(bytes(1)).decode())")
    said = LAB.run("setpriv", "--reuid=" + DENIED, "--regid=" + gid, "--clear-groups", "python3", "-c", hook)
    contains(said.stdout, "only root may")
    equal(count("software"), 2)


def nothing_is_open_to_all():
    """Neither what is installed nor what runs leaves a file that everybody may write."""
    stage = LAB.installed
    for path in [p for p in stage.rglob("*") if not p.is_symlink()]:
        mode = path.stat().st_mode
        equal(mode & 0o022, 0, "%s may be written by others" % path.relative_to(stage))
        equal(mode & 0o6000, 0, "%s is set-id" % path.relative_to(stage))
    found = LAB.run("find", "/run/gpup", "/var/lib/gpup", "/etc/gpup", "-not", "-type", "l", "-perm", "/o+w").stdout
    equal(found, "", "writable by everybody")
    found = LAB.run("find", "/var/lib/gpup", "/run/gpup/reservations", "-perm", "/o+r", "-type", "f").stdout
    equal(found, "", "readable by everybody")


def set_up():
    lablib.stage(BUILD, LAB.installed)
    LAB.start("[software]\nmemory=2G\n")
    LAB.fake_gpus(*CARDS)
    # users and a rule as an administrator makes them; the bus knows nobody without a name
    LAB.run("sh", "-ec", "echo partitioner:x:%s:65534::/:/bin/sh >>/etc/passwd;"
            "echo nobodyelse:x:%s:65534::/:/bin/sh >>/etc/passwd; mkdir -p /etc/polkit-1/rules.d;"
            "chmod 755 /etc/polkit-1 /etc/polkit-1/rules.d;"
            "cat >/etc/polkit-1/rules.d/50-gpup.rules <<'X'\n%sX\n" % (ALLOWED, DENIED, RULE))
    stop_gpupd()
    start_gpupd()


def main():
    set_up()
    tests = (a_gpu_goes, a_gpu_is_known_by_its_key, a_damaged_reservation, a_damaged_store, everybody_by_method,
             the_command_says_what_is_missing, the_socket_is_for_libvirt, nothing_is_open_to_all,
             a_thousand_starts, many_at_once)
    wanted = sys.argv[2:]
    try:
        run([(f.__name__.replace("_", " "), f) for f in tests if not wanted or f.__name__ in wanted])
    finally:
        (BUILD / "host-test.log").write_text(LAB.log(), encoding="utf-8")
        if not os.environ.get("GPUP_LAB_KEEP"):
            LAB.stop()


main()
