"""Model and table in, labelled arrays out, replayable on new data."""
