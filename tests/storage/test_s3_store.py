"""What is true of buckets alone: faults, dialects, refusals."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from pc_cloudmask.errors import KeyExists, StoreRefused, StoreUnavailable, WriteConflict
from pc_cloudmask.storage.store import ObjectStore, StoreCapabilities
from pc_cloudmask.storage.stores import open_store
from tests.doubles.s3_server import S3Server

pytestmark = pytest.mark.slow


@pytest.fixture
def server(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """The server, with the environment that leads to it and a client that does not wait between attempts."""
    server: S3Server = request.getfixturevalue("s3_server")
    server.use(monkeypatch)
    monkeypatch.setattr(time, "sleep", lambda _: None)
    return server


@pytest.fixture
def store(server: S3Server) -> ObjectStore:
    """An open store that has been probed, so that the next PUT is the test's own."""
    store = open_store(f"s3://{server.create_bucket()}/prefix")
    store.probe_capabilities()
    return store


def body_of(store: ObjectStore, key: str) -> bytes | None:
    stored = store.read_object(key)
    return stored.body if stored else None


@pytest.mark.parametrize("marker", ["", "_failed/", "a/", "a/b/", "a_$folder$", "a/b_$folder$"])
def test_the_empty_objects_by_which_tools_show_folders_are_no_objects(
    server: S3Server, store: ObjectStore, marker: str
) -> None:
    store.write_object("a/b/c", b"one", "text/plain")
    store.write_object("empty", b"", "text/plain")
    server.put_object(store.url.split("/")[2], f"prefix/{marker}")
    assert [info.key for info in store.list_objects("")] == ["a/b/c", "empty"]
    assert [info.key for info in store.list_objects("a/")] == ["a/b/c"]


class TestFaults:
    @pytest.mark.parametrize("fault", ["refused", "crowded"])
    def test_a_refused_put_is_tried_again(self, server: S3Server, store: ObjectStore, fault: str) -> None:
        # "crowded": Cloudflare R2 takes one write a second of one key.
        server.script_faults(fault, fault)
        store.create_object("a", b"one", "text/plain")
        assert body_of(store, "a") == b"one"

    def test_a_create_whose_answer_was_lost_meets_its_own_success(
        self, server: S3Server, store: ObjectStore
    ) -> None:
        server.script_faults("lost")
        store.create_object("a", b"one", "text/plain")
        assert body_of(store, "a") == b"one"

    def test_a_replacement_whose_answer_was_lost_meets_its_own_success(
        self, server: S3Server, store: ObjectStore
    ) -> None:
        store.write_object("a", b"one", "text/plain")
        first = store.read_object("a")
        assert first is not None
        server.script_faults("lost")
        store.replace_object("a", b"two", "text/plain", first.etag)
        assert body_of(store, "a") == b"two"
        server.script_faults("lost")
        with pytest.raises(WriteConflict):
            store.replace_object("a", b"three", "text/plain", first.etag)
        assert body_of(store, "a") == b"two"

    def test_a_create_that_met_another_one_under_way_is_tried_again(
        self, server: S3Server, store: ObjectStore
    ) -> None:
        server.script_faults("conflict")
        store.create_object("a", b"one", "text/plain")
        assert body_of(store, "a") == b"one"

    def test_a_create_that_is_never_let_through_ends(self, server: S3Server, store: ObjectStore) -> None:
        server.script_faults(*["conflict"] * 5)
        with pytest.raises(StoreUnavailable, match="try again"):
            store.create_object("a", b"one", "text/plain")

    def test_a_replacement_that_met_another_write_under_way_is_a_conflict(
        self, server: S3Server, store: ObjectStore
    ) -> None:
        store.write_object("a", b"one", "text/plain")
        first = store.read_object("a")
        assert first is not None
        server.script_faults("conflict")
        with pytest.raises(WriteConflict):
            store.replace_object("a", b"two", "text/plain", first.etag)

    def test_an_answer_without_an_etag_is_believed_when_the_bytes_are_there(
        self, server: S3Server, store: ObjectStore
    ) -> None:
        server.script_faults("etagless", "hollow")
        store.write_object("a", b"one", "text/plain")
        with pytest.raises(StoreUnavailable, match="without an ETag"):
            store.write_object("a", b"two", "text/plain")
        assert body_of(store, "a") == b"one"

    def test_a_store_that_stays_away_is_unavailable(self, server: S3Server, store: ObjectStore) -> None:
        server.script_faults(*["refused"] * 5)
        with pytest.raises(StoreUnavailable, match="SlowDown: try again later"):
            store.write_object("a", b"one", "text/plain")

    def test_a_store_that_stays_crowded_is_unavailable(self, server: S3Server, store: ObjectStore) -> None:
        server.script_faults(*["crowded"] * 5)
        with pytest.raises(StoreUnavailable, match="ServiceUnavailable: try again later"):
            store.write_object("a", b"one", "text/plain")

    def test_a_right_that_is_missing_is_named(self, server: S3Server, store: ObjectStore) -> None:
        server.script_faults("denied")
        with pytest.raises(
            StoreRefused, match="AccessDenied: look at the credentials and the bucket's policy"
        ):
            store.write_object("a", b"one", "text/plain")

    @pytest.mark.parametrize(
        ("fault", "message"),
        [
            ("expired", "ExpiredToken: the sign-in has expired: sign in again"),
            ("elsewhere", "AuthorizationHeaderMalformed: the bucket is in another region: set AWS_DEFAULT_"),
            ("late", "RequestTimeTooSkewed: this machine's clock is wrong"),
        ],
    )
    def test_an_answer_that_can_be_mended_says_how(
        self, server: S3Server, store: ObjectStore, fault: str, message: str
    ) -> None:
        server.script_faults(fault)
        with pytest.raises(StoreRefused, match=message):
            store.write_object("a", b"one", "text/plain")

    def test_no_update_is_lost_or_doubled_where_puts_fail(self, server: S3Server) -> None:
        store = open_store(f"s3://{server.create_bucket('flaky')}")
        store.create_object("list", b"", "text/plain")
        for number in range(40):
            current = store.read_object("list")
            assert current is not None
            store.replace_object("list", current.body + b"%d," % number, "text/plain", current.etag)
        assert body_of(store, "list") == b"".join(b"%d," % number for number in range(40))


