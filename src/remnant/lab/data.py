"""Data sets by name, read from a folder and never downloaded."""

import gzip
import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from remnant.lab.array_files import from_arrays
from remnant.lab.coefficients.inputs import from_coefficients
from remnant.lab.containers import from_containers
from remnant.lab.dataset import Dataset, Images, Split, assemble, positions, split, take
from remnant.lab.image_files import Framing, image_files
from remnant.lab.image_folders import from_class_folders, from_folders
from remnant.registry import find

__all__ = ["DATASETS", "Dataset", "Images", "Split", "load", "take"]


def load(name: str, root: str | Path | None = None) -> Dataset:
    """The data set called `name`; `DATASETS` lists what there is.

    Files are looked up in `root`, else in the folder that the environment variable REMNANT_DATA
    names, else in the current folder. Nothing is downloaded or written. Ids depend on the official
    position or on the file's name alone.

    Raises
    ------
    UnknownNameError
        With the nearest name.
    FileNotFoundError
        With the folders that were searched, and how to get the data.
    ValueError
        If the data are not what they should be: shapes, labels, ids, classes, NaN.
    """
    folder = Path(root if root is not None else os.environ.get("REMNANT_DATA") or ".")
    kind, _, rest = name.partition(":")
    if rest and kind in _FORMATS:
        return _FORMATS[kind](name, folder, rest)
    function = find("dataset", name, {**_NAMED, **{d: None for d in DATASETS if ":" in d}})
    dataset = function(folder)
    if not isinstance(dataset, Dataset):
        raise TypeError(f"Expected the data set {name!r} to be a remnant Dataset, but got {type(dataset).__name__}.")
    return dataset


DATASETS: dict[str, str] = {
    "digits": "1,797 grey 8x8 digits, shipped inside scikit-learn",
    "fashion-mnist": "70,000 grey 28x28 articles of clothing, as IDX files",
    "cifar10": "60,000 32x32 photographs of 10 classes, as torchvision keeps them",
    "cifar100": "60,000 32x32 photographs of 100 classes, as torchvision keeps them",
    "celeba": "182,732 faces cut to 64x64, blond or not, with 40 attributes, as torchvision keeps them",
    "imagenet": "1.3 million 224x224 photographs of 1,000 classes, in folders train/ and val/",
    "arrays:FILE.npz": "your own arrays train_images, train_labels, test_images, test_labels; #COLUMN for other labels",
    "imagefolder:DIR": "your own pictures: DIR/train/CLASS/*.png, DIR/test/CLASS/*.png; #SIDE brings all to one size",
    "container:FILE": "a file that `remnant data encode` wrote; container:TRAIN,TEST takes its two splits from two",
    "coefficients:TRANSFORM:NAME": "another data set as coefficients of zfp-precision-6, dct-8, jpeg-75, ...",
}
"""Name to what it is."""


def digits(root: Path) -> Dataset:
    """scikit-learn's optical digits, 0..16 scaled to 0..255; every fifth example of each class is for testing.

    Every fifth of all would hold 26 examples of one class and 48 of another: the source is not mixed.
    """
    table = _digits_table()
    images = np.rint(table[:, :64].reshape(-1, 8, 8, 1) * (255 / 16)).astype(np.uint8)
    labels = table[:, 64].astype(np.int64)
    rank = np.zeros(len(labels), np.int64)
    for label in range(10):
        rank[labels == label] = np.arange((labels == label).sum())
    test = rank % 5 == 4
    ids = positions("digits", len(labels))
    parts = [split(images[rows], labels[rows], ids[rows]) for rows in (~test, test)]
    return assemble("digits", parts[0], parts[1], [str(i) for i in range(10)])


FASHION_CLASSES = [
    "T-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
]  # fmt: skip
DEBIAN_FASHION = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package dataset-fashion-mnist puts the files."""


def fashion_mnist(root: Path) -> Dataset:
    """Fashion-MNIST from its four IDX files, gzipped or not."""
    folders = [root / "FashionMNIST" / "raw", root / "fashion-mnist", root, DEBIAN_FASHION]
    parts = []
    for part, stem in (("train", "train"), ("test", "t10k")):
        images = _idx(_first(folders, f"{stem}-images-idx3-ubyte"), 3)
        labels = _idx(_first(folders, f"{stem}-labels-idx1-ubyte"), 1)
        parts.append(split(images[..., np.newaxis], labels, positions(f"fashion-mnist-{part}", len(images))))
    return assemble("fashion-mnist", parts[0], parts[1], FASHION_CLASSES)


def cifar10(root: Path) -> Dataset:
    """CIFAR-10 in torchvision's layout."""
    return _cifar("cifar10", "CIFAR10", root)


def cifar100(root: Path) -> Dataset:
    """CIFAR-100 in torchvision's layout."""
    return _cifar("cifar100", "CIFAR100", root)


