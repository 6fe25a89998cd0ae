"""tornado_bridge.redaction.closed_schema: closed schemas, and each fault that leaves a schema open."""

from typing import Any

import pytest

from tornado_bridge.redaction import closed_schema
from tornado_bridge.redaction.validation import Validator

TEXT = {"type": "string", "pattern": "^[a-z]+$", "maxLength": 8}
CHOICE = {"enum": ["buy", "sell"]}
EMPTY: dict[str, Any] = {"type": "object", "properties": {}, "additionalProperties": False}
DIALECT = "https://json-schema.org/draft/2020-12/schema"

# A text like this must never leave.
SECRET = 'macdV 51.7, "id": 1 & more'


def closed(**members: Any) -> dict[str, Any]:
    return {"type": "object", "properties": members, "required": list(members), "additionalProperties": False}


def text(pattern: str, most: int = 100) -> dict[str, Any]:
    return {"type": "string", "pattern": pattern, "maxLength": most}


def found(schema: Any) -> list[str]:
    return list(closed_schema.findings(schema))


@pytest.mark.parametrize(
    "schema",
    [
        EMPTY,
        closed(side=CHOICE),
        {**EMPTY, "properties": {"side": CHOICE}},
        TEXT,
        {**TEXT, "minLength": 1},
        text("^[a-z]+$", 0),
        text("^[a-z]+$", 1024),
        {"enum": ["a", 1, 1.5, True, None]},
        {"enum": ["a"], "type": "string"},
        {"const": "a"},
        {"const": None},
        {"type": "integer", "minimum": 0, "maximum": 9007199254740991},
        {"type": "number", "minimum": -9007199254740991, "maximum": 0.5},
        {"type": "boolean"},
        {"type": "null"},
        {"type": "array", "items": CHOICE, "maxItems": 0},
        {"type": "array", "items": CHOICE, "maxItems": 1024, "minItems": 1, "uniqueItems": True},
        {"anyOf": [TEXT, {"type": "null"}]},
        {"oneOf": [closed(a=CHOICE), closed(b=CHOICE)]},
        {"$defs": {"side": CHOICE}, **closed(side={"$ref": "#/$defs/side"})},
        {"$defs": {"a-B_9": CHOICE}, **closed(side={"$ref": "#/$defs/a-B_9", "description": "Which side."})},
        {"$defs": {"one": {"$ref": "#/$defs/two"}, "two": CHOICE}, **closed(a={"$ref": "#/$defs/one"})},
        {"$schema": DIALECT, "$comment": "c", "title": "t", "description": "d", "examples": ["a"], **CHOICE},
    ],
)
def test_a_closed_schema_has_no_findings(schema: dict[str, Any]) -> None:
    assert found(schema) == []


@pytest.mark.parametrize("schema", [None, True, False, [], "string", 5])
def test_a_schema_must_be_an_object(schema: Any) -> None:
    assert found(schema) == ["$: a schema must be an object"]


@pytest.mark.parametrize(
    "schema",
    [{}, {"properties": {}}, {"type": "text"}, {"type": ["string"]}, {"type": ["string", "null"]}, {"type": None}],
)
def test_a_schema_has_one_type(schema: dict[str, Any]) -> None:
    assert found(schema) == ["$: a schema needs one known type, an enum, a const, a union or a $ref"]


@pytest.mark.parametrize("members", [{}, {"additionalProperties": True}, {"additionalProperties": TEXT}])
def test_an_object_admits_no_member_that_it_does_not_list(members: dict[str, Any]) -> None:
    schema = {"type": "object", "properties": {}, **members}
    assert found(schema) == ["$: an object must set additionalProperties to false"]


@pytest.mark.parametrize("properties", [{}, {"properties": []}, {"properties": None}])
def test_an_object_lists_its_members(properties: dict[str, Any]) -> None:
    schema = {"type": "object", "additionalProperties": False, **properties}
    assert found(schema) == ["$: an object must list its properties"]


@pytest.mark.parametrize("required", [["b"], ["a", "b"], "a", None, [["a"]], [1]])
def test_a_required_member_is_one_that_is_listed(required: Any) -> None:
    schema = {**closed(a=CHOICE), "required": required}
    assert found(schema) == ["$: required must be a list of names from the properties"]


