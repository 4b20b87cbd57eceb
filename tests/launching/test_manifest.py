"""The JobSet of a run has the fields that Kubernetes knows, and asks GKE for the slice of the cluster's file."""

import functools
import math

import pytest
import yaml

from xlatrain.cli.main import main
from xlatrain.config.compose import compose_config
from xlatrain.launching.manifest import manifest, manifest_faults

COMMON = ["launch.image=example/xlatrain:1", "launch.folder=gs://mine/runs", "run.name=b2"]

# Fields with the types of their values, those that are required with a `!`: of JobSet v1alpha2 by its reference
# (kubernetes-sigs/jobset@1c07a88, site/content/en/docs/reference/jobset.v1alpha2.md, read on 24 Nov 2026), of Job and
# Pod by Kubernetes' own (batch/v1, v1). Of these only what the manifest may have; a list holds what all of it are.
POD = {
    "restartPolicy!": ("Never",),
    "terminationGracePeriodSeconds": int,
    "hostNetwork": bool,
    "dnsPolicy": ("ClusterFirstWithHostNet",),
    "serviceAccountName": str,
    "nodeSelector": {str: str},
    "tolerations": [
        {"key": str, "operator": ("Exists", "Equal"), "value": str, "effect": ("NoSchedule", "NoExecute")}
    ],
    "containers!": [
        {
            "name!": str,
            "image!": str,
            "workingDir": str,
            "command": [str],
            "args": [str],
            "resources": {"requests": {str: int}, "limits": {str: int}},
            "volumeMounts": [{"name!": str, "mountPath!": str}],
        }
    ],
    "volumes": [{"name!": str, "emptyDir!": {"medium": ("Memory",)}}],
}
EXIT_CODES = {"containerName": str, "operator!": ("In", "NotIn"), "values!": [int]}
JOB = {
    "completionMode": ("Indexed", "NonIndexed"),
    "parallelism": int,
    "completions": int,
    "backoffLimit": int,
    "podFailurePolicy": {"rules!": [{"action!": ("FailJob", "Ignore", "Count"), "onExitCodes": EXIT_CODES}]},
    "template!": {"spec!": POD},
}
FAILURE_ACTIONS = ("FailJobSet", "RestartJobSet", "RestartJobSetAndIgnoreMaxRestarts")
REASONS = ("BackoffLimitExceeded", "DeadlineExceeded", "FailedIndexes", "MaxFailedIndexesExceeded", "PodFailurePolicy")
JOB_SET = {
    "apiVersion!": ("jobset.x-k8s.io/v1alpha2",),
    "kind!": ("JobSet",),
    "metadata!": {"name!": str, "annotations": {str: str}},
    "spec!": {
        "failurePolicy": {
            "maxRestarts": int,
            "rules": [{"name": str, "action!": FAILURE_ACTIONS, "onJobFailureReasons": [REASONS]}],
        },
        "replicatedJobs!": [{"name!": str, "replicas": int, "template!": {"spec!": JOB}}],
    },
}


def wrong(value, schema, where="JobSet"):
    """What a value has that its schema does not, or lacks."""
    if isinstance(schema, list):
        return [w for i, part in enumerate(value) for w in wrong(part, schema[0], f"{where}[{i}]")]
    if isinstance(schema, tuple):
        return [] if value in schema else [f"{where} is {value!r}"]
    if not isinstance(schema, dict):
        return [] if type(value) is schema else [f"{where} is {value!r}"]
    if str in schema:
        return [w for key, part in value.items() for w in wrong(part, schema[str], f"{where}.{key}")]
    known = {key.rstrip("!"): part for key, part in schema.items()}
    found = [f"{where}.{key} is unknown" for key in value if key not in known]
    found += [f"{where}.{key[:-1]} is missing" for key in schema if key.endswith("!") and key[:-1] not in value]
    return found + [w for key in value if key in known for w in wrong(value[key], known[key], f"{where}.{key}")]


@functools.cache
def composed(*overrides):
    return compose_config([*overrides, *COMMON])[0]


def job_set(*overrides):
    return yaml.safe_load(manifest(composed(*overrides), [*overrides, *COMMON]))


