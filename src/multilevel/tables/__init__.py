"""Any table in, typed columns out: readers, labels, levels, reshaping, shipped data."""
