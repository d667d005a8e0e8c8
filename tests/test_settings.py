from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pc_cloudmask import settings as settings_module
from pc_cloudmask.errors import SettingsError
from pc_cloudmask.masking.classes import MaskParameters
from pc_cloudmask.masking.methods import METHODS
from pc_cloudmask.settings import Settings, read_clock, read_settings


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_an_option_beats_the_environment_beats_the_file_beats_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert read_settings().workers == 4
    (tmp_path / "cloudmask.toml").write_text('workers = 5\nmethod = "csmask"\n')
    assert read_settings().workers == 5
    monkeypatch.setenv("CLOUDMASK_WORKERS", "6")
    assert read_settings().workers == 6
    assert read_settings(workers=7).workers == 7
    assert read_settings(workers=None, method=None).ladder == ("csmask",)


def test_a_method_has_its_own_buffer_where_the_settings_name_none() -> None:
    names = [method.name for method in METHODS.values() if not method.has_weights]
    buffers = {name: read_settings().read_parameters(name).buffer_m for name in names}
    assert buffers["s2cloudless"] == MaskParameters().buffer_m == 50
    assert (buffers["cloud-score-plus"], buffers["csmask"], METHODS["omnicloudmask"].buffer_m) == (20, 0, 0)
    for buffer_m in (0.0, 50.0):
        settings = read_settings(buffer_m=buffer_m)
        assert {settings.read_parameters(name).buffer_m for name in names} == {buffer_m}


def test_the_other_thresholds_are_those_of_the_settings() -> None:
    given = read_settings(clear_score=0.5, shadow_distance_m=700)
    assert given.read_parameters("csmask") == MaskParameters(
        clear_score=0.5, shadow_distance_m=700, buffer_m=0
    )