@pytest.mark.parametrize(
    ("schema", "finding"),
    [
        ({**EMPTY, "patternProperties": {".*": TEXT}}, "patternProperties"),
        ({**EMPTY, "unevaluatedProperties": True}, "unevaluatedProperties"),
        ({**EMPTY, "allOf": [{}]}, "allOf"),
        ({**EMPTY, "if": {}}, "if"),
        ({**EMPTY, "x-more": {}}, "x-more"),
        ({**TEXT, "format": "date"}, "format"),
        ({**TEXT, "contentEncoding": "base64"}, "contentEncoding"),
        ({**TEXT, "minimum": 1}, "minimum"),
        ({**TEXT, "$anchor": "a"}, "$anchor"),
        ({**TEXT, "$dynamicRef": "#a"}, "$dynamicRef"),
        ({**TEXT, "not": {}}, "not"),
        ({"type": "array", "items": CHOICE, "maxItems": 1, "prefixItems": [{}]}, "prefixItems"),
        ({"type": "array", "items": CHOICE, "maxItems": 1, "contains": {}}, "contains"),
        ({"type": "integer", "minimum": 0, "maximum": 1, "multipleOf": 1}, "multipleOf"),
        ({"type": "boolean", "maxLength": 1}, "maxLength"),
        ({"type": "null", "enum_": []}, "enum_"),
    ],
)
def test_a_keyword_that_is_not_allowed_is_refused(schema: dict[str, Any], finding: str) -> None:
    assert found(schema) == [f"$: the keyword {finding!r} is not allowed for the type {schema['type']!r}"]


@pytest.mark.parametrize("keyword", ["properties", "anyOf", "pattern", "$id", "$defs", "$schema"])
def test_a_choice_has_no_other_keyword_beside_it(keyword: str) -> None:
    assert found(closed(side={**CHOICE, keyword: {}})) == [
        f"$.side: the keyword {keyword!r} is not allowed beside an enum or a const"
    ]


@pytest.mark.parametrize("choice", [{"enum": []}, {"enum": "a"}, {"enum": None}, {"enum": {"a": 1}}])
def test_an_enum_lists_its_values(choice: dict[str, Any]) -> None:
    assert found(choice) == ["$: an enum must list at least one value"]


@pytest.mark.parametrize("choice", [{"enum": ["a", {"a": 1}]}, {"enum": [["a"]]}, {"const": {"a": 1}}, {"const": []}])
def test_a_choice_is_of_plain_values(choice: dict[str, Any]) -> None:
    assert found(choice) == ["$: an enum or a const may have only texts, numbers, booleans and null as values"]


@pytest.mark.parametrize("keyword", ["anyOf", "oneOf"])
@pytest.mark.parametrize("branches", [[], None, {}, {"type": "null"}])
def test_a_union_lists_schemas(keyword: str, branches: Any) -> None:
    assert found({keyword: branches}) == [f"$: {keyword} must list at least one schema"]


@pytest.mark.parametrize("more", [{"type": "string"}, {"oneOf": [TEXT]}, {"properties": {}}])
def test_a_union_has_no_other_keyword_beside_it(more: dict[str, Any]) -> None:
    assert found({"anyOf": [TEXT], **more}) == ["$: no other keyword is allowed beside anyOf or oneOf"]


@pytest.mark.parametrize("keyword", ["anyOf", "oneOf"])
def test_every_branch_of_a_union_is_closed(keyword: str) -> None:
    assert found({keyword: [TEXT, {"type": "object"}, {}]}) == [
        f"$.{keyword}[1]: an object must set additionalProperties to false",
        f"$.{keyword}[1]: an object must list its properties",
        f"$.{keyword}[2]: a schema needs one known type, an enum, a const, a union or a $ref",
    ]


def test_every_member_of_an_object_is_closed() -> None:
    assert found(closed(a=closed(b={}))) == [
        "$.a.b: a schema needs one known type, an enum, a const, a union or a $ref"
    ]


def test_the_items_of_an_array_are_closed() -> None:
    assert found({"type": "array", "items": {}, "maxItems": 1}) == [
        "$[]: a schema needs one known type, an enum, a const, a union or a $ref"
    ]


