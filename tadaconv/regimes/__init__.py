"""The regimes that ship, one file each."""
