"""The services of ``deploy/compose.yaml`` as processes of this machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

COMPOSE = Path(__file__).parents[2] / "deploy" / "compose.yaml"
SECRETS = {
    name: f"planted-{name}-secret"
    for name in yaml.safe_load(COMPOSE.read_text())["secrets"]  # pragma: allowlist secret
}
PASSWORD = SECRETS["prefect"]


@dataclass(frozen=True)
class Service:
    """What compose runs: command and environment."""

    command: list[str]
    environment: dict[str, str]


def read_service(name: str, replacements: Mapping[str, str]) -> Service:
    """Return the service with what only a container has replaced by what this machine has.

    Compose's ``$$`` is a ``$``.
    """
    service = yaml.safe_load(COMPOSE.read_text())["services"][name]
    command = service["command"] if "command" in service else service["entrypoint"]
    return Service(
        [_replace(part.replace("$$", "$"), replacements) for part in command],
        {
            name: _replace(value, replacements)
            for name, value in service.get("environment", {}).items()
            if not name.startswith(("AWS_", "CLOUDMASK_"))
        },
    )


def build_replacements(folder: Path, port: int) -> dict[str, str]:
    """Return what containers have, by what stands for it on loopback below ``folder``."""
    return {
        "/run/secrets": str(folder.with_name(f"{folder.name}-secrets")),
        "postgresql+asyncpg://prefect:$database@database/prefect": f"sqlite+aiosqlite:///{folder}/prefect.db",
        "--host 0.0.0.0": f"--host 127.0.0.1 --port {port}",
        "http://127.0.0.1:4200": f"http://127.0.0.1:{port}",
        "http://prefect:4200": f"http://127.0.0.1:{port}",
    }


def write_secrets(folder: Path) -> None:
    """Write the files that compose mounts below ``/run/secrets``."""
    folder = Path(build_replacements(folder, 0)["/run/secrets"])
    folder.mkdir()
    for name, secret in SECRETS.items():
        (folder / name).write_text(f"{secret}\n")


def assert_all_used(replacements: Mapping[str, str]) -> None:
    """Fail where the compose file no longer says what is replaced."""
    text = COMPOSE.read_text().replace("$$", "$")
    assert not [each for each in replacements if each not in text]


def _replace(text: str, replacements: Mapping[str, str]) -> str:
    for old, new in replacements.items():
        text = text.replace(old, new)
    return text
