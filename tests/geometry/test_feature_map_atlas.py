"""Maps and nearest directions in an atlas: brute force over its weights and codes, commands, pages."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from browser_tests import page_or_skip
from click.testing import CliRunner
from hostile_texts import HOSTILE, Scripts
from small_ingest import model, texts, topk

from analysis import DirectionSettings, MapSettings, map_features, nearest_directions
from analysis.feature_map import study as map_study
from analysis.feature_map.page import page, save_page
from analysis.feature_map.panels import Panel, panels_of
from analysis.feature_map.plots import draw_panels
from analysis.plot_style import save
from atlas.api import Atlas
from atlas.cli.main import command
from atlas.disk.atomic_files import discard
from atlas.disk.folder import Folder
from atlas.errors import BadInput, Mismatch, Missing, UnknownName
from ingest import MatchSettings, ingest
from ingest.codes.store import read_shard
from ingest.sae.autoencoder import open_sae

QUICK = MapSettings(repeats=1, neighbours=5)


@pytest.fixture(scope="module")
def saes(tmp_path_factory):
    """Two SAEs in folders; the second has a decoder row of zeros, and two equal rows."""
    where = tmp_path_factory.mktemp("saes")
    made = []
    for name, seed, width in (("one", 0, 40), ("two", 1, 30)):
        sae = topk(seed=seed, d_sae=width)
        if name == "two":
            with torch.no_grad():
                sae.W_dec[3] = 0.0
                sae.W_dec[5] = sae.W_dec[4]
        sae.save_model(where / name)
        made.append(open_sae(where / name, name=name))
    return made


@pytest.fixture(scope="module")
def path(tmp_path_factory, saes):
    where = tmp_path_factory.mktemp("maps") / "a.atlas"
    few = MatchSettings(draws=5, min_joint=3)
    ingest(where, saes=saes, text=texts(60), model=model(), match=few).close()
    return where


def live_rows(path, saes, number):
    """Indices and unit decoder rows of the live features, in double precision."""
    rows = saes[number].sae.W_dec.detach().double().numpy()
    with Atlas.open(path) as atlas:
        dead = np.array(atlas.features(saes[number].info.name)["dead"].to_pylist())
    length = np.linalg.norm(rows, axis=1)
    idx = np.flatnonzero(~dead & (length > 0))
    return idx, rows[idx] / length[idx, None]


def expected_edges(path, saes, a, b, k):
    one, x = live_rows(path, saes, a)
    two, y = live_rows(path, saes, b)
    names = [saes[n].info.name for n in (a, b)]
    cosine = np.round(x @ y.T, 6)
    for i, row in zip(one, cosine, strict=True):
        order = [int(j) for j in np.lexsort([two, -row]) if (a, i) != (b, two[j])]
        for rank, j in enumerate(order[:k]):
            yield f"{names[0]}/{i}", f"{names[1]}/{two[j]}", rank, row[j]


def test_edges_equal_brute_force_over_the_weights(path, saes):
    settings = DirectionSettings(neighbours=4, draws=0)
    results = nearest_directions(path, "all", settings=settings)
    assert [r.name for r in results] == ["one", "two", "one+two"]
    with Atlas.open(path) as atlas:
        found = atlas.table("NEAR_DIRECTION").to_pylist()
    wanted = [edge for a in (0, 1) for b in (0, 1) for edge in expected_edges(path, saes, a, b, 4)]
    edges = {(e["source"], e["target"]): (e["rank"], e["cosine"]) for e in found}
    assert edges.keys() == {(a, b) for a, b, _, _ in wanted}
    for a, b, rank, cosine in wanted:
        assert edges[a, b][0] == rank
        assert edges[a, b][1] == pytest.approx(cosine, abs=2e-6)
    assert all(e["p"] is None and e["q"] is None for e in found)
    assert "no null was drawn" in results[0].verdict[0]


def test_pairs_that_are_active_together_have_the_cosine_of_the_weights(path, saes):
    nearest_directions(path, "all", settings=DirectionSettings(neighbours=4, draws=0))
    compared = 0
    for number in (0, 1):
        idx, rows = live_rows(path, saes, number)
        row_of = dict(zip(idx.tolist(), rows, strict=True))
        with Atlas.open(path) as atlas:
            edges = atlas.table("CO_ACTIVATES", sae=saes[number].info.name).to_pylist()
        for edge in edges:
            one, other = (int(edge[end].rpartition("/")[2]) for end in ("source", "target"))
            if {one, other} <= row_of.keys():
                compared += 1
                cosine = row_of[one] @ row_of[other]
                assert edge["decoder_cosine"] == pytest.approx(cosine, abs=1e-6)
            else:  # a decoder row of zeros
                assert edge["decoder_cosine"] is None
    assert compared > 20


def test_equal_rows_are_mutually_nearest_and_zero_rows_have_no_neighbour(path, saes):
    (two,) = nearest_directions(path, ["two"], settings=DirectionSettings(draws=50), replace=True)
    idx, _ = live_rows(path, saes, 1)
    rows = two.table("NEAR_DIRECTION").to_pylist()
    assert not any("two/3" in (r["source"], r["target"]) for r in rows)
    if {4, 5} <= set(idx.tolist()):
        (twin,) = (r for r in rows if r["source"] == "two/4" and r["rank"] == 0)
        assert twin["target"] == "two/5"
        assert twin["cosine"] == pytest.approx(1)
        assert twin["q"] <= 0.1
    assert all(0 < r["p"] <= r["q"] + 1e-12 for r in rows)


def test_map_is_stored_as_properties_of_features(path, saes):
    (one, two) = map_features(path, "all", settings=QUICK)
    with Atlas.open(path) as atlas:
        features = atlas.table("Feature").to_pylist()
    idx = {"one": live_rows(path, saes, 0)[0], "two": live_rows(path, saes, 1)[0]}
    for result in (one, two):
        points = result.table("points").to_pylist()
        assert [p["idx"] for p in points] == idx[result.name].tolist()
        known = {p["id"]: (p["x"], p["y"]) for p in points}
        for f in features:
            if f["sae"] == result.name:
                assert (f["map_x"], f["map_y"]) == known.get(f["id"], (None, None))
        assert result["points"] + result["dead"] + result["directionless"] == result["features"]
        assert 0.4 < result["trustworthiness"] <= 1
        assert result["chance"] == 5 / (len(points) - 1)
    assert two["directionless"] == 1


def test_maps_do_not_depend_on_other_saes_or_workers(path):
    first = map_features(path, ["one"], settings=QUICK)[0].table("points")
    again = map_features(path, ["one"], settings=QUICK, replace=True)[0].table("points")
    assert first.equals(again)


def test_neighbours_of_activations_equal_brute_force(path):
    settings = MapSettings(space="activation", repeats=0, neighbours=3)
    (one,) = map_features(path, ["one"], settings=settings)
    codes = np.zeros((40, 0))
    for shard in sorted(Folder.open(path).codes("one").glob("*.arrow")):
        for block in read_shard(shard):
            dense = np.zeros((len(block), 40))
            dense[block.rows, block.indices] = block.values
            codes = np.hstack([codes, dense.T])
    live = np.flatnonzero(codes.any(axis=1))
    unit = codes[live] / np.linalg.norm(codes[live], axis=1, keepdims=True)
    cosine = unit @ unit.T
    np.fill_diagonal(cosine, -1)
    for i, row in enumerate(one.table("points").to_pylist()):
        assert row["idx"] == live[i]
        np.testing.assert_allclose(row["cosines"], np.sort(cosine[i])[::-1][:3], atol=1e-6)
        own = [int(key.split("/")[1]) for key in row["neighbours"]]
        np.testing.assert_allclose(cosine[i, np.searchsorted(live, own)], row["cosines"], atol=1e-6)


def test_sample_of_tokens_is_smaller_and_seeded(path):
    few = MapSettings(space="activation", repeats=0, neighbours=3, tokens=50)
    one = map_features(path, ["one"], settings=few)[0].table("points")
    again = map_features(path, ["one"], settings=few, replace=True)[0].table("points")
    assert one.equals(again)
    assert one.num_rows <= 40


def test_joint_map_of_one_site_has_the_rows_of_both(path, saes):
    (joint,) = map_features(
        path, "all", settings=MapSettings(layout="joint", repeats=0, neighbours=5)
    )
    points = joint.table("points").to_pylist()
    both = [(n, i) for k, n in enumerate(("one", "two")) for i in live_rows(path, saes, k)[0]]
    assert [(p["sae"], p["idx"]) for p in points] == both
    assert joint["method"] == "UMAP"
    near = {key.split("/")[0] for p in points for key in p["neighbours"]}
    assert near == {"one", "two"}
    assert "Feature" not in joint.tables  # which would have two positions for each feature


def test_joint_map_of_two_spaces_is_aligned_by_matches(path, monkeypatch):
    monkeypatch.setattr(map_study, "one_space", lambda a, b: False)
    settings = MapSettings(layout="joint", repeats=0, neighbours=4)
    (joint,) = map_features(path, "all", settings=settings)
    assert joint["method"] == "aligned UMAP"
    assert joint["pairs"] >= 3
    for p in joint.table("points").to_pylist():
        assert {key.split("/")[0] for key in p["neighbours"]} == {p["sae"]}
    assert "fitted to these pairs" in " ".join(joint.verdict)


def test_bad_input_is_one_sentence(path, tmp_path):
    with pytest.raises(BadInput, match="needs two SAEs"):
        map_features(path, ["one"], settings=MapSettings(layout="joint"))
    with pytest.raises(UnknownName):
        nearest_directions(path, ["none"])
    for out, words in (("map.pdf", "must end in"), ("none/map.parquet", "does not exist")):
        run = CliRunner().invoke(
            command(), ["feature-map", "one", "--atlas", str(path), "--out", str(tmp_path / out)]
        )
        assert isinstance(run.exception, BadInput)
        assert words in str(run.exception)


def test_two_spaces_without_a_match_name_the_command(path, tmp_path, monkeypatch):
    where = shutil.copytree(path, tmp_path / "b.atlas")
    discard(Folder.open(where).part("match", "one+two"))
    monkeypatch.setattr(map_study, "one_space", lambda a, b: False)
    with pytest.raises(Missing, match="atlas match"):
        map_features(where, "all", settings=MapSettings(layout="joint"))


def test_other_weights_than_ingested_are_refused(path, saes):
    changed = saes[0].sae.W_dec.detach().clone()
    folder = Path(saes[0].info.source)
    try:
        with torch.no_grad():
            saes[0].sae.W_dec += 1.0
        saes[0].sae.save_model(folder)
        with pytest.raises(Mismatch, match="other weights"):
            nearest_directions(path, ["one"], replace=True)
    finally:
        with torch.no_grad():
            saes[0].sae.W_dec.copy_(changed)
        saes[0].sae.save_model(folder)


# Drawings


@pytest.fixture(scope="module")
def panels(path):
    return panels_of(map_features(path, "all", settings=QUICK))


def test_two_matched_saes_are_linked_and_share_colours(path, panels):
    with Atlas.open(path) as atlas:
        edges = [e for e in atlas.table("MATCHES").to_pylist() if e["one_to_one"]]
    where = [{key: i for i, key in enumerate(panel.ids)} for panel in panels]
    drawn = [e for e in edges if e["source"] in where[0] and e["target"] in where[1]]
    assert drawn
    for e in drawn:
        i, j = where[0][e["source"]], where[1][e["target"]]
        assert panels[0].link[i] == panels[1].link[j] >= 0
        assert panels[0].classes[i] == panels[1].classes[j] > 0
    for panel in panels:
        assert (panel.classes[panel.link < 0] == 0).all()
    assert len(np.unique(panels[0].link[panels[0].link >= 0])) == (panels[0].link >= 0).sum()


@pytest.mark.parametrize("colour", ["frequency", "community", "sae"])
@pytest.mark.parametrize("method", ["umap", "pca"])
def test_other_colours_and_coordinates(path, colour, method):
    for panel in panels_of(map_features(path, "all", settings=QUICK), method=method, colour=colour):
        assert panel.classes.min() >= 0
        assert panel.classes.max() < len(panel.names) == len(panel.colours)
        assert ("PCA" in panel.title) == (method == "pca")


def test_pictures(panels, tmp_path):
    for form in ("png", "svg"):
        found = save(draw_panels(panels), tmp_path / f"map.{form}")
        assert found.stat().st_size > 5000
    drawn = draw_panels(panels).to_dict()
    assert len(drawn["hconcat"]) == 2
    assert "trustworthiness" in " ".join(drawn["hconcat"][0]["title"]["subtitle"])


def test_the_command_draws_and_exports(path, tmp_path):
    outs = [tmp_path / name for name in ("m.html", "m.parquet")]
    words = [
        "feature-map",
        "one",
        "two",
        "--atlas",
        str(path),
        "--neighbours",
        "5",
        "--repeats",
        "1",
        "--json",
        "-q",
    ]
    run = CliRunner().invoke(command(), words + [w for out in outs for w in ("--out", str(out))])
    assert run.exit_code == 0, run.output
    found = json.loads(run.stdout)["result"]
    assert [row["saes"] for row in found["results"]] == ["one", "two"]
    assert found["written"] == [str(out) for out in outs]
    table = pq.read_table(outs[1])
    assert {"id", "x", "y", "neighbours", "map"} <= set(table.column_names)
    assert table.num_rows == sum(row["points"] for row in found["results"])
    assert all(len(row) == 5 for row in table["neighbours"].to_pylist())


def made_panel(n, *, labels=None, seed=0):
    rng = np.random.default_rng(seed)
    labels = labels or [f"token {i}" for i in range(n)]
    return Panel(
        labels[0],
        (labels[0],),
        ("", ""),
        rng.normal(size=(n, 2)),
        [f"{labels[0]}/{i}" for i in range(n)],
        [labels[i % len(labels)] for i in range(n)],
        rng.integers(2, size=n),
        (labels[0], "other"),
        ("#4c78a8", "#e08a3c"),
        np.arange(n),
    )


def test_hostile_texts_cannot_end_the_script():
    hostile = [text for text in HOSTILE if text != "\ud800"]
    text = page([made_panel(30, labels=hostile)])
    found = Scripts()
    found.feed(text)
    assert len(found.scripts) == 2
    assert found.handlers == []
    assert json.loads(found.scripts[0])[0]["labels"][:10] == hostile
    assert "default-src 'none'" in text
    assert not re.search(r"""(?:src|href)\s*=""", found.scripts[1])


@pytest.fixture(scope="module")
def tab():
    with page_or_skip() as page:
        yield page


def centre_of(tab, panel, point):
    """The position in the window of a point of a panel."""
    return tab.evaluate(
        "([p, i]) => { const box = panels[p].canvas.getBoundingClientRect(), [x, y] = at(panels[p], i);"
        " return [box.left + 1 + x, box.top + 1 + y]; }",
        [panel, point],
    )


def test_page_in_a_browser(tab, tmp_path):
    """Hover shows the feature and its partner as text, a selection lists features, nothing is fetched."""
    hostile = [text for text in HOSTILE if text != "\ud800"]
    out = save_page([made_panel(40, labels=hostile), made_panel(40, seed=1)], tmp_path / "m.html")
    requested, errors = [], []
    tab.on("request", lambda r: requested.append(r.url))
    tab.on("pageerror", lambda e: errors.append(str(e)))
    tab.goto(out.as_uri())
    tops = tab.evaluate("panels.map(p => p.canvas.getBoundingClientRect().top)")
    assert tops[0] == tops[1]  # side by side
    tab.mouse.move(*centre_of(tab, 0, 7))
    tab.wait_for_function("state.hover && state.hover.i === 7")
    tip = tab.inner_text("#tip")
    assert f"{hostile[0]}/7".split("\n")[0][:20] in tip
    assert "token 0/7" in tip
    assert "matched: " in tip
    tab.fill("#find", "token 3")
    assert tab.inner_text("#count") == "11 features selected"  # token 3 and token 30 to 39
    tab.fill("#find", "")
    x, y = centre_of(tab, 1, 5)
    tab.keyboard.down("Shift")
    tab.mouse.move(x - 4, y - 4)
    tab.mouse.down()
    tab.mouse.move(x + 4, y + 4)
    tab.mouse.up()
    tab.keyboard.up("Shift")
    tab.wait_for_function("state.chosen !== null")
    assert tab.evaluate("state.chosen.get(panels[1]).has(5) && state.chosen.get(panels[0]).has(5)")
    assert "token 5" in tab.inner_text("#list")
    assert tab.evaluate("window.hacked") is None
    assert errors == []
    assert [url for url in requested if not url.startswith("file:")] == []


def test_page_of_many_points_draws_them_all(tab, tmp_path):
    out = save_page([made_panel(32_768)], tmp_path / "many.html")
    tab.goto(out.as_uri())
    assert tab.evaluate("panels[0].n") == 32_768
    seen = "(() => { const d = panels[0].context.getImageData(0, 0, panels[0].canvas.width, panels[0].canvas.height).data; let k = 0; for (let i = 3; i < d.length; i += 4) k += d[i] > 0; return k; })()"
    tab.wait_for_function(f"{seen} > 20000")
    alone = int(np.abs(made_panel(32_768).points).max(axis=1).argmax())
    pixel, colour = tab.evaluate(
        """i => {
          const p = panels[0], [x, y] = at(p, i);
          return [[...p.cloud.getContext("2d").getImageData(x, y, 1, 1).data], p.colours[p.classes[i]]];
        }""",
        alone,
    )
    assert pixel[:3] == [int(colour[k : k + 2], 16) for k in (1, 3, 5)]
    assert pixel[3] == 191
    assert tab.evaluate("document.documentElement.scrollWidth") <= 1300
    tab.mouse.move(*centre_of(tab, 0, 9))
    tab.wait_for_function("state.hover !== null")
    before = tab.evaluate("panels[0].zoom")
    tab.mouse.wheel(0, -300)
    tab.wait_for_function(f"panels[0].zoom > {before} && !panels[0].stale")


def luminance(colour):
    """Relative luminance of ``rgb(r, g, b)``, as WCAG 2 defines it."""
    parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return sum(w * p for w, p in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_on_a_phone_fits_and_is_readable(tab, tmp_path, scheme):
    long = "stories260k-l2-resid_post-topk-1024-k16-s0-frozen-decoder" * 2
    out = save_page([made_panel(40, labels=[long]), made_panel(40, seed=1)], tmp_path / "m.html")
    tab.set_viewport_size({"width": 390, "height": 800})
    tab.emulate_media(color_scheme=scheme)
    try:
        tab.goto(out.as_uri())
        assert tab.evaluate("document.documentElement.scrollWidth") <= 390
        widths = tab.evaluate("panels.map(p => p.canvas.getBoundingClientRect().right)")
        assert all(300 < right <= 390 for right in widths)
        back = luminance(tab.evaluate("getComputedStyle(document.body).backgroundColor"))
        assert (back < 0.1) == (scheme == "dark")
        for tag in ("body", "h1", "p"):
            ink = luminance(
                tab.evaluate(f"getComputedStyle(document.querySelector('{tag}')).color")
            )
            low, high = sorted((ink, back))
            assert (high + 0.05) / (low + 0.05) >= 4.5
        tab.mouse.move(*centre_of(tab, 0, 7))
        tab.wait_for_function("state.hover !== null")
    finally:
        tab.set_viewport_size({"width": 1300, "height": 900})
        tab.emulate_media(color_scheme="light")


def test_maps_fill_their_page(tab, tmp_path):
    """One map fills the height of a page, with its legend at the right; two fill the width."""
    one = save_page([made_panel(40)], tmp_path / "one.html")
    tab.goto(one.as_uri())
    box = "panels.map(p => p.canvas.getBoundingClientRect()).map(r => [r.left, r.top, r.right, r.bottom])"
    ((_, _, right, bottom),) = tab.evaluate(box)
    assert 800 < bottom <= 900
    key = tab.evaluate("document.querySelector('.key').getBoundingClientRect().left")
    assert key > right
    two = save_page([made_panel(40), made_panel(40, seed=1)], tmp_path / "two.html")
    tab.goto(two.as_uri())
    (_, top, _, bottom), (_, other_top, right, _) = tab.evaluate(box)
    assert top == other_top
    assert 1200 < right <= 1300
    assert tab.evaluate("document.querySelector('.key').getBoundingClientRect().top") >= bottom
