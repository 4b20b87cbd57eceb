"""Loggers whose clients are missing, or have nobody to log in as."""

from __future__ import annotations

import importlib.util
import netrc
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from xlatrain.config.run import LoggerConfig
from xlatrain.errors import Fault

_OFFLINE = ("offline", "disabled", "dryrun")


def logger_faults(config: LoggerConfig, variables: Mapping[str, str]) -> list[Fault]:
    """Those of this machine. variables: of the environment."""
    faults = [
        Fault(f"logger.{name}", f"{name} is not installed", f"pip install 'xlatrain[{name}]'")
        for name in ("wandb", "mlflow")
        if getattr(config, name) and importlib.util.find_spec(name) is None
    ]
    if config.wandb and not faults and not _logs_in(variables):
        cure = "run `wandb login`, or set WANDB_API_KEY; WANDB_MODE=offline keeps all in the run's folder"
        faults.append(Fault("logger.wandb", "Weights & Biases has no login here", cure))
    return faults


def _logs_in(variables: Mapping[str, str]) -> bool:
    """Whether its client need ask nobody: it is told to stay offline, or finds a key where it looks for one."""
    if variables.get("WANDB_MODE", "").lower() in _OFFLINE or variables.get("WANDB_API_KEY"):
        return True
    home = Path(variables.get("HOME", "~")).expanduser()
    settings = (Path("wandb/settings"), Path(variables.get("WANDB_CONFIG_DIR", home / ".config/wandb")) / "settings")
    if any(word in _text(path) for path in settings for word in ("mode", "api_key")):
        return True
    host = urlsplit(variables.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname
    try:
        return netrc.netrc(variables.get("NETRC", str(home / ".netrc"))).authenticators(host or "") is not None
    except (OSError, netrc.NetrcParseError):
        return False


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
