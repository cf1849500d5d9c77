"""Distances of classes: built in, read from files, or from what the reference confuses."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from remnant.stats import cost

_CIFAR10 = {
    "animal": "bird cat deer dog frog horse",
    "vehicle": "airplane automobile ship truck",
}
_CIFAR100 = {
    "aquatic mammals": "beaver dolphin otter seal whale",
    "fish": "aquarium_fish flatfish ray shark trout",
    "flowers": "orchid poppy rose sunflower tulip",
    "food containers": "bottle bowl can cup plate",
    "fruit and vegetables": "apple mushroom orange pear sweet_pepper",
    "household electrical devices": "clock keyboard lamp telephone television",
    "household furniture": "bed chair couch table wardrobe",
    "insects": "bee beetle butterfly caterpillar cockroach",
    "large carnivores": "bear leopard lion tiger wolf",
    "large man-made outdoor things": "bridge castle house road skyscraper",
    "large natural outdoor scenes": "cloud forest mountain plain sea",
    "large omnivores and herbivores": "camel cattle chimpanzee elephant kangaroo",
    "medium-sized mammals": "fox porcupine possum raccoon skunk",
    "non-insect invertebrates": "crab lobster snail spider worm",
    "people": "baby boy girl man woman",
    "reptiles": "crocodile dinosaur lizard snake turtle",
    "small mammals": "hamster mouse rabbit shrew squirrel",
    "trees": "maple_tree oak_tree palm_tree pine_tree willow_tree",
    "vehicles 1": "bicycle bus motorcycle pickup_truck train",
    "vehicles 2": "lawn_mower rocket streetcar tank tractor",
}
BUILT_IN = {
    name: {member: group for group, members in groups.items() for member in members.split()}
    for name, groups in (("CIFAR-10", _CIFAR10), ("CIFAR-100", _CIFAR100))
}
"""Data set to superclass of each of its classes. Those of CIFAR-100 are its own; CIFAR-10 has none, ours are two."""


def superclasses(classes: Sequence[str], given: Mapping[str, str] | str | None) -> list[str] | None:
    """The superclass of each class: as given, from a file, or built in where the names are those of a known data set.

    Parameters
    ----------
    given
        Class to superclass, or a JSON file of it, or a CSV file with the columns "class" and "superclass".

    Raises
    ------
    ValueError
        If the file is malformed or a class is missing.
    """
    if given is None:
        names = [name.strip().lower().replace(" ", "_") for name in classes]
        found = next((known for known in BUILT_IN.values() if sorted(known) == sorted(names)), None)
        return None if found is None else [found[name] for name in names]
    table = _superclass_file(given) if isinstance(given, str) else {str(k): str(v) for k, v in given.items()}
    if missing := [name for name in classes if name not in table]:
        raise ValueError(f"Expected a superclass for every class, but {missing[:3]} have none ({len(missing)} in all).")
    return [table[name] for name in classes]


def hierarchy(classes: Sequence[str], path: str) -> NDArray[np.float64]:
    """The distance of classes in a hierarchy of names, from a file; see `remnant.stats.cost.hierarchy_distance`.

    A JSON file {child: parent or [parents]}; a CSV file with the columns "child" and "parent"; or lines "parent
    child" without a header, as ImageNet's wordnet.is_a.txt has them for WordNet. Classes are found by their names, or
    by the first word of them ("n01440764 tench").

    Raises
    ------
    ValueError
        If the file is malformed, a class is missing or above another one, or there is a cycle.
    """
    parents = _parents(path)
    known = {*parents, *(parent for found in parents.values() for parent in found)}
    return cost.hierarchy_distance(parents, [name if name in known else name.split(" ")[0] for name in classes])


def matrix(path: str, num_classes: int) -> NDArray[np.float64]:
    """A distance of classes from a .npy file, or a CSV file of numbers without a header; checked.

    Raises
    ------
    ValueError
        If the file cannot be read as numbers, or they are no distance.
    """
    _must_exist(path)
    try:
        found = np.load(path) if path.endswith(".npy") else np.loadtxt(path, delimiter=",", ndmin=2)
    except (ValueError, EOFError) as error:
        raise ValueError(f"Expected a matrix of numbers in {path!r}, but it cannot be read: {error}") from error
    return cost.checked_distance(found, num_classes)


def from_confusion(
    label: NDArray[np.integer], answers: NDArray[np.integer], num_classes: int
) -> NDArray[np.float64] | None:
    """The distance by which the reference models tell classes apart; None if they never confuse two.

    Parameters
    ----------
    answers
        Of all models, shape (trial, example).
    """
    counts = np.zeros(num_classes**2, np.int64)
    wide = label.astype(np.int64) * num_classes
    for row in answers:
        counts += np.bincount(wide + row, minlength=num_classes**2)
    found = cost.confusion_distance(counts.reshape(num_classes, num_classes))
    return found if found.any() else None


def given(distance: ArrayLike, num_classes: int) -> NDArray[np.float64]:
    """A distance as handed over, checked."""
    return cost.checked_distance(distance, num_classes)


def _superclass_file(path: str) -> dict[str, str]:
    if path.endswith(".json"):
        found = _json(path)
        if not all(isinstance(value, str) for value in found.values()):
            raise ValueError(f'Expected {path!r} to hold {{"class": "superclass"}}, but some values are not texts.')
        return found
    return {row["class"]: row["superclass"] for row in _rows(path, ("class", "superclass"))}


def _parents(path: str) -> dict[str, list[str]]:
    if path.endswith(".json"):
        return {child: _names(path, child, found) for child, found in _json(path).items()}
    parents: dict[str, list[str]] = {}
    if path.endswith(".csv"):
        for row in _rows(path, ("child", "parent")):
            parents.setdefault(row["child"], []).append(row["parent"])
        return parents
    _must_exist(path)
    for number, line in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), 1):
        words = line.split()
        if words and len(words) != 2:
            raise ValueError(f"Expected two names, parent and child, in line {number} of {path!r}, but got {line!r}.")
        if words:
            parents.setdefault(words[1], []).append(words[0])
    return parents


def _names(path: str, child: str, found: object) -> list[str]:
    names = [found] if isinstance(found, str) else found
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"Expected the parents of {child!r} in {path!r} to be names, but got {found!r}.")
    return names


def _json(path: str) -> dict:
    _must_exist(path)
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"Expected JSON in {path!r}, but it cannot be read: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"Expected a JSON object in {path!r}, but got a {type(found).__name__}.")
    return found


def _rows(path: str, columns: tuple[str, str]) -> list[dict[str, str]]:
    _must_exist(path)
    with Path(path).open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        if not set(columns) <= set(reader.fieldnames or ()):
            raise ValueError(f"Expected the columns {list(columns)} in {path!r}, but got {reader.fieldnames}.")
        return list(reader)


def _must_exist(path: str) -> None:
    if not Path(path).is_file():
        raise FileNotFoundError(f"Expected a file at {path!r}, but there is none.")
