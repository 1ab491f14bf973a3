# SPDX-License-Identifier: LGPL-2.1-or-later
"""kill -9 of any process at any step (src/fault/fault.h): what the tests of it share. A lab with gpup
built with fault points, in which a service manager starts again what ended; cases, each of which
kills one process at one point and then looks whether all is as it should be; and their matrix."""
import fcntl
import json
import os
import pathlib
import re
import subprocess
import sys
import time

TOP = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "tools"))
import lablib  # noqa: E402
from taplib import equal, run  # noqa: E402

BUILD = pathlib.Path(sys.argv[1]).resolve()
FAULTS = BUILD / "faults"
NAME = "-".join([pathlib.Path(sys.argv[0]).stem.replace("test_", "").replace("_", "-"), *sys.argv[2:3]])
LAB = lablib.Lab(BUILD / ("lab-" + NAME), BUILD, stage=FAULTS / ("stage-" + NAME))
GUEST = "desk1"    # runs through all of it
SUBJECT = "desk2"  # has nothing to boot
CARD = "0000:03:00.0"
POINTS = "run/gpup-faults"
REACH_S = SETTLE_S = 60  # until an operation comes to its point, and until all is as it should be

# What libvirt, systemd's Restart= and an administrator's patience would do: only start again.
KEEP = ("while :; do [ -e /run/%(name)s.away ] || %(command)s </dev/null >>/var/log/%(name)s.log 2>&1;"
        " sleep 0.1; done")
PROGRAMS = {"gpupd": ["gpupd"], "gpup-vgpu": ["gpup-vhost-user-gpu"], "gpup-render": ["gpup-render"],
            "libvirtd": ["libvirtd"], "gpup-hook": ["gpup-hook"], "client": ["gpup", "virsh"],
            "gpu-helper": ["gpup-gpu-helper"]}
COLUMNS = ("gpupd", "gpup-vgpu", "gpup-render", "libvirtd", "client", "gpup-hook", "gpu-helper")
# Whose step it is, by the point's name: that one at least is killed there.
OWNERS = {"gpupd": "gpupd", "vgpu": "gpup-vgpu", "render": "gpup-render", "hook": "gpup-hook",
          "helper": "gpu-helper"}
MATRIX = {}  # (operation, point) -> {victim: "ok" or what went wrong}

VM = """\
<domain type='qemu'><name>{name}</name><memory unit='MiB'>32</memory><vcpu>1</vcpu>
  <os><type arch='x86_64' machine='q35'>hvm</type></os><features><acpi/></features>
  <devices><emulator>/usr/bin/qemu-system-x86_64</emulator><memballoon model='none'/>
  <controller type='usb' model='none'/>
  <video><model type='vga'/></video></devices></domain>
"""


# ---- processes of the lab, as seen from outside ----

def stat_of(pid):
    """(comm, parent)"""
    try:
        text = pathlib.Path("/proc/%d/stat" % pid).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None, 0
    fields = text[text.rindex(")") + 2:].split()
    if fields[0] == "Z":
        return None, 0
    return text[text.index("(") + 1:text.rindex(")")], int(fields[1])


def lab_processes(programs):
    init = int((LAB.dir / "pid").read_text(encoding="utf-8"))
    space = os.readlink("/proc/%d/ns/pid" % init)
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.readlink("/proc/%s/exe" % name).rsplit("/", 1)[-1] not in programs:
                continue
            pid = int(name)
            # what was entered is no child of the lab's first process, a renderer has its own space
            while pid and os.readlink("/proc/%d/ns/pid" % pid) != space:
                pid = stat_of(pid)[1]
            if pid:
                found.append(int(name))
        except OSError:
            continue
    return found


def inside(path):
    return LAB.root() / path


def processes(victim, vm=None):
    """The lab's processes of a kind; of one VM where they belong to one."""
    pids = lab_processes(PROGRAMS[victim])
    if victim == "gpup-vgpu" and vm:
        adapter = ADAPTERS[vm].encode()
        pids = [p for p in pids if adapter in pathlib.Path("/proc/%d/cmdline" % p).read_bytes()]
    return pids


def qemu_of(vm):
    return [p for p in lab_processes(["qemu-system-x86_64"])
            if b"guest=%s," % vm.encode() in pathlib.Path("/proc/%d/cmdline" % p).read_bytes()]


def kill(pids):
    for pid in pids:
        try:
            os.kill(pid, 9)
        except ProcessLookupError:
            pass
    wait_for("the killed are gone", lambda: not any(stat_of(p)[0] for p in pids))


def wait_for(what, condition, seconds=SETTLE_S):
    until = time.monotonic() + seconds
    seen = None
    while True:
        try:
            seen = condition()
            if seen is True or (seen is not False and seen):
                return seen
        except (lablib.Failed, OSError, ValueError, KeyError) as error:
            seen = error
        if time.monotonic() > until:
            raise AssertionError("never: %s (%s)" % (what, seen))
        time.sleep(0.02)


