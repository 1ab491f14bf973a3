# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a VNC client has to do to get one picture (RFC 6143)."""
import socket
import struct


def picture(port, timeout_s):
    """Of the server at 127.0.0.1: width, height and RGB bytes."""
    with socket.create_connection(("127.0.0.1", port), timeout_s) as sock, sock.makefile("rwb") as f:
        def read(layout):
            size = struct.calcsize(layout)
            data = f.read(size)
            if len(data) != size:
                raise ConnectionError("the VNC server hung up")
            return struct.unpack(layout, data)

        def write(layout, *values):
            f.write(struct.pack(layout, *values))
            f.flush()

        if not read(">12s")[0].startswith(b"RFB 003.008"):
            raise ConnectionError("no VNC server")
        f.write(b"RFB 003.008\n")
        f.flush()
        read(">%ds" % read(">B"))
        write(">B", 1)  # no password
        if read(">I") != (0,):
            raise ConnectionError("the VNC server wants a password")
        write(">B", 1)  # others may stay
        width, height, _ = read(">HH16s")
        read(">%ds" % read(">I"))
        write(">BxxxBBBBHHHBBBxxx", 0, 32, 24, 0, 1, 255, 255, 255, 0, 8, 16)  # red in the first byte
        write(">BxHi", 2, 1, 0)  # raw pixels
        write(">BBHHHH", 3, 0, 0, 0, width, height)
        pixels, left = bytearray(width * height * 3), width * height
        while left > 0:
            if read(">B") != (0,):
                raise ConnectionError("the VNC server sent something else than a picture")
            for _ in range(read(">xH")[0]):
                x, y, w, h, _ = read(">HHHHi")
                for row in range(y, y + h):
                    data = f.read(w * 4)
                    line = bytearray(w * 3)
                    line[0::3], line[1::3], line[2::3] = data[0::4], data[1::4], data[2::4]
                    at = (row * width + x) * 3
                    pixels[at:at + w * 3] = line
                left -= w * h
        return width, height, bytes(pixels)
