"""Errors cross process boundaries: Dask and process pools pickle them."""

from __future__ import annotations

import pickle
from multiprocessing.reduction import ForkingPickler
from typing import Any

import pytest

from pc_cloudmask import errors
from pc_cloudmask.errors import CloudmaskError, InvalidField, ItemError, MissingField

ITEM_ERRORS: dict[type[CloudmaskError], tuple[str, ...]] = {
    ItemError: ("S2X", "geometry", "is\nempty"),
    InvalidField: ("S2X", "geometry", "is\nempty"),
    MissingField: ("S2X", "geometry"),
}
CLASSES = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, Exception)]


@pytest.mark.parametrize("error_class", CLASSES)
@pytest.mark.parametrize("dumps", [pickle.dumps, ForkingPickler.dumps])
def test_an_error_survives_pickling(error_class: type[CloudmaskError], dumps: Any) -> None:
    error = error_class(*ITEM_ERRORS.get(error_class, ("the store\x1b is gone",)))
    again = pickle.loads(dumps(error))
    assert type(again) is error_class
    assert (str(again), again.args, vars(again)) == (str(error), error.args, vars(error))
    assert again.retryable == error.retryable
