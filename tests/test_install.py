"""Installing: uv asks the package index that pip was told of, and where there is no uv, pip installs."""

import importlib.util
import itertools
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent / "launch" / "install.py"
spec = importlib.util.spec_from_file_location("install", SCRIPT)
install = importlib.util.module_from_spec(spec)
spec.loader.exec_module(install)

UV = Path(sys.prefix) / "bin" / "uv"

LISTED = """\
:env:.default-timeout='180'
:env:.find-links='/wheels'
:env:.no-cache-dir='1'
global.cert='/certs.pem'
global.extra-index-url='https://b.example/simple\\nhttps://c.example/simple'
global.find-links='/not these'
global.index-url='https://everyone.example/simple'
global.trusted-host='b.example'
install.index-url='https://a.example/simple'
list.format='columns'
"""


def flags(settings, environ=()):
    return install.uv_settings(settings, dict(environ))


def test_pips_settings_in_pips_order_of_precedence():
    settings = install.pip_settings(LISTED)
    assert settings["index-url"] == "https://a.example/simple"
    assert settings["find-links"] == "/wheels"
    assert settings["timeout"] == "180"
    assert "format" not in settings


def test_uv_is_told_what_pip_was():
    told, variables = flags(install.pip_settings(LISTED))
    pairs = list(itertools.pairwise(told))
    assert ("--default-index", "https://a.example/simple") in pairs
    assert [value for flag, value in pairs if flag == "--index"] == [
        "https://b.example/simple",
        "https://c.example/simple",
    ]
    assert ("--index-strategy", "unsafe-best-match") in pairs
    assert ("--find-links", "/wheels") in pairs
    assert ("--allow-insecure-host", "b.example") in pairs
    assert "--no-cache" in told
    assert "--no-index" not in told
    assert variables == {"SSL_CERT_FILE": "/certs.pem", "UV_HTTP_TIMEOUT": "180"}


def test_what_uv_was_told_itself_stays():
    environ = {"UV_INDEX_URL": "x", "UV_INDEX": "x", "UV_FIND_LINKS": "x", "SSL_CERT_FILE": "x", "UV_HTTP_TIMEOUT": "x"}
    told, variables = flags(install.pip_settings(LISTED), environ)
    assert told == ["--allow-insecure-host", "b.example", "--no-cache"]
    assert variables == {}


def test_no_settings_no_flags():
    assert flags(install.pip_settings("")) == ([], {})


def wheel(folder, version):
    """A package of one module that says its version."""
    folder.mkdir(parents=True, exist_ok=True)
    info = f"probe-{version}.dist-info"
    with zipfile.ZipFile(folder / f"probe-{version}-py3-none-any.whl", "w") as file:
        file.writestr("probe.py", f"version = {version!r}\n")
        file.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: probe\nVersion: {version}\n")
        file.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(f"{info}/RECORD", "")


def make_index(root, version):
    """A package index of files that has the package in one version."""
    wheel(root / "probe", version)
    name = f"probe-{version}-py3-none-any.whl"
    (root / "probe" / "index.html").write_text(f'<!DOCTYPE html><html><body><a href="{name}">{name}</a></body></html>')
    return root.as_uri()


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """A bare environment, to be copied."""
    folder = tmp_path_factory.mktemp("bare") / "venv"
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    return folder


def environment(bare, folder, with_uv):
    """The Python of a bare environment; with this one's uv, or with none."""
    shutil.copytree(bare, folder, symlinks=True)
    if with_uv:
        (folder / "bin" / "uv").symlink_to(UV)
    return folder / "bin" / "python"


def run_install(python, settings, *requirements):
    """What the script writes and what was installed, in a world where pip has these settings and no others."""
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("PIP_", "UV_"))}
    environ |= {"PIP_CONFIG_FILE": os.devnull, "UV_NO_CONFIG": "1", **settings}
    done = subprocess.run([python, SCRIPT, *requirements], env=environ, capture_output=True, text=True)
    found = subprocess.run([python, "-c", "import probe; print(probe.version)"], capture_output=True, text=True)
    return done, found.stdout.strip()


@pytest.mark.slow
@pytest.mark.skipif(not UV.exists(), reason="pip installed this environment")
def test_uv_takes_the_best_of_the_indexes_that_pip_knows(bare, tmp_path):
    settings = {
        "PIP_INDEX_URL": make_index(tmp_path / "a", "1.1"),
        "PIP_EXTRA_INDEX_URL": make_index(tmp_path / "b", "1.0"),
        "UV_CACHE_DIR": str(tmp_path / "cache"),
    }
    done, version = run_install(environment(bare, tmp_path / "venv", with_uv=True), settings, "probe")
    assert (done.returncode, version) == (0, "1.1"), done.stderr
    assert "pip does it" not in done.stderr


@pytest.mark.slow
def test_pip_installs_where_uv_cannot_be_had(bare, tmp_path):
    wheel(tmp_path / "wheels", "1.2")
    settings = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path / "wheels")}
    done, version = run_install(environment(bare, tmp_path / "venv", with_uv=False), settings, "probe")
    assert (done.returncode, version) == (0, "1.2"), done.stderr
    assert "pip does it" in done.stderr


@pytest.mark.slow
def test_what_neither_can_install_is_an_error(bare, tmp_path):
    settings = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path)}
    done, _ = run_install(environment(bare, tmp_path / "venv", with_uv=UV.exists()), settings, "probe")
    assert done.returncode != 0
    assert "probe" in done.stderr
