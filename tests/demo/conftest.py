"""A bare HTTP client of the offline model."""

from collections.abc import Iterator

import pytest

from jupyter_ccapi.demo import OfflineModel
from tests.demo.http_client import Client


@pytest.fixture
def http(model: OfflineModel) -> Iterator[Client]:
    """A connection to the model."""
    client = Client(model.url)
    yield client
    client.close()
