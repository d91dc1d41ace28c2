import pandas as pd

from vseam_lib import tables


def test_text_from_data_is_escaped():
    page = tables.show(pd.DataFrame({"q": ["<img src=x>"], "v": [1.25]}), {"v": "{:.1f}"}).to_html()
    assert "<img" not in page and "&lt;img" in page
    assert "1.2" in page


def test_missing_values_show_as_a_dash():
    page = tables.show(pd.DataFrame({"v": [None, 1.0]}), {"v": "{:.1f}"}).to_html()
    assert "–" in page and "nan" not in page


def test_the_same_table_renders_the_same_page():
    frame = pd.DataFrame({"v": [1, 2]})
    assert tables.show(frame, caption="a").to_html() == tables.show(frame, caption="a").to_html()
