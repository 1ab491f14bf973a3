# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs in the test machine: takes commands, one JSON object a line, from a virtio channel, runs them
side by side, and answers each when it has ended."""
import json
import os
import subprocess
import threading
import time

LOCK = threading.Lock()


def open_port():
    while True:
        base = "/sys/class/virtio-ports"
        for name in os.listdir(base) if os.path.isdir(base) else []:
            with open("%s/%s/name" % (base, name), encoding="utf-8") as file:
                if file.read().strip() == "org.gpup.test":
                    return os.open("/dev/" + name, os.O_RDWR)
        time.sleep(0.05)


def answer(port, value):
    data = (json.dumps(value) + "\n").encode()
    with LOCK:
        while data:
            data = data[os.write(port, data):]


def run(port, job):
    try:
        result = subprocess.run(job["argv"], input=job.get("input", ""), timeout=job["timeout"],
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                errors="replace", check=False)
        said = {"code": result.returncode, "out": result.stdout, "err": result.stderr}
    except subprocess.TimeoutExpired:
        said = {"code": 124, "out": "", "err": "it did not end within %d s" % job["timeout"]}
    except OSError as error:
        said = {"code": 127, "out": "", "err": str(error)}
    said["id"] = job["id"]
    answer(port, said)


def main():
    port = open_port()
    answer(port, {"id": 0})
    with os.fdopen(os.dup(port), "rb", buffering=0) as source:
        rest = b""
        while True:
            chunk = source.read(65536)
            if not chunk:
                time.sleep(0.05)  # nobody is connected
                continue
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                threading.Thread(target=run, args=(port, json.loads(line)), daemon=True).start()


main()
