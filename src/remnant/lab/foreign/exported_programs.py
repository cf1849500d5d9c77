"""Archives of torch.export, read only if nothing in them can run code."""

import io
import json
import logging
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from remnant.lab.foreign.checkpoints import load_restricted
from remnant.lab.foreign.extras import needed
from remnant.lab.foreign.model import ForeignModel, of_module

# What torch.export.save writes. Others hold compiled code (data/aotinductor), or are of a format before torch 2.8.
_MEMBERS = re.compile(
    r"[^/]+/(archive_format|archive_version|byteorder|\.data/[\w.]+|models/model\.json|data/(weights|constants)/[\w.]+"
    r"|data/sample_inputs/model\.pt|extra/.*)"
)
_OPERATORS = re.compile(
    r"torch\.ops\.(aten|prims|quantized_decomposed|torchao|torchvision|export|higher_order)\.\w+(\.\w+)?"
    r"|_operator\.(getitem|add|sub|mul|floordiv|truediv|mod|pow|neg|eq|ne|lt|le|gt|ge|and_|or_|not_|pos|abs)"
    r"|math\.(ceil|floor|trunc|sqrt)|torch\.(sym_\w+|_sym_\w+)"
)
_FORBIDDEN = re.compile(r"torch\.ops\.aten\.(save|from_file|load)\b")
_NAME = re.compile(r"[\w.]*")
_EXPRESSION = re.compile(r"[\w\s+\-*/%(),.<>=!&|~\[\]']*")
_WORD = re.compile(r"[^\W\d]\w*")
# Symbols of sizes, their assumptions, and the functions of them that torch.export writes.
_SYMBOL = re.compile(
    r"[su]\d+|Symbol|Integer|Rational|Float|Add|Mul|positive|nonnegative|nonzero|integer|real|finite|extended_real|"
    r"precision|L|size|stride|storage_offset|and|or|not|True|False|true|false|oo|int_oo|zoo|"
    r"(Python)?Mod|FloorDiv|CleanDiv|CeilDiv|ModularIndexing|Where|Max|Min|Abs|Eq|Ne|Lt|Le|Gt|Ge|And|Or|Not|Pow|"
    r"CeilToInt|FloorToInt|TruncToInt|TruncToFloat|RoundToInt|RoundDecimal|ToFloat|IntTrueDiv|FloatTrueDiv|"
    r"PowByNatural|FloatPow|LShift|RShift|Identity|Piecewise|ceiling|floor"
)
MOST = 512 * 2**20
"""Bytes of the description of a graph."""


def open_exported(path: Path) -> ForeignModel:
    """The model in an archive that torch.export.save wrote.

    torch.export.load unpickles parts of the archive and evaluates expressions in it. Both are looked at
    first: the pickles with torch's restricted unpickler, the expressions, names and operators against
    what torch.export writes.

    Raises
    ------
    ValueError, FileNotFoundError
        If the archive is not whole, of another format, or could run code.
    """
    if not path.is_file():
        raise FileNotFoundError(f"Expected an archive of torch.export, but {path.resolve()} does not exist.")
    content = path.read_bytes()
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            operators = _look(path, archive)
    except (zipfile.BadZipFile, KeyError, TypeError, AttributeError, json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"Cannot read {path} as an archive of torch.export: {error}.") from error
    try:
        with _quiet():
            if any(name.startswith(("torch.ops.quantized_decomposed.", "torch.ops.torchao.")) for name in operators):
                needed("torchao", str(path))  # it registers them
            program = torch.export.load(io.BytesIO(content))
            module = program.module()
    except Exception as error:  # whatever torch meets in a broken archive
        raise ValueError(f"torch cannot load {path}: {_first_line(error)}") from error
    shape = _input_shape(path, program)
    return of_module(
        module,
        name=path.name,
        kind="pt2",
        files=(path,),
        fixed_batch=shape[0],
        input_shape=shape[1:],
        details={"torch": torch.__version__},
    )


