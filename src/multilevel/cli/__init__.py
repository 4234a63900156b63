"""The command line: a shell around the public names; it computes nothing."""
