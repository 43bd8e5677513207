"""The JSON that a command prints with ``--json``."""

import json


def result(answer):
    code, out, _ = answer
    printed = json.loads(out)
    assert printed["ok"] is (code == 0)
    return printed.get("result", printed.get("error"))
