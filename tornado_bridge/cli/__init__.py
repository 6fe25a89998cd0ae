"""The command line."""

import dataclasses
import difflib
import importlib
import sys
import traceback
from typing import NoReturn

import click

from tornado_bridge.cli import output
from tornado_bridge.cli.options import PROGRAM, version_option
from tornado_bridge.errors import BridgeError, ConfigurationError

FAILED = 1
UNUSABLE = 2
INTERRUPTED = 130

# Each command is the attribute `command` of the module with its name in this package. The sentence is the first one of
# its help, which stands here so that the help of the program imports no command.
COMMANDS = {
    "asyncapi": "Print the AsyncAPI document of the installed plugins.",
    "audit": "Check that plugins let out only what they declare.",
    "demo": "Run a server with an embedded Redis, a synthetic market and a demo key.",
    "keys": "Create, rotate, list and revoke API keys.",
    "plugins": "List the installed plugins, or create a new one.",
    "serve": "Run the server.",
    "tail": "Follow channels in a terminal.",
}

# A name is suggested for a mistyped one if `difflib` gives the two at least this ratio: --prot and --port have 0.83.
_NEAR = 0.7


@dataclasses.dataclass(slots=True)
class Invocation:
    """The options that stand before the command."""

    debug: bool = False


class LazyGroup(click.Group):
    """A group that imports a command when it is called.

    Importing all commands takes about 15 times as long as printing the help of the program.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"{__name__}.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=LazyGroup, no_args_is_help=False)
@version_option
@click.option("--debug", is_flag=True, help="Print a traceback if the command fails.")
@click.pass_obj
def cli(invocation: Invocation, debug: bool) -> None:
    """Relay internal Redis events to WebSocket clients as redacted envelopes."""
    invocation.debug = debug


def main() -> NoReturn:
    """Run the command line and end the process.

    The exit status is 0, 1 if the command failed while it ran, or 2 if arguments or settings cannot be used.
    """
    invocation = Invocation()
    try:
        status = cli.main(prog_name=PROGRAM, standalone_mode=False, obj=invocation)
    except click.UsageError as error:
        path = PROGRAM if error.ctx is None else error.ctx.command_path
        _fail(f"{_sentence(error)} (see {path} --help)", UNUSABLE)
    except (BridgeError, OSError) as error:
        if invocation.debug:
            traceback.print_exception(error)
        if isinstance(error, BridgeError):
            _fail(str(error), UNUSABLE if isinstance(error, ConfigurationError) else FAILED)
        # It may come from Click, which prints the help and the version by itself.
        output.discard()
        _fail(f"failed: {error.strerror or error}", FAILED)
    except click.Abort:
        sys.exit(INTERRUPTED)
    sys.exit(status if isinstance(status, int) else 0)


def _sentence(error: click.UsageError) -> str:
    """Return the message without its full stop. A mistyped name is answered with the nearest one, if one is near."""
    match error:
        case click.NoSuchOption(option_name=name, ctx=click.Context() as context):
            known = [text for parameter in context.command.get_params(context) for text in parameter.opts]
        case click.exceptions.NoSuchCommand(
            command_name=name, ctx=click.Context(command=click.Group() as group) as context
        ):
            known = group.list_commands(context)
        case _:
            return error.format_message().rstrip(".")
    nearest = difflib.get_close_matches(name, known, n=1, cutoff=_NEAR)
    return error.message.rstrip(".") + "".join(f", did you mean {near!r}?" for near in nearest)


def _fail(sentence: str, status: int) -> NoReturn:
    click.echo(f"{PROGRAM}: {sentence}", err=True)
    sys.exit(status)
