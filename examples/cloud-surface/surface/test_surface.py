#!/usr/bin/env python3
"""The tests that CI runs on a release before it offers it: test_surface.py RELEASE TAP-FILE. All releases pass them."""

import importlib.util
import os
import pathlib
import sys
import tempfile

sys.dont_write_bytecode = True


def it_is_healthy(surface, data):
    assert surface.answer(data, "GET", "/health", "", {})[0] == 200


def a_forged_session_is_refused(surface, data):
    token = surface.signed("ann", b"another key")
    assert surface.session(token) is None
    assert surface.session(surface.signed("ann", surface.key()))["tenant"] == "north"


def a_wrong_password_is_refused(surface, data):
    data.add("ann", "right")
    assert data.admits("ann", "right") and not data.admits("ann", "wrong")


def what_one_writes_one_reads(surface, data):
    data.write({"name": "ann", "tenant": "north"})
    assert data.of("north") == ["ann"] and data.of("south") == []


TESTS = [it_is_healthy, a_forged_session_is_refused, a_wrong_password_is_refused, what_one_writes_one_reads]


def main(release, report):
    found = importlib.util.spec_from_file_location("surface", pathlib.Path(release) / "surface.py")
    surface = importlib.util.module_from_spec(found)
    found.loader.exec_module(surface)
    lines = ["TAP version 13", f"1..{len(TESTS)}"]
    for number, test in enumerate(TESTS, 1):
        with tempfile.TemporaryDirectory() as folder:
            (pathlib.Path(folder) / "key").write_text("only for this test")
            os.environ["SESSION_KEY_FILE"] = f"{folder}/key"
            try:
                test(surface, surface.Data(folder, "test"))
                lines.append(f"ok {number} - {test.__name__}")
            except AssertionError:
                lines.append(f"not ok {number} - {test.__name__}")
    pathlib.Path(report).write_text("\n".join(lines) + "\n")
    return int(any(line.startswith("not") for line in lines))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
