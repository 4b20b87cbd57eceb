"""What tests of several files use."""

from xlatrain.errors import ConfigError


def faults_of(check, overrides):
    """The faults that a check of these overrides finds."""
    try:
        check(overrides)
    except ConfigError as error:
        return list(error.faults)
    return []
