"""JSON Schema, draft 2020-12: the schema files, and validators that read patterns as ECMA-262 does.

`jsonschema_rs` checks every event and every client message. `jsonschema` is slower, and explains to a client why its
message is invalid.
"""

import importlib.resources
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jsonschema
import jsonschema_rs
import msgspec

SCHEMAS = "tornado_bridge.schemas"


def load_schema(name: str) -> dict[str, Any]:
    """Return the schema file `name`.json of `tornado_bridge.schemas`. Raises FileNotFoundError if it does not exist."""
    text = importlib.resources.files(SCHEMAS).joinpath(f"{name}.json").read_bytes()
    schema: dict[str, Any] = msgspec.json.decode(text)
    return schema


def _pattern(_: Any, pattern: str, instance: Any, __: Any) -> Iterator[jsonschema.ValidationError]:
    if isinstance(instance, str) and not re.search(_as_ecma(pattern), instance, re.ASCII):
        yield jsonschema.ValidationError(f"does not match {pattern}")


def _as_ecma(pattern: str) -> str:
    """Replace each `$`, which in ECMA-262 matches only the very end, by Python's `\\Z`.

    A dollar in a class or after a backslash stays.
    """
    return re.sub(r"\\.|\[(?:\\.|[^\]\\])*\]|\$", lambda m: r"\Z" if m[0] == "$" else m[0], pattern)


_Explaining = jsonschema.validators.extend(jsonschema.Draft202012Validator, {"pattern": _pattern})  # type: ignore[no-untyped-call]


class Validator:
    """A compiled schema.

    `admits_decoded` is a faster `admits` for values that were decoded from UTF-8: they hold no lone surrogate. Raises
    ValueError for an invalid schema. The error text has no subject: the caller puts the name of the schema before it.
    """

    def __init__(self, schema: Mapping[str, Any]) -> None:
        try:
            jsonschema.Draft202012Validator.check_schema(schema)
            self._fast = jsonschema_rs.Draft202012Validator(dict(schema))
        except (jsonschema.SchemaError, ValueError) as error:
            raise ValueError(f"is not a valid draft 2020-12 schema ({str(error).splitlines()[0]})") from None
        self.admits_decoded: Callable[[Any], bool] = self._fast.is_valid
        self._explaining = _Explaining(schema)

    def admits(self, instance: Any) -> bool:
        """Tell whether `instance` is valid. A lone surrogate makes it invalid if the schema looks at the text."""
        try:
            return self._fast.is_valid(instance)
        except UnicodeEncodeError:
            return False

    def first_fault(self, instance: Any) -> tuple[str, str]:
        """Return the path of the first error in `instance`, and the keyword of the schema that it breaks.

        `instance` must be invalid. It may hold texts from outside, so the time is linear in their length whatever the
        patterns are.
        """
        error = next(iter(self._fast.iter_errors(instance)))
        steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in error.instance_path)
        return "$" + "".join(steps), str(error.schema_path[-1])

    def first_error(self, instance: Any) -> jsonschema.ValidationError | None:
        """Return the most relevant error in `instance`, or None if it is valid."""
        error: jsonschema.ValidationError | None = jsonschema.exceptions.best_match(
            self._explaining.iter_errors(instance)
        )
        return error
