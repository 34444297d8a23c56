"""Section: the base class of all sections of luigi.cfg, and types of their settings.

Values are checked when a section is created: a wrong value raises `DataError`, whose text states the legal values. A setting
that cannot change a result (paths, device, workers ...) is defined by `insignificant` and is not part of fingerprints.
"""

import difflib
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, ValidationError

from datasets.errors import DataError


def setting(default: Any, meaning: str, **rules: Any) -> Any:
    """Return the pydantic field of a setting. meaning: its description in luigi.cfg; rules: its legal range, such as gt=0."""
    return Field(default, description=meaning, **rules)


def insignificant(default: Any, meaning: str, **rules: Any) -> Any:
    """Return the pydantic field of a setting that cannot change a result; arguments as for `setting`."""
    return setting(default, meaning, json_schema_extra={"significant": False}, **rules)


class Section(BaseModel):
    """The base class of all sections. Sections are immutable, refuse unknown names, and convert texts to the field's type."""

    intro: ClassVar[str] = ""  # the comment above the section in luigi.cfg

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise DataError(" ".join(self._sentence(e) for e in error.errors())) from None

    @classmethod
    def _sentence(cls, error: Any) -> str:
        if error["type"] == "extra_forbidden":
            return unknown(f"setting {error['loc'][0]}", str(error["loc"][0]), list(cls.model_fields))
        if not error["loc"]:
            return str(error["ctx"]["error"])
        message = (
            error["msg"]
            .replace("Input should", "it should")
            .replace("String should", "it should")
            .removeprefix("Value error, ")
        )
        return f"{error['loc'][0]} = {error['input']}: {message}."

    def significant(self) -> dict[str, Any]:
        """Return name -> value of the settings that can change a result."""
        return self.model_dump(exclude={n for n, f in type(self).model_fields.items() if f.json_schema_extra})


def unknown(what: str, name: str, legal: list[str]) -> str:
    """Return the error message for an unknown name; it states a similar legal name, if there is one, and all legal names.

    what: the unknown name with its kind, such as `dataset mpi`.
    """
    near = difflib.get_close_matches(name, legal, n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    return f"unknown {what}.{hint} Legal here: {', '.join(legal)}."


def unquoted(text: str) -> str:
    """Return a text without quotes around it; users write quotes around a path with spaces, as in a shell."""
    inside = text[1:-1]
    return inside if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'" and text[0] not in inside else text


def _numbers(value: Any) -> Any:
    """Return the numbers in a text such as `4`, `2 2 3` or `2, 2, 3` as a tuple."""
    if isinstance(value, str):
        return tuple(value.replace(",", " ").split())
    return (value,) if isinstance(value, (int, float)) else value


def _as_json(numbers: tuple) -> Any:
    return numbers[0] if len(numbers) == 1 else list(numbers)


_T = TypeVar("_T")
Numbers = Annotated[tuple[_T, ...], BeforeValidator(_numbers), PlainSerializer(_as_json), Field(min_length=1, max_length=16)]
Part = Annotated[float, Field(gt=0, lt=1)]


def _not_sample(source: str) -> str:
    if source == "sample":
        raise ValueError("it should be a path or an address: the built-in sample does not draw this dataset")
    return source


# Type of the setting that gives the source of a dataset which the built-in sample does not draw: any text except `sample`.
NotSample = Annotated[str, AfterValidator(_not_sample)]
