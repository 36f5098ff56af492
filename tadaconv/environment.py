"""Where an experiment is run: the device, the versions and the commit that its numbers come from."""

import hashlib
import json
import platform
import subprocess
from contextlib import suppress
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import torch

import tadaconv
from tadaconv.discovery import KINDS
from tadaconv.errors import UserError
from tadaconv.run_options import RunOptions
from tadaconv.text import plural


def resolve_device(name: str) -> torch.device:
    """The device behind ``auto`` (CUDA if there is one), ``cpu``, ``cuda`` or ``cuda:N``; raises :class:`UserError`."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"unknown device {name!r}; one of: auto, cpu, cuda, cuda:N")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError("this machine has no usable CUDA device; use --device cpu or --device auto")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(f"there is no device {name!r}; this machine has {torch.cuda.device_count()} CUDA device(s)")
    return device


def devices_of_cell(device: str, gpus_per_cell: int) -> list[str]:
    """The devices of the ranks of a cell: GPUs from ``device`` on, or the CPU as often as there are ranks.

    Raises :class:`UserError` if there are too few.
    """
    place = resolve_device(device)
    if place.type == "cpu":
        return ["cpu"] * gpus_per_cell
    first, number = place.index or 0, torch.cuda.device_count()
    if first + gpus_per_cell > number:
        from_first = f" from cuda:{first} on" if first else ""
        raise UserError(
            f"--gpus-per-cell {gpus_per_cell} needs more GPUs: this machine has {number - first}{from_first}"
        )
    return [f"cuda:{index}" for index in range(first, first + gpus_per_cell)]


@lru_cache(maxsize=1)
def source_digest() -> str:
    """12 hex digits over the package's code, which distinguish two states of one version."""
    return digest_of(Path(tadaconv.__file__).parent)


def digest_of(package: Path) -> str:
    """12 hex digits over the code of a package in the folder ``package``, the same for a wheel and a clone of a commit.

    Tables, studies, reports and regimes are content: a wheel holds some of them inside the package and a clone next
    to it, and what a number depends on is in its cell. Line ends do not matter.
    """
    files = {file.relative_to(package).as_posix(): file for file in package.rglob("*.py") if file.is_file()}
    digest = hashlib.sha256()
    for name, file in sorted(files.items()):
        if name.partition("/")[0] not in KINDS.values():
            code = file.read_bytes().replace(b"\r\n", b"\n")
            digest.update(f"{name}\0{len(code)}\0".encode() + code)
    return digest.hexdigest()[:12]


@lru_cache(maxsize=1)
def source_commit() -> dict[str, str]:
    """The commit that the package's code is of, and whether it has changed since; empty if unknown.

    From the checkout that holds the package, or from what pip wrote down when it installed from one.
    """
    package = Path(tadaconv.__file__).parent

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", "-C", str(package), *words], capture_output=True, text=True, check=True, timeout=20
        ).stdout.strip()

    try:
        if not git("ls-files", "__init__.py"):  # in somebody else's checkout, as an environment within one
            raise ValueError("not tracked")
        commit = git("rev-parse", "--short=12", "HEAD")
        return {"commit": commit, **({"dirty": "yes"} if git("status", "--porcelain", "--", ".") else {})}
    except (OSError, ValueError, subprocess.SubprocessError):
        with suppress(PackageNotFoundError, ValueError, KeyError, TypeError):
            installed = json.loads(distribution("tadaconv").read_text("direct_url.json") or "{}")
            return {"commit": str(installed["vcs_info"]["commit_id"])[:12]}
    return {}


def _driver() -> str:
    """The version of NVIDIA's driver; empty if unknown."""
    with suppress(OSError):
        words = Path("/proc/driver/nvidia/version").read_text().split()
        return next((word for word in words if word.count(".") >= 1 and word.replace(".", "").isdigit()), "")
    return ""


def environment(device: torch.device, options: RunOptions | None = None) -> dict[str, str]:
    """What the numbers of a run depend on besides the experiment; how it computes only if ``options`` are given."""
    cuda, threads = device.type == "cuda", torch.get_num_threads()
    return {
        "device": torch.cuda.get_device_name(device) if cuda else f"CPU ({plural(threads, 'thread')})",
        "machine": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": str(torch.version.cuda) if cuda else "",
        **({"driver": _driver()} if cuda else {}),
        **({"deterministic": "yes"} if cuda and torch.are_deterministic_algorithms_enabled() else {}),
        **({} if options is None else options.entries(cuda)),
        "tadaconv": f"{tadaconv.__version__}+{source_digest()}",
        **source_commit(),
    }
