"""Where compression lost answers: the layers of a reference and a compressed model, exchanged one by one."""