# ---- the state that must come back ----

ADAPTERS = {}
BEREFT = []  # VMs whose device process was killed, which lasts until they are stopped


def names_in(path):
    try:
        return sorted(os.listdir(inside(path)))
    except OSError:
        return []


# One command for all of it: starting one in the lab takes longer than what it does.
LOOK = ("gpup vm list --json && gpup gpu show software --json && gpup gpu show %s --json &&"
        " echo '[' && virsh list --name | sed 's/..*/\"&\",/' && echo 'null]'" % CARD)


class Seen:
    """What gpup and libvirt say at a moment."""

    def __init__(self):
        text = LAB.run("sh", "-c", LOOK).stdout
        read, parts = json.JSONDecoder().raw_decode, []
        while text.strip():
            part, end = read(text.strip())
            text = text.strip()[end:]
            parts.append(part)
        vms, *gpus, names = parts
        self.connected = vms["libvirt_connected"]
        self.partitions = {vm["name"]: vm["partition"] for vm in vms["vms"]}
        self.holders = sorted(p["vm"] for gpu in gpus for p in gpu["gpu"]["partitions"] if p["vm"])
        self.running = sorted(n for n in names if n in ADAPTERS)

    def consistent(self):
        """Who runs holds, who does not run holds nothing, and nothing else is left."""
        if not self.connected:
            return "libvirt is not connected"
        ours = sorted(ADAPTERS[n] for n in self.running)
        state = {"holders": self.holders, "reservations": names_in("run/gpup/reservations"),
                 "vm files": names_in("run/gpup/vm"), "device processes": len(processes("gpup-vgpu"))}
        wanted = {"holders": self.running, "reservations": ours, "vm files": ours,
                  "device processes": len([n for n in self.running if n not in BEREFT])}
        unknown = [n for n in self.running if not self.partitions.get(n)]
        if unknown:  # gpupd has just heard of them
            return "%s not in gpup vm list" % unknown
        return True if state == wanted else "%s, not %s" % (state, wanted)


LAST = [None]  # what was seen when all was as it should be, and nothing was done since
LOOKER = [Seen]


def holders():
    return Seen().holders


def settled(what):
    until = time.monotonic() + SETTLE_S
    while True:
        try:
            seen = LOOKER[0]()
            problem = seen.consistent()
        except (lablib.Failed, ValueError, OSError) as error:  # a daemon is not back yet
            problem = str(error)
        if problem is True:
            LAST[0] = seen
            return
        if time.monotonic() > until:
            raise AssertionError("%s: %s" % (what, problem))
        time.sleep(0.05)


def life_of_guest():
    """Its QEMU, its device process and its partition."""
    pid = inside("run/libvirt/qemu/%s.pid" % GUEST).read_text(encoding="utf-8").strip()
    return pid, processes("gpup-vgpu", GUEST), LAST[0].partitions[GUEST]


# ---- one case ----

