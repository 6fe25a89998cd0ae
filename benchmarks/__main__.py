"""The guard that the tests run: `python -m benchmarks quick`."""

import argparse
import sys

from benchmarks import quick
from benchmarks.rig.processes import ProcessFailed, exit_on_sigterm

EPILOG = """\
python -m benchmarks.instructions   machine instructions per event, client and cohort, with limits
python -m benchmarks.startup        tornado-bridge --help against a bare import of click, with a limit
python -m benchmarks.contest        the bridge beside other servers
python -m benchmarks.handshakes     the cost of an opening handshake, with and without the doorway
python -m benchmarks.floods         a healthy client while another one floods
python -m benchmarks.never_reader   a client that never reads, and its cost for the others
"""


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Measures the bridge. Tables go to stdout as Markdown, progress goes to stderr.",
        epilog=EPILOG,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    commands.add_parser("quick", help="ratios to other servers in about a minute; exit status 1 past a limit")
    parser.parse_args()
    exit_on_sigterm()
    try:
        return quick.run()
    except ProcessFailed as failure:
        print(failure, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