def celeba(root: Path) -> Dataset:
    """CelebA in torchvision's layout: blond or not, from the aligned faces, with all 40 attributes.

    The middle 178x178 pixels of each face, brought to 64x64 (Hooker et al. do not publish their
    size). The official validation split is not used.
    """
    parts = []
    for part in ("train", "test"):
        source = _torchvision("CelebA", root, split=part, target_type="attr")
        attributes = {name: source.attr[:, i].numpy() for i, name in enumerate(source.attr_names) if name}
        images = image_files(root / "celeba" / "img_align_celeba", source.filename, Framing(64))
        parts.append(split(images, attributes["Blond_Hair"], np.array(source.filename), attributes))
    return assemble("celeba", parts[0], parts[1], ["not blond", "blond"])


def imagenet(root: Path) -> Dataset:
    """ImageNet (ILSVRC 2012): train/WNID/*.JPEG and val/WNID/*.JPEG in root/imagenet or root.

    The shorter side is brought to 256 pixels and the middle 224x224 are kept, for training too. With
    torchvision's meta.bin beside the folders, classes have their English names.
    """
    folders = [root / "imagenet", root]
    for folder in folders:
        if (folder / "train").is_dir() and (folder / "val").is_dir():
            # The constants of the published code, and of nearly everyone.
            moments = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
            framing = Framing(224, share=224 / 256)
            return from_class_folders(
                "imagenet", folder, "val", framing, titles=_imagenet_titles(folder), moments=moments
            )
    raise FileNotFoundError(
        f"Expected ImageNet's folders train/ and val/, with one folder per class, in {_shown(folders)}, but they are "
        "not there. Request the ILSVRC 2012 archives at https://image-net.org and unpack them with "
        "torchvision.datasets.ImageNet(FOLDER, split)."
    )


_NAMED: dict[str, Callable[[Path], Dataset]] = {
    "digits": digits,
    "fashion-mnist": fashion_mnist,
    "cifar10": cifar10,
    "cifar100": cifar100,
    "celeba": celeba,
    "imagenet": imagenet,
}
_FORMATS: dict[str, Callable[[str, Path, str], Dataset]] = {
    "arrays": from_arrays,
    "imagefolder": from_folders,
    "container": from_containers,
    "coefficients": lambda name, folder, rest: from_coefficients(name, folder, rest, load=load),
}


def _digits_table() -> np.ndarray:
    """64 pixels and the label of each digit, from scikit-learn's file: importing it takes longer than training."""
    spec = importlib.util.find_spec("sklearn")
    for folder in (spec and spec.submodule_search_locations) or ():
        path = Path(folder, "datasets", "data", "digits.csv.gz")
        if path.is_file():
            return np.loadtxt(path, delimiter=",", dtype=np.float64)
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    return np.column_stack([pixels, labels])


def _cifar(name: str, source: str, root: Path) -> Dataset:
    train, test = (_torchvision(source, root, train=part) for part in (True, False))
    parts = [
        split(official.data, np.array(official.targets), positions(f"{name}-{part}", len(official.data)))
        for part, official in (("train", train), ("test", test))
    ]
    return assemble(name, parts[0], parts[1], train.classes)


def _torchvision(name: str, root: Path, **options: Any) -> Any:
    """The data set `name` of torchvision, which must lie in `root`."""
    from torchvision import datasets

    try:
        return getattr(datasets, name)(root, download=False, **options)
    except (RuntimeError, FileNotFoundError) as error:
        raise FileNotFoundError(
            f"Expected {name} as torchvision keeps it in {root.resolve()}, but it is not there or not complete. "
            f'Get it with: python -c "import torchvision; torchvision.datasets.{name}({str(root)!r}, download=True)"; '
            "or name another folder with `--data` or REMNANT_DATA."
        ) from error


def _imagenet_titles(folder: Path) -> dict[str, str]:
    if not (folder / "meta.bin").is_file():
        return {}
    from torchvision.datasets.imagenet import load_meta_file

    names, _ = load_meta_file(folder)
    return {wnid: f"{wnid} {synonyms[0]}" for wnid, synonyms in names.items()}


def _first(folders: list[Path], name: str) -> Path:
    for folder in folders:
        for path in (folder / name, folder / f"{name}.gz"):
            if path.is_file():
                return path
    raise FileNotFoundError(
        f"Expected {name} or {name}.gz in one of {_shown(folders)}, but it is in none. Get Fashion-MNIST with "
        '`apt-get install dataset-fashion-mnist`, or with: python -c "import torchvision; '
        f'torchvision.datasets.FashionMNIST({str(folders[2])!r}, download=True)".'
    )


def _idx(path: Path, ndim: int) -> np.ndarray:
    """The array of bytes in an IDX file: two zeros, type 8, number of axes, their lengths, the bytes."""
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError) as error:
        raise ValueError(f"Cannot unpack {path}: {error}. Fetch it again.") from error
    shape = np.frombuffer(data[4 : 4 + 4 * ndim], ">u4").astype(np.int64)
    if data[:4] != bytes((0, 0, 8, ndim)) or len(data) != 4 + 4 * ndim + int(shape.prod()):
        raise ValueError(f"Expected {path} to be an IDX file of bytes with {ndim} axes, but it is not or is cut off.")
    return np.frombuffer(bytearray(data), np.uint8, offset=4 + 4 * ndim).reshape(tuple(shape))


def _shown(folders: list[Path]) -> list[str]:
    return [str(folder.resolve()) for folder in folders]