def test_an_array_has_a_schema_for_its_items() -> None:
    assert found({"type": "array", "maxItems": 1}) == ["$: an array needs a schema for its items"]


@pytest.mark.parametrize("bound", [{}, {"maxItems": 1025}, {"maxItems": -1}, {"maxItems": True}, {"maxItems": 1.0}])
def test_an_array_is_bounded(bound: dict[str, Any]) -> None:
    schema = {"type": "array", "items": CHOICE, **bound}
    assert found(schema) == ["$: an array needs a maxItems of at most 1024"]


@pytest.mark.parametrize("kind", ["integer", "number"])
@pytest.mark.parametrize(
    "bounds",
    [
        {},
        {"minimum": 0},
        {"maximum": 0},
        {"minimum": 0, "maximum": True},
        {"minimum": 0, "maximum": "9"},
        {"minimum": 0, "maximum": 9007199254740992},
        {"minimum": -9007199254740992, "maximum": 0},
        {"minimum": 0, "maximum": 1e308},
        {"minimum": float("-inf"), "maximum": float("inf")},
        {"minimum": float("nan"), "maximum": float("nan")},
    ],
)
def test_a_number_is_bounded_on_both_sides(kind: str, bounds: dict[str, Any]) -> None:
    assert found({"type": kind, **bounds}) == [
        "$: a number needs a minimum and a maximum, both between -9007199254740991 and 9007199254740991"
    ]


@pytest.mark.parametrize(
    "bound", [{}, {"maxLength": 1025}, {"maxLength": -1}, {"maxLength": True}, {"maxLength": 8.0}, {"maxLength": "8"}]
)
def test_a_text_is_bounded(bound: dict[str, Any]) -> None:
    schema = {"type": "string", "pattern": "^a$", **bound}
    assert found(schema) == ["$: a text without an enum needs a maxLength of at most 1024"]


@pytest.mark.parametrize("pattern", [{}, {"pattern": None}, {"pattern": ["^a$"]}])
def test_a_text_has_an_enum_or_a_pattern(pattern: dict[str, Any]) -> None:
    assert found({"type": "string", "maxLength": 8, **pattern}) == ["$: a text needs an enum or a pattern"]


@pytest.mark.parametrize(
    "pattern",
    [
        "^$",
        "^a$",
        r"^\d{1,3}$",
        r"^\w+$",
        r"^[\w.-]*$",
        "^(?:a|b)(c|d)?$",
        "^(?:a|(?:b|c))+$",
        "^a{2}b{2,}c{2,3}d*?e+?f??$",
        r"^\^\$\\\.\*\+\?\(\)\[\]\{\}\|/$",
        r"^[\]\[\^$.|*+?(){}/\\-]$",
        r"^[a\-z]$",
        "^[-a^]$",
        "^[a-]$",
        "^[a&b|c~d]$",
        "^\u00e9\n$",
        "^-?(0|[1-9][0-9]*)([.][0-9]*[1-9])?$",
        # 80 different characters.
        "^[!-p]$",
        "^(?:[!-P]|[A-p])$",
    ],
)
def test_a_pattern_that_names_what_it_admits_is_closed(pattern: str) -> None:
    assert found(text(pattern)) == []


@pytest.mark.parametrize(
    "pattern", ["", "^", "$", "a", "^a", "a$", r"^a\$", r"^\$", r"^\\\$", r"\^a$", "^a$\n", "^a$ "]
)
def test_a_pattern_is_anchored_at_both_ends(pattern: str) -> None:
    assert found(text(pattern)) == ["$: the pattern is not anchored at both ends"]


@pytest.mark.parametrize("pattern", ["^a|b$", "^(?:a|b)|c$", "^(?:a|b)|.*$", "^a|(?:b|c)$", "^|$", "^(?:a)|[a-z]*$"])
def test_an_alternative_is_inside_a_group(pattern: str) -> None:
    assert found(text(pattern)) == [
        "$: the pattern has an alternative outside a group, so neither alternative is anchored at both ends"
    ]


