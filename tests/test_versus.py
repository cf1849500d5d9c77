"""One reference beside compressed models, from files and from models in memory."""

import json

import numpy as np
import pytest

import remnant
from remnant import ingest
from remnant.cli import main
from remnant.versus import Side, as_side, compare, name_apart

CLASSES = np.array(["cat", "dog", "<script>alert(1)</script>"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A reference, a compressed model in another order of rows, a second one, and the reference run again."""
    root = tmp_path_factory.mktemp("versus")
    rng = np.random.default_rng(0)
    label = rng.integers(3, size=600)
    logits = rng.normal(0, 1, (600, 3))
    logits[np.arange(600), label] += 2
    ids = np.array([f"x-{i:03d}" for i in range(600)])
    site = np.where(np.arange(600) % 3 == 0, "north", "south")
    for name, noise in (("fp32", 0.0), ("int8", 0.3), ("int4", 1.5), ("again", 1e-3)):
        order = rng.permutation(600) if noise else np.arange(600)
        noisy = logits + noise * rng.normal(0, 1, logits.shape)
        np.savez(
            root / f"{name}.npz",
            ids=ids[order], logits=noisy[order], label=label[order], classes=CLASSES, site=site[order],
        )  # fmt: skip
    return root


def flips(folder, name):
    """Harmful flips by hand: rows joined by id one at a time."""
    one, two = (dict(np.load(folder / f"{n}.npz")) for n in ("fp32", name))
    place = {key: i for i, key in enumerate(two["ids"].tolist())}
    harmful = 0
    for i, key in enumerate(one["ids"].tolist()):
        right = one["logits"][i].argmax() == one["label"][i]
        harmful += right and two["logits"][place[key]].argmax() != one["label"][i]
    return harmful


def test_harmful_flips_are_those_of_rows_joined_by_id(folder):
    found = compare(folder / "fp32.npz", folder / "int8.npz", folder / "int4.npz")
    for name in ("int8", "int4"):
        assert found.claim("cie_u_rate", name).estimate == flips(folder, name) / 600


def test_a_reference_against_itself_has_no_flips(folder):
    found = compare(folder / "fp32.npz", f"same={folder}/fp32.npz")
    for quantity in ("cie_rate", "cie_u_rate", "net_accuracy_change", "kl_mean"):
        assert found.claim(quantity, "same").estimate == 0


def test_the_same_answers_come_from_arrays_files_and_predictions(folder):
    files = compare(folder / "fp32.npz", folder / "int8.npz")
    sides = {name: dict(np.load(folder / f"{name}.npz")) for name in ("fp32", "int8")}
    memory = [
        ingest.from_arrays(
            a["logits"], ids=a["ids"], label=a["label"], classes=a["classes"], columns={"site": a["site"]}
        )
        for a in sides.values()
    ]
    found = compare(Side("fp32", (memory[0],)), Side("int8", (memory[1],)))
    ours, theirs = found.audit.finding("mismatches"), files.audit.finding("mismatches")
    assert ours is not None
    assert theirs is not None
    assert ours.claims == theirs.claims


def test_labels_may_come_from_a_file_of_their_own(folder, tmp_path):
    whole = dict(np.load(folder / "fp32.npz"))
    for name in ("fp32", "int8"):
        arrays = dict(np.load(folder / f"{name}.npz"))
        np.savez(tmp_path / f"{name}.npz", ids=arrays["ids"], logits=arrays["logits"], classes=CLASSES)
    np.savez(tmp_path / "truth.npz", ids=whole["ids"], label=whole["label"], site=whole["site"])
    bare = compare(tmp_path / "fp32.npz", tmp_path / "int8.npz")
    assert {claim.quantity for f in bare.audit.findings for claim in f.claims}.isdisjoint({"cie_u_rate"})
    assert bare.claim("cie_rate", "int8").estimate > 0
    told = compare(tmp_path / "fp32.npz", tmp_path / "int8.npz", labels=tmp_path / "truth.npz")
    assert told.claim("cie_u_rate", "int8").estimate == flips(folder, "int8") / 600
    assert "site = " in told.claim("worst_group_net_change", "int8").detail


def test_the_reference_run_again_is_the_floor(folder):
    found = compare(folder / "fp32.npz", folder / "int8.npz", floor=folder / "again.npz")
    assert found.population.attrs["floor"] == "fp32, again"
    finding = found.audit.finding("floor")
    assert finding is not None
    assert any(claim.quantity == "floor_cie_rate" for claim in finding.claims)


def test_several_files_of_a_side_are_a_population(folder):
    found = compare(f"float={folder}/fp32.npz,{folder}/again.npz", f"small={folder}/int8.npz,{folder}/int4.npz")
    assert found.population["scheme"].values.tolist() == ["float", "float", "small", "small"]
    assert found.audit.finding("exemplars") is not None


def test_a_callable_and_a_module_run_on_data(tmp_path):
    torch = pytest.importorskip("torch")
    from remnant.lab.data import load
    from remnant.lab.foreign import predict

    data = load("digits")
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))

    def rounded(batch):
        return model(batch).round()

    found = compare(model, Side("rounded", (rounded,)), data="digits", models={"preprocessing": "dataset"})
    first = predict(model, data, preprocessing="dataset")
    scores = np.asarray(first.scores)
    expected = (scores.argmax(1) != np.round(scores).argmax(1)).mean()
    assert found.claim("cie_rate", "rounded").estimate == expected
    assert found.pictures is not None
    example = str(found.population["example"].values[0])
    assert found.pictures("test", [example])[example].shape == (8, 8, 1)


def test_files_get_labels_and_pictures_from_data(tmp_path):
    from remnant.lab.data import load

    data = load("digits")
    ids, label = data.test.ids, data.test.labels.numpy()
    wrong = np.where(np.arange(len(label)) % 50 == 0, (label + 1) % 10, label)
    np.savez(tmp_path / "one.npz", ids=ids, prediction=label)
    np.savez(tmp_path / "two.npz", ids=ids[::-1], prediction=wrong[::-1])
    found = compare(tmp_path / "one.npz", tmp_path / "two.npz", data="digits")
    assert found.claim("cie_u_rate", "two").estimate == np.mean(np.arange(len(label)) % 50 == 0)
    found.write(tmp_path / "report")
    assert "data:image/png" in (tmp_path / "report/report.html").read_text()


def test_a_notebook_shows_the_first_screen_and_escapes_names(folder):
    found = compare(folder / "fp32.npz", folder / "int4.npz")
    html = found._repr_html_()
    assert "loses the right answer" in html
    assert "<script" not in html
    assert "int4 loses the right answer" in str(found)
    assert found.to_frame().loc["int4", "Right answers lost"] == f"{flips(folder, 'int4') / 6:.2f} %"


@pytest.mark.parametrize(
    ("given", "name", "sources"),
    [
        ("a/b/int8.npz", "int8", ("a/b/int8.npz",)),
        ("small=a.csv,b.csv", "small", ("a.csv", "b.csv")),
        ("timm:resnet18@w.safetensors", "timm:resnet18", ("timm:resnet18@w.safetensors",)),
        ("mine=package.module:function@w.pt", "mine", ("package.module:function@w.pt",)),
        ("model.onnx", "model", ("model.onnx",)),
        ("hf:some/dir", "dir", ("hf:some/dir",)),
    ],
)
def test_sides_are_written_in_one_word(given, name, sources):
    assert as_side(given) == Side(name, sources)


def test_sides_of_one_name_are_told_apart(tmp_path):
    sides = [Side("p", ("x/a/p.npz",)), Side("p", ("x/b/p.npz",)), Side("q", ("q.npz",)), Side("q", (np.zeros(3),))]
    names = [side.name for side in name_apart(sides)]
    assert names[:2] == ["a/p", "b/p"]
    assert len(set(names)) == 4


@pytest.mark.parametrize(
    ("sides", "options", "said"),
    [
        (["fp32.npz"], {}, "at least one compressed model"),
        (["fp32.npz", "none.npz"], {}, "does not exist"),
        (["fp32.npz", "x="], {}, "'NAME=FILE'"),
        (["fp32.npz", "nothing-*.npz"], {}, "there are none"),
        (["fp32.npz", "model.onnx"], {}, "Expected `data`"),
        (["fp32.npz", "int8.npz"], {"match": "order"}, "match"),
    ],
)
def test_mistakes_are_explained(folder, monkeypatch, sides, options, said):
    monkeypatch.chdir(folder)
    with pytest.raises((ValueError, OSError), match=said):
        compare(*sides, **options)


def test_the_public_name_is_the_function():
    assert remnant.compare is compare
    assert "compare" in dir(remnant)


def test_compare_gate_and_verify_from_the_command_line(folder, tmp_path, capsys):
    out = tmp_path / "report"
    main(["compare", f"{folder}/fp32.npz", f"{folder}/int8.npz", f"{folder}/int4.npz", "--out", str(out), "--json"])
    written = json.loads(capsys.readouterr().out)
    assert {"report.html", "report.json", "manifest.json"} <= set(written)
    codes = {}
    for limit in ("60%", "0.1%"):
        with pytest.raises(SystemExit) as stopped:
            main(["gate", str(out), "--max-harmful-flips", limit])
        codes[limit] = stopped.value.code
    assert codes == {"60%": 0, "0.1%": 1}
    with pytest.raises(SystemExit) as stopped:
        main(["verify", str(out), "--inputs", str(folder)])
    assert stopped.value.code == 0
    (out / "report.md").write_text("better")
    with pytest.raises(SystemExit) as stopped:
        main(["verify", str(out)])
    assert stopped.value.code == 1
    assert "changed" in capsys.readouterr().out


def test_compare_says_on_the_terminal_what_it_found(folder, tmp_path, capsys):
    main(["compare", f"{folder}/fp32.npz", f"{folder}/int4.npz", "--out", str(tmp_path / "r"), "--margin", "2pt"])
    said = " ".join(capsys.readouterr().out.split())
    assert "int4 loses the right answer on" in said
    assert "report.html" in said


def test_a_mistake_leaves_no_report(folder, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["compare", f"{folder}/fp32.npz", f"{folder}/none.npz", "--out", str(tmp_path / "r")])
    assert stopped.value.code == 2
    assert "does not exist" in capsys.readouterr().err
    assert not (tmp_path / "r").exists()


def right_share(folder, name):
    arrays = np.load(folder / f"{name}.npz")
    return float((arrays["logits"].argmax(1) == arrays["label"]).mean())


def test_a_file_that_is_not_as_accurate_as_expected_is_refused(folder, tmp_path):
    known = right_share(folder, "fp32")
    compare(folder / "fp32.npz", folder / "int8.npz", models={"expect": known + 0.004})
    with pytest.raises(ValueError, match=r"Expected fp32 to be right on .* Nothing else was computed"):
        compare(folder / "fp32.npz", folder / "int8.npz", models={"expect": known - 0.1})
    bare = dict(np.load(folder / "fp32.npz"))
    del bare["label"]
    np.savez(tmp_path / "bare.npz", **bare)
    with pytest.raises(ValueError, match="Expected labels"):
        compare(tmp_path / "bare.npz", f"two={tmp_path}/bare.npz", models={"expect": known})


def test_another_order_of_classes_is_the_cause_that_is_told(folder, tmp_path):
    arrays = dict(np.load(folder / "fp32.npz"))
    np.savez(tmp_path / "turned.npz", **(arrays | {"logits": arrays["logits"][:, [1, 2, 0]]}))
    with pytest.raises(ValueError, match="classes are in another order"):
        compare(tmp_path / "turned.npz", folder / "int8.npz", models={"expect": right_share(folder, "fp32")})


def test_sides_of_one_name_in_one_folder_get_numbers_only():
    sides = name_apart([Side("p", ("x/p.npz",)), Side("p", ("x/q.npz",)), Side("q", ("x/q.npz",))])
    assert [side.name for side in sides] == ["p", "p (2)", "q"]


@pytest.mark.parametrize("inside", ["", "below"])
def test_a_folder_that_cannot_be_written_is_told_before_the_work(folder, tmp_path, capsys, monkeypatch, inside):
    monkeypatch.setattr("remnant.versus.compare", lambda *_, **__: pytest.fail("compared"))
    file = tmp_path / "file"
    file.write_text("mine")
    with pytest.raises(SystemExit) as stopped:
        main(["compare", f"{folder}/fp32.npz", f"{folder}/int8.npz", "--out", str(file / inside)])
    assert stopped.value.code == 2
    assert "Expected `--out` to be a folder" in " ".join(capsys.readouterr().err.split())
    assert file.read_text() == "mine"


def test_an_interrupt_speaks_of_stored_trials_only_where_there_are_some(folder, monkeypatch, capsys):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("remnant.versus.compare", interrupted)
    with pytest.raises(SystemExit) as stopped:
        main(["compare", f"{folder}/fp32.npz", f"{folder}/int8.npz"])
    assert stopped.value.code == 130
    assert capsys.readouterr().err.split() == ["Interrupted."]


def test_what_was_left_out_is_said_in_words(folder, tmp_path, capsys):
    arrays = np.load(folder / "int8.npz")
    np.savez(tmp_path / "fewer.npz", **{name: arrays[name][:590] for name in ("ids", "logits")}, classes=CLASSES)
    words = [
        "compare",
        f"{folder}/fp32.npz",
        f"{tmp_path}/fewer.npz",
        "--missing",
        "drop",
        "--out",
        str(tmp_path / "r"),
    ]
    main(words)
    said = " ".join(capsys.readouterr().err.split())
    assert "left out 10 of fp32 (fp32.npz): x-" in said
    assert "{" not in said


def test_lines_on_the_terminal_keep_numbers_and_units_together():
    from remnant.cli.comparing import _wrapped

    text = "loses 8.77 % (95 % interval -7.81 points to 9.83 points) of the examples. " * 5
    for width in range(30, 81, 7):
        lines = _wrapped(text, width).split("\n")
        assert max(map(len, lines)) <= width
        assert not any(line.startswith(("%", "point", "interval")) for line in lines)
        assert " ".join(lines) == text.strip()


def test_a_pair_without_labels_says_once_that_labels_are_missing(folder, tmp_path):
    for name in ("fp32", "int4"):
        arrays = np.load(folder / f"{name}.npz")
        np.savez(tmp_path / f"{name}.npz", ids=arrays["ids"], logits=arrays["logits"])
    said = str(compare(tmp_path / "fp32.npz", tmp_path / "int4.npz"))
    assert said.count("cannot be told without labels") == 1
    assert "It was not asked" not in said


def test_one_example_is_enough_for_a_report(folder, tmp_path):
    arrays = np.load(folder / "fp32.npz")
    one = ingest.from_arrays(arrays["logits"][:1], ids=arrays["ids"][:1], label=arrays["label"][:1])
    compare(Side("a", (one,)), Side("b", (one,))).write(tmp_path / "r")
    assert "No picture: No class or group" in (tmp_path / "r/report.html").read_text()


def test_the_head_of_the_page_names_the_sides_and_the_table_says_who_harms_least(folder, tmp_path):
    found = compare(folder / "fp32.npz", folder / "int8.npz", folder / "int4.npz", floor=folder / "again.npz")
    found.write(tmp_path / "r")
    assert "int8, int4 against fp32" in (tmp_path / "r/report.html").read_text()
    assert found.to_frame().loc["int8", "Harms least, prob."].startswith("100.00 %")
    single = compare(folder / "fp32.npz", folder / "int8.npz")
    assert "Harms least, prob." not in single.to_frame()


def test_a_population_of_files_is_asked_for_noise_and_for_accuracy(folder):
    found = compare(f"float={folder}/fp32.npz,{folder}/again.npz", f"small={folder}/int8.npz,{folder}/int4.npz")
    said = str(found)
    assert said.index("Is it more than noise?") < said.index("Is it as accurate as before?") < said.index("Who pays?")
    assert "One model a side" not in said
    assert "On the worst group, site = " in said


def test_a_file_that_is_compared_with_itself_is_noted(folder, tmp_path, capsys):
    for other, noted in (("fp32", True), ("int8", False)):
        main(["compare", f"{folder}/fp32.npz", f"two={folder}/{other}.npz", "--out", str(tmp_path / other)])
        assert ("note two: the same file as fp32: fp32.npz" in " ".join(capsys.readouterr().err.split())) == noted
