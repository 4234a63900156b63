"""One reader for each family of files; `multilevel.tables.read` chooses among them."""
