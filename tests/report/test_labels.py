import pytest

from remnant.report.labels import scheme_name, scheme_phrase, title, with_scheme_phrases
from remnant.schemes import Compose, Dense, Float16, MagnitudePruning, OneShotPruning, StaticInt8

SCHEMES = {
    Dense(): ("Dense", "dense"),
    MagnitudePruning(0.9): ("Magnitude pruning, sparsity 0.9", "magnitude pruning at sparsity 0.9"),
    OneShotPruning(0.5, "layer"): (
        "One-shot pruning, sparsity 0.5, scope layer",
        "one-shot pruning at sparsity 0.5 with scope layer",
    ),
    StaticInt8(500, False): (
        "Static int8, calibration 500, not per channel",
        "static int8 with calibration 500 and not per channel",
    ),
    Compose((MagnitudePruning(0.9), StaticInt8())): (
        "Magnitude pruning, sparsity 0.9, then static int8",
        "magnitude pruning at sparsity 0.9, then static int8",
    ),
}


@pytest.mark.parametrize(("scheme", "expected"), SCHEMES.items(), ids=lambda value: getattr(value, "label", ""))
def test_labels_of_schemes_become_words(scheme, expected):
    assert (scheme_name(scheme.label), scheme_phrase(scheme.label)) == expected


def test_a_scheme_of_another_package_gets_a_name_too():
    assert scheme_name("low-rank(rank=8, exact=True)") == "Low rank, rank 8, exact"


def test_labels_in_text_become_phrases():
    labels = ["dense", Float16().label, MagnitudePruning(0.9).label, MagnitudePruning(0.95).label, StaticInt8().label]
    text = "PIEs of magnitude-pruning(sparsity=0.95) and static-int8, dense; static-int8(calibration=5), float16s"
    expected = "PIEs of magnitude pruning at sparsity 0.95 and static int8, dense; static-int8(calibration=5), float16s"
    assert with_scheme_phrases(text, labels) == expected
    assert with_scheme_phrases(text, []) == text


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cie_u_rate", "CIE-U rate"),
        ("accuracy_pie", "Accuracy PIE"),
        ("pie_count_null", "PIE count by chance"),
        ("null_mean", "Null mean"),
        ("null", "Null"),
        ("latency_seconds", "Latency (s)"),
        ("kl_mean", "KL mean"),
        ("p", "p"),
        ("q_value", "q value"),
        ("bytes", "Bytes"),
        ("95_percent", "95 (%)"),
    ],
)
def test_column_names_become_headings(name, expected):
    assert title(name) == expected
