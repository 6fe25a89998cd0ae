"""`python -m tests.fuzz TARGET --seconds 60` runs a fuzz target for a while.

If atheris is installed, it makes the inputs, guided by the branches of tornado_bridge that they reach. Otherwise
hypothesis makes them. An input that fails is written to a file in the current directory, and the exit status is not 0.
"""

import argparse
import importlib
import importlib.util
import sys
from pathlib import Path
from typing import Any

NAMES = ("client_message", "event_payload", "client_frames")

# No rule of the contract that a target checks needs a longer input.
MAX_INPUT = 4_096


def with_atheris(name: str, seconds: int) -> None:
    """Run a target with atheris. That ends the process: with status 0, or with 77 after an input that fails."""
    # atheris has no type information, and only the fuzz environment installs it.
    atheris: Any = importlib.import_module("atheris")
    with atheris.instrument_imports(include=["tornado_bridge"]):
        targets = importlib.import_module("tests.fuzz.targets")
        # The first call imports the plugins.
        targets.TARGETS[name](b"")
    seeds = ",".join(map(str, targets.corpus(name)))
    options = [f"-max_total_time={seconds}", f"-max_len={MAX_INPUT}", f"-seed_inputs={seeds}"]
    atheris.Setup([sys.argv[0], *options, f"-artifact_prefix=./{name}-", "-print_final_stats=1"], targets.TARGETS[name])
    atheris.Fuzz()


def with_hypothesis(name: str, seconds: float) -> int:
    """Run a target with hypothesis and return the exit status."""
    from tests.fuzz import inputs, targets

    tried, failing = inputs.run(targets.TARGETS[name], targets.corpus(name), seconds)
    print(f"{name}: {tried} inputs by hypothesis; install atheris for inputs that are guided by coverage")
    if failing is None:
        return 0
    path = Path(f"{name}-failing")
    path.write_bytes(failing)
    print(f"written to {path}: {failing[:200]!r}")
    return 1


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Runs a fuzz target for a while.")
    parser.add_argument("target", choices=NAMES)
    parser.add_argument("--seconds", type=int, default=60)
    options = parser.parse_args()
    if importlib.util.find_spec("atheris") is not None:
        with_atheris(options.target, options.seconds)
    return with_hypothesis(options.target, options.seconds)


if __name__ == "__main__":
    sys.exit(main())
