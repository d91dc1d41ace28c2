"""The HTML page of a contact sheet: one file without any outside resource.

Its buttons keep their state in the page alone; the download is an ``accept_reject.csv`` to put in
the place of the one beside the page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from vseam_lib.editing.verdicts import COLUMNS, WORDS

_STYLE = """
:root { color-scheme: light dark; --line: #c8c8c8; --good: #0b6e4f; --bad: #a63d00; }
@media (prefers-color-scheme: dark) {
  :root { --line: #4d4d4d; --good: #6fd3ae; --bad: #ffa36b; }
}
body { font: 1rem/1.45 system-ui, sans-serif; margin: 0 auto; max-width: 60rem; padding: 1rem; }
article { border-top: 1px solid var(--line); padding: 1rem 0; }
h1 { font-size: 1.4rem; } h2 { font-size: 1rem; margin: 0; overflow-wrap: anywhere; }
p { margin: .3rem 0; overflow-wrap: anywhere; }
.pictures { display: grid; gap: .5rem; grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); }
figure { margin: .4rem 0; } img { width: 100%; height: auto; display: block; background: #fff; }
figcaption { font-size: .85rem; }
.accepted { color: var(--good); } .rejected { color: var(--bad); }
fieldset { border: 1px solid var(--line); display: flex; flex-wrap: wrap; gap: .3rem 1rem; }
label { padding: .3rem 0; } input[type=text] { max-width: 100%; font: inherit; }
nav { position: sticky; bottom: 0; padding: .6rem 0; background: Canvas;
  border-top: 1px solid var(--line); }
button { font: inherit; padding: .4rem .8rem; }
"""

_SCRIPT = """
const columns = %(columns)s;
const quoted = text => '"' + text.replaceAll('"', '""') + '"';
function rows() {
  return [...document.querySelectorAll("form")].map(form => ({
    id: form.dataset.id,
    verdict: form.querySelector("input[type=radio]:checked").value,
    note: form.querySelector("input[type=text]").value,
    picture: form.dataset.picture,
  }));
}
function count() {
  const all = rows(), given = all.filter(row => row.verdict);
  document.querySelector("output").textContent = given.length + " of " + all.length + " decided";
}
document.addEventListener("change", count);
document.addEventListener("submit", event => event.preventDefault());
document.querySelector("button").addEventListener("click", () => {
  const lines = rows().map(row => columns.map(column => quoted(row[column])).join(","));
  const file = new Blob([[columns.join(","), ...lines, ""].join("\\n")], {type: "text/csv"});
  const link = document.createElement("a");
  link.href = URL.createObjectURL(file);
  link.download = "accept_reject.csv";
  link.click();
});
count();
"""


def page(rows: Sequence[Mapping[str, object]]) -> str:
    """The page of some edits, as :func:`vseam_lib.editing.review.contact_sheet` describes them.

    Args:
        rows: the columns of the verdict file, ``category``, ``question``, ``counterfactual``,
            ``change``, ``accepted``, ``reasons``, and ``files`` (caption to address).
    """
    script = _SCRIPT % {"columns": str(list(COLUMNS))}
    articles = "\n".join(_article(k, row) for k, row in enumerate(rows))
    return f"""<!doctype html>
<html lang="en-GB">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Review of edits</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>Review of edits</h1>
<p>Decide where the automatic filter is wrong, download the file and put it in the place of
<code>accept_reject.csv</code> beside this page. Undecided edits keep the automatic verdict.</p>
<main>
{articles}
</main>
<nav><button type="button">Download accept_reject.csv</button> <output></output></nav>
<script>{script}</script>
</body>
</html>
"""


def _article(k: int, row: Mapping[str, object]) -> str:
    text = {name: escape(str(value)) for name, value in row.items()}
    figures = "".join(
        f'<figure><img src="{escape(address)}" alt="{escape(name)}" loading="lazy">'
        f"<figcaption>{escape(name)}</figcaption></figure>"
        for name, address in row["files"].items()
    )
    state = "accepted" if row["accepted"] else "rejected"
    reasons = f": {text['reasons']}" if row["reasons"] else ""
    choices = "".join(
        f'<label><input type="radio" name="verdict" value="{word}"'
        f"{' checked' if row['verdict'] == word else ''}> {word or 'undecided'}</label>"
        for word in ("", *WORDS)
    )
    return f"""<article>
<h2 id="e{k}">{text["id"]} ({text["category"]})</h2>
<p>{text["question"]}<br>{text["counterfactual"]}</p>
<p><strong>{text["change"]}</strong></p>
<div class="pictures">{figures}</div>
<p class="{state}">Automatic filter: {state}{reasons}</p>
<form aria-labelledby="e{k}" data-id="{text["id"]}" data-picture="{text["picture"]}">
<fieldset><legend>Your verdict</legend>{choices}
<label>Note <input type="text" value="{text["note"]}"></label></fieldset>
</form>
</article>"""
