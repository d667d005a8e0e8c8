"""The mask: thresholds, projected shadows, morphology, classes. Pure numpy in, numpy out."""
