"""Attribution maps of a class, and how far a model's gradients can be trusted for them."""
