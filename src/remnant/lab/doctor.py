"""What this machine has."""

import os
import platform
import shutil
import sys
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import torch

from remnant.engine import num_cores

EXTRAS = {
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "hf": ("transformers", "datasets"),
    "timm": ("timm",),
    "torchao": ("torchao",),
    "structured": ("torch_pruning",),
    "data": ("zfpy", "imagecodecs", "jpeglib"),
    "sign": ("cryptography",),
    "fast": ("numba",),
}
"""Extra of the package to the modules that it installs."""


def examine() -> dict[str, str]:
    """Facts on processor, memory, arithmetic, versions and extras, as a user reads them."""
    capability = torch.backends.cpu.get_cpu_capability()
    bfloat16 = [name for name in ("amx_bf16", "avx512_bf16") if name in _processor_flags()]
    return {
        "python": f"{sys.version.split()[0]} on {platform.system()} {platform.machine()}",
        "cores": str(num_cores()),
        "memory": _memory(),
        "free disk": f"{shutil.disk_usage('.').free / 2**30:.1f} GiB here",
        "vector instructions": capability,
        "bfloat16 in hardware": ", ".join(bfloat16) or "no (precision = 'bfloat16' would be slow)",
        "GPU": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        **{name: _version(name) for name in ("remnant", "torch", "torchvision", "numpy", "scipy", "xarray")},
        **{f"extra {name}": _extra(modules) for name, modules in EXTRAS.items()},
        "REMNANT_DATA": os.environ.get("REMNANT_DATA", "not set (data sets are looked for in the current folder)"),
    }


def _processor_flags() -> set[str]:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return set()
    return next((set(line.split()) for line in text.splitlines() if line.startswith("flags")), set())


def _memory() -> str:
    if not hasattr(os, "sysconf") or "SC_PHYS_PAGES" not in os.sysconf_names:
        return "unknown"
    return f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.1f} GiB"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _extra(modules: tuple[str, ...]) -> str:
    absent = [name for name in modules if find_spec(name) is None]
    return f"missing {', '.join(absent)}" if absent else "installed"
