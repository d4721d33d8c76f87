"""Device models as data: load, decode, encode, plan."""
