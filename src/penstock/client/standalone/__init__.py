"""What every generated client has: copied as it stands, so it imports nothing of Penstock."""
