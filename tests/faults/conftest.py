"""The shim, compiled by the system's C compiler, and the process that runs commands with it preloaded."""

from __future__ import annotations

import platform
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.harness import Scene, Server, start
from tests.faults.scenes import READINGS, build


@pytest.fixture(scope="session")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shim as a shared library; tests that need it are skipped where none can be made."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("no C compiler is here, which the shim of the fault injection is made with")
    if platform.system() != "Linux" or platform.libc_ver()[0] != "glibc" or platform.architecture()[0] != "64bit":
        pytest.skip("the shim of the fault injection is for 64-bit Linux with glibc")
    made = tmp_path_factory.mktemp("shim") / "shim.so"
    flags = ["-shared", "-fPIC", "-O1", "-Wall", "-Wextra"]
    command = [compiler, *flags, "-o", str(made), str(Path(__file__).with_name("shim.c")), "-ldl"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr, done.stderr
    return made


@pytest.fixture(scope="module")
def server(shim: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A process that runs commands, with faults."""
    found = start(shim, tmp_path_factory.mktemp("server"))
    yield found
    assert found.process.stdin is not None
    found.process.stdin.close()
    assert found.process.wait(30) == 0
    if found.process.stdout is not None:
        found.process.stdout.close()
    assert list((found.folder / "tmp").iterdir()) == []


@pytest.fixture(scope="module", params=READINGS)
def reading(request: pytest.FixtureRequest, server: Server, tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """A command that reads and writes nothing."""
    return build(READINGS[request.param], server, tmp_path_factory.mktemp("scene"))
