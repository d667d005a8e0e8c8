"""An S3 server for tests: moto, in a process of its own, on loopback."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import urllib.request
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from botocore.loaders import Loader


def remember_data() -> None:
    """Let botocore read its data files once a process: parsing them is two thirds of what making a client costs."""
    remembered: dict[Any, Any] = {}
    prepare = Loader.__init__

    def prepare_with_data(loader: Loader, *arguments: Any, **named: Any) -> None:
        prepare(loader, *arguments, **named)
        loader._cache = remembered

    Loader.__init__ = prepare_with_data


remember_data()


@dataclass(frozen=True)
class S3Server:
    """Where the server listens; ``tests.doubles.s3_process`` says how its buckets behave."""

    url: str

    def environment(self) -> dict[str, str]:
        """The ``AWS_*`` variables that lead a client here."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",  # pragma: allowlist secret
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def use(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Lead this process's clients here; no other credentials are seen."""
        for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_REGION", "AWS_ENDPOINT_URL_S3"):
            monkeypatch.delenv(name, raising=False)
        for name, value in self.environment().items():
            monkeypatch.setenv(name, value)

    def create_bucket(self, behaviour: str = "plain") -> str:
        """Name of a new empty bucket."""
        bucket = f"{behaviour}-{uuid.uuid4().hex[:12]}"
        self._put(bucket)
        return bucket

    def put_object(self, bucket: str, key: str, body: bytes = b"") -> None:
        """Write any key, as other programs do."""
        self._put(f"{bucket}/{quote(key)}", body)

    def script_faults(self, *names: str) -> None:
        """What happens to the next PUTs of objects, one by one."""
        self._put("_faults", json.dumps(names).encode())

    def _put(self, path: str, body: bytes = b"") -> None:
        request = urllib.request.Request(f"{self.url}/{path}", body, method="PUT")
        with urllib.request.urlopen(request, timeout=600):
            pass


@contextlib.contextmanager
def running_s3_server() -> Iterator[S3Server]:
    """A server, ended by its own handle."""
    with _running("tests.doubles.s3_process") as url:
        yield S3Server(url)


@contextlib.contextmanager
def running_front(url: str, share: float, seed: int, faults: list[str]) -> Iterator[str]:
    """The URL of a front before the server at ``url`` that fails a share of the requests."""
    with _running("tests.doubles.faulty_front", url, str(share), str(seed), *faults) as front:
        yield front


@contextlib.contextmanager
def _running(module: str, *arguments: str) -> Iterator[str]:
    """The URL that a process of ours says it serves at."""
    command = [sys.executable, "-m", module, *arguments]
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            assert url.startswith("http://127.0.0.1:"), f"{module} did not start"
            yield url
        finally:
            process.terminate()
