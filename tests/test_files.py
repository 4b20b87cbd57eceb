"""Files of a run hold what others can read."""

import json

from xlatrain.files import write_json


def test_json_files_hold_only_json(tmp_path):
    write_json(tmp_path / "s.json", {"a": float("nan"), "b": {"c": [float("inf"), 1.5]}})
    assert json.loads((tmp_path / "s.json").read_text()) == {"a": None, "b": {"c": [None, 1.5]}}
