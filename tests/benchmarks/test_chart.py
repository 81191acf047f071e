import itertools
import re
from xml.etree import ElementTree as ET

import pytest

from benchmarks.chart import draw

SVG = "{http://www.w3.org/2000/svg}"
SIZES = [3_000, 30_000, 300_000]
LINES = {
    "list": [2_000.0, 1_990.0, 1_980.0],
    "get": [2_900.0, 2_880.0, 2_860.0],
    "vote": [1_995.0, 1_991.0, 1_981.0],
    "search <rare>": [1_500.0, 1_200.0, 1_000.0],
    "search & common": [900.0, 800.0, 700.0],
}


def drawn() -> ET.Element:
    return ET.fromstring(draw("Requests & posts", SIZES, LINES))


def test_every_line_has_a_point_for_each_size_inside_the_chart() -> None:
    chart = drawn()
    width, height = map(float, chart.attrib["viewBox"].split()[2:])

    lines = chart.findall(f"{SVG}polyline")
    assert len(lines) == len(LINES)
    for line in lines:
        points = [tuple(map(float, point.split(","))) for point in line.attrib["points"].split()]
        assert len(points) == len(SIZES)
        assert all(0 < x < width and 0 < y < height for x, y in points)
        assert points == sorted(points)


def test_more_stands_higher() -> None:
    heights = [float(line.attrib["points"].split()[0].split(",")[1]) for line in drawn().findall(f"{SVG}polyline")]

    assert sorted(heights) == [heights[1], heights[0], heights[2], heights[3], heights[4]]


def test_names_stand_as_they_are_and_none_covers_another() -> None:
    labels = [text for text in drawn().findall(f"{SVG}text") if "label" in text.attrib.get("class", "")]

    assert [label.text for label in labels] == list(LINES)
    places = sorted(float(label.attrib["y"]) for label in labels)
    assert all(below - above >= 17 for above, below in itertools.pairwise(places))


def test_sizes_and_round_numbers_are_written_at_the_axes() -> None:
    written = {text.text for text in drawn().findall(f"{SVG}text")}

    assert {"3,000", "30,000", "300,000", "0", "1,000"} <= written


def test_it_has_colours_for_dark_pages_and_loads_nothing() -> None:
    text = draw("title", SIZES, LINES)

    assert "prefers-color-scheme:dark" in text
    assert re.findall(r"(?:href|url|import)\b", text) == []


@pytest.mark.parametrize("values", [[0.0, 0.0, 0.0], [0.4, 0.2, 0.1], [123_456.0, 1.0, 99_999.0]])
def test_any_figures_can_be_drawn(values: list[float]) -> None:
    ET.fromstring(draw("title", SIZES, {"list": values}))


def test_one_size_alone_can_be_drawn() -> None:
    ET.fromstring(draw("title", [3_000], {"list": [10.0]}))
