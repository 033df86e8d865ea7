"""Benchmarks by name: `python -m tests.bench decode`, `... generate`, `... ui`."""

import argparse
import importlib
import sys

BENCHMARKS = ("decode", "generate", "ui")


def main() -> int:
    """Run the benchmark that was named."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench")
    benchmarks = parser.add_subparsers(required=True)
    # Only what was named is imported: a machine with a card and no screen may lack what Qt needs.
    for name in [name for name in BENCHMARKS if name in sys.argv[1:2]] or BENCHMARKS:
        importlib.import_module(f"tests.bench.{name}").add_to(benchmarks)
    options = parser.parse_args()
    return int(options.run(options))


if __name__ == "__main__":
    sys.exit(main())
