"""Proximal policy optimization in compiled slices, for any world and any optax transformation."""
