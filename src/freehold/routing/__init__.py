"""What may leave the building: detectors and policy. The standard library alone; the router runs these very files."""
