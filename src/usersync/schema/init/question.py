"""What a person has to answer before the settings are right."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from usersync.schema.init.toml import toml

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Answer:
    """One of the answers, and the settings that it means."""

    text: str
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Question:
    """A question. Until somebody has answered, the first answer holds."""

    #: The setting that it is about.
    setting: str
    text: str
    answers: tuple[Answer, ...]
    #: Said of the setting while the first answer holds.
    remark: str = ""

    def __str__(self) -> str:
        """In one text, as a comment of the file has it."""
        first, *others = self.answers
        return f"{self.text} Assumed: {_said(first)}. Or: {'; '.join(map(_said, others))}."


def _said(answer: Answer) -> str:
    settings = ", ".join(f"{name} = {toml(value)}" for name, value in answer.data.items())
    return f"{answer.text} ({settings})" if settings else answer.text
