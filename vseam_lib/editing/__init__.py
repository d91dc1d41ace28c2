"""Counterfactual questions, masks and edited images (paper, section 4.1 and appendix A)."""
