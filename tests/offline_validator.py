"""Validation of STAC documents without a network."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from jsonschema.validators import validator_for
from pystac.validation.stac_validator import JsonSchemaSTACValidator

from stac_ext.cloudmask import SCHEMA_URI, read_schema


class OfflineValidator(JsonSchemaSTACValidator):
    """Core schemas from pystac, ours from the package, the others from ``schemas`` where it is there.

    A schema that is nowhere accepts anything and is noted in ``unknown``; nothing asks the network.
    """

    def __init__(self, schemas: Path) -> None:
        super().__init__()
        self.unknown: set[str] = set()
        self._judges: dict[str, Any] = {}
        self.schema_cache[SCHEMA_URI] = read_schema()
        for path in sorted(schemas.glob("*_v*.json")):
            match = re.fullmatch(r"(.+)_(v.+)", path.stem)
            assert match
            uri = f"https://stac-extensions.github.io/{match[1]}/{match[2]}/schema.json"
            self.schema_cache[uri] = json.loads(path.read_text())

    def _get_schema(self, schema_uri: str) -> dict[str, Any]:
        if schema_uri not in self.schema_cache:
            self.unknown.add(schema_uri)
            self.schema_cache[schema_uri] = {"$schema": "http://json-schema.org/draft-07/schema#"}
        return self.schema_cache[schema_uri]

    def _validate_from_uri(
        self, stac_dict: dict[str, Any], stac_object_type: Any, schema_uri: str, href: str | None = None
    ) -> None:
        """As pystac does, which looks first whether the schema is one, each time: here once is enough."""
        if (judge := self._judges.get(schema_uri)) is None:
            super()._validate_from_uri(stac_dict, stac_object_type, schema_uri, href)
            schema = self._get_schema(schema_uri)
            judge = self._judges[schema_uri] = validator_for(schema)(schema, registry=self.registry)
        elif not judge.is_valid(stac_dict):
            super()._validate_from_uri(stac_dict, stac_object_type, schema_uri, href)
