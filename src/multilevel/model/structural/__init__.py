"""The language of structural models: text in, one frozen parameter table out."""
