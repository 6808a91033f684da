"""What upstream has: newer versions than the lock's, and the checksums that the lock still lacks."""
