# SPDX-License-Identifier: LGPL-2.1-or-later
"""The least that a Python test needs to speak TAP."""
import sys
import time
import traceback


def run(tests):
    """Calls each (name, function); a failed assertion or Failed is a failure. Exits."""
    failed = 0
    for number, (name, function) in enumerate(tests, 1):
        began = time.monotonic()
        try:
            function()
            print("ok %d %s (%.1f s)" % (number, name, time.monotonic() - began), flush=True)
        except Exception as error:  # pylint: disable=broad-except
            failed += 1
            print("not ok %d %s" % (number, name), flush=True)
            print("# %s" % str(error).replace("\n", "\n# "), flush=True)
            frame = traceback.extract_tb(error.__traceback__)[1:] or [None]
            print("# at %s" % (frame[0],), flush=True)
    print("1..%d" % len(tests))
    sys.exit(1 if failed else 0)


def equal(got, wanted, what=""):
    if got != wanted:
        raise AssertionError("%s: got %r, not %r" % (what, got, wanted))


def contains(text, part):
    if part not in text:
        raise AssertionError("no %r in: %s" % (part, text))
