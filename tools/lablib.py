# SPDX-License-Identifier: LGPL-2.1-or-later
"""What quickstart and the tests share: a lab, its commands, and the guests in it."""
import json
import pathlib
import re
import shutil
import socket
import struct
import subprocess
import sys
import time
import zlib

TOP = pathlib.Path(__file__).resolve().parent.parent
START_S = 600 # a guest's boot, without KVM and on a busy machine

# Of several emulated CPUs one may still use the memory map that another has replaced (BARs being set
# up): QEMU to 10.0 then aborts, "iotlb_to_section: Assertion ... failed".
EMULATED_CPUS = 1

# no_timer_check: where the emulated CPU gets little time, the kernel finds its timer dead and panics.
DOMAIN = """\
<domain type='{type}'>
  <name>{name}</name>
  <memory unit='MiB'>{memory}</memory>
  <vcpu>{cpus}</vcpu>
  <os><type arch='x86_64' machine='q35'>hvm</type>
    <kernel>/share/kernel</kernel><initrd>/share/initrd</initrd>
    <cmdline>console=ttyS0 quiet panic=-1 no_timer_check</cmdline></os>
  <features><acpi/></features>
  <on_poweroff>destroy</on_poweroff><on_reboot>destroy</on_reboot><on_crash>destroy</on_crash>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <disk type='file' device='disk'><driver name='qemu' type='raw'/>
      <source file='/share/root.img'/><target dev='vda' bus='virtio'/><readonly/></disk>
    <serial type='file'><source path='/var/log/{name}.serial'/></serial>
    <channel type='unix'><source mode='bind' path='/run/{name}.channel'/>
      <target type='virtio' name='org.gpup.test'/></channel>
    <memballoon model='none'/>
    {displays}
  </devices>
</domain>
"""

VNC = "<graphics type='vnc' autoport='yes'/><video><model type='vga'/></video>"


class Failed(Exception):
    """Something did not go as it should; the text is for a person."""


