# SPDX-License-Identifier: LGPL-2.1-or-later
"""The least that a Python test needs to speak TAP."""
import sys
import threading
import time
import traceback


LOCK = threading.Lock()


class Results:
    """Of tests that may run side by side: a line for each when it has ended."""

    def __init__(self):
        self.number = self.failed = 0

    def one(self, name, function):
        began = time.monotonic()
        try:
            function()
            self.add(name, None, " (%.1f s)" % (time.monotonic() - began))
        except Exception as error:  # pylint: disable=broad-except
            frame = traceback.extract_tb(error.__traceback__)[1:] or [None]
            self.add(name, "%s\nat %s" % (error, frame[0]))

    def add(self, name, error, took=""):
        with LOCK:
            self.number += 1
            self.failed += error is not None
            print("%s %d %s%s" % ("ok" if error is None else "not ok", self.number, name, took))
            if error is not None:
                print("# %s" % error.replace("\n", "\n# "))
            sys.stdout.flush()

    def exit(self):
        print("1..%d" % self.number)
        sys.exit(1 if self.failed else 0)


def run(tests):
    """Calls each (name, function); a failed assertion or Failed is a failure. Exits."""
    results = Results()
    for name, function in tests:
        results.one(name, function)
    results.exit()


def equal(got, wanted, what=""):
    if got != wanted:
        raise AssertionError("%s: got %r, not %r" % (what, got, wanted))


def contains(text, part):
    if part not in text:
        raise AssertionError("no %r in: %s" % (part, text))
