"""A run has its folder to itself, and what Hydra writes there is masked."""

import pytest

from xlatrain.engine.run_folder import claimed_folder
from xlatrain.errors import ConfigError


def test_what_hydra_writes_down_of_a_sweep_is_masked_when_it_ends_and_however(tmp_path):
    def sweep():
        with claimed_folder(str(tmp_path), "s") as folder:
            (folder / "multirun.yaml").write_text("- data.root=s3://me:hunter2@host/x\n- 'a=https://h?hunter2'\nb: 1\n")
            raise KeyError

    with pytest.raises(KeyError):
        sweep()
    assert (tmp_path / "s/multirun.yaml").read_text() == "- data.root=s3://***@host/x\n- 'a=https://h?***'\nb: 1\n"


def test_a_run_folder_that_is_there_is_kept_beside_the_new_one(tmp_path):
    for i in range(3):
        with claimed_folder(str(tmp_path), "r") as folder:
            assert [p.name for p in folder.iterdir()] == [".lock"]
            (folder / "summary.json").write_text(str(i))
    kept = {p.name: (p / "summary.json").read_text() for p in tmp_path.iterdir()}
    assert kept == {"r.1": "0", "r.2": "1", "r": "2"}


def test_a_folder_that_a_run_holds_is_not_touched(tmp_path):
    with claimed_folder(str(tmp_path), "r"), pytest.raises(ConfigError, match="is going on"):  # noqa: SIM117
        with claimed_folder(str(tmp_path), "r"):
            pass
    with claimed_folder(str(tmp_path), "sweep/0"), pytest.raises(ConfigError, match="is going on"):  # noqa: SIM117
        with claimed_folder(str(tmp_path), "sweep"):
            pass


def test_a_folder_that_cannot_be_made_is_a_fault_of_the_configuration():
    with pytest.raises(ConfigError, match="run.root: /proc/foo/r cannot be made"), claimed_folder("/proc/foo", "r"):
        pass
