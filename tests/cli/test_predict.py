"""`xlatrain predict` and ensembles name what is wrong before they start anything."""

import importlib.util

import pytest
from safetensors.torch import load_file, save_file

from tests.nets import SMALL
from tests.shards import picture
from tests.weights import write_weights
from xlatrain.cli.main import main
from xlatrain.cli.predict import is_path


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with weights of ten classes, of two, and of another size, and photographs."""
    monkeypatch.chdir(tmp_path)
    write_weights(tmp_path / "w.safetensors", SMALL)
    write_weights(tmp_path / "two.safetensors", SMALL, names=("cat", "dog"))
    write_weights(tmp_path / "large.safetensors", SMALL, "data.image_size=48")
    write_weights(tmp_path / "other.safetensors", SMALL, names=tuple("abcdefghij"))
    tensors = load_file("w.safetensors")
    tensors["head.weight"] = tensors["head.weight"][:3]
    save_file(tensors, "bare.safetensors")
    for name in ("photos/a.png", "photos/b.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(picture(1))
    (tmp_path / "empty").mkdir()
    for name in ("run", "begun"):
        (tmp_path / "runs" / name).mkdir(parents=True)
    write_weights(tmp_path / "runs/run/weights.safetensors", SMALL)
    (tmp_path / "runs/begun/config.yaml").touch()
    (tmp_path / "taken.csv").touch()
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["out=p.csv", "photos"], ["weights: no weights are named"]),
        (["weights=w.safetensors", "out=p.csv"], ["PATH: no image is named"]),
        (["weights=w.safetensors", "out=p.csv", "empty"], ["PATH: empty holds no images"]),
        (["weights=w.safetensors", "out=p.csv", "photo"], ["there is no file or folder photo"]),
        (["weights=w.safetensors", "photos"], ["out: no file is named", "out=FILE.csv"]),
        (["weights=w.safetensors", "out=p.txt", "photos"], ["p.txt is of no kind that is written"]),
        (["weights=w.safetensors", "out=taken.csv", "photos"], ["taken.csv is there already"]),
        (["weights=w.safetensors", "out=no/p.csv", "photos"], ["no is no folder that can be written to"]),
        (["weights=w.safetensors", "out=p.csv", "photos", "predict.topk=3"], ["did you mean predict.top_k?"]),
        (["weights=w.safetensors", "out=p.csv", "photos", "predict.top_k=0"], ["predict.top_k: 0 is out of range"]),
        (["weights=bare.safetensors", "out=p.csv", "photos"], ["head.weight has shape [3, 32] there, [10, 32] here"]),
        (["weights=nowhere", "out=p", "nothing"], ["no file nowhere, and no", "out: p is of no", "no file or folder"]),
        (["weights=[w.safetensors,w.safetensors]", "out=p.csv", "photos"], ["a file is named twice"]),
        (["weights=[run,runs/run/weights.safetensors]", "out=p.csv", "photos"], ["a file is named twice"]),
        (["weights=begun", "out=p.csv", "photos"], ["the run runs/begun has not come to weights.safetensors yet"]),
        (["weights=empty", "out=p.csv", "photos"], ["the folder empty has no weights.safetensors"]),
        (["weights=https://host/run", "out=p.csv", "photos"], ["the address of no .safetensors file"]),
        (["weights=[w.safetensors,two.safetensors]", "out=p.csv", "photos"], ["they have 10 and 2 classes"]),
        (["weights=[w.safetensors,large.safetensors]", "out=p.csv", "photos"], ["data.image_size is 32", "and 48 of"]),
        (["weights=[w.safetensors,other.safetensors]", "out=p.csv", "photos"], ["other names: '0' and 'a'"]),
        (["weights=3", "out=p.csv", "photos"], ["weights: 3 is no file and no list of files"]),
        (["--fast", "weights=w.safetensors", "out=p.csv", "photos"], ["--fast: there is no such flag"]),
    ],
)
def test_wrong_arguments_are_named_and_nothing_is_made(arguments, words, here, capsys):
    before = sorted(path.name for path in here.iterdir())
    assert main(["predict", SMALL, *arguments]) == 2
    said = capsys.readouterr().err
    assert all(word in said for word in words), said
    assert sorted(path.name for path in here.iterdir()) == before


def test_a_run_is_named_by_its_folder_or_by_its_name_where_weights_are_asked_for(here):
    from xlatrain.preflight.check import check_evaluation

    (here / "hub").mkdir()
    (here / "w.safetensors").rename(here / "hub" / "model.safetensors")
    file = "runs/run/weights.safetensors"
    for name, found in (("run", file), ("runs/run", file), (file, file), ("hub", "hub/model.safetensors")):
        assert check_evaluation([SMALL, f"weights={name}"]).config.weights == found


def test_weights_at_an_address_are_fetched_once_and_again_when_they_change(here, monkeypatch, capsys):
    """By the store's mark of a version."""
    import functools
    import http.server
    import os
    import threading

    from xlatrain.preflight.check import check_evaluation

    monkeypatch.setenv("XDG_CACHE_HOME", str(here / "cache"))
    asked = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            asked.append(self.headers.get("Range"))

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=here)) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/w.safetensors"
        try:
            first = here / check_evaluation([SMALL, f"weights={url}"]).config.weights
            assert first.read_bytes() == (here / "w.safetensors").read_bytes()
            read = len(asked)
            assert here / check_evaluation([SMALL, f"weights={url}"]).config.weights == first
            assert len(asked) == read + 1  # asked whether it is the same
            write_weights(here / "w.safetensors", SMALL, seed=1)
            os.utime("w.safetensors", (0, 0))
            again = here / check_evaluation([SMALL, f"weights={url}"]).config.weights
            assert again.read_bytes() == (here / "w.safetensors").read_bytes()
            assert main(["predict", SMALL, f"weights={url}.safetensors", "out=p.csv", "photos"]) == 2
            assert "cannot be fetched: there is no such file" in capsys.readouterr().err
        finally:
            server.shutdown()
    assert not list((here / "cache").rglob(".part-*"))