def popen(*command):
    return subprocess.Popen(LAB.command(*command), text=True,
                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def victims_of(victim, vm):
    if victim == "gpup-render":  # the subject's: the one that came last
        pids = [p for p in processes("gpup-render") if p not in KEPT_RENDERERS]
        return pids
    return processes(victim, vm)


KEPT_RENDERERS = []


def hit(point, start, victim, vm):
    """Starts the operation, and kills the victim when it is at the point."""
    armed, reached = inside("%s/%s" % (POINTS, point)), inside("%s/%s.hit" % (POINTS, point))
    armed.touch()
    client = start()
    try:
        if point.startswith("render."):
            wait_for("%s is reached" % point, lambda: not armed.exists(), REACH_S)
        else:
            wait_for("%s is reached" % point, reached.exists, REACH_S)
            pids = victims_of(victim, vm)
            if not pids:
                raise AssertionError("there is no %s to kill at %s" % (victim, point))
            kill(pids)
            if victim == "gpup-vgpu":
                BEREFT.append(vm)
            reached.unlink()
    except AssertionError as error:
        kill([client.pid] if client else [])
        raise AssertionError("%s\n(the command said: %s)" % (error, client.communicate()[0] if client else "")) from error
    finally:
        for path in (armed, reached):
            path.unlink(missing_ok=True)
        if client:
            said = client.communicate(timeout=180)[0]
    return said if client else ""


def case(operation, point, victim, start, before, after, vm=SUBJECT):
    """Begins and ends with all settled."""
    BEREFT.clear()
    before()
    guest = life_of_guest()
    said = hit(point, start, victim, vm)
    try:
        settled("after")
        if victim == "client":  # what it asked for may only just have begun
            settled("after, again")
        equal(life_of_guest(), guest, "the VM that ran")
        if after() is not False:
            settled("at the end")
        MATRIX.setdefault((operation, point), {})[victim] = "ok"
    except (AssertionError, lablib.Failed) as error:
        MATRIX.setdefault((operation, point), {})[victim] = "LOST"
        raise AssertionError("%s: kill -9 of %s at %s: %s\n(the command said: %s)" %
                             (operation, victim, point, error, said.strip())) from error


def cases(operation, points, start, before=lambda: None, after=lambda: None, vm=SUBJECT):
    failed = []
    for point, victims in points.items():
        for victim in victims:
            try:
                case(operation, point, victim, start, before, after, vm)
            except AssertionError as error:
                failed.append(str(error))
                print("# FAILED %s" % str(error).replace("\n", "\n#   "), flush=True)
                bring_down()
    if failed:
        raise AssertionError("\n".join(failed))


def bring_down():
    """After a failure only: the next case begins from a clean state."""
    LAB.run("virsh", "-q", "destroy", SUBJECT, check=False)
    BEREFT.clear()
    try:
        settled("cleaning up")
    except AssertionError as error:
        print("# %s" % error)


def run_and_end(set_up, tests, wanted=None):
    wanted = sys.argv[2:] if wanted is None else wanted
    try:
        set_up()
        run([(f.__name__.replace("_", " "), f) for f in tests if not wanted or f.__name__ in wanted])
    finally:
        if MATRIX:
            print_matrix()
        (FAULTS / (NAME + ".log")).write_text(LAB.log(), encoding="utf-8")
        LAB.stop()


# ---- the whole ----

def all_points():
    points = set()
    for path in (TOP / "src").rglob("*.c"):
        points.update(re.findall(r'GPUP_FAULT(?:_RENDER)?\("([^"]+)"\)', path.read_text(encoding="utf-8")))
    return points


def hit_all(belongs):
    """Every point in the source that belongs to this test was hit, and who came to it was killed there."""
    points = all_points()
    wanted = {point for point in points if belongs(point)}
    hits = {point for _, point in MATRIX}
    own = {point for (_, point), row in MATRIX.items() if OWNERS[point.split(".")[0]] in row}
    equal(sorted(wanted - hits), [], "points that no case hits")
    equal(sorted(wanted - own), [], "points at which the process that comes to them is not killed")
    equal(sorted(hits - points), [], "points that are not in the source")


# Steps of hardware: test_faults_hardware.py's.
HARDWARE = re.compile(r"helper\.|gpupd\.passthrough\.|gpupd\.release\.cleared$")


def print_matrix():
    width = max(len(o) + len(p) for o, p in MATRIX) + 2
    print("# %-*s %s" % (width, "point", " ".join("%-11s" % c for c in COLUMNS)))
    for (operation, point), row in MATRIX.items():
        print("# %-*s %s" % (width, "%s: %s" % (operation, point),
                             " ".join("%-11s" % row.get(c, "-") for c in COLUMNS)))
    results = [r for row in MATRIX.values() for r in row.values()]
    print("# %d points, %d kills, %d recovered" %
          (len({p for _, p in MATRIX}), len(results), results.count("ok")), flush=True)


def define(name):
    LAB.run("sh", "-c", "cat >/tmp/vm.xml <<'X'\n%sX\nvirsh -q define /tmp/vm.xml" % VM.format(name=name))
    return LAB.run("virsh", "dumpxml", "--inactive", name).stdout


def keep(name, command):
    LAB.run("sh", "-c", "setsid sh -c '%s' >/dev/null 2>&1 &" % (KEEP % {"name": name, "command": command}))


def build():
    """gpup with fault points, without the tests; once, for those who run side by side."""
    FAULTS.mkdir(exist_ok=True)
    with open(FAULTS / "lock", "w", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        if not (FAULTS / "build.ninja").exists():
            subprocess.run(["meson", "setup", FAULTS, "-Dfault_points=true", "-Dtests=false"], check=True,
                           cwd=TOP, stdout=subprocess.DEVNULL)
        subprocess.run(["ninja", "-C", FAULTS, "--quiet"], check=True, stdout=subprocess.DEVNULL)
        lablib.stage(FAULTS, LAB.installed)


def set_up_lab(prepare):
    """prepare: what is done before gpupd is started for good."""
    build()
    LAB.start("[software]\nmemory=2G\n")
    inside(POINTS).mkdir()
    inside(POINTS).chmod(0o777)
    prepare()
    # a service manager starts again what ended
    for name, command in (("gpupd", "gpupd-service"), ("libvirtd", "libvirtd")):
        kill(processes(name))
        keep(name, command)
    wait_for("gpupd and libvirtd run", lambda: LAB.json("vm", "list")["libvirt_connected"])
    LAB.run("gpup", "gpu", "partition", "software", "4")


def assign_to(name, gpu):
    LAB.run("gpup", "assign", name, "--gpu", gpu)
    ADAPTERS[name] = LAB.json("vm", "show", name)["vm"]["adapter"]["id"]
