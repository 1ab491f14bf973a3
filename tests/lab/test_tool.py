#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""tools/lab itself: it sees nothing of the machine's VMs, leaves nothing behind, and touches nothing
that is not its own."""
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tools"))
import lablib  # noqa: E402
from taplib import contains, equal, run  # noqa: E402

BUILD = pathlib.Path(sys.argv[1])
LAB = lablib.Lab(BUILD / "lab-tool", BUILD)
OTHER = lablib.Lab(BUILD / "lab-tool-2", BUILD)


def cgroups():
    return {line.rsplit("/", 1)[-1] for line in subprocess.run(
        ["find", "/sys/fs/cgroup", "-maxdepth", "2", "-type", "d", "-name", "gpup*"], check=True,
        text=True, stdout=subprocess.PIPE).stdout.splitlines()}


def mounts():
    """Without those of other tests of the machine (fakesys)."""
    lines = pathlib.Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()
    return sorted(line for line in lines if " fuse." not in line)


def of_machine(lab):
    """What of the machine's /etc/libvirt and /etc/gpup, or of its VMs, is seen in the lab."""
    brought = {path.relative_to(root) for root in (lab.build / "host/root", lab.build / "stage")
               for path in root.rglob("etc/*/**/*")}
    seen = set()
    for folder in ("etc/libvirt", "etc/gpup"):
        for path in pathlib.Path("/", folder).rglob("*"):
            name = path.relative_to("/")
            if not path.is_dir() and name not in brought and (lab.root() / name).is_file():
                seen.add(name)
    own = {pathlib.Path("etc/libvirt", name) for name in ("libvirtd.conf", "qemu.conf")}
    return seen - own - {pathlib.Path("etc/gpup/gpup.conf")}


def nothing_of_the_machine():
    LAB.start()
    equal(sorted(of_machine(LAB)), [])
    equal(LAB.run("virsh", "-q", "list", "--all", "--name").stdout.strip(), "")
    equal(LAB.run("cat", "/proc/sys/kernel/hostname").stdout.strip(), "lab")
    equal(LAB.run("sh", "-c", "ls /sys/class/net").stdout.split(), ["lo"])


def a_cgroup_of_its_own():
    text = LAB.run("sh", "-c", "cat /proc/$(pgrep -x gpupd)/cgroup").stdout
    if "0::" in text:  # the machine has cgroup v2
        contains(text, "0::/gpupd.service/supervisor")
        contains(LAB.run("cat", "/proc/self/cgroup").stdout, "0::/system")


def orphans_are_reaped():
    LAB.run("sh", "-c", "(sh -c 'exit 0' & sh -c 'exit 0' &) & wait")
    until = time.monotonic() + 60
    while " Z" in LAB.run("ps", "-eo", "comm,stat").stdout:
        if time.monotonic() > until:
            raise AssertionError(LAB.run("ps", "-ef").stdout)


def two_at_once():
    OTHER.start()
    LAB.run("sh", "-c", "echo first >/run/mark")
    equal(OTHER.run("cat", "/run/mark", check=False).returncode, 1)
    OTHER.stop()
    equal(LAB.run("cat", "/run/mark").stdout.strip(), "first")
    contains(LAB.run("gpup", "gpu", "list").stdout, "software")


def nothing_is_left(before):
    def test():
        inner = int((LAB.dir / "pid").read_text(encoding="utf-8"))
        LAB.stop()
        equal(pathlib.Path("/proc/%d" % inner).exists(), False)
        equal(LAB.dir.exists(), False)
        equal(mounts(), before["mounts"])
        equal(sorted(cgroups() - before["cgroups"]), [])
    return test


def other_folders_are_left_alone():
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name, "mine")
        folder.mkdir()
        (folder / "letter").write_text("dear", encoding="utf-8")
        result = LAB.tool("stop", folder)
        equal(result.returncode, 1)
        contains(result.stderr, "is no lab")
        result = LAB.tool("start", folder, "--stage", BUILD / "stage")
        equal(result.returncode, 1)
        contains(result.stderr, "not empty")
        equal(sorted(os.listdir(folder)), ["letter"])


def a_number_that_is_someone_else_s():
    """After a reboot the number in the file may be any process's."""
    LAB.dir.mkdir()
    stranger = subprocess.Popen(["sleep", "600"])
    try:
        (LAB.dir / "layers").write_text("", encoding="utf-8")
        (LAB.dir / "pid").write_text(str(stranger.pid), encoding="utf-8")
        (LAB.dir / "outer").write_text(str(stranger.pid), encoding="utf-8")
        equal(LAB.tool("exec", LAB.dir, "true").returncode, 1)
        equal(LAB.tool("stop", LAB.dir).returncode, 0)
        equal(stranger.poll(), None)
    finally:
        stranger.kill()
        stranger.wait()


def a_start_that_fails(before):
    def test():
        with tempfile.TemporaryDirectory() as name:
            gpupd = pathlib.Path(name, "usr/sbin/gpupd")
            gpupd.parent.mkdir(parents=True)
            gpupd.write_text("#!/bin/sh\necho broken on purpose >&2\nexit 1\n", encoding="utf-8")
            gpupd.chmod(0o755)
            began = time.monotonic()
            result = LAB.tool("start", LAB.dir, "--stage", name, "--layer", BUILD / "stage",
                              "--layer", BUILD / "host/root")
            equal(result.returncode, 1)
            contains(result.stderr, "broken on purpose")
            if time.monotonic() - began > 45:
                raise AssertionError("it waits for a program that has ended")
        LAB.stop()
        equal(sorted(cgroups() - before["cgroups"]), [])
    return test


def a_demonstration_cut_off(before):
    """Ctrl-C while the guests boot: they are not waited for, and nothing is left."""
    def test():
        with tempfile.TemporaryDirectory() as out:
            demo = subprocess.Popen([lablib.TOP / "tools/demo", "--lab", LAB.dir, "--out", out], text=True,
                                    stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
            said = ""
            for line in demo.stdout:
                said += line
                if line.startswith("boot "):
                    os.killpg(demo.pid, signal.SIGINT)
            equal(demo.wait(), 130, said)
        contains(said, "boot ")
        equal("Traceback" in said or "desk1  virgl" in said, False, said)
        equal(LAB.dir.exists(), False)
        equal(mounts(), before["mounts"])
        equal(sorted(cgroups() - before["cgroups"]), [])
    return test


def main():
    lablib.stage(BUILD)
    LAB.stop()
    OTHER.stop()
    before = {"mounts": mounts(), "cgroups": cgroups()}
    tests = [("nothing of the machine", nothing_of_the_machine),
             ("a cgroup of its own", a_cgroup_of_its_own),
             ("orphans are reaped", orphans_are_reaped),
             ("two at once", two_at_once),
             ("nothing is left", nothing_is_left(before)),
             ("other folders are left alone", other_folders_are_left_alone),
             ("a number that is someone else's", a_number_that_is_someone_else_s),
             ("a start that fails", a_start_that_fails(before)),
             ("a demonstration cut off", a_demonstration_cut_off(before))]
    try:
        run(tests)
    finally:
        LAB.stop()
        OTHER.stop()


main()
