"""What a command prints with ``--json``."""

import json


def result(answer):
    code, out, _ = answer
    said = json.loads(out)
    assert said["ok"] is (code == 0)
    return said.get("result", said.get("error"))
