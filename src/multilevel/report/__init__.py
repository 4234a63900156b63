"""What users read: one fit or one data set as text, HTML and JSON."""
