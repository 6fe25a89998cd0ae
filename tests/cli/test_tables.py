"""tornado_bridge.cli.tables: what a table looks like."""

from tornado_bridge.cli import tables


def test_columns_are_as_wide_as_their_widest_text() -> None:
    assert tables.text([("NAME", "KIND"), ("a", "b"), ("longer", "c")]) == "NAME    KIND\na       b\nlonger  c"


def test_no_line_ends_with_a_blank() -> None:
    assert tables.text([("NAME", "KIND"), ("a", "")]) == "NAME  KIND\na"
