#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""kernel_cases.py ROOT PF SHARED [HELPER]: what the PCI core answers to what gpup does with VFs.
kernel_cases.py ROOT PF no-iommu [HELPER]: the same where there is no IOMMU.

Works on ROOT/bus/pci and prints one line for each case, "NAME: ANSWER". ROOT is /sys in the test
machine, or where fakesys is mounted: both must print the same. SHARED is a PF behind a port without
ACS. HELPER injects faults and opens VFs where the kernel's own module and VFIO are not there: HELPER
set NAME VALUE, HELPER hold ADDRESS.
"""
import errno
import fcntl
import os
import pathlib
import struct
import subprocess
import sys
import time

VFS = 4
VFIO = 0x3b64  # _IO(';', 100): the first of VFIO's calls
(SET_IOMMU, GROUP_GET_STATUS, SET_CONTAINER, GET_DEVICE_FD, GET_REGION_INFO, RESET) = (
    VFIO + n for n in (2, 3, 4, 6, 8, 11))
CONFIG_REGION = 7


def name_of(code):
    return errno.errorcode.get(code, str(code))


def write(path, text):
    """"ok", or the name of the error."""
    try:
        fd = os.open(path, os.O_WRONLY)
    except OSError as error:
        return "open: " + name_of(error.errno)
    try:
        os.write(fd, text.encode())
        return "ok"
    except OSError as error:
        return name_of(error.errno)
    finally:
        os.close(fd)


def read(path):
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError as error:
        return name_of(error.errno)


def link(path):
    return os.path.basename(os.readlink(path)) if path.is_symlink() else "none"


class Vfio:
    """A function opened as QEMU does it."""

    def __init__(self, group, address):
        self.fds = []
        try:
            container = self.open("/dev/vfio/vfio")
            self.group = self.open("/dev/vfio/" + group)
            status = bytearray(struct.pack("II", 8, 0))
            fcntl.ioctl(self.group, GROUP_GET_STATUS, status)
            if not struct.unpack("II", status)[1] & 1:
                raise OSError(errno.EPERM, "not viable")
            fcntl.ioctl(self.group, SET_CONTAINER, struct.pack("i", container))
            fcntl.ioctl(container, SET_IOMMU, 3)
            # what is returned is the descriptor only where the argument could be written to
            self.device = fcntl.ioctl(self.group, GET_DEVICE_FD, bytearray(address.encode() + b"\0"))
            self.fds.append(self.device)
        except OSError:
            self.close()
            raise

    def open(self, path):
        self.fds.append(os.open(path, os.O_RDWR))
        return self.fds[-1]

    def ids(self):
        region = bytearray(struct.pack("IIIIQQ", 32, 0, CONFIG_REGION, 0, 0, 0))
        fcntl.ioctl(self.device, GET_REGION_INFO, region)
        data = os.pread(self.device, 4, struct.unpack("IIIIQQ", region)[5])
        return "%04x:%04x" % struct.unpack("HH", data)

    def reset(self):
        fcntl.ioctl(self.device, RESET)

    def close(self):
        for fd in reversed(self.fds):
            os.close(fd)
        self.fds = []


class Cases:
    def __init__(self, root, pf, shared, helper):
        self.root = pathlib.Path(root)
        self.shared = shared
        self.bus = self.root / "bus/pci"
        self.pf = pf
        self.dir = self.bus / "devices" / pf
        self.helper = helper

    def say(self, name, answer):
        print("%s: %s" % (name, answer), flush=True)

    def inject(self, name, value):
        if self.helper:
            subprocess.run([self.helper, "set", name, str(value)], check=True)
        else:
            path = self.root / "module/gpup_test_gpu/parameters" / name
            path.write_text(str(value), encoding="ascii")

    def numvfs(self, value):
        return write(self.dir / "sriov_numvfs", str(value))

    def count(self):
        return read(self.dir / "sriov_numvfs")

    def vf(self, index):
        return os.path.basename(os.readlink(self.dir / ("virtfn%d" % index)))

    def at(self, address):
        return self.bus / "devices" / address

    # ---- the cases ----

    def properties(self):
        for name in ("sriov_totalvfs", "sriov_numvfs", "sriov_drivers_autoprobe", "class"):
            self.say(name, read(self.dir / name))

    def refused_numbers(self):
        for text in ("abc", "-1", "99999", "0x2x", str(VFS + 1)):
            self.say("numvfs %s" % text, self.numvfs(text))
        self.say("numvfs 0 of 0", self.numvfs(0))
        self.say("totalvfs cannot be written", write(self.dir / "sriov_totalvfs", "2"))

    def counts(self):
        self.say("autoprobe off", write(self.dir / "sriov_drivers_autoprobe", "0"))
        self.say("numvfs 4", self.numvfs(4))
        self.say("reads", self.count())
        self.say("links", " ".join(sorted(p.name for p in self.dir.glob("virtfn*"))))
        self.say("drivers", " ".join(link(self.at(self.vf(i)) / "driver") for i in range(4)))
        self.say("physfn", link(self.at(self.vf(0)) / "physfn"))
        self.say("numvfs 4 again", self.numvfs(4))
        self.say("numvfs 2 of 4", self.numvfs(2))
        self.say("numvfs 0", self.numvfs(0))
        self.say("links then", len(list(self.dir.glob("virtfn*"))))
        self.say("numvfs 2", self.numvfs(2))
        self.say("reads", self.count())
        self.say("numvfs 0", self.numvfs(0))

    def driver_faults(self):
        for code in (errno.ENOMEM, errno.EIO, errno.ENOSPC):
            self.inject("fail_errno", code)
            self.say("the driver fails with %s" % name_of(code), self.numvfs(4))
            self.say("reads", self.count())
        self.inject("fail_errno", 0)
        self.inject("short_by", 2)
        self.say("the driver makes two fewer than 4", self.numvfs(4))
        self.say("reads", self.count())
        self.say("numvfs 0", self.numvfs(0))
        self.inject("short_by", 0)

    def without_driver(self):
        driver = link(self.dir / "driver")
        self.say("unbind the PF", write(self.dir / "driver/unbind", self.pf))
        self.say("numvfs 2 without a driver", self.numvfs(2))
        self.say("numvfs 0 without a driver", self.numvfs(0))
        self.say("bind the PF", write(self.bus / "drivers" / driver / "bind", self.pf))
        self.say("driver is back", "yes" if link(self.dir / "driver") == driver else "no")

    def driver_goes(self):
        """VFs that the host's own driver has; and what is left of them when the PF loses it."""
        write(self.dir / "sriov_drivers_autoprobe", "1")
        self.numvfs(2)
        driver = link(self.dir / "driver")
        self.say("a VF has its PF's driver with autoprobe",
                 "yes" if link(self.at(self.vf(0)) / "driver") == driver else "no")
        write(self.dir / "driver/unbind", self.pf)
        self.say("VFs of a PF that has lost its driver", len(list(self.dir.glob("virtfn*"))))
        self.say("reads", self.count())
        write(self.bus / "drivers" / driver / "bind", self.pf)
        self.say("and when it is back", self.count())
        write(self.dir / "sriov_drivers_autoprobe", "0")

    def driver_hangs(self):
        """Who changes the number waits, and who reads it."""
        self.inject("hang", "1,0")
        words = [sys.executable, __file__]
        writer = subprocess.Popen([*words, "write", self.dir / "sriov_numvfs", "2"], stdout=subprocess.PIPE)
        time.sleep(1)
        reader = subprocess.Popen([*words, "read", self.dir / "sriov_numvfs"], stdout=subprocess.PIPE)
        time.sleep(1)
        self.say("numvfs 2 of a driver that hangs", "waits" if writer.poll() is None else "returns")
        self.say("reading it", "waits" if reader.poll() is None else "returns")
        self.say("totalvfs", read(self.dir / "sriov_totalvfs"))
        self.inject("hang", "0,0")
        self.say("and when it answers again", writer.communicate(timeout=600)[0].decode().strip())
        self.say("reads", reader.communicate(timeout=600)[0].decode().strip())
        self.numvfs(0)

    def resets(self):
        self.numvfs(1)
        vf = self.at(self.vf(0))
        self.say("reset", write(vf / "reset", "1"))
        self.say("reset 2", write(vf / "reset", "2"))
        self.say("reset x", write(vf / "reset", "x"))
        self.numvfs(0)

    def groups(self):
        for pf in (self.pf, self.shared):
            self.dir = self.at(pf)
            write(self.dir / "sriov_drivers_autoprobe", "0")
            self.numvfs(2)
            groups = [link(self.at(a) / "iommu_group") for a in (pf, self.vf(0), self.vf(1))]
            self.say("groups of a PF and 2 VFs, %s ACS" % ("with" if pf == self.pf else "without"), len(set(groups)))
            self.numvfs(0)
        self.dir = self.at(self.pf)

    def no_iommu(self):
        write(self.dir / "sriov_drivers_autoprobe", "0")
        self.say("units", len(list((self.root / "class/iommu").glob("*"))))
        self.say("numvfs 1", self.numvfs(1))
        address = self.vf(0)
        self.say("group", link(self.at(address) / "iommu_group"))
        self.say("override with vfio-pci", write(self.at(address) / "driver_override", "vfio-pci"))
        self.say("probe then", write(self.bus / "drivers_probe", address))
        self.say("driver", link(self.at(address) / "driver"))
        self.say("bind", write(self.bus / "drivers/vfio-pci/bind", address))
        self.say("numvfs 0", self.numvfs(0))

    def binding(self):
        self.numvfs(4)
        address = self.vf(0)
        vf = self.at(address)
        vfio = self.bus / "drivers/vfio-pci"
        self.say("bind without an override", write(vfio / "bind", address))
        self.say("override with an unknown driver", write(vf / "driver_override", "nosuchdriver"))
        self.say("probe then", write(self.bus / "drivers_probe", address))
        self.say("driver", link(vf / "driver"))
        self.say("override with vfio-pci", write(vf / "driver_override", "vfio-pci"))
        self.say("reads", read(vf / "driver_override"))
        self.say("probe then", write(self.bus / "drivers_probe", address))
        self.say("driver", link(vf / "driver"))
        self.say("bind again", write(vfio / "bind", address))
        self.say("probe of nothing", write(self.bus / "drivers_probe", "0000:ff:1f.7"))
        self.say("unbind", write(vfio / "unbind", address))
        self.say("unbind again", write(vfio / "unbind", address))
        self.say("override cleared", write(vf / "driver_override", "\n"))
        self.say("reads", read(vf / "driver_override"))
        self.numvfs(0)

    def bound(self, index):
        address = self.vf(index)
        write(self.at(address) / "driver_override", "vfio-pci")
        write(self.bus / "drivers_probe", address)
        return address, link(self.at(address) / "iommu_group")

    def in_use(self):
        """While a VF is open nothing of it can be taken away: who tries waits."""
        self.numvfs(2)
        address, group = self.bound(0)
        holder = (subprocess.Popen([self.helper, "hold", address], stdin=subprocess.PIPE,
                                   stdout=subprocess.PIPE)
                  if self.helper else subprocess.Popen(
                      [sys.executable, __file__, "hold", group, address], stdin=subprocess.PIPE,
                      stdout=subprocess.PIPE))
        self.say("a VF", holder.stdout.readline().decode().strip())
        remover = subprocess.Popen([sys.executable, __file__, "write",
                                    self.dir / "sriov_numvfs", "0"], stdout=subprocess.PIPE)
        time.sleep(3)  # removing VFs takes the kernel one
        self.say("numvfs 0 while a VF is open", "waits" if remover.poll() is None else "returns")
        holder.stdin.close()
        holder.wait()
        answer, _ = remover.communicate(timeout=600)
        self.say("and when it is closed", answer.decode().strip())
        self.say("reads", self.count())