class TestDialects:
    @pytest.mark.parametrize(
        ("behaviour", "capabilities"),
        [
            ("plain", StoreCapabilities(create_only=True, compare_and_swap=True)),
            ("ceph", StoreCapabilities(create_only=True, compare_and_swap=True)),
            ("flaky", StoreCapabilities(create_only=True, compare_and_swap=True)),
            ("careless", StoreCapabilities(create_only=True, compare_and_swap=False)),
            ("deaf", StoreCapabilities(create_only=False, compare_and_swap=False)),
            ("mute", StoreCapabilities(create_only=False, compare_and_swap=False)),
        ],
    )
    def test_the_probe_tells_what_a_store_honours(
        self, server: S3Server, behaviour: str, capabilities: StoreCapabilities
    ) -> None:
        store = open_store(f"s3://{server.create_bucket(behaviour)}/prefix")
        assert store.probe_capabilities() == capabilities
        assert list(store.list_objects("")) == []

    @pytest.mark.parametrize("fault", ["lost", "refused", "crowded", "conflict"])
    def test_a_fault_at_any_moment_of_the_probe_changes_nothing(self, server: S3Server, fault: str) -> None:
        bucket = server.create_bucket("ceph")
        for number in range(8):
            server.script_faults(*["none"] * number, fault)
            capabilities = open_store(f"s3://{bucket}").probe_capabilities()
            assert capabilities == StoreCapabilities(create_only=True, compare_and_swap=True)
        server.script_faults()

    @pytest.mark.parametrize("behaviour", ["careless", "deaf", "mute"])
    def test_a_single_writer_gets_the_same_answers_from_a_store_without_conditions(
        self, server: S3Server, behaviour: str
    ) -> None:
        store = open_store(f"s3://{server.create_bucket(behaviour)}/prefix")
        store.create_object("a", b"one", "text/plain")
        store.create_object("a", b"one", "text/plain")
        with pytest.raises(KeyExists):
            store.create_object("a", b"two", "text/plain")
        first = store.read_object("a")
        assert first is not None
        store.replace_object("a", b"two", "text/plain", first.etag)
        with pytest.raises(WriteConflict):
            store.replace_object("a", b"three", "text/plain", first.etag)
        assert body_of(store, "a") == b"two"


class TestOpening:
    def test_nothing_is_written(self, server: S3Server) -> None:
        bucket = server.create_bucket()
        open_store(f"s3://{bucket}/prefix")
        assert list(open_store(f"s3://{bucket}").list_objects("")) == []

    def test_a_prefix_keeps_to_itself(self, server: S3Server) -> None:
        bucket = server.create_bucket()
        open_store(f"s3://{bucket}/one").write_object("a", b"1", "text/plain")
        open_store(f"s3://{bucket}/one-more").write_object("b", b"2", "text/plain")
        assert [info.key for info in open_store(f"s3://{bucket}/one/").list_objects("")] == ["a"]
        assert open_store(f"s3://{bucket}/one").url == f"s3://{bucket}/one"

    @pytest.mark.parametrize(
        ("url", "message"),
        [
            ("s3://absent-bucket/prefix", "the bucket does not exist: create it"),
            ("s3://No_Bucket!/prefix", "is no bucket: look at its name"),
            ("s3:///prefix", "write it as s3://bucket/prefix"),
            ("s3://bucket/../x", "begin with no dot"),
        ],
    )
    def test_a_bucket_that_cannot_be_is_refused(self, server: S3Server, url: str, message: str) -> None:
        with pytest.raises(StoreRefused, match=message) as raised:
            open_store(url)
        assert "\n" not in str(raised.value)

    def test_missing_credentials_are_named(self, server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
        bucket = server.create_bucket()
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        with pytest.raises(StoreRefused, match="no credentials for s3://"):
            open_store(f"s3://{bucket}")

    def test_a_sign_in_that_has_expired_is_named(
        self, server: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        config = tmp_path / "config"
        config.write_text(
            "[profile masks]\nsso_session = home\nsso_account_id = 123456789012\nsso_role_name = writer\n"
            "[sso-session home]\nsso_region = eu-central-1\nsso_start_url = http://127.0.0.1:9/start\n"
        )
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(name)
        monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
        monkeypatch.setenv("AWS_PROFILE", "masks")
        monkeypatch.setenv("HOME", str(tmp_path))
        with pytest.raises(StoreRefused, match="sign in again"):
            open_store("s3://bucket")

    def test_an_endpoint_that_is_none_is_refused(
        self, server: S3Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AWS_ENDPOINT_URL", "nonsense")
        with pytest.raises(StoreRefused, match="look at AWS_ENDPOINT_URL"):
            open_store("s3://bucket")

    def test_an_endpoint_that_does_not_answer_is_unavailable(
        self, server: S3Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        with pytest.raises(StoreUnavailable, match="look at AWS_ENDPOINT_URL"):
            open_store("s3://bucket")

    def test_errors_name_no_secret(
        self, server: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "very-secret")
        with pytest.raises(StoreRefused) as raised:
            open_store("s3://absent-bucket")
        assert "very-secret" not in repr(raised.value)
