#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The recipe of docs/admin.md in a Debian guest: a desktop that renders on its partition, starts with
the guest and is seen by VNC through ssh. Only by ./check desktop: it boots a whole system."""
import pathlib
import socket
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tools"))
import lablib  # noqa: E402
import rfb  # noqa: E402
import vmlib  # noqa: E402
from taplib import contains, equal, run  # noqa: E402

BUILD = pathlib.Path(sys.argv[1]).resolve()
FOLDER = pathlib.Path(tempfile.mkdtemp(prefix="gpup-desktop-"))
WIDTH, HEIGHT = 1024, 640
PATIENCE_S = 600  # under emulation, beside others
lablib.START_S = PATIENCE_S


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


SSH, VNC = free_port(), free_port()
VM = vmlib.Machine(BUILD, [BUILD / "src/vgpu/gpup-vhost-user-gpu", "--vram=512M",
                           "--renderer=%s" % (BUILD / "src/render/gpup-render")], FOLDER, "desk1",
                   image=BUILD / "desktop/root.img", memory=1536, cpus=2,
                   arguments=["-netdev", "user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:%d-:22" % SSH,
                              "-device", "virtio-net-pci,netdev=net"])


def ssh(*arguments):
    return ["ssh", "-i", FOLDER / "key", "-p", str(SSH), "-o", "StrictHostKeyChecking=no",
            "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", "-o", "ExitOnForwardFailure=yes",
            *arguments]


def guest(command):
    output, status = VM.guest.run(command)
    equal(status, 0, "%s: %s" % (command, output))
    return output


def until(what, condition):
    end = time.monotonic() + PATIENCE_S
    while True:
        try:
            found = condition()
            if found:
                return found
            said = ""
        except (OSError, AssertionError) as error:
            said = str(error)
        if time.monotonic() > end:
            raise AssertionError("%s: not within %d s %s" % (what, PATIENCE_S, said))
        time.sleep(1)


def it_is_found():
    """The node has its name, and an ordinary user is told what is missing."""
    until("udev", lambda: VM.guest.run("test -e /dev/dri/gpup-render")[1] == 0)
    contains(guest("gpup-guest show"), "/dev/dri/renderD128")
    contains(VM.guest.run("su desk -c 'gpup-guest run true'")[0], "usermod -aG render desk")


def it_starts():
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", FOLDER / "key"], check=True)
    guest("install -d -o desk -m 700 /home/desk/.ssh; echo '%s' >/home/desk/.ssh/authorized_keys;"
          " echo 'GPUP_DESKTOP=--size %dx%d' >/etc/default/gpup-guest" %
          ((FOLDER / "key.pub").read_text(encoding="utf-8").strip(), WIDTH, HEIGHT))
    guest("/usr/sbin/usermod -aG render desk")
    guest("systemctl enable --now gpup-desktop@desk")
    until("the VNC server", lambda: VM.guest.run("test -S $(echo /run/user/*/gpup-vnc)")[1] == 0)
    # no other user of the guest gets there
    equal(VM.guest.run("su nobody -s /bin/sh -c 'test -e %s'" % guest("echo /run/user/*/gpup-vnc").strip())[1], 1)
    equal(guest("cat /proc/net/tcp /proc/net/tcp6 | grep -c ':170C ' || true").strip(), "0")


def a_program_draws():
    """Started through ssh, as its user would: on the partition, seen by VNC."""
    program = ("export WAYLAND_DISPLAY=wayland-1; exec gpup-guest run "
               "glmark2-es2-wayland -s 512x384 -b build:duration=3600 >/tmp/glmark.log 2>&1")
    until("ssh", lambda: subprocess.run(ssh("desk@127.0.0.1", "gpup-guest show | tee /tmp/show.log"),
                                        check=False, stdout=subprocess.DEVNULL).returncode == 0)
    said = guest("cat /tmp/show.log")
    if "virgl" not in said and "virtio_gpu" not in said:
        raise AssertionError(said)
    socket_path = guest("echo /run/user/*/gpup-vnc").strip()
    with subprocess.Popen(ssh("desk@127.0.0.1", program)) as draws, \
            subprocess.Popen(ssh("-N", "-L", "%d:%s" % (VNC, socket_path), "desk@127.0.0.1")) as tunnel:
        try:
            until("a program", lambda: "GL_RENDERER" in guest("cat /tmp/glmark.log"))
            contains(guest("cat /tmp/glmark.log"), "virgl")
            seen = until("a picture of it", picture_of_the_program)
            lablib.write_png(BUILD / "desktop/desktop.png", seen)
            later = until("another one", lambda: picture_of_the_program(seen))
            equal(later[:2], (WIDTH, HEIGHT))
        finally:
            draws.kill()
            tunnel.kill()


def picture_of_the_program(other=None):
    """It draws light grey on black in the middle of its window, and each time something else."""
    width, height, pixels = seen = rfb.picture(VNC, 60)
    equal((width, height), (WIDTH, HEIGHT))
    rows = [pixels[(y * width + 300) * 3:(y * width + 724) * 3] for y in range(200, 450)]
    inside = b"".join(rows)
    black, light = inside.count(b"\0\0\0"), sum(value > 100 for value in inside[::3])
    if black < 10000 or light < 500 or (other and other[2] == pixels):
        return None
    return seen


def main():
    try:
        run([(f.__name__.replace("_", " "), f) for f in (it_is_found, it_starts, a_program_draws)])
    finally:
        said = VM.guest.run("journalctl --no-pager -u 'gpup-desktop@*'")[0]
        (BUILD / "desktop/journal.log").write_text(said, encoding="utf-8")
        VM.stop()


main()
