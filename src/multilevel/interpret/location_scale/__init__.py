"""What location-scale models say: who varies more, by how much, and how sure that is."""
