# The map of the project: data -> executed chapters -> book.
#
#   vseam_lib/world/*.py ---- data ----> build/world/gqa
#                                            |
#   profiles/{run}.yml   --- edits -----> build/edits
#                                            |
#   notebooks/{chapter}.py                   v
#   profiles/{run}.yml   --- chapter ---> book/runs/{run}/{chapter}.ipynb
#   vseam_lib/**/*.py                        |
#   vseam_lib/world/weights, paper           v
#   book/, _config.yml, _toc.yml -- book --> build/html/index.html
#
# snakemake -c2                                     the book, on two cores
# snakemake -c2 book/runs/smoke/05_heads.ipynb      one chapter of one run
# snakemake -c2 --config run=smoke html=/tmp/html   the book over another first run, elsewhere
# snakemake -c2 --config run=smoke,smoke-instructblip    ... and over another second run
# snakemake --executor slurm -j 50 ...              the same on a cluster

import os
import shlex
import sys
from pathlib import Path

import yaml

# The runs that the table of contents shows; `run` swaps them, in order, for other profiles.
TOC = yaml.safe_load(Path("_toc.yml").read_text())
SHOWN = [
    entry["file"]
    for part in TOC["parts"]
    for entry in part["chapters"]
    if entry["file"].startswith("runs/")
]
RUN = config.get("run", "")
HTML = config.get("html", "build/html")
WORLD = "build/world"
PYTHON = shlex.quote(sys.executable)
BOOK = shlex.quote(str(Path(sys.executable).with_name("jupyter-book")))

# What a number in a chapter can depend on. Drawing and training the embedded world act through the
# files they write: the data and the shipped weights.
CODE = {str(path) for path in Path("vseam_lib").rglob("*.py")}
WORLD_CODE = {path for path in CODE if path.startswith("vseam_lib/world/")}
TRAINING = {
    f"vseam_lib/world/{name}.py"
    for name in (
        "alignment",
        "inpainter",
        "inpainter_items",
        "inpainter_metrics",
        "inpainter_stages",
        "instructblip_stages",
        "items",
        "judge_stage",
        "llava_stages",
        "loop",
        "models",
        "pool",
        "sam_stage",
        "shared_prefix",
        "ship",
        "statements",
        "train",
        "vision_stage",
    )
}
LIBRARY = sorted(p for p in CODE - WORLD_CODE if not p.startswith("vseam_lib/bench/"))
SHIPPED = sorted(
    str(path)
    for folder, kind in (("world/weights", "*"), ("paper", "*.csv"), ("paper", "*.yml"))
    for path in Path("vseam_lib", folder).rglob(kind)
    if path.is_file()
)

# These take long and get half the cores each, so that two of them go side by side.
HEAVY = {
    "02_perturbation_cosine",
    "03_information_flow",
    "04_logit_lens",
    "05_heads",
    "06_rescaling",
    "08_ood_transfer",
    "10_heads_together",
}
# These read edited pictures, which are made beforehand, in as many processes as there are cores.
EDITED = {
    "01_dataset",
    "02_perturbation_cosine",
    "03_information_flow",
    "04_logit_lens",
    "05_heads",
}
# The later chapters start from the sweep of chapter 5 and the answers of chapter 6, which those
# leave in the store.
AFTER = {
    "06_rescaling": "05_heads",
    "07_significance": "06_rescaling",
    "08_ood_transfer": "05_heads",
    "09_yes_bias": "06_rescaling",
    "10_heads_together": "05_heads",
    "11_beyond_yes_no": "05_heads",
}


def profile(run):
    """Return a profile's YAML."""
    return yaml.safe_load(Path(f"profiles/{run}.yml").read_text())


def world_data(wildcards):
    """Return the embedded world's marker file if this chapter, or this run's edits, read it."""
    values = profile(wildcards.run)
    own = (values.get("chapters") or {}).get(getattr(wildcards, "chapter", "")) or {}
    data = own.get("data") or (values.get("common") or {}).get("data", f"{WORLD}/gqa")
    return [f"{WORLD}/gqa/README.json"] if Path(data).is_relative_to(WORLD) else []


