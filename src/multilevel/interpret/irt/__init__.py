"""Item response models: items, persons, curves and fit."""