class Lab:
    def __init__(self, directory, build=TOP / "build", kvm=False, stage=None):
        self.dir = pathlib.Path(directory)
        self.build = pathlib.Path(build)
        self.installed = pathlib.Path(stage or self.build / "stage")
        self.kvm = kvm

    def tool(self, *args, **options):
        return subprocess.run([TOP / "tools/lab", *args], check=False, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)

    def start(self, conf=None):
        self.stop()
        options = ["--stage", self.installed, "--layer", self.build / "host/root",
                   "--share", self.build / "guest"]
        if conf:
            self.dir.mkdir(parents=True, exist_ok=True)
            path = self.dir / "gpup.conf"
            path.write_text(conf, encoding="utf-8")
            options += ["--conf", path]
        if self.kvm:
            options.append("--kvm")
        result = self.tool("start", self.dir, *options)
        if result.returncode:
            raise Failed(result.stderr.strip())

    def stop(self):
        self.tool("stop", self.dir)

    def log(self):
        return self.tool("log", self.dir).stdout

    def command(self, *command):
        """What `tools/lab exec` executes, without the time that starting it takes."""
        pid = (self.dir / "pid").read_text(encoding="utf-8")
        enter = ["nsenter", "--target", pid, "--mount", "--pid", "--uts", "--ipc", "--net", "--cgroup",
                 "--root", "--", "env", "-C", "/", "-i", "TERM=dumb", "HOME=/root", "LC_ALL=C.UTF-8",
                 "PATH=/usr/sbin:/usr/bin:/sbin:/bin", *map(str, command)]
        group = self.dir / "cgroup"
        if not group.exists():
            return enter
        return ["sh", "-c", 'echo 0 >"$0/system/cgroup.procs"; exec "$@"',
                group.read_text(encoding="utf-8"), *enter]

    def run(self, *command, check=True, timeout=180):
        """A command in the lab; its result, or Failed with what it said."""
        try:
            full = self.command(*command)
        except OSError as error:
            raise Failed("the lab is not running: %s" % error) from error
        result = subprocess.run(full, check=False, text=True, stdin=subprocess.DEVNULL, timeout=timeout,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        if check and result.returncode:
            raise Failed("%s: %s" % (" ".join(command), (result.stderr or result.stdout).strip()))
        return result

    def json(self, *command):
        return json.loads(self.run("gpup", *command, "--json").stdout)

    def define(self, name, displays=VNC, memory=640):
        xml = DOMAIN.format(name=name, displays=displays, memory=memory,
                            cpus=2 if self.kvm else EMULATED_CPUS, type="kvm" if self.kvm else "qemu")
        self.run("sh", "-c", "cat >/tmp/vm.xml <<'X'\n%sX\nvirsh -q define /tmp/vm.xml" % xml)

    def fake_gpus(self, *addresses, memory=8 << 30):
        """GPUs with a render node, to be found and partitioned, not to be drawn with: in a folder
        that gpupd takes for /sys from its next start on."""
        lines = ["set -e; cd /run; mkdir -p sysfs/bus/pci/devices sysfs/bus/pci/drivers/amdgpu"
                 " sysfs/class/drm"]
        for i, address in enumerate(addresses):
            lines.append("d=sysfs/bus/pci/devices/%s; mkdir $d sysfs/class/drm/renderD%d;"
                         " echo 0x1002 >$d/vendor; echo 0x7480 >$d/device; echo 0x030000 >$d/class;"
                         " echo %d >$d/mem_info_vram_total; echo %016x >$d/unique_id;"
                         " ln -s ../../drivers/amdgpu $d/driver;"
                         " ln -s ../../../bus/pci/devices/%s sysfs/class/drm/renderD%d/device"
                         % (address, 128 + i, memory, 0x5eed0000 + i, address, 128 + i))
        lines.append("echo --sysfs=/run/sysfs >/run/gpupd.options")
        self.run("sh", "-c", "\n".join(lines))

    def root(self):
        pid = (self.dir / "pid").read_text(encoding="utf-8")
        return pathlib.Path("/proc/%s/root" % pid)

    def guest(self, name):
        logs = self.root() / "var/log"
        return Guest(name, self.root() / ("run/%s.channel" % name),
                     logs / ("%s.serial" % name), logs / ("libvirt/qemu/%s.log" % name))


class Guest:
    """The agent in a guest (tests/guest/agent). logs: files that say why it is gone, when it is."""

    def __init__(self, name, path, *logs):
        self.name = name
        self.logs = logs
        until = time.monotonic() + START_S
        while True:
            self.socket = socket.socket(socket.AF_UNIX)
            try:
                self.socket.connect(str(path))
                break
            except OSError as error:
                if time.monotonic() > until:
                    raise Failed("%s: its channel: %s" % (name, error)) from error
                time.sleep(0.05)
        self.socket.settimeout(START_S)
        self.file = self.socket.makefile("r", encoding="utf-8", errors="replace", newline="\n")
        if self.line() != "READY":
            raise Failed("%s: it did not get ready" % name)

    def line(self):
        try:
            text = self.file.readline()
        except (TimeoutError, socket.timeout) as error:
            raise Failed("%s: the guest does not answer" % self.name) from error
        if not text:
            raise Failed("%s: the guest is gone\n%s" % (self.name, "".join(map(last_lines, self.logs))))
        return text.rstrip("\n")

    def lines(self, command):
        """Runs a command in the guest; its output line by line, at last ("=", status)."""
        self.socket.sendall(command.encode() + b"\n")
        while True:
            text = self.line()
            if text.startswith("= "):
                yield "=", int(text[2:])
                return
            if text.startswith(">"):
                yield ">", text[1:]

    def run(self, command):
        """Output and status."""
        output, status = [], None
        for kind, value in self.lines(command):
            if kind == "=":
                status = value
            else:
                output.append(value)
        return "\n".join(output), status

    def gltest(self, *args):
        """What gltest says, as a dictionary; "status" is its exit code."""
        output, status = self.run(" ".join(("gltest",) + tuple(str(a) for a in args)))
        values = dict(line.split("=", 1) for line in output.splitlines() if "=" in line)
        values["status"] = status
        return values

    def picture(self, path, seed):
        """Has the guest draw a picture and saves it as PNG."""
        output, status = self.run("gltest picture /tmp/picture.ppm %s && gzip -c /tmp/picture.ppm |"
                                  " base64" % seed)
        text = "".join(line for line in output.splitlines() if "=" not in line.rstrip("="))
        if status:
            raise Failed("%s: no picture: %s" % (self.name, output))
        write_png(path, decode_ppm(text))


def last_lines(path, count=8):
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()[-count:]
    except OSError as error:
        lines = [error.strerror]
    return "%s:\n%s\n" % (path.name, "\n".join(lines))


def decode_ppm(text):
    import base64
    import gzip
    data = gzip.decompress(base64.b64decode(text))
    found = re.match(rb"P6 (\d+) (\d+) 255\n", data)
    width, height = int(found.group(1)), int(found.group(2))
    return width, height, data[found.end():]


def write_png(path, picture):
    width, height, pixels = picture

    def chunk(kind, data):
        return (struct.pack(">I", len(data)) + kind + data +
                struct.pack(">I", zlib.crc32(kind + data)))

    lines = b"".join(b"\0" + pixels[y * width * 3:(y + 1) * width * 3] for y in range(height))
    pathlib.Path(path).write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)) +
        chunk(b"IDAT", zlib.compress(lines, 9)) + chunk(b"IEND", b""))


