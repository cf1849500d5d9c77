"""Codec settings as sides of a comparison: raw images are the reference."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from remnant import ingest
from remnant.analyses import audit as ask
from remnant.codecs import Codec
from remnant.fidelity.bench import RAW, Bench, bench, settings
from remnant.report.galleries import Thumbnails
from remnant.versus import Compared

Progress = Callable[[int, int, str], None]
ANALYSES = ("decoding", "mismatches", "equivalence", "slices", "exemplars", "classes", "league")
"""What is asked, in the order of the report."""
TRAIN_IMAGES = 5000
"""Training images on which batch-norm statistics are estimated again, unless another number is asked for."""


def audit(
    models: Sequence[Any] = (),
    *,
    codecs: Sequence[str | Codec],
    reestimate: int = TRAIN_IMAGES,
    margin: float = 0.01,
    analyses: Sequence[str] | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> Compared:
    """What trained models forget when their images are stored by codecs, against the raw images.

    The reference side is "raw", the others are the labels of the codecs; the models are the trials of each side.

    Parameters
    ----------
    models, options
        As of `bench`: models or `store`, `data`, `preprocessing`, `root`, `limit`.
    codecs
        Labels such as "jpeg(quality=50)", or codecs.
    reestimate
        Training images on which the statistics of batch norm are estimated again, in copies of the models; 0 for
        none.
    margin
        Of the equivalence test, as a share.
    analyses
        Names of analyses; default `ANALYSES`.
    progress
        Called with the number of finished steps, of all, and what comes next.

    Raises
    ------
    ValueError, OSError
        For unknown codecs, images that a codec cannot store, and all that `bench` refuses.
    """
    chosen = settings(codecs)
    found = bench(models, train_images=reestimate, **options)
    found.check(chosen)
    steps = ["raw", *(codec.label for codec in chosen)]

    def show(done: int) -> None:
        if progress is not None:
            progress(done, len(steps), steps[done] if done < len(steps) else "")

    show(0)
    answers, again = {RAW: found.raw}, {RAW: _reestimated(found, None)}
    for place, codec in enumerate(chosen, 1):
        show(place)
        answers[codec.label] = found.evaluate(codec).logits
        again[codec.label] = _reestimated(found, codec)
    show(len(steps))
    population = _population(found, answers)
    if all(one is not None for one in again.values()):
        stacked = np.concatenate([one for one in again.values() if one is not None])
        population["reestimated"] = (("trial", "example"), stacked)
    population.attrs["codings"] = [found.evaluate(codec).record() for codec in chosen]
    population.attrs["models"] = [{"name": m.name, "architecture": m.architecture} for m in found.material.models]
    names = ANALYSES if analyses is None else tuple(analyses)
    parameters = {"equivalence": {"margin": margin}, "league": {"least_sides": 2}}
    given = {name: values for name, values in parameters.items() if name in names}
    return Compared(ask(population, names, parameters=given, progress=progress), population, _pictures(found, chosen))


def _reestimated(found: Bench, codec: Codec | None) -> NDArray[np.integer] | None:
    """Predictions (model, example) with statistics of training images of the same kind, -1 for models without any."""
    from remnant.lab.decoded import logits, reestimated

    material = found.material
    if len(material.train_images) < 2 or not any(model.has_batch_norm for model in material.models):
        return None
    shown, train = material.images, material.train_images
    if codec is not None:
        shown, train = (codec.encode(images).decode() for images in (shown, train))
    return np.stack(
        [
            logits(reestimated(model, train), shown).argmax(axis=1)
            if model.has_batch_norm
            else np.full(len(shown), -1, np.int64)
            for model in material.models
        ]
    )


def _population(found: Bench, answers: dict[str, NDArray[np.floating]]) -> Any:
    from remnant.lab.decoded import provenance

    data, models = found.material.data, found.material.models
    sources = [provenance(model) for model in models]
    sides = {
        label: [
            ingest.from_arrays(
                logits,
                read_as="logits",
                label=data.labels,
                ids=data.ids,
                classes=data.classes,
                columns=data.columns,
                source=source | {"images": label},
            )
            for logits, source in zip(every, sources, strict=True)
        ]
        for label, every in answers.items()
    }
    population = ingest.population(sides)
    population.attrs |= {"dataset": data.name, "pictures": True}
    return population


def _pictures(found: Bench, codecs: Sequence[Codec]) -> Thumbnails:
    """Images of test examples: "test" gives raw ones, the label of a codec what it leaves of them."""
    material = found.material
    rows = {str(name): row for row, name in enumerate(material.data.ids.tolist())}
    known = {codec.label: codec for codec in codecs}

    def find(split: str, wanted: Sequence[str]) -> dict[str, np.ndarray]:
        chosen = [name for name in wanted if name in rows]
        if split == "test":
            return {name: material.images[rows[name]] for name in chosen}
        if split not in known:
            return {}
        return {name: _decoded_one(known[split], material.images, rows[name]) for name in dict.fromkeys(chosen)}

    return find


def _decoded_one(codec: Codec, images: NDArray[np.uint8], row: int) -> NDArray[np.uint8]:
    """An image as it comes back, coded together with its neighbours where the codec does so."""
    first = row // codec.group * codec.group
    return codec.encode(images[first : first + codec.group]).decode(workers=1)[row - first]
