"""Scores of training examples that are recorded while networks train."""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from remnant.engine import Cohort
from remnant.lab import data, models, probe
from remnant.lab.data import Dataset, Images, take
from remnant.lab.train import train
from remnant.stats.difficulty import el2n
from remnant.store import Store
from remnant.trial import Trial

DYNAMICS = ("forgetting", "el2n", "margin")
"""Scores that a training leaves, each high for examples that are hard to learn."""


def score_cohort(cohort: Cohort, *, store: str, root: str | None = None, epoch: int) -> None:
    """Train the trials of a cohort and keep the scores of all training examples on the store's shelf "scores"."""
    shelf = Store(store)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as for trials: sums then have one order on any number of cores
    try:
        for trial in cohort:
            name = score_name(trial, epoch)
            if not shelf.has_item("scores", name):
                dataset = data.load(trial.recipe.dataset, root)
                found = {score: values.astype(np.float32) for score, values in dynamics(trial, dataset, epoch).items()}
                record = {"dataset": dataset.fingerprint, "seed": trial.seed, "epoch": epoch}
                shelf.publish_item("scores", name, {"scores": found}, record)
    finally:
        torch.set_num_threads(threads)


def score_name(trial: Trial, epoch: int) -> str:
    """Name on the shelf "scores" of what the training of a trial leaves."""
    return f"{trial.key}-{epoch}"


def dynamics(trial: Trial, dataset: Dataset, epoch: int) -> dict[str, NDArray[np.float64]]:
    """Scores of all training examples from one training of a trial's recipe on all of them; name to (example,).

    - "forgetting": how often the network was right when it was shown the example and wrong the next time; the number
      of presentations for examples that were never right (Toneva et al. 2019);
    - "el2n": norm of the error of the probabilities after `epoch` epochs, on the example as it is, or at the end of a
      training that is shorter (Paul et al. 2021);
    - "margin": minus the mean over presentations of the logit of the true class minus the highest other logit, the
      area under the margin with its sign turned (Pleiss et al. 2020).

    Forgetting and margin are read from the batches of the training itself, with its augmentation, as in the papers:
    the training gives the same network as without.

    References
    ----------
    toneva2019empirical; paul2021deep; pleiss2020identifying
    """
    watched = _Watched(dataset.train.images)
    labels = dataset.train.labels.numpy()
    model = models.build(trial.recipe.architecture, dataset.input_shape, dataset.num_classes, trial.rng("init"))
    model.to(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    record = _Record(labels, watched)
    hook = _Recorder(model, dataset, _steps_per_epoch(trial, len(labels)) * epoch)
    # Validation examples would never be shown.
    recipe = replace(trial.recipe, validation=0.0, checkpoint="last")
    seen = replace(dataset, train=replace(dataset.train, images=watched))
    handle = model.register_forward_hook(record)
    try:
        train(model, recipe, seen, np.arange(len(labels)), trial.rng, hook=hook)
    finally:
        handle.remove()
    assert hook.scores is not None
    return {"forgetting": record.forgetting(), "el2n": hook.scores, "margin": record.margin()}


def _steps_per_epoch(trial: Trial, num_examples: int) -> int:
    return num_examples // min(trial.recipe.batch_size, num_examples)


@dataclass
class _Watched:
    """Images that remember which of them were asked for last."""

    images: Images
    last: NDArray[np.intp] = field(default_factory=lambda: np.empty(0, np.intp))

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.images.shape)

    @property
    def fingerprint(self) -> str:
        return ""

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, indices: np.ndarray) -> Tensor:
        self.last = indices
        return take(self.images, indices)


class _Record:
    """A forward hook: what the network answers to the batches that it trains on."""

    def __init__(self, labels: NDArray[np.integer], watched: _Watched) -> None:
        self.labels, self.watched = labels, watched
        self.right = np.zeros(len(labels), bool)
        self.ever = np.zeros(len(labels), bool)
        self.events = np.zeros(len(labels), np.int64)
        self.shown = np.zeros(len(labels), np.int64)
        self.margins = np.zeros(len(labels))

    def __call__(self, module: nn.Module, inputs: Any, output: Tensor) -> None:
        if not module.training:
            return
        logits, batch = output.detach().float().cpu().numpy(), self.watched.last
        labels = self.labels[batch]
        right = logits.argmax(axis=1) == labels
        self.events[batch] += self.right[batch] & ~right
        self.right[batch] = right
        self.ever[batch] |= right
        self.shown[batch] += 1
        self.margins[batch] += probe.margins(logits, labels)

    def forgetting(self) -> NDArray[np.float64]:
        return self._known(np.where(self.ever, self.events, self.shown.max()).astype(np.float64))

    def margin(self) -> NDArray[np.float64]:
        return self._known(-self.margins / np.maximum(self.shown, 1))

    def _known(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        # Epochs leave out what does not fill a batch, so that a few examples may never have been shown.
        scores[self.shown == 0] = np.median(scores[self.shown > 0])
        return scores


class _Recorder:
    """A training hook that takes the EL2N scores of all examples at one step, or at the end if that comes first."""

    def __init__(self, model: nn.Module, dataset: Dataset, at: int) -> None:
        self.model, self.dataset, self.at = model, dataset, at
        self.scores: NDArray[np.float64] | None = None

    def before_step(self, step: int, num_steps: int) -> None:
        if step == self.at:
            self._score()

    def settled(self, step: int, num_steps: int) -> bool:
        return True

    def finish(self) -> None:
        if self.scores is None:
            self._score()

    def _score(self) -> None:
        train_split = self.dataset.train
        self.scores = el2n(probe.logits(self.model, self.dataset, train_split), train_split.labels.numpy())