def stage(build=TOP / "build", where=None):
    """Installs the build where a lab takes it from: build/stage, or a folder of its own for tests
    that run beside others."""
    where = pathlib.Path(where or build / "stage").resolve()
    shutil.rmtree(where, ignore_errors=True)
    subprocess.run(["meson", "install", "-C", build, "--no-rebuild", "--quiet"], check=True,
                   env={"DESTDIR": str(where), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
                   stdout=subprocess.DEVNULL)


def kvm_works(build=TOP / "build"):
    """Whether a guest gets anywhere under KVM: it can be there and be useless. Remembered until the
    machine is booted again."""
    boot = pathlib.Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
    memo = build / "kvm"
    try:
        known, answer = memo.read_text(encoding="utf-8").split()
        if known == boot:
            return answer == "yes"
    except (OSError, ValueError):
        pass
    answer = pathlib.Path("/dev/kvm").exists() and try_kvm(build)
    memo.write_text("%s %s\n" % (boot, "yes" if answer else "no"), encoding="utf-8")
    return answer


def try_kvm(build):
    layer = build / "host/root"
    qemu = next((p for p in (layer / "usr/bin/qemu-system-x86_64",
                             pathlib.Path("/usr/bin/qemu-system-x86_64")) if p.exists()), None)
    if not qemu:
        return False
    folders = [p for base in (layer, pathlib.Path("/")) for p in
               (base / "usr/share/qemu", base / "usr/share/seabios") if p.is_dir()]
    command = [qemu, "-machine", "q35,accel=kvm", "-cpu", "host", "-m", "256", "-nodefaults",
               "-display", "none", "-no-reboot", "-serial", "stdio", "-kernel",
               build / "guest/kernel", "-append", "console=ttyS0 panic=-1"]
    for folder in folders:
        command += ["-L", folder]
    try:
        result = subprocess.run(command, timeout=6, stdin=subprocess.DEVNULL, check=False,
                                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                env={"QEMU_MODULE_DIR": "/nonexistent"})
        return b"Linux version" in result.stdout
    except (subprocess.TimeoutExpired, OSError) as error:
        return b"Linux version" in (getattr(error, "stdout", None) or b"")


def fail(text):
    sys.exit("error: " + text)
