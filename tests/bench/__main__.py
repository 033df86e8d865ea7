"""Benchmarks by name: `python -m tests.bench ui`."""

import argparse
import sys

from tests.bench import ui


def main() -> int:
    """Run the benchmark that was named."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench")
    benchmarks = parser.add_subparsers(required=True)
    ui.add_to(benchmarks)
    options = parser.parse_args()
    return int(options.run(options))


if __name__ == "__main__":
    sys.exit(main())