@pytest.mark.parametrize(
    ("name", "value", "hint"),
    [
        ("method", "magic", "method"),
        ("workers", 0, "workers"),
        ("runner", "slurm", "runner"),
        ("cloud_probability_pct", 101, "cloud_probability_pct"),
        ("clear_score", float("nan"), "clear_score"),
        ("buffer_m", float("inf"), "buffer_m"),
        ("store", "gs://bucket", "store"),
        ("store", "s3://", "store"),
        ("store", "file:///", "store"),
        ("store", "s3:bucket/prefix", "store"),
        ("store", "s3:/bucket", "store"),
        ("stac_api_url", "file:///etc/passwd", "stac_api_url"),
        ("stac_api_url", "https://[x", "stac_api_url"),
        ("stac_api_url", "https://", "stac_api_url"),
        (
            "stac_api_url",
            "https://user:word@api.example.com",  # pragma: allowlist secret
            "stac_api_url",
        ),
        ("public_url", "https://masks.example.com/s2?sig=abc", "public_url"),
        ("earthengine_url", "https://example.com:99999", "earthengine_url"),
    ],
)
def test_a_value_that_cannot_be_used_is_named_in_one_line(name: str, value: object, hint: str) -> None:
    with pytest.raises(SettingsError, match=hint) as caught:
        read_settings(**{name: value})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("workers = ", "TOML"),
        ("wokers = 3", "wokers"),
        ("\udcff", "TOML"),
        ("workers = " + "[" * 5000, "nested too deeply"),
        (r'"a\nb" = 3', r"a\\nb"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, text: str, hint: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(SettingsError, match=hint) as caught:
        read_settings(path)
    assert str(caught.value).isprintable()


def test_a_value_is_named_as_the_user_typed_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('method = "magic"\n[areas.home]\ntiles = ["nowhere"]\n')
    for options, named in (
        ({}, rf"^{path}: method: must be .*; {path}: areas\.home\.tiles: "),
        ({"method": "wand"}, r"^method: must be "),
        ({"method": "wand", "as_options": True}, r"^--method: must be "),
        ({"keep_inputs": "x", "as_options": True}, r"--keep-inputs: "),
    ):
        with pytest.raises(SettingsError, match=named):
            read_settings(path, **options)
    monkeypatch.setenv("CLOUDMASK_METHOD", "staff")
    with pytest.raises(SettingsError, match=r"^CLOUDMASK_METHOD: must be "):
        read_settings(path)


def test_a_misspelt_variable_is_told_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    settings_module._tell_misspelt_variables.cache_clear()
    for name in ("CLOUDMASK_WOKERS", "CLOUDMASK_METHOD", "CLOUDMASK_PORT_8000_TCP", "CLOUDMASK_SERVICE_HOST"):
        monkeypatch.setenv(name, "csmask")
    read_settings()
    read_settings()
    assert caplog.messages == ["CLOUDMASK_WOKERS: no such setting; workers is meant?"]
    settings_module._tell_misspelt_variables.cache_clear()


def test_a_method_that_computes_here_is_not_computed_there() -> None:
    with pytest.raises(SettingsError, match="method csmask is computed on this machine: leave compute"):
        read_settings(method="csmask", compute="server")


BOTH = "cloud-score-plus, s2cloudless"


@pytest.mark.parametrize(
    ("file", "environment", "option", "ladder"),
    [
        ("", {}, None, ("s2cloudless",)),
        ("", {}, "csmask,s2cloudless", ("csmask", "s2cloudless")),
        (f'methods = "{BOTH}"', {}, None, ("cloud-score-plus", "s2cloudless")),
        ('methods = ["csmask", "s2cloudless"]', {}, None, ("csmask", "s2cloudless")),
        (f'method = "{BOTH}"', {"METHODS": "csmask , s2cloudless"}, None, ("csmask", "s2cloudless")),
        (f'methods = "{BOTH}"', {"METHOD": "csmask"}, None, ("csmask",)),
        ("", {"METHOD": "csmask", "METHODS": BOTH}, "s2cloudless", ("s2cloudless",)),
        ("", {"METHOD": BOTH, "METHODS": BOTH}, None, ("cloud-score-plus", "s2cloudless")),
    ],
)
def test_a_ladder_is_named_by_either_name_and_the_first_place_wins(
    file: str,
    environment: dict[str, str],
    option: str | None,
    ladder: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "cloudmask.toml").write_text(file)
    for name, value in environment.items():
        monkeypatch.setenv(f"CLOUDMASK_{name}", value)
    settings = read_settings(method=option)
    assert settings.ladder == tuple(settings.rungs) == ladder
    assert settings.patience == 3


@pytest.mark.parametrize(
    ("environment", "text"),
    [
        ({"METHODS": "csmask,fmask"}, "CLOUDMASK_METHODS: must be s2cloudless, .*, the best first"),
        ({"METHODS": "csmask,"}, "CLOUDMASK_METHODS: must be "),
        ({"METHODS": ""}, "CLOUDMASK_METHODS: must be "),
        ({"METHOD": "csmask, csmask"}, "CLOUDMASK_METHOD: names a method twice"),
        (
            {"METHOD": "csmask", "METHODS": BOTH},
            r"CLOUDMASK_METHOD \(csmask\) and CLOUDMASK_METHODS \(cloud-.*\).* differ: ",
        ),
        ({"METHODS": "csmask", "COMPUTE": "server"}, "method csmask is computed on this machine"),
        ({"PATIENCE": "-1"}, "CLOUDMASK_PATIENCE: "),
        ({"PATIENCE": "three"}, "CLOUDMASK_PATIENCE: "),
    ],
)
def test_a_ladder_that_cannot_be_used_is_told_in_one_line(
    environment: dict[str, str], text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(f"CLOUDMASK_{name}", value)
    with pytest.raises(SettingsError, match=text) as caught:
        read_settings()
    assert "\n" not in str(caught.value)


def test_of_a_ladder_the_server_computes_what_it_can() -> None:
    settings = read_settings(method="csmask,s2cloudless", compute="server")
    assert (settings.ladder, settings.compute) == (("csmask", "s2cloudless"), "server")


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_a_byte_order_mark_before_the_settings_is_skipped(tmp_path: Path, newline: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(f"\ufeffworkers = 3{newline}store = 'mine'{newline}".encode())
    settings = read_settings(path)
    assert (settings.workers, settings.store) == (3, "mine")


def test_settings_in_another_encoding_are_told_so(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("workers = 3", "utf-16")
    with pytest.raises(SettingsError, match=r"mine\.toml.*save it as UTF-8"):
        read_settings(path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"absent\.toml"):
        read_settings(tmp_path / "absent.toml")


@pytest.mark.parametrize("url", ["http://127.0.0.1:8080", "http://localhost", "http://[::1]:80"])
def test_anonymous_credentials_are_for_loopback(url: str) -> None:
    assert read_settings(earthengine_credentials="anonymous", earthengine_url=url).earthengine_url == url


@pytest.mark.parametrize(
    "url",
    [
        "https://earthengine.googleapis.com",
        "http://127.0.0.1.example.com",
        "http://127.0.0.1:80@example.com",
        "http://[::1",
    ],
)
def test_anonymous_credentials_are_refused_elsewhere(url: str) -> None:
    with pytest.raises(SettingsError, match="loopback"):
        read_settings(earthengine_credentials="anonymous", earthengine_url=url)


@pytest.mark.parametrize("name", ["stac_api_url", "earthengine_url", "public_url"])
@pytest.mark.parametrize(
    "url", ["ftp://host", "https://[", "https://[x]/a", "https://host:99999", "https:///x"]
)
def test_a_url_that_leads_nowhere_is_refused(name: str, url: str) -> None:
    with pytest.raises(SettingsError, match=f"^{name}: must begin with https://"):
        read_settings(**{name: url})


def test_an_error_never_repeats_a_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLOUDMASK_STORE", "https://user:hunter2@host/")  # pragma: allowlist secret
    with pytest.raises(SettingsError) as caught:
        read_settings()
    assert "hunter2" not in str(caught.value)


def test_a_key_in_place_of_its_file_is_not_shown() -> None:
    key = '{"type": "service_account", "private_key": "planted"}'  # pragma: allowlist secret
    with pytest.raises(SettingsError, match="earthengine_credentials") as caught:
        read_settings(earthengine_credentials=key)
    assert "planted" not in str(caught.value)


@pytest.mark.slow
@given(
    st.dictionaries(
        st.sampled_from(sorted(Settings.model_fields)),
        st.none() | st.text() | st.floats() | st.lists(st.integers()),
    )
)
def test_any_value_gives_settings_or_a_settings_error(values: dict[str, object]) -> None:
    with suppress(SettingsError):
        assert read_settings(**values).workers >= 1


def test_every_setting_is_documented() -> None:
    page = (Path(__file__).parents[1] / "docs" / "settings.md").read_text()
    missing = [name for name in Settings.model_fields if f"CLOUDMASK_{name.upper()}" not in page]
    assert not missing


def test_the_clock_can_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1544794329")
    assert read_clock() == datetime(2018, 12, 14, 13, 32, 9, tzinfo=UTC)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "yesterday")
    with pytest.raises(SettingsError, match="SOURCE_DATE_EPOCH"):
        read_clock()