def _look(path: Path, archive: zipfile.ZipFile) -> set[str]:
    """The operators of the graph, after all that could run code was refused."""
    strange = [name for name in archive.namelist() if not _MEMBERS.fullmatch(name)]
    if strange:
        raise ValueError(
            f"Expected {path} to be an archive that torch.export.save of torch 2.8 or newer wrote, but it holds "
            f"{strange[:3]}. Export it again."
        )
    (graph,) = [name for name in archive.namelist() if name.endswith("/models/model.json")] or [""]
    if not graph or archive.getinfo(graph).file_size > MOST:
        raise ValueError(f"Expected one graph called 'model' of at most {MOST:,} bytes in {path}.")
    description = json.loads(archive.read(graph))
    if not isinstance(description, dict):
        raise ValueError(f"Expected the graph in {path} to be an object, but it is {type(description).__name__}.")
    operators = set()
    for place, text in _strings(description, ""):
        operators |= {text} if place == "target" else set()
        if not _harmless(place, text):
            raise ValueError(
                f"Expected {path} to hold what torch.export writes, but {place} is {text[:80]!r}. "
                "It could run code, so it is not loaded."
            )
    root = graph.partition("/")[0]
    pickles = [name for name in archive.namelist() if "/data/sample_inputs/" in name]
    for part in ("weights", "constants"):
        listed = f"{root}/data/{part}/model_{part}_config.json"
        entries = json.loads(archive.read(listed))["config"] if listed in archive.namelist() else {}
        for key, entry in entries.items():
            member = f"{root}/data/{part}/{entry['path_name']}"
            if entry["path_name"].startswith("custom_obj"):
                raise ValueError(f"Expected only tensors in {path}, but the constant {key!r} is another object.")
            pickles += [member] if entry["use_pickle"] else []
    for member in pickles:
        if payload := archive.read(member):
            load_restricted(io.BytesIO(payload), f"{path} ({member})")
    return operators


def _strings(value: Any, place: str) -> Iterator[tuple[str, str]]:
    """All text in a description of a graph and the key under which it stands, without what only debuggers read."""
    if isinstance(value, str):
        yield place, value
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item, place)
    elif isinstance(value, dict):
        for key, item in value.items():
            if key == "metadata":
                continue
            if not _NAME.fullmatch(key):
                yield "a key", key
            yield from _strings(item, key)


def _harmless(place: str, text: str) -> bool:
    if place in ("target", "as_operator"):
        return _OPERATORS.fullmatch(text) is not None and not _FORBIDDEN.match(text)
    if place in ("expr_str", "guards_code"):
        # In quotes stand names of inputs and symbols, as in L['x'].size()[0] and Symbol('s0'), and digits of a Float.
        bare = re.sub(r"\['[\w.]+'\]|(?<=Symbol\()'[su]\d+'|(?<=Float\()'[\d.e+-]+'", "", text)
        words = _WORD.findall(bare)
        return bool(_EXPRESSION.fullmatch(text)) and "'" not in bare and all(map(_SYMBOL.fullmatch, words))
    if place in ("in_spec", "out_spec"):
        return "__enum__" not in text and "__" not in text
    if place in ("as_string", "torch_version"):
        return re.fullmatch(r"[\w.+:\- ,>]*", text) is not None
    return _NAME.fullmatch(text) is not None


def _input_shape(path: Path, program: Any) -> tuple[int | None, ...]:
    names = program.graph_signature.user_inputs
    values = [node.meta["val"] for node in program.graph.nodes if node.op == "placeholder" and node.name in names]
    if len(values) != 1 or not isinstance(values[0], torch.Tensor) or values[0].ndim < 1:
        raise ValueError(f"Expected {path} to have one input, a batch, but it has {len(names)}: {list(names)}.")
    return tuple(size if isinstance(size, int) else None for size in values[0].shape)


@contextmanager
def _quiet() -> Iterator[None]:
    """torch reports what it fails to read in its log, with a traceback, before it raises; torchao what it registers."""
    loggers = [logging.getLogger(name) for name in ("torch.export", "torch.utils._pytree")]
    before = [logger.disabled for logger in loggers]
    for logger in loggers:
        logger.disabled = True
    try:
        yield
    finally:
        for logger, disabled in zip(loggers, before, strict=True):
            logger.disabled = disabled


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
