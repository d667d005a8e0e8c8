"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

BboxOption = Annotated[str | None, typer.Option(metavar="W,S,E,N", help="Degrees; W > E crosses 180°.")]
TileOption = Annotated[list[str] | None, typer.Option(metavar="TILE…", help="MGRS tiles such as 22KFV.")]
DatetimeOption = Annotated[
    str | None, typer.Option(metavar="INTERVAL", help="2018-12, 2018-12-14/2019-01-31, 2018-12-14/..")
]
StoreOption = Annotated[str | None, typer.Option(metavar="URL", help="Directory or s3://bucket/prefix.")]
CatalogOption = Annotated[
    str | None, typer.Option(metavar="URL", help="Directory, s3://bucket/prefix or a catalog's https URL.")
]
"""A store that is only read."""
FilesOption = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Where local source files may be, beside the store.")
]
