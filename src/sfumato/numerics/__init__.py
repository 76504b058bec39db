"""Mathematics that has never heard of diffusion."""
