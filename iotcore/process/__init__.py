"""What every process needs to live: its folder, its beat, its end, its parent, the registry it follows."""