def pod_of(found):
    return found["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]


@pytest.mark.slow  # a configuration for each
@pytest.mark.parametrize(
    ("cluster", "accelerator", "topology"),
    [
        ("tpu_v3_8", "tpu-v3-device", "2x2"),
        ("tpu_v3_32", "tpu-v3-slice", "4x4"),
        ("tpu_v3_2048", "tpu-v3-slice", "32x32"),
        ("tpu_v4_8", "tpu-v4-podslice", "2x2x1"),
        ("tpu_v4_4096", "tpu-v4-podslice", "8x16x16"),
        ("tpu_v5e_1", "tpu-v5-lite-podslice", "1x1"),
        ("tpu_v5e_8", "tpu-v5-lite-podslice", "2x4"),
        ("tpu_v5e_16", "tpu-v5-lite-podslice", "4x4"),
        ("tpu_v5p_128", "tpu-v5p-slice", "4x4x4"),
        ("tpu_v6e_4", "tpu-v6e-slice", "2x2"),
        ("tpu_v6e_256", "tpu-v6e-slice", "16x16"),
    ],
)
def test_the_slice_is_the_one_of_the_clusters_file_by_the_name_that_gke_gives_it(cluster, accelerator, topology):
    config, found = composed(f"cluster={cluster}"), job_set(f"cluster={cluster}")
    assert manifest_faults(config, []) == []
    assert wrong(found, JOB_SET) == []
    job, pod, hosts = found["spec"]["replicatedJobs"][0], pod_of(found), config.cluster.hosts
    assert job["template"]["spec"]["parallelism"] == job["template"]["spec"]["completions"] == hosts
    assert pod["nodeSelector"] == {
        "cloud.google.com/gke-tpu-accelerator": accelerator,
        "cloud.google.com/gke-tpu-topology": topology,
    }
    chips = pod["containers"][0]["resources"]["limits"]["google.com/tpu"]
    assert math.prod(map(int, topology.split("x"))) == chips * hosts
    assert chips * config.cluster.chip.devices * hosts == config.cluster.replicas


def test_a_schema_that_does_not_hold_is_seen():
    found = job_set("cluster=tpu_v5e_16")
    found["spec"]["replicatedJob"] = found["spec"].pop("replicatedJobs")
    found["spec"]["failurePolicy"]["rules"][0]["action"] = "Restart"
    assert wrong(found, JOB_SET) == [
        "JobSet.spec.replicatedJob is unknown",
        "JobSet.spec.replicatedJobs is missing",
        "JobSet.spec.failurePolicy.rules[0].action is 'Restart'",
    ]


def test_a_slice_is_one_jobs_alone_and_what_ends_it_starts_it_again_but_for_wrong_options():
    found = job_set("cluster=tpu_v5e_16", "launch.max_tries=5")
    assert found["metadata"]["annotations"] == {
        "alpha.jobset.sigs.k8s.io/exclusive-topology": "cloud.google.com/gke-nodepool"
    }
    assert "annotations" not in job_set("cluster=tpu_v5e_8")["metadata"]  # a machine among others of its pool
    policy, job = found["spec"]["failurePolicy"], found["spec"]["replicatedJobs"][0]["template"]["spec"]
    assert policy["maxRestarts"] == 4
    assert [(r["action"], r["onJobFailureReasons"]) for r in policy["rules"]] == [("FailJobSet", ["PodFailurePolicy"])]
    assert [rule["onExitCodes"]["values"] for rule in job["podFailurePolicy"]["rules"]] == [[2]]  # not 75, not 1
    assert job["backoffLimit"] == 0
    memory = {v["name"]: v["emptyDir"] for v in pod_of(found)["volumes"]}["memory"]
    assert memory == {"medium": "Memory"}


def test_spot_machines_have_half_a_minute_and_are_asked_for_as_such():
    spot, other = (pod_of(job_set("cluster=tpu_v6e_16", f"launch.capacity={c}")) for c in ("spot", "on_demand"))
    assert (spot["terminationGracePeriodSeconds"], other["terminationGracePeriodSeconds"]) == (30, 300)
    assert spot["nodeSelector"]["cloud.google.com/gke-spot"] == "true"
    assert [t["key"] for t in spot["tolerations"]] == ["google.com/tpu", "cloud.google.com/gke-spot"]
    assert "cloud.google.com/gke-spot" not in other["nodeSelector"]


def test_the_words_of_a_run_come_through_as_they_are():
    words = ["cluster=tpu_v4_16", "launch.pod_account=trainer", "+model.kwargs.act_layer='a: $(HOME) # \"é\"'"]
    found = pod_of(job_set(*words))
    args = found["containers"][0]["args"]
    assert found["serviceAccountName"] == "trainer"
    assert args[args.index("--") + 1 :] == [
        words[0], words[2].replace("$(", "$$("), "run.name=b2", "checkpoint.folder=gs://mine/runs", "run.root=/runs"
    ]  # fmt: skip
    assert "--run=/runs/b2" in args
    assert found["containers"][0]["command"][0] == "python"  # no shell, which would keep SIGTERM to itself


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["cluster=cpu"], ["cluster: cpu is no TPU slice", "cluster=tpu_v5e_16"]),
        (["cluster=tpu_v2_32"], ["cluster.chip.gke_accelerator: GKE is not known to have v2"]),
        (["cluster.hosts=8"], ["cluster.hosts: 8 machines are 2 slices of 4x4 chips", "multislice", "not supported"]),
        (["cluster.hosts=3"], ["cluster.hosts: 16 chips on 3 machines"]),
        (["cluster.topology=[]"], ["cluster.topology: is open"]),
        (["run.name=Big_run"], ["'Big_run' is no name for a JobSet", "launch.name=b2"]),
        (["run.name=null"], ["run.name: is open"]),
        (["launch.image=null"], ["launch.image: is open", "docker build -f launch/Dockerfile"]),
        (["launch.folder=null"], ["launch.folder: is open", "launch.folder=gs://BUCKET/runs"]),
        (["launch.folder=/mnt/runs"], ["/mnt/runs is of each pod alone"]),
        (["run.resume=never"], ["run.resume: never: each restart would begin anew"]),
        (["weights=runs/first"], ["weights: runs/first is a path of this computer, not of the pods"]),
        (["--config-dir=examples/conf"], ["--config-dir: examples/conf is a folder of this computer"]),
    ],
)
def test_what_cannot_be_a_job_set_is_one_clear_fault(overrides, words, capsys):
    assert main(["launch", "manifest", "cluster=tpu_v5e_16", *COMMON, *overrides]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "one fault in" in said.err
    for word in words:
        assert word in said.err


def test_a_manifest_goes_to_standard_output_and_needs_no_gcloud(capsys, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert main(["launch", "manifest", "cluster=tpu_v5e_16", *COMMON]) == 0
    assert wrong(yaml.safe_load(capsys.readouterr().out), JOB_SET) == []
