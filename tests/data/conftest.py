"""What tests of data use."""

import pytest

from tests.data.http_server import serve


@pytest.fixture
def server():
    with serve() as server:
        yield server