def earlier(wildcards):
    """Return the chapter that this one builds on."""
    found = AFTER.get(wildcards.chapter)
    return [f"book/runs/{wildcards.run}/{found}.ipynb"] if found else []


def edited(wildcards):
    """Return the marker of this run's edited pictures if the chapter reads them."""
    inpaints = (profile(wildcards.run).get("common") or {}).get("edit") == "powerpaint"
    return [f"build/edits/{wildcards.run}.json"] if inpaints and wildcards.chapter in EDITED else []


def shown_chapters():
    """Return the executed notebooks of the table of contents, with its runs swapped."""
    runs = list(dict.fromkeys(entry.split("/")[1] for entry in SHOWN))
    swap = dict(zip(runs, RUN.split(",") if RUN else []))
    parts = [entry.split("/") for entry in SHOWN]
    return [f"book/runs/{swap.get(run, run)}/{chapter}.ipynb" for _, run, chapter in parts]


def book_sources():
    """Return the prose, style and configuration of the book (not the executed chapters)."""
    pages = [path for path in Path("book").rglob("*") if path.is_file()]
    skip = {"runs", "__pycache__", ".ipynb_checkpoints"}
    return sorted(str(path) for path in pages if not skip & set(path.parts))


rule book:
    input:
        shown_chapters(),
        book_sources(),
        sorted(CODE),
        "_config.yml",
        "_toc.yml",
    output:
        f"{HTML}/index.html",
    params:
        html=HTML,
        run=RUN,
    threads: workflow.cores
    # Built beside the target and renamed: a book with warnings never replaces one without.
    shell:
        """
        echo 'book: rendering' >&2
        rm -rf {params.html:q}.part
        VSEAM_RUN={params.run:q} {BOOK} build book --config _config.yml --toc "$PWD/_toc.yml" \
            --path-output {params.html:q}.part --all -q -W -n --keep-going > /dev/null
        rm -rf {params.html:q}
        mv {params.html:q}.part/_build/html {params.html:q}
        rm -rf {params.html:q}.part
        """


rule chapter:
    input:
        notebook="notebooks/{chapter}.py",
        profile="profiles/{run}.yml",
        data=world_data,
        edits=edited,
        earlier=earlier,
        library=LIBRARY,
        shipped=SHIPPED,
    output:
        "book/runs/{run}/{chapter}.ipynb",
    # What others wait for comes first, so that no core is idle at the end.
    priority: lambda wildcards: list(AFTER.values()).count(wildcards.chapter)
    wildcard_constraints:
        run="[A-Za-z0-9][A-Za-z0-9.-]*",
        chapter="[0-9]{2}_[a-z0-9_]+",
    threads: lambda wildcards: max(1, workflow.cores // 2) if wildcards.chapter in HEAVY else 1
    shell:
        "OMP_NUM_THREADS={threads} {PYTHON} -m vseam_lib.runner {wildcards.chapter}"
        " --profile {wildcards.run} -o {output}"


rule edits:
    input:
        profile="profiles/{run}.yml",
        data=world_data,
        library=[p for p in LIBRARY if p.split("/")[1] in ("editing", "sources", "triples.py")],
        shipped=[p for p in SHIPPED if "/weights/" in p],
    output:
        "build/edits/{run}.json",
    threads: workflow.cores
    priority: 9
    shell:
        "OMP_NUM_THREADS=1 {PYTHON} -m vseam_lib.editing.run --profile {wildcards.run}"
        " --processes {threads} -o {output}"


rule data:
    input:
        sorted(WORLD_CODE - TRAINING),
        "vseam_lib/triples.py",
    output:
        f"{WORLD}/gqa/README.json",
    shell:
        f"{PYTHON} -m vseam_lib.world.export --out {WORLD}"