# ---- only where VFIO is ----

def open_vf(cases):
    cases.numvfs(1)
    address, group = cases.bound(0)
    cases.say("group members", len(os.listdir(cases.at(address) / "iommu_group/devices")))
    vf = Vfio(group, address)
    cases.say("ids in the VM", vf.ids())
    try:
        Vfio(group, address).close()
        cases.say("open twice", "ok")
    except OSError as error:
        cases.say("open twice", name_of(error.errno))
    vf.reset()
    cases.say("reset", "ok")
    vf.close()
    cases.say("numvfs 0 after it was closed", cases.numvfs(0))


def main():
    if sys.argv[1] == "write":
        print(write(sys.argv[2], sys.argv[3]))
        return
    if sys.argv[1] == "read":
        print(read(pathlib.Path(sys.argv[2])))
        return
    if sys.argv[1] == "hold":
        vf = Vfio(sys.argv[2], sys.argv[3])
        print("open", flush=True)
        sys.stdin.read()
        vf.close()
        return
    cases = Cases(*sys.argv[1:4], sys.argv[4] if len(sys.argv) > 4 else None)
    if cases.shared == "no-iommu":
        cases.no_iommu()
        return
    for case in (cases.properties, cases.refused_numbers, cases.counts, cases.driver_faults,
                 cases.without_driver, cases.driver_goes, cases.driver_hangs, cases.resets, cases.groups,
                 cases.binding, cases.in_use):
        case()
    if not cases.helper:
        open_vf(cases)


main()
