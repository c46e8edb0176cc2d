"""Questions that a person has to answer before the settings are complete."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from usersync.schema.init.toml import toml

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Answer:
    """An answer, and its settings."""

    text: str
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Question:
    """A question. Until it is answered, the first answer is assumed."""

    #: The setting in question.
    setting: str
    text: str
    answers: tuple[Answer, ...]
    #: The remark at the setting while the first answer is assumed.
    remark: str = ""

    def __str__(self) -> str:
        """The question with its answers, as a comment of the settings file."""
        first, *others = self.answers
        return f"{self.text} Assumed: {_said(first)}. Or: {'; '.join(map(_said, others))}."


def _said(answer: Answer) -> str:
    settings = ", ".join(f"{name} = {toml(value)}" for name, value in answer.data.items())
    return f"{answer.text} ({settings})" if settings else answer.text
