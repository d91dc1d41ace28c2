"""V-SEAM companion: the method of Wang, Hu and Jiang (EMNLP 2025), one module per idea."""

__version__ = "0.1.0"