@pytest.mark.parametrize(
    ("pattern", "piece"),
    [
        # Patterns that admit nearly any text.
        ("^.*$", ".*$"),
        ("^(?:a|.*)$", ".*)$"),
        ("^[^a]*$", "[^a]"),
        (r"^[^\n]*$", r"[^\n"),
        (r"^\S*$", r"\S*$"),
        (r"^\W*$", r"\W*$"),
        (r"^\D*$", r"\D*$"),
        (r"^[\s\S]*$", "[\\s\\"),
        (r"^[\w\W]*$", "[\\w\\"),
        (r"^[\d\D]*$", "[\\d\\"),
        (r"^[\x00-\uffff]*$", r"[\x0"),
        (r"^[\u0000-\uffff]*$", r"[\u0"),
        # Patterns that engines read differently.
        (r"^\s$", r"\s$"),
        (r"^[\s]$", r"[\s]"),
        (r"^a\b$", r"\b$"),
        (r"^a\Z$", r"\Z$"),
        (r"^\A$", r"\A$"),
        (r"^\a$", r"\a$"),
        (r"^\x41$", r"\x41"),
        (r"^\u0041$", r"\u00"),
        (r"^\U00000041$", r"\U00"),
        (r"^\p{L}$", r"\p{L"),
        (r"^(a)\1$", r"\1$"),
        (r"^\0$", r"\0$"),
        (r"^\-$", r"\-$"),
        (r"^\_$", r"\_$"),
        (r"^[\b]$", r"[\b]"),
        ("^[[:alpha:]]$", "[[:a"),
        ("^[a[b]c]$", "[a[b"),
        ("^[]a]$", "[]a]"),
        ("^[]$", "[]$"),
        ("^[^]$", "[^]$"),
        ("^[a-z--b]$", "[a-z"),
        ("^[a&&b]$", "[a&&"),
        ("^[a||b]$", "[a||"),
        ("^[a~~b]$", "[a~~"),
        ("^a{,3}$", "{,3}"),
        ("^a{$", "{$"),
        ("^a}$", "}$"),
        ("^a]$", "]$"),
        ("^[a$", "[a$"),
        ("^a*+$", "*+$"),
        ("^a++$", "++$"),
        ("^a?+$", "?+$"),
        ("^a*?+$", "*?+$"),
        ("^a{2}{3}$", "{2}{"),
        # Groups with an extension, and anchors inside the pattern.
        ("^(?=a)$", "(?=a"),
        ("^(?!a)$", "(?!a"),
        ("^(?<=a)$", "(?<="),
        ("^(?<n>a)$", "(?<n"),
        ("^(?P<n>a)$", "(?P<"),
        ("^(?i)a$", "(?i)"),
        ("^(?i:a)$", "(?i:"),
        ("^(?#a)$", "(?#a"),
        ("^(?>a)$", "(?>a"),
        ("^^$", "^$"),
        ("^a$$", "$$"),
        ("^(?:a$)$", "$)$"),
        ("^(?:^a)$", "^a)$"),
    ],
)
def test_a_pattern_is_made_of_characters_listed_classes_groups_and_quantifiers(pattern: str, piece: str) -> None:
    reason = f"has {piece!r}, but may have only characters, listed classes, groups and quantifiers"
    assert found(text(pattern)) == [f"$: the pattern {reason}"]


@pytest.mark.parametrize(
    "pattern",
    [
        "^[ -~]*$",
        "^[!-~]*$",
        "^[!-q]$",
        "^(?:[ -O]|[P-~])*$",
        "^[ -O]*[P-~]*$",
        r"^[\w -/:-@]*$",
        r"^(?:\w| |!|#|%|&|\(|\)|\*|\+|,|-|\.|/|:|;|<|=|>|@|~)*$",
        "^[\u0000-\U0010ffff]*$",
        "^[a-\uffff]*$",
    ],
)
def test_a_pattern_that_names_over_80_characters_is_refused(pattern: str) -> None:
    reason = "names more than 80 different characters, so it admits nearly any text"
    assert found(text(pattern)) == [f"$: the pattern {reason}"]


