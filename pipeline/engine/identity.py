"""Compute the identity of a result (all facts that determine the result) and the fingerprint of the identity."""

import hashlib
import json
from collections.abc import Callable
from typing import Any

from pydantic import BaseModel


class Identity(BaseModel):
    """A stage, its version and significant settings, the fingerprints of its inputs, and the digests of its external files."""

    stage: str
    version: int
    settings: dict[str, Any]
    inputs: dict[str, str]  # name of the input -> its fingerprint
    external_inputs: dict[str, str]  # name of the external file -> its digest, or its URL if the digest is not known

    @property
    def fingerprint(self) -> str:
        """The sha256 of this identity as canonical JSON, 64 hexadecimal digits."""
        canonical = json.dumps(self.model_dump(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    def difference(self, old: "Identity", input_name: Callable[[str], str], source_name: Callable[[str], str]) -> str:
        """Return a text that lists the differences from an older identity.

        input_name, source_name: functions that return the displayed name of an input or an external file.
        """
        words = []
        if old.version != self.version:
            words.append(f"code version {old.version} -> {self.version}")
        for key in _differing(old.settings, self.settings):
            words.append(f"{key} {old.settings.get(key, 'unset')} -> {self.settings.get(key, 'unset')}")
        words += [f"input {input_name(key)} changed" for key in _differing(old.inputs, self.inputs)]
        words += [f"{source_name(key)} changed" for key in _differing(old.external_inputs, self.external_inputs)]
        return "; ".join(words)


def _differing(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Return the keys whose values differ, including the keys that only one dictionary has."""
    unset = object()
    return [key for key in sorted(old.keys() | new.keys()) if old.get(key, unset) != new.get(key, unset)]
