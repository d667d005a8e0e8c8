"""Which rung of the ladder makes a mask, over all ladders, times and inputs."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import accumulate

from hypothesis import given
from hypothesis import strategies as st

from pc_cloudmask.runs.candidate import Ladder, PublishedMask

TAKEN = datetime(2024, 1, 1, 13, 32, 19, tzinfo=UTC)
NAMES = ["cloud-score-plus", "s2cloudless", "omnicloudmask", "csmask"]
DAYS = st.integers(0, 40).map(lambda days: timedelta(days=days))
LADDERS = st.builds(
    Ladder,
    st.lists(st.sampled_from(NAMES), min_size=1, unique=True).map(tuple),
    DAYS,
)
PRESENT = st.sets(st.sampled_from(NAMES))
PUBLISHED = st.none() | st.builds(PublishedMask, st.sampled_from(NAMES), st.booleans())


def choose(
    ladder: Ladder, present: set[str], age: timedelta, published: PublishedMask | None = None
) -> str | None:
    """The method that makes the mask; None where the scene waits, or its mask stays as it is."""
    rungs = ladder.list_rungs(TAKEN, TAKEN + age, published)
    return next((method for method in rungs if method in present), None)


def rank(ladder: Ladder, method: str) -> int:
    """Its place, from the best; a method that is no rung comes behind all of them."""
    return ladder.methods.index(method) if method in ladder.methods else len(ladder.methods)


@given(LADDERS, PRESENT, DAYS, PUBLISHED)
def test_a_mask_never_takes_the_place_of_a_better_one(
    ladder: Ladder, present: set[str], age: timedelta, published: PublishedMask | None
) -> None:
    method = choose(ladder, present, age, published)
    if method is not None and published is not None:
        assert rank(ladder, method) <= rank(ladder, published.method)
        assert method != published.method or not published.is_current


@given(LADDERS, PRESENT, DAYS, PUBLISHED)
def test_the_first_whose_input_exists_makes_the_mask_of_a_scene_whose_patience_is_over(
    ladder: Ladder, present: set[str], age: timedelta, published: PublishedMask | None
) -> None:
    ladder = replace(ladder, patience=timedelta())
    best = next((method for method in ladder.methods if method in present), None)
    assert choose(ladder, present, age) == best
    if best is not None and published and rank(ladder, best) < rank(ladder, published.method):
        assert choose(ladder, present, age, published) == best


@given(LADDERS, DAYS, PUBLISHED)
def test_with_every_input_the_first_makes_the_mask_at_once(
    ladder: Ladder, age: timedelta, published: PublishedMask | None
) -> None:
    final = PublishedMask(ladder.methods[0], is_current=True)
    expected = None if published == final else ladder.methods[0]
    assert choose(ladder, set(NAMES), age, published) == expected


@given(LADDERS, PRESENT, DAYS)
def test_a_scene_waits_if_no_rung_has_its_input_or_later_ones_alone_before_patience_is_over(
    ladder: Ladder, present: set[str], age: timedelta
) -> None:
    has_none = not present.intersection(ladder.methods)
    is_early = ladder.methods[0] not in present and age < ladder.patience
    assert (choose(ladder, present, age) is None) == (has_none or is_early)


@given(LADDERS, PRESENT, DAYS, st.sampled_from(NAMES))
def test_a_changed_item_waits_for_the_input_that_its_mask_was_made_of(
    ladder: Ladder, present: set[str], age: timedelta, method: str
) -> None:
    if method in ladder.methods:
        enough = {*ladder.list_better(method), method}
        made = choose(ladder, present, age, PublishedMask(method, is_current=False))
        assert (made is None) == present.isdisjoint(enough)


@given(LADDERS, st.lists(st.tuples(PRESENT, DAYS, st.booleans()), max_size=12))
def test_a_scenes_masks_only_become_better_whatever_comes_when(
    ladder: Ladder, days: list[tuple[set[str], timedelta, bool]]
) -> None:
    """Inputs come and go, the item changes, time passes: the masks of its life, in order."""
    published: PublishedMask | None = None
    ranks = []
    ages = accumulate((step for _, step, _ in days), initial=timedelta())
    for (present, _, is_changed), age in zip(days, ages, strict=False):
        if published and is_changed:
            published = replace(published, is_current=False)
        method = choose(ladder, present, age, published)
        if method:
            published = PublishedMask(method, is_current=True)
            ranks.append(rank(ladder, method))
            assert ladder.is_provisional(method) == bool(ladder.list_better(method))
    assert ranks == sorted(ranks, reverse=True)


@given(st.sampled_from(NAMES), PRESENT, DAYS, DAYS, PUBLISHED)
def test_one_method_makes_every_mask_or_the_scene_waits(
    method: str, present: set[str], patience: timedelta, age: timedelta, published: PublishedMask | None
) -> None:
    ladder = Ladder((method,), patience)
    is_final = published == PublishedMask(method, is_current=True)
    assert choose(ladder, present, age, published) == (None if is_final or method not in present else method)
