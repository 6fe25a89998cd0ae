"""JSON Schema, draft 2020-12: the schema files, and validators that hold to ECMA-262's patterns.

`jsonschema_rs` answers yes or no on the way of every event and message; `jsonschema` explains a no to a client.
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
    """Return the schema file `name`.json of `tornado_bridge.schemas`; raises FileNotFoundError if there is none."""
    text = importlib.resources.files(SCHEMAS).joinpath(f"{name}.json").read_bytes()
    schema: dict[str, Any] = msgspec.json.decode(text)
    return schema


def _pattern(_: Any, pattern: str, instance: Any, __: Any) -> Iterator[jsonschema.ValidationError]:
    if isinstance(instance, str) and not re.search(_as_ecma(pattern), instance, re.ASCII):
        yield jsonschema.ValidationError(f"does not match {pattern}")


def _as_ecma(pattern: str) -> str:
    """Write `$`, the very end in ECMA-262, as Python's `\\Z`; a dollar in a class or after a backslash stays."""
    return re.sub(r"\\.|\[(?:\\.|[^\]\\])*\]|\$", lambda m: r"\Z" if m[0] == "$" else m[0], pattern)


_Explaining = jsonschema.validators.extend(jsonschema.Draft202012Validator, {"pattern": _pattern})  # type: ignore[no-untyped-call]


class Validator:
    """A compiled schema; `admits_decoded` is `admits` for what came out of UTF-8 and so holds no lone surrogate.

    Raises ValueError, in one clause, for a schema that is not valid under draft 2020-12.
    """

    def __init__(self, schema: Mapping[str, Any]) -> None:
        try:
            jsonschema.Draft202012Validator.check_schema(schema)
            self._fast = jsonschema_rs.Draft202012Validator(dict(schema))
        except (jsonschema.SchemaError, ValueError) as error:
            raise ValueError(f"is no draft 2020-12 schema ({str(error).splitlines()[0]})") from None
        self.admits_decoded: Callable[[Any], bool] = self._fast.is_valid
        self._explaining = _Explaining(schema)

    def admits(self, instance: Any) -> bool:
        """Tell whether `instance` is valid; a lone surrogate, wherever the schema looks, makes it invalid."""
        try:
            return self._fast.is_valid(instance)
        except UnicodeEncodeError:
            return False

    def first_fault(self, instance: Any) -> tuple[str, str]:
        """Return where `instance`, which must be invalid, is so first, and the keyword that it breaks.

        Takes time linear in its texts, whatever the patterns: the firewall asks for texts that came from outside.
        """
        error = next(iter(self._fast.iter_errors(instance)))
        steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in error.instance_path)
        return "$" + "".join(steps), str(error.schema_path[-1])

    def first_error(self, instance: Any) -> jsonschema.ValidationError | None:
        """Return the most telling reason why `instance` is invalid, None where it is valid."""
        error: jsonschema.ValidationError | None = jsonschema.exceptions.best_match(
            self._explaining.iter_errors(instance)
        )
        return error
