"""One Prefect server for all tests of a server, with a source and a store that its runs would use."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.doubles.prefect_server import PrefectServer
    from tests.doubles.stac_api.server import StacApiServer

#: Secrets of the services' environment.
PLANTED = {
    "PC_SDK_SUBSCRIPTION_KEY": "planted-subscription-key",
    "AWS_SECRET_ACCESS_KEY": "planted-aws-secret",  # pragma: allowlist secret
    "AWS_SESSION_TOKEN": "planted-session-token",
}
PLANTED_SIGNATURE = "planted%2Fsignature"
EPOCH = "1700000000"
LOUD = ("pc_cloudmask", "flows", "urllib3", "rasterio", "botocore")


@pytest.fixture(scope="session")
def source(sample_items: Path) -> Iterator[StacApiServer]:
    """The sample scenes as an API gives them, every href signed."""
    from tests.doubles.range_server import RangeServer
    from tests.doubles.stac_api.server import StacApiServer

    with RangeServer(sample_items.parent) as files, StacApiServer() as api:
        collection = json.loads(sample_items.read_text())
        for item in collection["features"]:
            item["collection"] = api.collection
            for asset in item["assets"].values():
                path = asset["href"].removeprefix("./")
                asset["href"] = f"{files.url}/{path}?sv=2024-01-01&se=2099-01-01&sig={PLANTED_SIGNATURE}"
        api.items = collection["features"]
        yield api


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store") / "out"


@pytest.fixture(scope="session")
def prefect_server(
    tmp_path_factory: pytest.TempPathFactory, source: StacApiServer, store: Path
) -> Iterator[PrefectServer]:
    """The server, without a pool and a deployment at first."""
    from tests.doubles.prefect_server import run_prefect_server

    folder = tmp_path_factory.mktemp("prefect")
    environment = {
        **PLANTED,
        "CLOUDMASK_STAC_API_URL": source.url,
        "CLOUDMASK_STORE": str(store),
        "CLOUDMASK_AREAS": json.dumps({"samples": {"tiles": ["22KFV", "33UUP"], "since": "2018"}}),
        "SOURCE_DATE_EPOCH": EPOCH,
        "PREFECT_LOGGING_SETTINGS_PATH": str(write_logging_settings(folder)),
    }
    with run_prefect_server(folder, environment) as server:
        yield server


def write_logging_settings(folder: Path) -> Path:
    """Prefect's own, with everything that we and the HTTP and raster libraries say in its database."""
    import prefect.logging
    import yaml

    settings = yaml.safe_load((Path(prefect.logging.__file__).parent / "logging.yml").read_text())
    for name in LOUD:
        settings["loggers"][name] = {"level": "DEBUG", "handlers": ["api", "console"]}
    path = folder / "logging.yml"
    path.write_text(yaml.safe_dump(settings))
    return path
