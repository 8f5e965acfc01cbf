"""Fuzz one reader, or all of them one after another.

Each reader gets ``--seconds``; what breaks a promise is written to ``tests/fuzz/regressions/CONTAINER/``,
from where the test suite replays it ever after. Needs atheris (``pip install atheris``).
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

REGRESSIONS = Path(__file__).with_name("regressions")


def main() -> None:
    """Run the targets asked for, each in a process of its own; exit 1 where one broke its promise."""
    from tests.fuzz.targets import TARGETS, seed_corpus

    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="CONTAINER", help=f"of {', '.join(TARGETS)} (default: all)")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--runs", type=int, help="stop after so many inputs, which are the same each time")
    parser.add_argument("--corpus", type=Path, help="where inputs that reach new code are kept (default: nowhere)")
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    arguments, rest = parser.parse_known_args()
    if arguments.inside:
        fuzz(arguments.inside, [*arguments.targets, *rest])
        return
    failed = []
    with tempfile.TemporaryDirectory() as temporary:
        for name in arguments.targets or TARGETS:
            corpus = (arguments.corpus or Path(temporary)) / name
            seed_corpus(TARGETS[name], corpus)
            ends = (
                [f"-max_total_time={arguments.seconds}"]
                if arguments.runs is None
                else [f"-runs={arguments.runs}", "-seed=1"]
            )
            limits = [*ends, "-timeout=20", "-rss_limit_mb=1024", "-max_len=65536"]
            found = Path(temporary) / f"{name}-found"
            found.mkdir()
            command = [sys.executable, "-m", "tests.fuzz", "--inside", name, str(corpus), *limits]
            command.append(f"-artifact_prefix={found}/")
            steady = {**os.environ, "PYTHONHASHSEED": "0"}
            done = subprocess.run(command, capture_output=True, text=True, check=False, env=steady)
            runs = [line for line in done.stderr.splitlines() if line.startswith("Done ")]
            print(f"{name}: {runs[-1] if runs else 'stopped early'}", flush=True)
            if done.returncode:
                failed.append(name)
                shutil.copytree(found, REGRESSIONS / name, dirs_exist_ok=True)
                print(done.stderr[-3000:])
    if failed:
        sys.exit(f"broken promises: {', '.join(failed)}; see {REGRESSIONS}")


def fuzz(name: str, arguments: list[str]) -> None:
    """Run one target in this process until its limits end it."""
    import atheris

    with atheris.instrument_imports(include=["interlingua"]):
        from interlingua.errors import FormatError
        from interlingua.formats.registry import CONTAINERS
        from tests.fuzz.targets import TARGETS, read_all

        target = TARGETS[name]
        open_reader = CONTAINERS[target.container].load().open_reader
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None))

    def once(data: bytes) -> None:
        path = target.place(data, folder)
        try:
            with open_reader(path) as reader:
                read_all(reader)
        except FormatError:
            pass

    atheris.Setup([sys.argv[0], *arguments], once)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
