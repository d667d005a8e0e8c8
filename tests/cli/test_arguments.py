from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pc_cloudmask.cli.app import GLOBAL_FLAGS, normalise_arguments


def test_global_options_may_stand_behind_the_command() -> None:
    assert normalise_arguments(["ingest", "--dry-run", "--json", "--config", "x.toml", "-v", "-vv"]) == [
        "--json",
        "--config",
        "x.toml",
        "-v",
        "-vv",
        "ingest",
        "--dry-run",
    ]


def test_a_list_after_an_option_becomes_repeated_options() -> None:
    assert normalise_arguments(["ingest", "--tile", "22KFV", "33UUP", "--limit", "3"]) == [
        "ingest",
        "--tile",
        "22KFV",
        "--tile",
        "33UUP",
        "--limit",
        "3",
    ]


def test_words_behind_a_double_dash_are_left_alone() -> None:
    assert normalise_arguments(["retry", "--", "--json"]) == ["retry", "--", "--json"]


def test_a_bbox_that_begins_with_a_minus_stays_with_its_option() -> None:
    arguments = ["ingest", "--bbox", "-50,-23,-49,-22"]
    assert normalise_arguments(arguments) == arguments


@given(
    st.lists(
        st.sampled_from(["ingest", "--json", "--tile", "22KFV", "-v", "--limit", "3", "--config=a", "--"])
    )
)
def test_no_word_is_lost(arguments: list[str]) -> None:
    kept = [word for word in normalise_arguments(arguments) if word != "--tile"]
    assert sorted(kept) == sorted(word for word in arguments if word != "--tile")


@given(st.permutations(["ingest", "--dry-run", *sorted(GLOBAL_FLAGS)]))
def test_global_flags_come_first_wherever_they_stood(arguments: list[str]) -> None:
    normalised = normalise_arguments(arguments)
    assert set(normalised[: len(GLOBAL_FLAGS)]) == set(GLOBAL_FLAGS)
