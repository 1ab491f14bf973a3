#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The Debian packages: built from what git has, clean by lintian, and installed, upgraded, removed and
purged in a clean Debian beside a libvirtd that runs. Needs root and the machine's own apt."""
import pathlib
import shutil
import subprocess
import sys

TOP = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(sys.argv[1]).resolve() / "package"
NEEDS = ("ca-certificates", "libvirt-daemon-system", "libvirt-clients", "qemu-system-x86", "dbus",
         "polkitd", "systemd", "apparmor")
RESULTS = []


def result(good, what, output=""):
    RESULTS.append(good)
    print("%s %d %s" % ("ok" if good else "not ok", len(RESULTS), what), flush=True)
    if not good:
        print("\n".join("# " + line for line in output.splitlines()[-30:]), flush=True)
    return good


def step(what, *words, **options):
    done = subprocess.run(words, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, check=False, **options)
    return result(done.returncode == 0, what, done.stdout)


def build():
    return step("the packages are built", TOP / "tools/build-packages", BUILD)


def release():
    for line in pathlib.Path("/etc/os-release").read_text(encoding="utf-8").splitlines():
        if line.startswith("VERSION_CODENAME="):
            return line.split("=")[1]
    sys.exit("this is not a Debian release")


def chroot():
    root = BUILD / "root"
    if not step("there is a clean %s" % release(), "mmdebstrap", "--mode=root", "--variant=minbase",
                "--include=" + ",".join(NEEDS), release(), root):
        return
    for name in ("gpup", "gpup-guest"):
        shutil.copy(next(BUILD.glob(name + "_*.deb")), root / (name + ".deb"))
    shutil.copy("/etc/resolv.conf", root / "etc/resolv.conf")
    shutil.copy(TOP / "tests/package/in-chroot", root / "in-chroot")
    done = subprocess.run(["unshare", "--mount", "--pid", "--fork", "--kill-child", "chroot", root,
                           "/usr/bin/env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "/in-chroot"],
                          text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, check=False)
    for line in done.stdout.splitlines():
        if line.startswith(("ok ", "not ok ")):
            result(line.startswith("ok "), line.split("ok ", 1)[1])
        else:
            print("# " + line.lstrip("# "), flush=True)


def main():
    if build():
        packages = sorted(str(p) for p in BUILD.glob("*.deb") if "dbgsym" not in p.name)
        step("lintian finds nothing", "lintian", "--allow-root", "--fail-on", "error,warning", *packages)
        chroot()
    shutil.rmtree(BUILD / "root", ignore_errors=True)
    print("1..%d" % len(RESULTS))
    sys.exit(0 if all(RESULTS) else 1)


main()