@pytest.mark.parametrize("pattern", ["^(a$", "^a)$", "^*$", "^(?:*)$", "^[z-a]$", r"^[a-\d]$", "^a{3,2}$"])
def test_an_invalid_pattern_is_refused(pattern: str) -> None:
    assert found(text(pattern)) == ["$: the pattern is not a valid regular expression"]


@pytest.mark.parametrize(
    "target",
    [
        "#",
        "#/$defs",
        "#/$defs/",
        "#/$defs/none",
        "#/properties/side",
        "#/$defs/a/b",
        "#/$defs/a~1b",
        "#/$defs/%61",
        "#/$defs/side\n",
        "#side",
        "other.json#/$defs/side",
        "https://example.com/other.json",
        "",
        None,
        [],
    ],
)
def test_a_ref_names_a_definition_with_a_plain_name(target: Any) -> None:
    schema = {"$defs": {"side": CHOICE, "a/b": CHOICE, "a~1b": CHOICE, "%61": CHOICE}, **closed(s={"$ref": target})}
    assert found(schema) == [f"$.s: the $ref {target!r} does not refer to a schema in $defs"]


def test_a_ref_needs_defs() -> None:
    assert found(closed(s={"$ref": "#/$defs/a"})) == ["$.s: the $ref '#/$defs/a' does not refer to a schema in $defs"]


@pytest.mark.parametrize("definitions", [[], None, "side"])
def test_defs_are_an_object(definitions: Any) -> None:
    assert found({"$defs": definitions, **closed(s={"$ref": "#/$defs/side"})}) == [
        "$.$defs: the $defs must be an object",
        "$.s: the $ref '#/$defs/side' does not refer to a schema in $defs",
    ]


@pytest.mark.parametrize("keyword", ["$id", "$defs", "$schema", "type", "enum"])
def test_a_ref_has_no_other_keyword_beside_it(keyword: str) -> None:
    schema = {"$defs": {"side": CHOICE}, **closed(s={"$ref": "#/$defs/side", keyword: "urn:other"})}
    assert found(schema) == ["$.s: no other keyword is allowed beside a $ref"]


def test_a_ref_does_not_refer_back_to_itself() -> None:
    schema = {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, **closed(s={"$ref": "#/$defs/a"})}
    assert set(found(schema)) == {
        "$.$defs.a: the $ref '#/$defs/b' refers back to itself",
        "$.$defs.b: the $ref '#/$defs/a' refers back to itself",
        "$.s: the $ref '#/$defs/a' refers back to itself",
    }


def test_the_target_of_a_ref_is_closed() -> None:
    assert found({"$defs": {"a": {}}, **closed(s={"$ref": "#/$defs/a"})}) == [
        "$.$defs.a: a schema needs one known type, an enum, a const, a union or a $ref",
        "$.s: a schema needs one known type, an enum, a const, a union or a $ref",
    ]


def test_a_definition_without_a_ref_is_closed_too() -> None:
    assert found({"$defs": {"a": {"$id": "urn:a", **CHOICE}}, **EMPTY}) == [
        "$.$defs.a: the keyword '$id' is not allowed beside an enum or a const"
    ]


@pytest.mark.parametrize("keyword", ["$id", "$anchor"])
def test_a_schema_has_no_other_name_for_itself(keyword: str) -> None:
    assert found({keyword: "urn:a", **EMPTY}) == [f"$: the keyword {keyword!r} is not allowed for the type 'object'"]


@pytest.mark.parametrize("keyword", ["$id", "$schema", "$defs"])
def test_a_keyword_of_the_whole_file_is_at_its_root(keyword: str) -> None:
    schema = closed(a={keyword: DIALECT, **EMPTY})
    assert found(schema) == [f"$.a: the keyword {keyword!r} is not allowed for the type 'object'"]


@pytest.mark.parametrize(
    "dialect", ["http://json-schema.org/draft-07/schema#", DIALECT + "#", "https://example.com/mine", None, 5]
)
def test_a_schema_is_of_the_one_dialect(dialect: Any) -> None:
    assert found({"$schema": dialect, **EMPTY}) == [f"$: the $schema must be {DIALECT}"]


