"""What the policies of `deploy/s3` allow, and what a client asked of a bucket."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote

from moto.s3.models import s3_backends
from moto.server import create_backend_app

from tests.doubles.wsgi import make_server

POLICIES = Path(__file__).parents[2] / "deploy" / "s3"
BUCKET, PREFIX = "masks", "prod"
OBJECT_ACTIONS = {
    "GET": "s3:GetObject",
    "HEAD": "s3:GetObject",
    "PUT": "s3:PutObject",
    "DELETE": "s3:DeleteObject",
}


@dataclass(frozen=True, order=True)
class Call:
    """One request in IAM's terms; ``prefix`` is a listing's, which on Ceph always has ``max_keys``."""

    action: str
    resource: str
    prefix: str | None = None
    max_keys: bool = True

    @property
    def questions(self) -> list[Call]:
        """What S3 asks the policies: of a missing key also whether its name might be listed."""
        if self.action != "s3:GetObject":
            return [self]
        bucket, _, key = self.resource.partition("/")
        return [self, Call("s3:ListBucket", bucket, key)]


def call_object(action: str, key: str) -> Call:
    return Call(action, f"arn:aws:s3:::{BUCKET}/{PREFIX}/{key}")


def ask_of_ceph(call: Call) -> list[Call]:
    """What Ceph's gateway asks the policies: of a missing key whether the bucket may be listed."""
    return [
        replace(question, prefix=None, max_keys=False) if question.action != call.action else question
        for question in call.questions
    ]


def call_list(prefix: str) -> Call:
    return Call("s3:ListBucket", f"arn:aws:s3:::{BUCKET}", prefix)


@dataclass(frozen=True)
class Policy:
    """The statements of one file."""

    statements: tuple[dict[str, Any], ...]

    def allows(self, call: Call) -> bool:
        return bool(self.allowing(call))

    def allowing(self, call: Call) -> list[str]:
        """Ids of the statements that allow the call, made over TLS."""
        return [
            statement["Sid"]
            for statement in self.statements
            if statement["Effect"] == "Allow" and _matches(statement, call)
        ]


def read_policy(name: str) -> Policy:
    """The policy with the placeholders replaced, as the README says."""
    text = (POLICIES / f"{name}.json").read_text()
    document = json.loads(text.replace("BUCKET", BUCKET).replace("PREFIX", PREFIX))
    assert document["Version"] == "2012-10-17"
    return Policy(tuple(document["Statement"]))


def read_policy_for_ceph(name: str) -> Policy:
    """The policy with the statement that Ceph's gateway needs besides."""
    statement = json.loads((POLICIES / "ceph.json").read_text().replace("BUCKET", BUCKET))
    return Policy((*read_policy(name).statements, statement))


def _matches(statement: dict[str, Any], call: Call) -> bool:
    conditions = statement.get("Condition", {})
    assert set(conditions) <= {"StringLike", "Null"}, "a condition that is not understood here"
    prefixes = conditions.get("StringLike", {}).get("s3:prefix")
    return (
        _like(statement["Action"], call.action)
        and _like(statement["Resource"], call.resource)
        and (prefixes is None or (call.prefix is not None and _like(prefixes, call.prefix)))
        and not ("Null" in conditions and call.max_keys)
    )


def _like(patterns: str | list[str], text: str) -> bool:
    """IAM's wildcards: ``*`` matches slashes too."""
    listed = [patterns] if isinstance(patterns, str) else patterns
    return any(re.fullmatch(re.escape(each).replace(r"\*", ".*"), text) for each in listed)


class Recorder:
    """A WSGI application that notes every request to an S3 server behind it."""

    def __init__(self, application: Callable[..., Iterable[bytes]]) -> None:
        self._application = application
        self.calls: set[Call] = set()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        bucket, _, key = unquote(environ["PATH_INFO"]).lstrip("/").partition("/")
        method, query = environ["REQUEST_METHOD"], parse_qs(environ.get("QUERY_STRING", ""))
        if key:
            assert not set(query) - {"x-id"}, f"a request that is no plain one: {query}"
            self.calls.add(Call(OBJECT_ACTIONS[method], f"arn:aws:s3:::{bucket}/{key}"))
        elif method == "GET":
            self.calls.add(Call("s3:ListBucket", f"arn:aws:s3:::{bucket}", query.get("prefix", [""])[0]))
        else:
            assert method == "PUT", "only a test makes a bucket, and nobody removes one"
        return self._application(environ, start_response)


@contextmanager
def recording_server() -> Iterator[tuple[str, Recorder]]:
    """URL of an S3 server on loopback, and what it is asked."""
    s3_backends.reset()  # the process may have had another
    recorder = Recorder(create_backend_app("s3"))
    server, url = make_server(recorder)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield url, recorder
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
