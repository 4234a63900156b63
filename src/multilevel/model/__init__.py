"""Words in, one frozen Model out."""