def test_parquet_without_its_library_is_a_fault_with_its_cure(here, monkeypatch, capsys):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "pyarrow" else found(name))
    assert main(["predict", SMALL, "weights=w.safetensors", "out=p.parquet", "photos"]) == 2
    assert "pip install 'xlatrain[parquet]'" in capsys.readouterr().err


def test_details_are_of_evaluations(here, capsys):
    assert main(["train", SMALL, "eval.details=true"]) == 2
    assert "eval.details: is of `xlatrain eval`" in capsys.readouterr().err


def test_paths_are_told_from_options(here):
    (here / "a=b.png").touch()
    words = ["photos", "a=b.png", "https://host/a.png?b=1", "gs://bucket/x", "weights=w", "--fast", "+model.kwargs.a=1"]
    assert [is_path(word) for word in words] == [True] * 4 + [False] * 3


@pytest.mark.slow
def test_data_are_those_of_the_run_unless_the_command_names_some(here):
    from xlatrain.data.dataset import open_dataset
    from xlatrain.engine.run import write_config
    from xlatrain.preflight.check import check, check_evaluation

    run = check([SMALL, "data.val_fraction=0.5"])
    write_config(here / "config.yaml", run.config, {})
    own = check_evaluation([SMALL, "weights=w.safetensors"])
    assert own.config.data.val_fraction == 0.5
    assert own.dataset.val.samples == open_dataset(run.config.data, run.config.augment).val.samples > 800
    assert any(note.startswith("data as in config.yaml: digits") for note in own.notes)
    assert check_evaluation([SMALL, "weights=w.safetensors", "data=digits"]).dataset.val.samples == 360
    text = (here / "config.yaml").read_text()
    for other in (text.replace("_target_: null", "_target_: os.getcwd"), text.replace("root:", "rot:"), "data: ["):
        (here / "config.yaml").write_text(other)  # code that nobody named, another version, no YAML
        assert check_evaluation([SMALL, "weights=w.safetensors"]).dataset.val.samples == 360
