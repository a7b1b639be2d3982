"""`inspect.toml` in a folder of pictures: which bundle inspects them, and what is known of all of them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from runtime.errors import ConfigError
from runtime.facts import Facts

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pyright: ignore[reportMissingImports] - Python 3.10 alone has it

FILE = "inspect.toml"


class FolderSettings(BaseModel):
    """What the folder says; options of the command line come before it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bundle: Path | None = Field(default=None, description="the bundle's folder, relative to this file's")
    facts: Facts = Facts()
    rules: dict[str, Any] = Field(default_factory=dict, description="the task's rules for a verdict")


def read_folder_settings(paths: Sequence[Path]) -> FolderSettings:
    """The settings of the first path that is a folder with an `inspect.toml`; empty ones where there is none.

    Raises:
        ConfigError: The file cannot be read or is not valid; the text names the key.
    """
    file = next((path / FILE for path in paths if (path / FILE).is_file()), None)
    if file is None:
        return FolderSettings()
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8"))
        found = FolderSettings.model_validate(table)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{file}: {error}, expected settings in TOML. Mend or remove it.") from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        raise ConfigError(
            f"{file}: {key}: {first['msg'].lower()}, found {first['input']!r}. "
            f"Known keys: {', '.join(FolderSettings.model_fields)}; in facts: {', '.join(Facts.model_fields)}."
        ) from error
    if found.bundle is None:
        return found
    return found.model_copy(update={"bundle": file.parent / found.bundle})
