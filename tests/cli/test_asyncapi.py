"""tornado_bridge.cli.asyncapi: the document as JSON and as YAML."""

import json

from tests.support.commands import Command


def test_the_asyncapi_document_is_json(command: Command) -> None:
    status, out, err = command("asyncapi")
    assert (status, err, json.loads(out)["asyncapi"]) == (0, "", "3.1.0")


def test_the_asyncapi_document_is_yaml_on_demand(command: Command) -> None:
    status, out, err = command("asyncapi", "--yaml")
    assert (status, err, out.splitlines()[0]) == (0, "", "asyncapi: 3.1.0")
