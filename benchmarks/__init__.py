"""Speed, memory and accuracy of `multilevel` next to other programs, on the same data."""
