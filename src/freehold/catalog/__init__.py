"""What Freehold knows: services, language models, GPUs."""