@pytest.mark.parametrize(
    ("secret", "definitions"),
    [
        ({"$ref": "#/$defs/a", "$id": "urn:x", "$defs": {"a": {}}}, {"a": CHOICE}),
        ({"$ref": "#/$defs/a/b"}, {"a/b": CHOICE, "a": {"b": {}}}),
        ({"$ref": "#/$defs/a~1b"}, {"a~1b": CHOICE, "a/b": {}}),
        ({"$ref": "#/$defs/%61"}, {"%61": CHOICE, "a": {}}),
        (text("^[ -~]*$"), {}),
        (text("^(?:[ -O]|[P-~])*$"), {}),
        (text(r"^[\u0000-\uffff]*$"), {}),
        (text("^(?:a|b)|[ -~]*$"), {}),
        (text("^()[ -~]*$"), {}),
        ({"anyOf": [CHOICE, {"type": "string"}]}, {}),
        ({"type": "string", "maxLength": 1000}, {}),
    ],
)
def test_a_schema_that_admits_a_secret_is_refused(secret: dict[str, Any], definitions: dict[str, Any]) -> None:
    schema = {"$defs": definitions, **closed(secret=secret)}
    assert Validator(schema).admits({"secret": SECRET})
    assert found(schema) != []


@pytest.mark.parametrize(
    ("schema", "names"),
    [
        (CHOICE, None),
        (EMPTY, {}),
        (closed(a=CHOICE, b=closed(c=TEXT)), {"a": None, "b": {"c": None}}),
        ({"type": "array", "items": CHOICE, "maxItems": 1}, None),
        ({"type": "array", "items": closed(a=CHOICE), "maxItems": 1}, {"a": None}),
        ({"$defs": {"a": closed(b=CHOICE)}, **closed(a={"$ref": "#/$defs/a"})}, {"a": {"b": None}}),
        ({"anyOf": [CHOICE, TEXT]}, None),
        ({"anyOf": [CHOICE, closed(a=CHOICE)]}, {"a": None}),
        ({"oneOf": [closed(a=CHOICE), closed(b=CHOICE)]}, {"a": None, "b": None}),
        (
            {"anyOf": [closed(d=closed(a=CHOICE)), closed(d=closed(b=CHOICE)), closed(d=CHOICE)]},
            {"d": {"a": None, "b": None}},
        ),
        (closed(**{"$ref": CHOICE, "items": CHOICE}), {"$ref": None, "items": None}),
    ],
)
def test_the_member_names_of_a_schema_are_a_tree(schema: dict[str, Any], names: Any) -> None:
    assert closed_schema.member_names(schema) == names


@pytest.mark.parametrize(
    ("member", "choices"),
    [
        ({"const": "a"}, 1),
        ({"enum": ["a", "b", None]}, 3),
        ({"type": "boolean"}, 2),
        ({"type": "null"}, 1),
        ({"type": "integer", "minimum": 0, "maximum": 9}, 10),
        ({"type": "number", "minimum": 0, "maximum": 9}, None),
        ({"type": "string", "pattern": "^a$", "maxLength": 1}, None),
        ({"$ref": "#/$defs/side"}, 2),
        ({"anyOf": [{"type": "null"}, {"$ref": "#/$defs/side"}]}, 3),
        ({"oneOf": [{"type": "null"}, {"type": "string", "pattern": "^a$", "maxLength": 1}]}, None),
        ({"type": "array", "maxItems": 2, "items": {"type": "boolean"}}, None),
        ({"type": "object", "properties": {}, "additionalProperties": False}, None),
    ],
)
def test_a_member_has_so_many_choices(member: dict[str, Any], choices: int | None) -> None:
    schema = {"$defs": {"side": {"enum": ["buy", "sell"]}}, "type": "object", "properties": {"it": member}}
    assert closed_schema.choices(schema, ("it",)) == choices


def test_choices_are_counted_below_arrays_and_objects_and_in_every_branch() -> None:
    flag = {"type": "object", "properties": {"flag": {"type": "boolean"}}}
    item = {"anyOf": [flag, {"type": "object", "properties": {"other": {"type": "null"}}}]}
    schema = {"type": "object", "properties": {"items": {"type": "array", "items": item}}}
    assert closed_schema.choices(schema, ("items", "flag")) == 2
