"""A picture that any browser shows."""

from xml.etree import ElementTree

from loadtests.plot import HEIGHT, WIDTH, Curve, Panel, svg

SVG = "{http://www.w3.org/2000/svg}"


def drawn(*panels: Panel) -> ElementTree.Element:
    """The parsed picture."""
    return ElementTree.fromstring(svg(panels))


def test_each_panel_has_its_place_and_its_curves() -> None:
    panel = Panel("a & b", "x", [Curve([(0, 0), (5, 2)], "#000000", "line")], 10, 4, "%")
    picture = drawn(panel, panel)
    assert picture.get("viewBox") == f"0 0 {2 * WIDTH} {HEIGHT}"
    assert [group.get("transform") for group in picture.iter(f"{SVG}g")] == ["translate(0 0)", f"translate({WIDTH} 0)"]
    texts = [text.text for text in picture.iter(f"{SVG}text")]
    assert texts.count("a & b") == 2
    assert {"line", "2%", "7.5"} <= set(texts)


def test_points_lie_between_the_axes_and_what_is_too_high_is_cut() -> None:
    picture = drawn(Panel("", "", [Curve([(0, 0), (10, 4), (10, 99)], "#000000", is_dashed=True)], 10, 4))
    (line,) = picture.iter(f"{SVG}polyline")
    points = [tuple(map(float, point.split(","))) for point in line.attrib["points"].split()]
    assert points == [(48.0, 220.0), (396.0, 30.0), (396.0, 30.0)]
    assert line.get("stroke-dasharray") == "4 3"


def test_a_curve_without_a_label_is_not_in_the_legend() -> None:
    named, nameless = Curve([(0, 0)], "#111111", "name"), Curve([(0, 0)], "#222222")
    strokes = [line.get("stroke") for line in drawn(Panel("", "", [named, nameless], 1, 1)).iter(f"{SVG}line")]
    assert "#111111" in strokes
    assert "#222222" not in strokes
