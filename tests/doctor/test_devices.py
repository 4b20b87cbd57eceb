"""Chips, cards, their files, the slice they are part of, and who holds them, in a tree of files."""

import os

import pytest

from tests.data.http_server import serve
from xlatrain.doctor import devices, holders
from xlatrain.doctor.devices import check_gpu, check_tpu
from xlatrain.doctor.holders import check_holders
from xlatrain.doctor.metadata import check_metadata

TPU = "cluster=tpu_v5e_8"


def test_chips_are_those_that_torch_xla_counts(fake, examined):
    fake.tpu(4)
    fake.pci("0x1ae0", "0x001f")  # Google's network card
    files = ", ".join(f"/dev/vfio/{i}" for i in range(4))
    assert examined(check_tpu, fake.machine()) == [("ok", f"4 chips (4 of v5e): {files}", "")]


def test_a_tpu_that_is_not_there_is_missed_only_by_who_wants_one(fake, examined):
    assert examined(check_tpu, fake.machine())[0][0] == "ok"
    ((status, text, cure),) = examined(check_tpu, fake.machine(), TPU)
    assert (status, text) == ("failed", "cluster=tpu_v5e_8 wants a TPU, and none is on PCI")
    assert cure.startswith("gcloud compute tpus tpu-vm ssh")


def test_a_container_without_device_files(fake, examined):
    fake.pci("0x1ae0", "0x005e", 4)
    ((status, text, cure),) = examined(check_tpu, fake.machine())
    assert (status, cure) == ("failed", "docker run --privileged --net=host ...")
    assert "4 chips on PCI, but neither /dev/accel* nor /dev/vfio/N" in text


def test_device_files_that_may_not_be_opened(fake, examined, monkeypatch):
    fake.tpu(2, "0x0027", "/dev/accel{}")
    monkeypatch.setattr(devices.os, "access", lambda path, mode: not str(path).endswith("accel1"))
    assert examined(check_tpu, fake.machine()) == [
        ("failed", "this user may not open /dev/accel1", "sudo chmod a+rw /dev/accel1")
    ]


def test_a_machine_without_pci_says_so(fake, examined):
    (fake.root / "sys/bus/pci/devices").rmdir()
    assert examined(check_tpu, fake.machine())[0][0] == "unknown"


def test_cards_with_and_without_files(fake, examined):
    assert examined(check_gpu, fake.machine())[0][0] == "ok"
    fake.pci("0x10de", "0x2330")
    assert "without /dev/nvidia0" in examined(check_gpu, fake.machine())[0][1]
    fake.write("/dev/nvidia0")
    fake.write("/dev/nvidiactl")
    assert examined(check_gpu, fake.machine()) == [("ok", "1 NVIDIA GPU: /dev/nvidia0", "")]


def test_who_holds_a_chip_is_named_with_what_ends_him(fake, examined):
    fake.tpu(1)
    assert examined(check_holders, fake.machine()) == [("ok", "nobody", "")]
    command = "python train.py \x1b[2J --token=hunter2 s3://me:hunter2@b/x"
    fake.process(4242, command, "/dev/vfio/0", holders.LOCK)
    fake.process(17, "bash")
    fake.process(os.getpid(), "xlatrain doctor", "/dev/vfio/0")
    ((status, text, cure),) = examined(check_holders, fake.machine())
    assert (status, cure) == ("failed", "kill 4242")
    assert text.startswith("process 4242 holds /dev/vfio/0, /tmp/libtpu_lockfile: python train.py")
    assert "hunter2" not in text
    assert text.isprintable()


def test_the_process_of_another_user_needs_more(fake, examined, monkeypatch):
    fake.tpu(1)
    fake.process(4242, "python", "/dev/vfio/0")
    monkeypatch.setattr(holders.os, "getuid", lambda: 123456)
    assert examined(check_holders, fake.machine())[0][2] == "sudo kill 4242"


def test_a_lock_file_that_cannot_be_taken(fake, examined, monkeypatch):
    fake.tpu(1)
    fake.write(holders.LOCK)
    monkeypatch.setattr(holders.os, "access", lambda path, mode: False)
    assert ("failed", "/tmp/libtpu_lockfile belongs to another user, and libtpu cannot take it",
            "sudo rm /tmp/libtpu_lockfile") in examined(check_holders, fake.machine())  # fmt: skip


def test_processes_that_cannot_be_seen_are_no_proof(fake, examined, monkeypatch):
    fake.tpu(1)
    fake.process(4242, "python", "/dev/vfio/0")

    def refused(path):
        raise PermissionError

    monkeypatch.setattr(type(fake.root), "iterdir", refused)
    ((status, text, cure),) = examined(check_holders, fake.machine())
    assert status == "unknown"
    assert "1 process of others" in text
    assert cure.startswith("sudo")


def test_without_a_tpu_nobody_holds_it(fake, examined):
    fake.process(4242, "qemu", "/dev/vfio/0")
    assert examined(check_holders, fake.machine(), TPU)[0][0] == "unknown"
    assert examined(check_metadata, fake.machine(), TPU)[0][0] == "unknown"


@pytest.fixture(scope="module")
def metadata():
    with serve() as server:
        yield server


PATH = "computeMetadata/v1/instance/attributes/tpu-env"


def test_the_slice_of_the_metadata_server_is_compared(fake, examined, metadata):
    fake.tpu(4)
    machine = fake.machine(metadata=metadata.url().rstrip("/"))
    metadata.put(PATH, b"ACCELERATOR_TYPE: 'v5litepod-8'\nWORKER_ID: '0'\n")
    assert examined(check_metadata, machine, TPU) == [("ok", "v5litepod-8, says the metadata server", "")]
    ((status, text, cure),) = examined(check_metadata, machine, "cluster=tpu_v4_8")
    assert (status, cure) == ("failed", "xlatrain train cluster=tpu_v5e_8 ...")
    assert "is for v4-" in text
    metadata.put(PATH, b"nothing")
    assert "names no ACCELERATOR_TYPE" in examined(check_metadata, machine)[0][1]


def test_a_metadata_server_that_does_not_answer(fake, examined):
    fake.tpu(4)
    ((status, text, cure),) = examined(check_metadata, fake.machine(metadata="http://127.0.0.1:9"))
    assert status == "failed"
    assert "does not answer" in text
    assert cure.startswith("export TPU_SKIP_MDS_QUERY=1 TPU_ACCELERATOR_TYPE=...")


def test_variables_in_place_of_the_server_must_be_all_there(fake, examined):
    fake.tpu(4)
    variables = {"TPU_SKIP_MDS_QUERY": "1", "TPU_ACCELERATOR_TYPE": "v5litepod-8", "TPU_WORKER_ID": "0"}
    ((status, text, cure),) = examined(check_metadata, fake.machine(variables))
    assert (status, cure) == ("failed", "unset TPU_SKIP_MDS_QUERY")
    assert text.endswith(
        ": TPU_PROCESS_BOUNDS or TPU_HOST_BOUNDS, TPU_CHIPS_PER_PROCESS_BOUNDS or TPU_CHIPS_PER_HOST_BOUNDS, "
        "TPU_WORKER_HOSTNAMES"
    )
    variables |= {"TPU_HOST_BOUNDS": "1,1,1", "TPU_CHIPS_PER_HOST_BOUNDS": "2,2,1", "TPU_WORKER_HOSTNAMES": "localhost"}
    assert examined(check_metadata, fake.machine(variables), TPU)[0][0] == "ok"
