"""Mathematics that does not depend on diffusion."""
