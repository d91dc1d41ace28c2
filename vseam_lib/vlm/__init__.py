"""Vision-language models: one declarative adapter per family, and the paper's prompts."""
