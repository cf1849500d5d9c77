"""How texts become tokens, from a local folder."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from remnant.lab.foreign.extras import needed

VOCABULARIES = ("tokenizer.json", "vocab.txt", "vocab.json")
"""Files of which a tokenizer has one, if not a SentencePiece *.model."""

LONGEST = 8192
"""Tokens of one text at most, where neither model nor tokenizer states a limit."""


@dataclass(frozen=True)
class Tokenization:
    """A Hugging Face tokenizer in a folder; texts are cut at `max_length` tokens and padded within a batch."""

    folder: Path
    max_length: int | None = None
    """Default the smaller of what the tokenizer and the model's configuration state."""

    def __str__(self) -> str:
        return f"tokenizer={self.folder.name}" + ("" if self.max_length is None else f",max_length={self.max_length}")


def tokenizer(steps: Tokenization) -> Any:
    """A function from a list of texts to a dict of int64 tensors (example, token).

    Raises
    ------
    ValueError, FileNotFoundError
        If the folder holds no tokenizer, or none without code of its own.
    """
    transformers = needed("transformers", str(steps.folder))
    if not steps.folder.is_dir():
        raise FileNotFoundError(f"Expected a folder with a tokenizer, but {steps.folder.resolve()} does not exist.")
    if not any(path.name in VOCABULARIES or path.suffix == ".model" for path in steps.folder.iterdir()):
        # transformers would make an empty tokenizer without a word.
        raise ValueError(f"Expected a tokenizer in {steps.folder}, but it holds none of {list(VOCABULARIES)}.")
    try:
        found = transformers.AutoTokenizer.from_pretrained(
            str(steps.folder), local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # transformers, tokenizers and json each have errors of their own
        raise ValueError(f"Cannot read a tokenizer in {steps.folder}: {_first_line(error)}") from error
    if found.pad_token is None:
        raise ValueError(f"Expected the tokenizer in {steps.folder} to have a token for padding, but it has none.")
    longest = steps.max_length or min(found.model_max_length, LONGEST)

    def encode(texts: list[str]) -> dict[str, Any]:
        return dict(found(texts, padding=True, truncation=True, max_length=longest, return_tensors="pt"))

    return encode


def written(text: str) -> Tokenization | None:
    """The tokenization in "tokenizer=DIR" or "tokenizer=DIR,max_length=128"; None if `text` is something else."""
    parts = [piece.strip().partition("=") for piece in text.split(",")]
    pieces: dict[str, str] = {key: value for key, _, value in parts}
    if "tokenizer" not in pieces:
        return None
    length = pieces.get("max_length", "")
    if set(pieces) - {"tokenizer", "max_length"} or (length and not (length.isdigit() and int(length) > 0)):
        raise ValueError(f"Expected 'tokenizer=DIR' or 'tokenizer=DIR,max_length=128', but got {text!r}.")
    return Tokenization(Path(pieces["tokenizer"]), int(length) if length else None)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
