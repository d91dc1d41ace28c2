"""The embedded world: a procedural stand-in for GQA on which the shipped models are trained.

Scenes (``scene``) are drawn (``draw``) from glyphs (``glyphs``), questions follow the paper's
wording (``questions``), and ``export`` writes everything in GQA's official layout.
"""
