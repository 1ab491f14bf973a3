# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the builders of virtual machines' images share: kernels, their modules, initrds, and guests of one
program."""
import lzma
import pathlib
import re
import shutil
import subprocess
import sys

MULTIBOOT = pathlib.Path(__file__).resolve().parent.parent / "tests" / "machine"
GUEST_PARTS = [MULTIBOOT / "multiboot.h", MULTIBOOT / "multiboot.ld"]  # of every guest of one program


def unpack_kernel(source, target):
    """QEMU boots an unpacked kernel (PVH), which saves seconds without KVM."""
    data = source.read_bytes()
    start = data.find(b"\xfd7zXZ\x00")
    if start >= 0:
        try:
            target.write_bytes(lzma.LZMADecompressor().decompress(data[start:]))
            return
        except lzma.LZMAError:
            pass
    shutil.copyfile(source, target)


def module_files(root, names):
    """The modules of these names with what they depend on, in the order of loading."""
    base = next((root / "lib/modules").iterdir(), None) or sys.exit("%s: no kernel modules" % root)
    paths = {p.name.split(".ko")[0].replace("-", "_"): p for p in base.rglob("*.ko*")}
    order = []

    def add(name):
        path = paths.get(name.replace("-", "_"))
        if path is None or path in order:
            return  # built in, or done
        data = path.read_bytes()
        if path.suffix == ".xz":
            data = lzma.decompress(data)
        depends = re.search(rb"depends=([^\0]*)\0", data)
        soft = re.findall(rb"softdep=pre: ([^\0]*)\0", data)
        others = depends.group(1).decode().split(",") if depends else []
        for text in soft:
            others += text.decode().split()
        for other in others:
            if other:
                add(other)
        order.append(path)

    for name in names:
        add(name)
    return order


def copy_modules(paths, folder):
    """Copies them, unpacked; their file names in the same order."""
    names = []
    for path in paths:
        name = path.name.replace(".xz", "")
        data = path.read_bytes()
        (folder / name).write_bytes(lzma.decompress(data) if path.suffix == ".xz" else data)
        names.append(name)
    return names


def pack_initrd(tree, target):
    listing = subprocess.run(["find", ".", "-print0"], cwd=tree, check=True, stdout=subprocess.PIPE)
    with open(target, "wb") as out:
        subprocess.run(["cpio", "--null", "-o", "-H", "newc", "--quiet"], cwd=tree, check=True,
                       input=b"\0".join(sorted(listing.stdout.split(b"\0"))[1:]) + b"\0", stdout=out)


def build_guest(source, target):
    """A guest that is one C program, which QEMU loads as a kernel (multiboot.h)."""
    done = subprocess.run(["gcc", "-m32", "-march=i686", "-O1", "-ffreestanding", "-fno-pic", "-no-pie",
                           "-nostdlib", "-fno-stack-protector", "-fcf-protection=none", "-static", "-Wall",
                           "-Wextra", "-Werror", "-Wl,--build-id=none", "-I", MULTIBOOT,
                           "-Wl,-T,%s" % (MULTIBOOT / "multiboot.ld"), "-o", target, source],
                          text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        sys.exit("%s: %s" % (source, done.stdout.strip()))
